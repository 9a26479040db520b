//! The whole file: directives, arguments, stages.

use std::sync::Arc;

use super::directives::Directives;
use super::error::{SyntaxError, SyntaxErrors};
use super::expand::Expander;
use super::instruction::{Arg, Instruction, Line, describes, spanned};
use super::limits::{MAX_ERRORS, MAX_FILE, MAX_INSTRUCTIONS, MAX_STAGES};
use super::lines::{Fail, Joined, Lines};
use super::lint::{self, Checks, Warning};
use super::source::{Source, Span, Spanned};
use super::words;

/// A Dockerfile that was read.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Dockerfile {
    /// Parser directives.
    pub directives: Directives,
    /// The `ARG`s in front of the first `FROM`.
    pub args: Vec<Spanned<Arg>>,
    /// The stages, of which there is at least one.
    pub stages: Vec<Stage>,
    /// What is not wrong but not good either, in the file's order.
    pub warnings: Vec<Warning>,
    /// How warnings are treated: the directive `check`.
    pub checks: Checks,
    source: Arc<Source>,
}

/// A stage: `FROM` and what follows.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Stage {
    /// Its name in lower case.
    pub name: Option<String>,
    /// What it is built on, unexpanded.
    pub base: String,
    /// `--platform`, unexpanded.
    pub platform: Option<String>,
    /// Its instructions.
    pub instructions: Vec<Spanned<Instruction>>,
    /// Where the `FROM` stands.
    pub span: Span,
    /// The `FROM` as it was written.
    pub text: String,
    /// What the comment above says: `# name and what it is for`.
    pub description: Option<String>,
}

impl Dockerfile {
    /// Parses `text`. `name` says in errors where it is from.
    ///
    /// # Errors
    /// All that is wrong, as far as reading can go on behind it.
    pub fn parse(name: &str, text: &[u8]) -> Result<Self, SyntaxErrors> {
        Self::parse_with(name, text, None)
    }

    /// Parses `text` as [`parse`](Self::parse) does, with `checks` instead of those that its directive asks for.
    ///
    /// # Errors
    /// As [`parse`](Self::parse).
    pub fn parse_with(name: &str, text: &[u8], checks: Option<Checks>) -> Result<Self, SyntaxErrors> {
        if text.len() > MAX_FILE {
            let source = Source::new(name, b"");
            let message = format!("the file has {} bytes, and at most {MAX_FILE} are read", text.len());
            let error = SyntaxError::new(&source, Span::lines(1, 1), (1, 1), message, None);
            return Err(SyntaxErrors::new(vec![error]));
        }
        let mut parser = Parser::new(Arc::new(Source::new(name, text)));
        parser.run();
        parser.finish(checks)
    }

    /// Returns the file's name as it was given to the parser.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.source.name
    }

    /// Returns the file's text.
    #[must_use]
    pub fn text(&self) -> &str {
        self.source.text()
    }

    /// Makes an error at `span`: what is wrong with an instruction once it is carried out.
    #[must_use]
    pub fn error_at(&self, span: Span, message: impl Into<String>) -> SyntaxError {
        SyntaxError::new(&self.source, span, (span.line, span.column), message, None)
    }

    /// Expands an instruction of this file ([`Instruction::expand`]).
    ///
    /// # Errors
    /// What cannot be expanded, at its line.
    pub fn expand(
        &self,
        instruction: &Spanned<Instruction>,
        expander: &mut Expander<'_>,
    ) -> Result<Instruction, SyntaxError> {
        instruction.expand(expander).map_err(|error| self.error_at(instruction.span, error.to_string()))
    }
}

/// Reads a file line by line and goes on behind errors.
struct Parser {
    source: Arc<Source>,
    directives: Directives,
    args: Vec<Spanned<Arg>>,
    stages: Vec<Stage>,
    errors: Vec<SyntaxError>,
    notes: lint::Notes,
    /// A `FROM` was there, even if something was wrong with it.
    begun: bool,
}

impl Parser {
    fn new(source: Arc<Source>) -> Self {
        Self {
            source,
            directives: Directives::default(),
            args: Vec::new(),
            stages: Vec::new(),
            errors: Vec::new(),
            notes: lint::Notes::default(),
            begun: false,
        }
    }

    fn run(&mut self) {
        let source = Arc::clone(&self.source);
        let mut lines = Lines::new(&source);
        let mut count = 0;
        while let Some(joined) = lines.next(&mut self.errors) {
            count += 1;
            if count > MAX_INSTRUCTIONS {
                let fail = Fail::new(0, format!("the file has more than {MAX_INSTRUCTIONS} instructions"));
                self.errors.push(joined.error(&source, fail));
                break;
            }
            let result =
                Line::parse(&joined, lines.directives().escape).and_then(|line| self.take(&joined, line));
            if let Err(fail) = result {
                self.errors.push(joined.error(&source, fail));
            }
            if self.errors.len() >= MAX_ERRORS {
                break;
            }
        }
        self.directives = lines.directives().clone();
        if count == 0 && self.errors.is_empty() {
            self.errors.push(self.whole("the file has no instructions"));
        } else if !self.begun && self.errors.is_empty() {
            self.errors.push(self.whole("the file has no stage: there is no FROM"));
        }
    }

