//! Expansion of words: `$name`, `${name}` with all of Docker's operators, quotes, escapes, and splitting into words.
//!
//! Which texts of an instruction are expanded is the instruction's; where values come from is [`Variables`].
//! Invariant: values are never expanded again, and time and memory are bounded whatever the text ([`limits`](super::limits)).

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::hash::BuildHasher;

use super::directives::Escape;
use super::limits::{MAX_EXPANSION, MAX_EXPANSION_DEPTH};
use super::pattern::{Budget, Pattern};
use crate::error::{Error, ErrorKind};

/// Values by name. Names are case-sensitive, as on Linux.
pub trait Variables {
    /// Returns the value of `name`, if it is set.
    fn value(&self, name: &str) -> Option<&str>;
}

impl Variables for BTreeMap<String, String> {
    fn value(&self, name: &str) -> Option<&str> {
        self.get(name).map(String::as_str)
    }
}

impl<S: BuildHasher> Variables for HashMap<String, String, S> {
    fn value(&self, name: &str) -> Option<&str> {
        self.get(name).map(String::as_str)
    }
}

/// Why a text cannot be expanded.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ExpandError {
    text: String,
    message: String,
}

impl ExpandError {
    pub(super) fn new(text: &str, message: impl Into<String>) -> Self {
        const SHOWN: usize = 120;
        let mut shown: String = text.chars().take(SHOWN).collect();
        if shown.len() < text.len() {
            shown.push('…');
        }
        Self { text: shown, message: message.into() }
    }

    /// Returns what is wrong, in a lowercase fragment.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }
}

impl fmt::Display for ExpandError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot expand {:?}: {}", self.text, self.message)
    }
}

impl std::error::Error for ExpandError {}

impl From<ExpandError> for Error {
    fn from(error: ExpandError) -> Self {
        Self::new(ErrorKind::InvalidArgument, "expand variables")
            .with("text", &error.text)
            .with_message(error.message)
    }
}

/// Expands texts with given variables, and notes which were used.
pub struct Expander<'a> {
    variables: &'a dyn Variables,
    escape: Escape,
    used: BTreeSet<String>,
    unset: BTreeSet<String>,
}

impl<'a> Expander<'a> {
    /// Creates an expander for texts of a file with this escape character.
    #[must_use]
    pub fn new(variables: &'a dyn Variables, escape: Escape) -> Self {
        Self { variables, escape, used: BTreeSet::new(), unset: BTreeSet::new() }
    }

    /// Expands a text to one word: white space stays.
    ///
    /// # Errors
    /// For a substitution or quote that does not end, an operator that does not exist, `${name:?why}` without a value, and
    /// a result that is too long.
    pub fn word(&mut self, text: &str) -> Result<String, ExpandError> {
        // Most texts have nothing to expand.
        if !text.contains(['$', '\'', '"', self.escape.char()]) {
            return Ok(text.to_owned());
        }
        let options = Options { escape: self.escape, ..Options::default() };
        let mut lexer = Lexer::new(text, options, Some(self.variables));
        let result = lexer.word();
        self.note(lexer);
        result
    }

    /// Expands a text and splits the result at white space outside of quotes: values are split, too.
    ///
    /// # Errors
    /// Those of [`word`](Self::word).
    pub fn words(&mut self, text: &str) -> Result<Vec<String>, ExpandError> {
        let options = Options { escape: self.escape, ..Options::default() };
        let mut lexer = Lexer::new(text, options, Some(self.variables));
        let result = lexer.words();
        self.note(lexer);
        result
    }

    /// Expands a heredoc: quotes are text, and a backslash escapes whatever the file's escape character is.
    ///
    /// # Errors
    /// Those of [`word`](Self::word).
    pub fn document(&mut self, text: &str) -> Result<String, ExpandError> {
        let options = Options { plain_quotes: true, ..Options::default() };
        let mut lexer = Lexer::new(text, options, Some(self.variables));
        let result = lexer.word();
        self.note(lexer);
        result
    }

