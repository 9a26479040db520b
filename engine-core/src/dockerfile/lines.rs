//! Lines of the file joined to instructions: comments, continuations, directives and the bodies of heredocs.
//!
//! What an instruction says is not looked at here, but for the words that begin heredocs. Every place in a joined line can
//! be led back to its line and column.

use super::directives::{Directives, Reader as DirectiveReader};
use super::error::SyntaxError;
use super::heredoc::{self, Heredoc};
use super::limits::{MAX_HEREDOCS, MAX_INSTRUCTION};
use super::source::{Source, Span};
use super::words;

/// Something wrong at a byte of a joined line.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Fail {
    pub(super) offset: usize,
    pub(super) message: String,
    pub(super) hint: Option<String>,
}

impl Fail {
    pub(super) fn new(offset: usize, message: impl Into<String>) -> Self {
        Self { offset, message: message.into(), hint: None }
    }

    pub(super) fn with_hint(mut self, hint: Option<String>) -> Self {
        self.hint = hint;
        self
    }
}

/// An instruction's lines, joined.
#[derive(Clone, Debug, Default)]
pub(super) struct Joined {
    pub(super) text: String,
    pub(super) span: Span,
    /// Comments right above the instruction.
    pub(super) comments: Vec<String>,
    /// A line without anything between continued lines.
    pub(super) empty_continuation: Option<u32>,
    pub(super) heredocs: Vec<Heredoc>,
    /// Where in `text` each line begins: offset, line, column.
    segments: Vec<(usize, u32, u32)>,
}

impl Joined {
    /// Returns line and column of the byte `offset`.
    pub(super) fn place(&self, offset: usize) -> (u32, u32) {
        let segment = self.segments.iter().rev().find(|(start, ..)| *start <= offset);
        let Some((start, line, column)) = segment.copied() else {
            return (self.span.line, self.span.column);
        };
        let before = self.text.get(start..offset).map_or(0, |text| text.chars().count());
        (line, column.saturating_add(u32::try_from(before).unwrap_or(u32::MAX)))
    }

    pub(super) fn error(&self, source: &Source, fail: Fail) -> SyntaxError {
        SyntaxError::new(source, self.span, self.place(fail.offset), fail.message, fail.hint)
    }

    fn push(&mut self, text: &str, line: usize, column: usize) {
        let number = |value: usize| u32::try_from(value).unwrap_or(u32::MAX);
        self.segments.push((self.text.len(), number(line), number(column)));
        self.text.push_str(text);
    }
}

/// Reads instructions' lines from a file.
#[derive(Debug)]
pub(super) struct Lines<'a> {
    source: &'a Source,
    next: usize,
    directives: DirectiveReader,
    comments: Vec<String>,
}

impl<'a> Lines<'a> {
    pub(super) fn new(source: &'a Source) -> Self {
        Self { source, next: 0, directives: DirectiveReader::new(source), comments: Vec::new() }
    }

    /// Returns the directives of what was read.
    pub(super) fn directives(&self) -> &Directives {
        self.directives.found()
    }

