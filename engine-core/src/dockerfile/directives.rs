//! Parser directives: comments at the top of the file that say how to read it.
//!
//! Docker's rules: only before anything else, other comments and empty lines included, each at most once, names in any case.
//! A comment that looks like one and is not known ends them.

use super::error::SyntaxError;
use super::source::{Source, Span, Spanned};

/// The escape character of a file.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum Escape {
    /// `\`.
    #[default]
    Backslash,
    /// `` ` ``, for paths of Windows.
    Backquote,
}

impl Escape {
    /// Returns the character.
    #[must_use]
    pub fn char(self) -> char {
        match self {
            Self::Backslash => '\\',
            Self::Backquote => '`',
        }
    }
}

/// The directives of a file.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct Directives {
    /// `# syntax=`: the image of a frontend. Nothing executes it.
    pub syntax: Option<Spanned<String>>,
    /// `# escape=`.
    pub escape: Escape,
    /// `# check=`: how warnings are treated, unparsed.
    pub check: Option<Spanned<String>>,
}

/// Returns the `syntax` of a file in any notation: `# syntax=`, `// syntax=` or `{"syntax": "…"}`, behind a line `#!` too.
///
/// Files for other frontends are no Dockerfiles, so this works without parsing the rest.
#[must_use]
pub fn detect_syntax(text: &[u8]) -> Option<String> {
    let source = Source::new("", text);
    let first = usize::from(source.line(0)?.starts_with("#!"));
    for comment in ["#", "//"] {
        let mut seen = Vec::new();
        for line in (first..source.len()).map_while(|index| source.line(index)) {
            let Some((name, value)) = directive(line.trim_end(), comment) else { break };
            if seen.contains(&name) {
                break;
            }
            if name == "syntax" {
                return value.split_whitespace().next().map(str::to_owned);
            }
            seen.push(name);
        }
    }
    let start = if first == 0 { 0 } else { source.line(0)?.len() };
    let document: serde_json::Value = serde_json::from_str(source.text().get(start..)?).ok()?;
    document.get("syntax")?.as_str().map(str::to_owned)
}

/// Reads directives line by line.
#[derive(Debug)]
pub(super) struct Reader {
    found: Directives,
    seen: Vec<String>,
    done: bool,
    shebang: bool,
}

impl Reader {
    pub(super) fn new(source: &Source) -> Self {
        let shebang = source.line(0).is_some_and(|line| line.starts_with("#!"));
        Self { found: Directives::default(), seen: Vec::new(), done: false, shebang }
    }

    pub(super) fn found(&self) -> &Directives {
        &self.found
    }

    /// Looks at line `index` without white space in front, and returns whether it is a directive.
    pub(super) fn line(&mut self, source: &Source, index: usize, text: &str) -> Result<bool, SyntaxError> {
        if self.done || (self.shebang && index == 0) {
            return Ok(false);
        }
        let Some((name, value)) = directive(text, "#") else {
            self.done = true;
            return Ok(false);
        };
        let line = u32::try_from(index + 1).unwrap_or(u32::MAX);
        let span = Span::lines(line, line);
        let column = |part: &str| u32::try_from(text.find(part).unwrap_or(0) + 1).unwrap_or(u32::MAX);
        let wrong = |part: &str, message: String, hint: Option<String>| {
            SyntaxError::new(source, span, (line, column(part)), message, hint)
        };
        if self.seen.contains(&name) {
            let message = format!("the directive {name} is there twice");
            return Err(wrong(&name, message, Some("only one of each can be used".to_owned())));
        }
        let spanned = Spanned { value: value.to_owned(), span, text: text.to_owned() };
        match name.as_str() {
            "syntax" => self.found.syntax = Some(spanned),
            "check" => self.found.check = Some(spanned),
            _ => {
                self.found.escape = match value {
                    "\\" => Escape::Backslash,
                    "`" => Escape::Backquote,
                    _ => {
                        let message = format!("{value:?} is no escape character");
                        return Err(wrong(value, message, Some("it is \\ or `".to_owned())));
                    }
                }
            }
        }
        self.seen.push(name);
        Ok(true)
    }
}

/// Splits `# name=value` if it is a known directive; the name in lower case.
fn directive<'a>(line: &'a str, comment: &str) -> Option<(String, &'a str)> {
    let (name, value) = line.strip_prefix(comment)?.trim_start().split_once('=')?;
    let (name, value) = (name.trim_end().to_ascii_lowercase(), value.trim());
    (matches!(name.as_str(), "syntax" | "escape" | "check") && !value.is_empty()).then_some((name, value))
}