    /// Returns the variables that were looked for and set, in order: the rest of the environment had no part in the results.
    #[must_use]
    pub fn used(&self) -> &BTreeSet<String> {
        &self.used
    }

    /// Returns the variables that were looked for and not set.
    #[must_use]
    pub fn unset(&self) -> &BTreeSet<String> {
        &self.unset
    }

    fn note(&mut self, lexer: Lexer<'_>) {
        self.used.extend(lexer.used);
        self.unset.extend(lexer.unset);
    }
}

impl fmt::Debug for Expander<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Values are not shown.
        f.debug_struct("Expander")
            .field("used", &self.used)
            .field("unset", &self.unset)
            .finish_non_exhaustive()
    }
}

/// What a [`Lexer`] does differently.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Options {
    pub(super) escape: Escape,
    /// Quotes stay in the result.
    pub(super) raw_quotes: bool,
    /// Escape characters stay in the result.
    pub(super) raw_escapes: bool,
    /// Quotes mean nothing.
    pub(super) plain_quotes: bool,
    /// Variables that are not set stay as they are written.
    pub(super) keep_unset: bool,
}

/// The expansion of one text.
pub(super) struct Lexer<'a> {
    source: &'a str,
    rest: &'a str,
    options: Options,
    variables: Option<&'a dyn Variables>,
    used: BTreeSet<String>,
    unset: BTreeSet<String>,
    budget: Budget,
    depth: usize,
}

/// Why it ends: as text, so that the whole text can be put in front of it.
type Step<T> = Result<T, String>;

impl<'a> Lexer<'a> {
    pub(super) fn new(source: &'a str, options: Options, variables: Option<&'a dyn Variables>) -> Self {
        Self {
            source,
            rest: source,
            options,
            variables,
            used: BTreeSet::new(),
            unset: BTreeSet::new(),
            budget: Budget::new(),
            depth: 0,
        }
    }

    pub(super) fn word(&mut self) -> Result<String, ExpandError> {
        let result = self.until(None, self.options.raw_escapes, None);
        result.map_err(|message| ExpandError::new(self.source, message))
    }

    pub(super) fn words(&mut self) -> Result<Vec<String>, ExpandError> {
        let mut words = Words::default();
        let result = self.until(None, self.options.raw_escapes, Some(&mut words));
        result.map_err(|message| ExpandError::new(self.source, message))?;
        Ok(words.finish())
    }

    fn peek(&self) -> Option<char> {
        self.rest.chars().next()
    }

    fn bump(&mut self) -> Option<char> {
        let mut chars = self.rest.chars();
        let c = chars.next()?;
        self.rest = chars.as_str();
        Some(c)
    }

    fn push(&mut self, out: &mut String, text: &str) -> Step<()> {
        let paid = self.budget.pay(text.len().max(1));
        if paid.is_none() || out.len() + text.len() > MAX_EXPANSION {
            return Err("the result is too long".to_owned());
        }
        out.push_str(text);
        Ok(())
    }

    fn push_char(&mut self, out: &mut String, c: char) -> Step<()> {
        self.push(out, c.encode_utf8(&mut [0; 4]))
    }

    /// Expands up to `stop`, which is taken too, or to the end.
    fn until(
        &mut self,
        stop: Option<char>,
        raw_escapes: bool,
        mut words: Option<&mut Words>,
    ) -> Step<String> {
        let outer = std::mem::replace(&mut self.options.raw_escapes, raw_escapes);
        let mut out = String::new();
        while let Some(c) = self.peek() {
            if Some(c) == stop {
                self.bump();
                self.options.raw_escapes = outer;
                return Ok(out);
            }
            match c {
                '$' => {
                    let value = self.dollar()?;
                    self.push(&mut out, &value)?;
                    if let Some(words) = words.as_deref_mut() {
                        value.chars().for_each(|c| words.char(c));
                    }
                }
                '\'' | '"' if !self.options.plain_quotes => {
                    let text = if c == '"' { self.double_quoted()? } else { self.single_quoted()? };
                    self.push(&mut out, &text)?;
                    if let Some(words) = words.as_deref_mut() {
                        words.raw(&text);
                    }
                }
                c if c == self.options.escape.char() => {
                    self.bump();
                    let mut raw = String::new();
                    if self.options.raw_escapes {
                        raw.push(c);
                    }
                    // At the end it escapes nothing.
                    raw.extend(self.bump());
                    self.push(&mut out, &raw)?;
                    if let Some(words) = words.as_deref_mut() {
                        words.raw(&raw);
                    }
                }
                c => {
                    self.bump();
                    self.push_char(&mut out, c)?;
                    if let Some(words) = words.as_deref_mut() {
                        words.char(c);
                    }
                }
            }
        }
        self.options.raw_escapes = outer;
        match stop {
            Some(stop) => Err(format!("the substitution lacks its {stop:?}")),
            None => Ok(out),
        }
    }