    /// Returns the next instruction's lines; errors go to `errors` and end nothing.
    pub(super) fn next(&mut self, errors: &mut Vec<SyntaxError>) -> Option<Joined> {
        let mut joined = Joined::default();
        let first = loop {
            let index = self.next;
            let line = self.source.line(index)?;
            self.next += 1;
            let clean = line.trim_end_matches(['\r', '\n']);
            let text = clean.trim_start();
            let directive = match self.directives.line(self.source, index, text) {
                Ok(found) => found,
                Err(error) => {
                    errors.push(error);
                    true
                }
            };
            if directive || text.is_empty() {
                self.comments.clear();
                continue;
            }
            if let Some(comment) = text.strip_prefix('#') {
                match comment.trim() {
                    "" => self.comments.clear(),
                    comment => self.comments.push(comment.to_owned()),
                }
                continue;
            }
            let column = clean.chars().count() - text.chars().count() + 1;
            joined.span = Span {
                line: u32::try_from(index + 1).unwrap_or(u32::MAX),
                end_line: 0,
                column: u32::try_from(column).unwrap_or(u32::MAX),
            };
            self.check_text(&joined, index, errors);
            break (index, column, text);
        };
        joined.comments = std::mem::take(&mut self.comments);
        let (index, column, text) = first;
        let (text, mut continued) = self.without_continuation(text);
        joined.push(text, index + 1, column);
        while continued {
            let index = self.next;
            let Some(line) = self.source.line(index) else { break };
            self.next += 1;
            let line = line.trim_end_matches(['\r', '\n']);
            let content = line.trim_start();
            if content.starts_with('#') {
                continue;
            }
            if content.is_empty() {
                joined.empty_continuation = Some(u32::try_from(index + 1).unwrap_or(u32::MAX));
                continue;
            }
            self.check_text(&joined, index, errors);
            let (line, more) = self.without_continuation(line);
            continued = more;
            joined.push(line, index + 1, 1);
        }
        self.end(&mut joined);
        if joined.text.len() > MAX_INSTRUCTION {
            let message = format!("the instruction is longer than {MAX_INSTRUCTION} bytes");
            errors.push(joined.error(self.source, Fail::new(0, message)));
            self.next = self.source.len();
            return None;
        }
        if let Err(fail) = self.heredocs(&mut joined, errors) {
            self.end(&mut joined);
            errors.push(joined.error(self.source, fail));
        }
        self.end(&mut joined);
        Some(joined)
    }

    /// Notes that `joined` goes to the last line that was read.
    fn end(&self, joined: &mut Joined) {
        joined.span.end_line = u32::try_from(self.next).unwrap_or(u32::MAX);
    }

    /// Reads the bodies of the heredocs that the line begins.
    fn heredocs(&mut self, joined: &mut Joined, errors: &mut Vec<SyntaxError>) -> Result<(), Fail> {
        if !joined.text.contains("<<") || !words::may_have_heredocs(&joined.text) {
            return Ok(());
        }
        let found = heredoc::in_line(&joined.text);
        if found.len() > MAX_HEREDOCS {
            return Err(Fail::new(0, format!("the instruction has more than {MAX_HEREDOCS} heredocs")));
        }
        for mut heredoc in found {
            let mut from = self.next;
            let end = loop {
                let Some(line) = self.source.line(from) else { break None };
                let bare = line.trim_end_matches(['\r', '\n']);
                let bare = if heredoc.strip_tabs { bare.trim_start_matches('\t') } else { bare };
                if bare == heredoc.name {
                    break Some(from);
                }
                from += 1;
            };
            let Some(end) = end else {
                let offset = joined.text.find("<<").unwrap_or(0);
                self.next = self.source.len();
                let message = format!("the heredoc {:?} has no end", heredoc.name);
                return Err(Fail::new(offset, message)
                    .with_hint(Some(format!("a line with nothing but {} ends it", heredoc.name))));
            };
            for index in self.next..end {
                self.check_text(joined, index, errors);
                heredoc.content.push_str(self.source.line(index).unwrap_or_default());
            }
            self.next = end + 1;
            joined.heredocs.push(heredoc);
        }
        Ok(())
    }

    /// Takes the escape character off the end of a line that goes on in the next one.
    fn without_continuation<'t>(&self, text: &'t str) -> (&'t str, bool) {
        let escape = self.directives().escape.char();
        match text.trim_end_matches([' ', '\t']).strip_suffix(escape) {
            // Two of them are an escaped one.
            Some(rest) if !rest.ends_with(escape) => (rest, true),
            _ => (text, false),
        }
    }

    fn check_text(&self, joined: &Joined, index: usize, errors: &mut Vec<SyntaxError>) {
        if self.source.is_text(index) {
            return;
        }
        let line = u32::try_from(index + 1).unwrap_or(u32::MAX);
        let column = self
            .source
            .line(index)
            .map_or(1, |line| line.chars().take_while(|c| !matches!(c, '\u{fffd}' | '\0')).count() + 1);
        let span = Span { end_line: line, ..joined.span };
        let place = (line, u32::try_from(column).unwrap_or(u32::MAX));
        let message = "the line is not text: it must be UTF-8 without NUL bytes";
        errors.push(SyntaxError::new(self.source, span, place, message, None));
    }
}