    /// An error about the file as such.
    fn whole(&self, message: &str) -> SyntaxError {
        let last = u32::try_from(self.source.len()).unwrap_or(u32::MAX).max(1);
        SyntaxError::new(&self.source, Span::lines(last, last), (last, 1), message, None)
    }

    fn take(&mut self, joined: &Joined, line: Line<'_>) -> Result<(), Fail> {
        self.notes.lines(joined);
        if line.keyword.text.eq_ignore_ascii_case("FROM") {
            self.begun = true;
            if self.stages.len() == MAX_STAGES {
                let message = format!("the file has more than {MAX_STAGES} stages");
                return Err(Fail::new(line.keyword.offset, message));
            }
            let stage = stage(joined, line)?;
            if let Some(name) = &stage.name {
                self.notes.comment(joined, "FROM", &[name]);
            }
            self.stages.push(stage);
            return Ok(());
        }
        let offset = line.keyword.offset;
        let keyword = line.keyword.text.to_ascii_uppercase();
        let instruction = spanned(joined, Instruction::of_line(line, false)?);
        if let Instruction::Arg(arg) = &instruction.value {
            let names: Vec<&str> = arg.definitions.iter().map(|arg| arg.name.as_str()).collect();
            self.notes.comment(joined, "ARG", &names);
        }
        match (self.stages.last_mut(), instruction) {
            (Some(stage), instruction) => stage.instructions.push(instruction),
            (None, Spanned { value: Instruction::Arg(value), span, text }) => {
                self.args.push(Spanned { value, span, text });
            }
            // Its stage has an error already.
            (None, _) if self.begun => {}
            (None, _) => {
                return Err(Fail::new(offset, format!("{keyword} is not allowed before the first FROM"))
                    .with_hint(Some("begin with FROM; nothing but ARG may come before it".to_owned())));
            }
        }
        Ok(())
    }

    fn finish(mut self, given: Option<Checks>) -> Result<Dockerfile, SyntaxErrors> {
        let checks = match self.directives.check.as_ref().map(|check| Checks::parse(check)) {
            None => Checks::default(),
            Some(Ok(checks)) => checks,
            Some(Err(message)) => {
                let span = self.directives.check.as_ref().map(|check| check.span).unwrap_or_default();
                self.errors.push(SyntaxError::new(
                    &self.source,
                    span,
                    (span.line, 1),
                    message,
                    Some("such as check=skip=JSONArgsRecommended;error=true".to_owned()),
                ));
                Checks::default()
            }
        };
        if !self.errors.is_empty() {
            self.errors.sort_by_key(|error| (error.line(), error.column()));
            self.errors.truncate(MAX_ERRORS);
            return Err(SyntaxErrors::new(self.errors));
        }
        let checks = given.unwrap_or(checks);
        let mut file = Dockerfile {
            directives: self.directives,
            args: self.args,
            stages: self.stages,
            warnings: Vec::new(),
            checks,
            source: self.source,
        };
        file.warnings = self.notes.warnings(&file);
        Ok(file)
    }
}

/// Reads `FROM [--platform=platform] base [AS name]`.
fn stage(joined: &Joined, mut line: Line<'_>) -> Result<Stage, Fail> {
    let platform = line.flags.value("platform")?;
    std::mem::take(&mut line.flags).finish()?;
    let words = words::split(line.rest)?;
    let (base, name) = match &words[..] {
        [base] => (base, None),
        [base, keyword, name] if keyword.text.eq_ignore_ascii_case("AS") => (base, Some(name)),
        [] => return Err(Fail::new(line.keyword.offset, "FROM needs the name of an image or a stage")),
        [_, second, ..] => {
            return Err(Fail::new(second.offset, "FROM takes one argument, or three")
                .with_hint(Some("write FROM image, or FROM image AS name".to_owned())));
        }
    };
    let lower = name.map(|name| name.text.to_lowercase());
    if let (Some(word), Some(lower)) = (name, &lower)
        && !is_stage_name(lower)
    {
        let fail = Fail::new(word.offset, format!("invalid name of a stage {:?}", word.text));
        let rule = "it begins with a letter and has letters, digits, '-', '_' and '.'";
        return Err(fail.with_hint(Some(rule.to_owned())));
    }
    let description = lower.as_deref().and_then(|name| describes(&joined.comments, name));
    Ok(Stage {
        name: lower,
        base: base.text.clone(),
        platform: platform.map(|word| word.text),
        instructions: Vec::new(),
        span: joined.span,
        text: joined.text.trim().to_owned(),
        description,
    })
}

fn is_stage_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_.".contains(c))
}

#[cfg(test)]
#[path = "file_tests.rs"]
mod tests;