    fn single_quoted(&mut self) -> Step<String> {
        self.bump();
        let Some((text, rest)) = self.rest.split_once('\'') else {
            return Err("a single quote has no end".to_owned());
        };
        self.rest = rest;
        Ok(if self.options.raw_quotes { format!("'{text}'") } else { text.to_owned() })
    }

    fn double_quoted(&mut self) -> Step<String> {
        let escape = self.options.escape.char();
        let mut out = String::new();
        self.bump();
        if self.options.raw_quotes {
            out.push('"');
        }
        loop {
            match self.peek() {
                None => return Err("a double quote has no end".to_owned()),
                Some('"') => {
                    self.bump();
                    if self.options.raw_quotes {
                        out.push('"');
                    }
                    return Ok(out);
                }
                Some('$') => {
                    let value = self.dollar()?;
                    self.push(&mut out, &value)?;
                }
                Some(c) if c == escape => {
                    self.bump();
                    if self.options.raw_escapes {
                        out.push(c);
                    }
                    match self.peek() {
                        None => {}
                        Some(escaped) if escaped == '"' || escaped == '$' || escaped == escape => {
                            self.bump();
                            self.push_char(&mut out, escaped)?;
                        }
                        // All others are not escaped, and the character stays.
                        Some(_) => self.push_char(&mut out, c)?,
                    }
                }
                Some(c) => {
                    self.bump();
                    self.push_char(&mut out, c)?;
                }
            }
        }
    }

    fn dollar(&mut self) -> Step<String> {
        self.depth += 1;
        if self.depth > MAX_EXPANSION_DEPTH {
            return Err(format!("substitutions are nested more than {MAX_EXPANSION_DEPTH} deep"));
        }
        let result = self.substitution();
        self.depth -= 1;
        result
    }

    fn substitution(&mut self) -> Step<String> {
        self.bump();
        if self.peek() != Some('{') {
            let name = self.name();
            if name.is_empty() {
                return Ok("$".to_owned());
            }
            return Ok(match self.look_up(&name) {
                None if self.options.keep_unset => format!("${name}"),
                value => value.unwrap_or_default(),
            });
        }
        self.bump();
        match self.peek() {
            None => return Err("the substitution lacks its '}'".to_owned()),
            Some('{' | '}' | ':') => return Err("bad substitution".to_owned()),
            Some(_) => {}
        }
        let name = self.name();
        let Some(mut operator) = self.bump() else {
            return Err("the substitution lacks its '}'".to_owned());
        };
        let colon = operator == ':';
        if colon {
            operator = self.bump().ok_or("the substitution lacks its '}'")?;
        }
        match operator {
            '}' if !colon => Ok(match self.look_up(&name) {
                None if self.options.keep_unset => format!("${{{name}}}"),
                value => value.unwrap_or_default(),
            }),
            '/' if !colon => self.replacement(&name),
            '-' | '+' | '?' | '#' | '%' => self.operation(&name, colon, operator),
            other => {
                let colon = if colon { ":" } else { "" };
                Err(format!("unsupported modifier ({colon}{other}) in substitution"))
            }
        }
    }

