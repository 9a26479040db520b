//! Patterns of paths: Go's `filepath.Match`, and with `**` those of ignore files.
//!
//! Matching follows all possibilities at once: its cost is the product of both lengths, whatever the pattern.

use super::limits::MAX_PATTERN;
use crate::error::{Error, ErrorKind, Result};

#[derive(Clone, Debug, Eq, PartialEq)]
enum Token {
    Char(char),
    /// `?`: anything but `/`.
    One,
    /// `*`: anything, and as much as there is, but `/`.
    Many,
    /// `**` at the end: anything.
    All,
    /// `**` or `**/` before something: whole directories, or nothing.
    Directories,
    /// `[a-z]`, `[^a-z]`.
    Class {
        negated: bool,
        ranges: Vec<(char, char)>,
    },
}

impl Token {
    fn takes(&self, c: char) -> bool {
        match self {
            Self::Char(wanted) => *wanted == c,
            Self::One => c != '/',
            Self::Class { negated, ranges } => {
                ranges.iter().any(|(low, high)| (*low..=*high).contains(&c)) != *negated
            }
            Self::Many | Self::All | Self::Directories => false,
        }
    }
}

/// A pattern in the form that matches.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Program(Vec<Token>);

impl Program {
    /// Reads a pattern as Go's `filepath.Match` does: `*`, `?`, `[…]` and `\`.
    pub(super) fn glob(pattern: &str) -> Result<Self> {
        tokens(pattern, false).map(Self)
    }

    /// Reads a pattern of an ignore file: `**` crosses directories, too.
    pub(super) fn deep(pattern: &str) -> Result<Self> {
        tokens(pattern, true).map(Self)
    }

    /// Returns the path that the pattern stands for, if it has nothing special.
    pub(super) fn literal(&self) -> Option<String> {
        let char = |token: &Token| match token {
            Token::Char(c) => Some(*c),
            _ => None,
        };
        self.0.iter().map(char).collect()
    }

    /// Returns whether the whole of `path` matches.
    pub(super) fn matches(&self, path: &str) -> bool {
        // Most patterns do not match most paths, which often shows at the ends.
        let differs = |token: Option<&Token>, c: Option<char>| match token {
            Some(Token::Char(wanted)) => c != Some(*wanted),
            _ => false,
        };
        if differs(self.0.first(), path.chars().next()) || differs(self.0.last(), path.chars().next_back()) {
            return false;
        }
        self.run(path).is_some_and(|states| states.at[self.0.len()])
    }

    /// Returns whether something that begins with `prefix` can match.
    pub(super) fn may_match_behind(&self, prefix: &str) -> bool {
        // Past its end a pattern takes nothing more.
        self.run(prefix).is_some_and(|states| {
            let last = self.0.len();
            states.at[..last].contains(&true) || states.inside[..last].contains(&true)
        })
    }

    /// Follows the pattern through `path`; `None` once nothing can match any more.
    fn run(&self, path: &str) -> Option<States> {
        let last = self.0.len();
        let mut states = States::new(last);
        states.at[0] = true;
        self.skip(&mut states);
        let mut next = States::new(last);
        for c in path.chars() {
            next.clear();
            let mut alive = false;
            for (state, token) in self.0.iter().enumerate() {
                let (at, inside) = (states.at[state], states.inside[state]);
                if !at && !inside {
                    continue;
                }
                match token {
                    Token::Many => next.at[state] |= c != '/',
                    Token::All => next.at[state] = true,
                    Token::Directories => {
                        next.inside[state] = true;
                        next.at[state + 1] |= c == '/';
                    }
                    token => next.at[state + 1] |= token.takes(c),
                }
                alive |= next.at[state] || next.inside[state] || next.at[state + 1];
            }
            if !alive {
                return None;
            }
            std::mem::swap(&mut states, &mut next);
            self.skip(&mut states);
        }
        Some(states)
    }

    /// Stars may be nothing.
    fn skip(&self, states: &mut States) {
        for (state, token) in self.0.iter().enumerate() {
            let star = matches!(token, Token::Many | Token::All | Token::Directories);
            if star && states.at[state] {
                states.at[state + 1] = true;
            }
        }
    }
}

