//! Warnings about what is not wrong but not good either, under BuildKit's names.
//!
//! Rules that need nothing but the file are applied when it is parsed. Those that need an image, values or the context are here as
//! functions for whoever has them.

mod notes;
mod rule;

pub(super) use notes::Notes;
pub use rule::Rule;

use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::add_source::AddSource;
use super::error::shown;
use super::ignore::IgnorePatterns;
use super::instruction::{Instruction, boolean};
use super::scope::Scope;
use super::source::Span;
use super::suggest;
use crate::error::{Error, ErrorKind, Result};
use crate::platform::Platform;

/// Variables of one instruction that are warned of.
const MOST_VARIABLES: usize = 20;

/// Something that is not good, at its place.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Warning {
    /// The rule.
    pub rule: Rule,
    /// What is not good, as a sentence.
    pub message: String,
    /// Where.
    pub span: Span,
}

impl Warning {
    pub(super) fn new(rule: Rule, span: Span, message: impl Into<String>) -> Self {
        Self { rule, message: shown(&message.into()), span }
    }
}

impl fmt::Display for Warning {
    /// Writes it as BuildKit does: `FromAsCasing: 'as' and 'FROM' … (line 1)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} (line {})", self.rule, self.message, self.span.line)
    }
}

/// How warnings are treated: `# check=skip=…;experimental=…;error=true`.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Checks {
    skip: Names,
    experimental: Names,
    error: bool,
}

/// Rules by name; names that are none may be of a later version.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
struct Names {
    all: bool,
    some: BTreeSet<String>,
}

impl Names {
    fn parse(text: &str) -> Self {
        if text == "all" {
            return Self { all: true, some: BTreeSet::new() };
        }
        let names = text.split(',').map(str::trim).filter(|name| !name.is_empty());
        Self { all: false, some: names.map(str::to_owned).collect() }
    }

    fn has(&self, rule: Rule) -> bool {
        self.all || self.some.contains(rule.as_str())
    }
}

impl Checks {
    /// Reads the value of the directive `check`, or of the build argument `BUILDKIT_DOCKERFILE_CHECK`.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> std::result::Result<Self, String> {
        let mut checks = Self::default();
        for option in text.split(';').map(str::trim).filter(|option| !option.is_empty()) {
            let (name, value) = option.split_once('=').unwrap_or((option, ""));
            let value = value.trim();
            match name.trim() {
                "skip" if !value.is_empty() => checks.skip = Names::parse(value),
                "experimental" if !value.is_empty() => checks.experimental = Names::parse(value),
                "error" => {
                    checks.error = boolean(value)
                        .ok_or_else(|| format!("error of the checks is true or false, not {value:?}"))?;
                }
                _ => return Err(format!("invalid option of the checks {option:?}")),
            }
        }
        Ok(checks)
    }

    /// Returns whether `rule` is applied.
    #[must_use]
    pub fn apply(&self, rule: Rule) -> bool {
        if rule.is_experimental() { self.experimental.has(rule) } else { !self.skip.has(rule) }
    }

    /// Returns whether warnings fail the build.
    #[must_use]
    pub fn warnings_are_errors(&self) -> bool {
        self.error
    }

    /// Decides whether a build with these warnings goes on.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidArgument`] if there are warnings and they fail the build.
    pub fn verdict(&self, warnings: &[Warning]) -> Result<()> {
        if !self.error || warnings.is_empty() {
            return Ok(());
        }
        let rules: BTreeSet<&str> = warnings.iter().map(|warning| warning.rule.as_str()).collect();
        let rules = rules.into_iter().collect::<Vec<_>>().join(", ");
        Err(Error::new(ErrorKind::InvalidArgument, "check Dockerfile")
            .with_message(format!("the file breaks {rules}"))
            .with_hint("its directive check makes warnings errors; check=skip=RULE leaves a rule out"))
    }

    /// Warns of variables that an instruction at `span` used and nobody set ([`Expander::unset`](super::Expander::unset)); `scope`
    /// is what it saw.
    #[must_use]
    pub fn undefined_variables<'a>(
        &self,
        unset: impl IntoIterator<Item = &'a String>,
        scope: &Scope,
        span: Span,
    ) -> Vec<Warning> {
        if !self.apply(Rule::UndefinedVar) {
            return Vec::new();
        }
        let unset = unset.into_iter().filter(|name| !scope.is_defined(name)).take(MOST_VARIABLES);
        let warning = |name: &String| {
            let near = suggest::nearest(name, scope.names());
            let near = near.map_or(String::new(), |near| format!(" (did you mean ${near}?)"));
            Warning::new(Rule::UndefinedVar, span, format!("the variable ${name} is not defined{near}"))
        };
        unset.map(warning).collect()
    }

    /// Warns of what an instruction at `span` says once its variables are known: its sources, which `ignore` may leave out of the context,
    /// and its ports.
    #[must_use]
    pub fn expanded(
        &self,
        instruction: &Instruction,
        ignore: Option<&IgnorePatterns>,
        span: Span,
    ) -> Vec<Warning> {
        let (sources, keyword) = match instruction {
            Instruction::Copy(copy) if copy.from.is_none() => (&copy.sources[..], "COPY"),
            Instruction::Add(add) => (&add.sources[..], "ADD"),
            Instruction::Expose(expose) => {
                let warnings = expose.ports.iter().flat_map(|port| notes::of_port(port, span));
                return warnings.filter(|warning| self.apply(warning.rule)).collect();
            }
            _ => return Vec::new(),
        };
        let Some(ignore) = ignore else { return Vec::new() };
        // What `COPY` has is a path, whatever it looks like.
        let is_path =
            |source: &&String| keyword == "COPY" || matches!(AddSource::of(source), Ok(AddSource::Path(_)));
        let paths = sources.iter().filter(is_path);
        paths.filter_map(|source| self.copy_of_ignored(keyword, source, ignore, span)).collect()
    }

    /// Warns of a source of `COPY` or `ADD` that the ignore file leaves out. With exceptions in the file there is no telling.
    #[must_use]
    pub fn copy_of_ignored(
        &self,
        keyword: &str,
        source: &str,
        ignore: &IgnorePatterns,
        span: Span,
    ) -> Option<Warning> {
        if !self.apply(Rule::CopyIgnoredFile) || ignore.has_exceptions() {
            return None;
        }
        let root = matches!(source.trim_matches('/'), "" | ".");
        let ignored = if root { ignore.ignores_everything() } else { ignore.is_ignored(source) };
        let message = || format!("{keyword} of {source:?}, which the ignore file leaves out");
        ignored.then(|| Warning::new(Rule::CopyIgnoredFile, span, message()))
    }

    /// Warns of a base image that is for another platform than the stage.
    #[must_use]
    pub fn base_platform(
        &self,
        image: &str,
        wanted: &Platform,
        found: &Platform,
        span: Span,
    ) -> Option<Warning> {
        let same = wanted.os == found.os && wanted.architecture == found.architecture;
        if same || !self.apply(Rule::InvalidBaseImagePlatform) {
            return None;
        }
        let message = format!("the base image {image} is for {found}, and the stage for {wanted}");
        Some(Warning::new(Rule::InvalidBaseImagePlatform, span, message))
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