    /// `${name-word}` and its like. The word is expanded even if nothing becomes of it.
    fn operation(&mut self, name: &str, colon: bool, operator: char) -> Step<String> {
        let word = self.until(Some('}'), matches!(operator, '#' | '%'), None)?;
        let value = self.look_up(name);
        let colon_text = if colon { ":" } else { "" };
        if value.is_none() && self.options.keep_unset {
            return Ok(format!("${{{name}{colon_text}{operator}{word}}}"));
        }
        let usable = value.as_ref().is_some_and(|value| !(colon && value.is_empty()));
        match operator {
            '-' => Ok(if usable { value.unwrap_or_default() } else { word }),
            '+' => Ok(if usable { word } else { String::new() }),
            '?' if usable => Ok(value.unwrap_or_default()),
            '?' => {
                let what = if value.is_some() { "empty" } else { "unset" };
                let why = if word.is_empty() { format!("is not allowed to be {what}") } else { word };
                Err(format!("{name}: {why}"))
            }
            _ => {
                let (longest, pattern) = match word.strip_prefix(operator) {
                    Some(pattern) => (true, pattern),
                    None => (false, word.as_str()),
                };
                let value = value.unwrap_or_default();
                let pattern = pattern_of(pattern)?;
                let found = if operator == '#' {
                    pattern.without_prefix(&value, longest, &mut self.budget)
                } else {
                    pattern.without_suffix(&value, longest, &mut self.budget)
                };
                found.ok_or_else(|| "the pattern costs too much".to_owned())
            }
        }
    }

    /// `${name/pattern/with}` and `${name//pattern/with}`.
    fn replacement(&mut self, name: &str) -> Step<String> {
        let all = self.peek() == Some('/');
        if all {
            self.bump();
        }
        let pattern = self.until(Some('/'), true, None)?;
        let with = self.until(Some('}'), true, None)?;
        let value = self.look_up(name);
        if value.is_none() && self.options.keep_unset {
            let slash = if all { "//" } else { "/" };
            return Ok(format!("${{{name}{slash}{pattern}/{with}}}"));
        }
        let value = value.unwrap_or_default();
        let found = pattern_of(&pattern)?.replace(&value, &with, all, &mut self.budget);
        found.ok_or_else(|| "the pattern costs too much, or its result is too long".to_owned())
    }

    /// Reads a name: letters, digits and `_`, or digits alone, or one special character such as `@`.
    fn name(&mut self) -> String {
        let first = self.peek();
        let end = match first {
            Some(c) if c.is_numeric() => self.rest.find(|c: char| !c.is_numeric()),
            Some(c @ ('@' | '*' | '#' | '?' | '-' | '$' | '!')) => Some(c.len_utf8()),
            _ => self.rest.find(|c: char| !(c.is_alphanumeric() || c == '_')),
        };
        let (name, rest) = self.rest.split_at(end.unwrap_or(self.rest.len()));
        self.rest = rest;
        name.to_owned()
    }

    fn look_up(&mut self, name: &str) -> Option<String> {
        let value = self.variables.and_then(|variables| variables.value(name)).map(str::to_owned);
        let names = if value.is_some() { &mut self.used } else { &mut self.unset };
        if !names.contains(name) {
            names.insert(name.to_owned());
        }
        value
    }
}

fn pattern_of(text: &str) -> Step<Pattern> {
    Pattern::parse(text)
        .map_err(|c| format!("invalid pattern {text:?} in substitution: '\\{c}' means nothing"))
}

/// Words in the making.
#[derive(Debug, Default)]
struct Words {
    word: String,
    all: Vec<String>,
}

impl Words {
    /// Adds a character that separates words if it is white space.
    fn char(&mut self, c: char) {
        if !c.is_whitespace() {
            self.word.push(c);
        } else if !self.word.is_empty() {
            self.all.push(std::mem::take(&mut self.word));
        }
    }

    /// Adds what was quoted.
    fn raw(&mut self, text: &str) {
        self.word.push_str(text);
    }

    fn finish(mut self) -> Vec<String> {
        if !self.word.is_empty() {
            self.all.push(self.word);
        }
        self.all
    }
}

#[cfg(test)]
#[path = "expand_tests.rs"]
mod tests;
