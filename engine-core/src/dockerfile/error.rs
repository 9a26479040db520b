//! What is wrong with a Dockerfile, and where.
//!
//! An error shows the lines it is about, with a mark beneath the place; [`Error`] carries that text, since an error that
//! comes from an engine elsewhere has nothing but text.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::source::{Source, Span};
use crate::error::{Error, ErrorKind};

/// Lines shown before the instruction.
const BEFORE: usize = 2;
/// Lines of the instruction that are shown around the place.
const AROUND: usize = 3;
/// Characters shown of a line.
const WIDTH: usize = 160;
/// Characters shown of a message.
const LONGEST: usize = 400;

/// One thing that is wrong, at its place.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct SyntaxError {
    file: String,
    span: Span,
    line: u32,
    column: u32,
    message: String,
    hint: Option<String>,
    excerpt: String,
}

impl SyntaxError {
    /// Creates an error at `line` and `column` of the instruction at `span`.
    pub(super) fn new(
        source: &Source,
        span: Span,
        (line, column): (u32, u32),
        message: impl Into<String>,
        hint: Option<String>,
    ) -> Self {
        let excerpt = excerpt(source, span, line, column);
        let (message, hint) = (shown(&message.into()), hint.as_deref().map(shown));
        Self { file: source.name.clone(), span, line, column, message, hint, excerpt }
    }

    /// Returns the file's name as it was given to the parser.
    #[must_use]
    pub fn file(&self) -> &str {
        &self.file
    }

    /// Returns the lines of the instruction.
    #[must_use]
    pub fn span(&self) -> Span {
        self.span
    }

    /// Returns the line, from 1.
    #[must_use]
    pub fn line(&self) -> u32 {
        self.line
    }

    /// Returns the column, in characters from 1.
    #[must_use]
    pub fn column(&self) -> u32 {
        self.column
    }

    /// Returns what is wrong, in a lowercase fragment.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Returns the advice to the author, if there is one.
    #[must_use]
    pub fn hint(&self) -> Option<&str> {
        self.hint.as_deref()
    }

    /// Returns the lines of the file, numbered, with a mark beneath the place.
    #[must_use]
    pub fn excerpt(&self) -> &str {
        &self.excerpt
    }

    /// Gives the advice to the author.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl fmt::Display for SyntaxError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}: {}", self.file, self.line, self.column, self.message)?;
        if let Some(hint) = &self.hint {
            write!(f, " ({hint})")?;
        }
        if self.excerpt.is_empty() { Ok(()) } else { write!(f, "\n{}", self.excerpt) }
    }
}

impl std::error::Error for SyntaxError {}

impl From<SyntaxError> for Error {
    fn from(error: SyntaxError) -> Self {
        SyntaxErrors(vec![error]).into()
    }
}

/// All that is wrong with a file, in its order: at least one, at most [`MAX_ERRORS`](super::limits::MAX_ERRORS).
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SyntaxErrors(Vec<SyntaxError>);

impl SyntaxErrors {
    /// Takes `errors`, of which there must be one.
    pub(super) fn new(errors: Vec<SyntaxError>) -> Self {
        debug_assert!(!errors.is_empty(), "an error without an error");
        Self(errors)
    }

    /// Returns the errors.
    #[must_use]
    pub fn as_slice(&self) -> &[SyntaxError] {
        &self.0
    }
}

impl fmt::Display for SyntaxErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            error.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for SyntaxErrors {}

impl From<SyntaxErrors> for Error {
    /// The kind is [`ErrorKind::InvalidArgument`], the subject file, line and column of the first error.
    fn from(errors: SyntaxErrors) -> Self {
        let mut all = errors.0.into_iter();
        let error = Self::new(ErrorKind::InvalidArgument, "parse Dockerfile");
        let Some(first) = all.next() else { return error };
        let mut message = first.message;
        if !first.excerpt.is_empty() {
            message.push('\n');
            message.push_str(&first.excerpt);
        }
        for later in all {
            message.push('\n');
            message.push_str(&later.to_string());
        }
        let error = error
            .with("file", format_args!("{}:{}:{}", first.file, first.line, first.column))
            .with_message(message);
        match first.hint {
            Some(hint) => error.with_hint(hint),
            None => error,
        }
    }
}

/// The lines around a place, as BuildKit shows them, and a mark beneath it.
fn excerpt(source: &Source, span: Span, line: u32, column: u32) -> String {
    let place = line as usize;
    let first = (span.line as usize).max(place.saturating_sub(AROUND));
    let last = (span.end_line as usize).min(place + AROUND);
    let digits = last.to_string().len().max(4);
    let mut out = Vec::new();
    for number in first.saturating_sub(BEFORE).max(1)..=last {
        let Some(text) = source.line(number - 1) else { break };
        let inside = number >= span.line as usize;
        let mark = if inside { ">>> " } else { "    " };
        let shown: String = text.trim_end().chars().take(WIDTH).map(plain).collect();
        out.push(format!("{number:digits$} | {mark}{shown}").trim_end().to_owned());
        if number == place && (column as usize) <= WIDTH {
            // Tabs stay tabs, so that the mark stands where the terminal shows the character.
            let under: String = shown
                .chars()
                .map(|c| if c == '\t' { '\t' } else { ' ' })
                .chain(std::iter::repeat(' '))
                .take(column.saturating_sub(1) as usize)
                .collect();
            out.push(format!("{:digits$} |     {under}^", ""));
        }
    }
    out.join("\n")
}

/// A message as it is shown: with texts of the file in it, it could be anything.
pub(super) fn shown(text: &str) -> String {
    let mut shown: String = text.chars().take(LONGEST).map(plain).collect();
    if shown.len() < text.len() && text.chars().nth(LONGEST).is_some() {
        shown.push('…');
    }
    shown
}

/// Control characters would steer the terminal that shows the error.
fn plain(c: char) -> char {
    if c.is_control() && c != '\t' { '\u{fffd}' } else { c }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_show_their_lines_and_a_mark() {
        let source = Source::new("Dockerfile", b"# one\nFROM a\nRUN x \\\n  \x1b[31mRUNN\n");
        let error = SyntaxError::new(
            &source,
            Span::lines(3, 4),
            (4, 3),
            "unknown thing",
            Some("did you mean RUN?".to_owned()),
        );
        assert_eq!(
            error.to_string(),
            "Dockerfile:4:3: unknown thing (did you mean RUN?)\n   1 |     # one\n   2 |     FROM a\n   3 | >>> RUN x \
             \\\n   4 | >>>   \u{fffd}[31mRUNN\n     |       ^"
        );
        let error: Error = error.into();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument);
        assert_eq!(error.subject(), Some(("file", "Dockerfile:4:3")));
        assert_eq!(error.hint(), Some("did you mean RUN?"));
        assert!(error.to_string().contains(">>> RUN x"), "{error}");
    }

    #[test]
    fn messages_cannot_steer_the_terminal_or_fill_it() {
        let text = format!("FROM a\nRU\x1b[2JNN x\n{} y\n", "Z".repeat(100_000));
        let errors = crate::dockerfile::Dockerfile::parse("f", text.as_bytes()).unwrap_err().to_string();
        assert!(errors.len() < 4096 && !errors.contains('\x1b'), "{errors}");
    }

    #[test]
    fn long_instructions_are_cut_around_the_place() {
        let text = format!("RUN a\n{}", "line\n".repeat(100));
        let source = Source::new("f", text.as_bytes());
        let error = SyntaxError::new(&source, Span::lines(1, 101), (50, 1), "m", None);
        assert!(error.excerpt().lines().count() < 12, "{error}");
    }
}