/// Where a pattern may be.
#[derive(Debug)]
struct States {
    /// In front of each token.
    at: Vec<bool>,
    /// In the middle of a directory's name that `**` takes.
    inside: Vec<bool>,
}

impl States {
    fn new(last: usize) -> Self {
        Self { at: vec![false; last + 1], inside: vec![false; last + 1] }
    }

    fn clear(&mut self) {
        self.at.fill(false);
        self.inside.fill(false);
    }
}

fn tokens(pattern: &str, deep: bool) -> Result<Vec<Token>> {
    let wrong = |message: &str| {
        Error::new(ErrorKind::InvalidArgument, "read pattern")
            .with("pattern", pattern.chars().take(120).collect::<String>())
            .with_message(message)
            .with_hint("patterns have *, ?, [a-z] and \\ in front of what is to be taken as it is")
    };
    if pattern.len() > MAX_PATTERN {
        return Err(wrong(&format!("it is longer than {MAX_PATTERN} bytes")));
    }
    let mut tokens = Vec::new();
    let mut rest = pattern;
    while let Some(c) = rest.chars().next() {
        let behind = &rest[c.len_utf8()..];
        rest = match c {
            '*' if deep && behind.starts_with('*') => {
                let behind = &behind[1..];
                let behind = behind.strip_prefix('/').unwrap_or(behind);
                tokens.push(if behind.is_empty() { Token::All } else { Token::Directories });
                behind
            }
            '*' => {
                tokens.push(Token::Many);
                behind
            }
            '?' => {
                tokens.push(Token::One);
                behind
            }
            '\\' => {
                let escaped = behind.chars().next().ok_or_else(|| wrong("nothing follows its last \\"))?;
                tokens.push(Token::Char(escaped));
                &behind[escaped.len_utf8()..]
            }
            '[' => {
                let (class, behind) = class(behind).ok_or_else(|| wrong("its [ has no end, or is empty"))?;
                tokens.push(class);
                behind
            }
            c => {
                tokens.push(Token::Char(c));
                behind
            }
        };
    }
    // `**x` without anything else special is whatever ends with x, and not a whole name.
    let first = tokens.first() == Some(&Token::Directories);
    if deep && first && !pattern.starts_with("**/") && tokens[1..].iter().all(|t| matches!(t, Token::Char(_)))
    {
        tokens[0] = Token::All;
    }
    Ok(tokens)
}

/// Reads a class behind its `[`.
fn class(text: &str) -> Option<(Token, &str)> {
    let (negated, mut rest) = match text.strip_prefix('^') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let mut ranges = Vec::new();
    loop {
        if let Some(behind) = rest.strip_prefix(']')
            && !ranges.is_empty()
        {
            return Some((Token::Class { negated, ranges }, behind));
        }
        let (low, behind) = class_char(rest)?;
        let (high, behind) = match behind.strip_prefix('-') {
            Some(behind) => class_char(behind)?,
            None => (low, behind),
        };
        ranges.push((low, high));
        rest = behind;
    }
}

fn class_char(text: &str) -> Option<(char, &str)> {
    let mut chars = text.chars();
    let c = match chars.next()? {
        '-' | ']' => return None,
        '\\' => chars.next()?,
        c => c,
    };
    Some((c, chars.as_str()))
}

/// A pattern of `COPY` and `ADD` for paths in their source: Go's `filepath.Match`. Stars stay within a directory.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Glob(Program);

impl Glob {
    /// Reads a pattern.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidArgument`] if it is malformed.
    pub fn new(pattern: &str) -> Result<Self> {
        Program::glob(pattern).map(Self)
    }

    /// Returns whether the whole of `path` matches.
    #[must_use]
    pub fn matches(&self, path: &str) -> bool {
        self.0.matches(path)
    }

    /// Returns whether something beneath `directory` can match: if not, a walk can pass it over.
    #[must_use]
    pub fn may_match_beneath(&self, directory: &str) -> bool {
        self.0.may_match_behind(&format!("{directory}/"))
    }

