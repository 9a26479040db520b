//! The text of a Dockerfile, and places in it.
//!
//! Errors, warnings and instructions name places by these; how an error is shown is `error`'s.

use std::ops::Deref;

use serde::{Deserialize, Serialize};

/// Lines of a file, and where in the first of them.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Span {
    /// The first line, from 1.
    pub line: u32,
    /// The last line, heredocs included.
    pub end_line: u32,
    /// The column in the first line, in characters from 1.
    pub column: u32,
}

impl Span {
    /// Creates a span of whole lines.
    #[must_use]
    pub const fn lines(line: u32, end_line: u32) -> Self {
        Self { line, end_line, column: 1 }
    }
}

/// A thing with its place in the file and the text it was read from.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Spanned<T> {
    /// The thing.
    pub value: T,
    /// Where it stands.
    pub span: Span,
    /// The text as it was written, with continued lines joined and without heredocs: for the history and for progress.
    pub text: String,
}

impl<T> Spanned<T> {
    /// Returns the first word as it was written: `RUN`, `run`.
    #[must_use]
    pub fn keyword(&self) -> &str {
        self.text.split_whitespace().next().unwrap_or_default()
    }
}

impl<T> Deref for Spanned<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

/// A file's text in lines.
///
/// What is no UTF-8 is replaced, and known, since it only matters outside of comments.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Source {
    pub(super) name: String,
    text: String,
    /// Where each line begins in `text`, and whether it was UTF-8.
    lines: Vec<(usize, bool)>,
}

impl Source {
    pub(super) fn new(name: &str, bytes: &[u8]) -> Self {
        let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
        let mut text = String::with_capacity(bytes.len());
        let mut lines = Vec::new();
        for line in bytes.split_inclusive(|byte| *byte == b'\n') {
            let decoded = String::from_utf8_lossy(line);
            lines.push((text.len(), matches!(decoded, std::borrow::Cow::Borrowed(_))));
            text.push_str(&decoded);
        }
        Self { name: name.to_owned(), text, lines }
    }

    pub(super) fn text(&self) -> &str {
        &self.text
    }

    pub(super) fn len(&self) -> usize {
        self.lines.len()
    }

    /// Returns line `index`, counted from 0, with its line ending.
    pub(super) fn line(&self, index: usize) -> Option<&str> {
        let (start, _) = *self.lines.get(index)?;
        let end = self.lines.get(index + 1).map_or(self.text.len(), |(next, _)| *next);
        self.text.get(start..end)
    }

    /// Returns whether line `index`, counted from 0, is text.
    pub(super) fn is_text(&self, index: usize) -> bool {
        let clean = self.lines.get(index).is_none_or(|(_, valid)| *valid);
        clean && self.line(index).is_none_or(|line| !line.contains('\0'))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_keep_their_endings_and_know_what_is_no_text() {
        let source = Source::new("f", b"\xef\xbb\xbfFROM a\r\n# \xff\n\nRUN b");
        assert_eq!(source.len(), 4);
        assert_eq!(source.line(0), Some("FROM a\r\n"));
        assert_eq!(source.line(3), Some("RUN b"));
        assert_eq!(source.line(4), None);
        assert_eq!([0, 1, 2, 3].map(|line| source.is_text(line)), [true, false, true, true]);
        assert!(!Source::new("f", b"RUN a\0b").is_text(0));
    }
}