    /// Splits a source into the directory before its first wildcard and a pattern for the rest; no pattern without wildcards.
    ///
    /// In the directory, `\` in front of a character stands for it, as in the pattern.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidArgument`] if the pattern is malformed.
    pub fn split(source: &str) -> Result<(String, Option<Self>)> {
        let mut at = 0;
        for part in source.split_inclusive('/') {
            if has_wildcards(part) {
                let directory = source[..at].strip_suffix('/').unwrap_or(&source[..at]);
                let directory = if at == 1 { "/" } else { directory };
                return Ok((unescape(directory), Some(Self::new(&source[at..])?)));
            }
            at += part.len();
        }
        Ok((unescape(source), None))
    }
}

fn has_wildcards(text: &str) -> bool {
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => _ = chars.next(),
            '*' | '?' | '[' => return true,
            _ => {}
        }
    }
    false
}

fn unescape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        out.push(if c == '\\' { chars.next().unwrap_or(c) } else { c });
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs_stay_within_a_directory() {
        for (pattern, path, expected) in [
            ("abc", "abc", true),
            ("*", "abc", true),
            ("*", "a/b", false),
            ("*c", "abc", true),
            ("a*", "a", true),
            ("a*/b", "abc/b", true),
            ("a*/b", "a/c/b", false),
            ("a*b*c*d", "axbxcxd", true),
            ("a?c", "abc", true),
            ("a?c", "a/c", false),
            ("a[b-d]e", "ace", true),
            ("a[^b-d]e", "ace", false),
            ("a[^b-d]e", "axe", true),
            ("[\\]a]", "]", true),
            ("[\\-]", "-", true),
            ("[x\\-]", "-", true),
            ("a\\*b", "a*b", true),
            ("a\\*b", "axb", false),
            ("**", "a", true),
            ("**", "a/b", false),
            ("é?", "éü", true),
            ("", "", true),
            ("", "a", false),
            ("*.go", ".go", true),
            ("a^b*", "a^bc", true),
            ("a|b*", "a|b", true),
        ] {
            assert_eq!(Glob::new(pattern).unwrap().matches(path), expected, "{pattern} {path}");
        }
        for pattern in ["[", "[]", "[]a]", "[-]", "[x-]", "[^]", "a\\", "[a", "[\\"] {
            assert_eq!(Glob::new(pattern).unwrap_err().kind(), ErrorKind::InvalidArgument, "{pattern}");
        }
    }

    #[test]
    fn sources_are_split_before_their_first_wildcard() {
        for (source, directory, rest) in [
            ("a/b/c", "a/b/c", None),
            ("a/b*/c", "a", Some("bx/c")),
            ("*.txt", "", Some("x.txt")),
            ("/a/*", "/a", Some("x")),
            ("/*", "/", Some("x")),
            ("a\\*/b", "a*/b", None),
            ("a\\*/[x]", "a*", Some("x")),
            ("", "", None),
        ] {
            let (found, pattern) = Glob::split(source).unwrap();
            assert_eq!((found.as_str(), pattern.is_some()), (directory, rest.is_some()), "{source}");
            assert!(pattern.is_none_or(|pattern| pattern.matches(rest.unwrap())), "{source}");
        }
    }

    #[test]
    fn directories_that_cannot_have_a_match_are_passed_over() {
        let glob = Glob::new("a*/b/*.c").unwrap();
        for (directory, expected) in
            [("abc", true), ("b", false), ("abc/b", true), ("abc/c", false), ("abc/b/c", false)]
        {
            assert_eq!(glob.may_match_beneath(directory), expected, "{directory}");
        }
    }

    #[test]
    fn hostile_patterns_end() {
        let glob = Glob::new(&"*a".repeat(2000)).unwrap();
        assert!(!glob.matches(&"a".repeat(1000)));
        let deep = Program::deep(&"**/a/".repeat(800)).unwrap();
        assert!(!deep.matches(&"a/".repeat(700)));
        assert!(Glob::new(&"a".repeat(MAX_PATTERN + 1)).is_err());
    }
}
