//! Commands in both forms: `CMD`, `ENTRYPOINT`, `SHELL`, and what `RUN` and `HEALTHCHECK` run.
//!
//! Nothing here is expanded: the shell or the container does that.

use super::Line;
use crate::dockerfile::lines::Fail;
use crate::dockerfile::words::{Json, Part, json};

/// A command.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Command {
    /// A line for the shell.
    Shell(String),
    /// A program and its arguments: an array of JSON.
    Exec(Vec<String>),
}

impl Command {
    pub(super) fn parse(part: Part<'_>) -> Result<Self, Fail> {
        match json(part.text) {
            Json::Strings(arguments) => Ok(Self::Exec(arguments)),
            Json::Mixed => Err(not_strings(part)),
            Json::Other => Ok(Self::Shell(part.text.to_owned())),
        }
    }

    /// Returns the arguments, where `shell` runs what is for the shell: `["/bin/sh", "-c"]`.
    #[must_use]
    pub fn arguments(&self, shell: &[String]) -> Vec<String> {
        match self {
            Self::Shell(line) => shell.iter().chain([line]).cloned().collect(),
            Self::Exec(arguments) => arguments.clone(),
        }
    }
}

pub(super) fn not_strings(part: Part<'_>) -> Fail {
    Fail::new(part.offset, "the array must have strings and nothing else")
        .with_hint(Some("put each element in double quotes".to_owned()))
}

/// `CMD`.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Cmd {
    /// The command. An empty array means none.
    pub command: Command,
}

impl Cmd {
    pub(super) fn parse(mut line: Line<'_>) -> Result<Self, Fail> {
        line.no_flags()?;
        Ok(Self { command: Command::parse(line.rest)? })
    }
}

/// `ENTRYPOINT`.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Entrypoint {
    /// The command. An empty array means none.
    pub command: Command,
}

impl Entrypoint {
    pub(super) fn parse(mut line: Line<'_>) -> Result<Self, Fail> {
        line.no_flags()?;
        Ok(Self { command: Command::parse(line.rest)? })
    }
}

/// `SHELL`.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Shell {
    /// The program and its arguments, behind which the line comes.
    pub arguments: Vec<String>,
}

impl Shell {
    pub(super) fn parse(mut line: Line<'_>) -> Result<Self, Fail> {
        line.no_flags()?;
        let rest = line.argument()?;
        match json(rest.text) {
            Json::Strings(arguments) if arguments.is_empty() => Err(line.lacks("an argument")),
            Json::Strings(arguments) => Ok(Self { arguments }),
            Json::Mixed => Err(not_strings(rest)),
            Json::Other => Err(Fail::new(rest.offset, "SHELL needs an array of JSON")
                .with_hint(Some("such as SHELL [\"/bin/bash\", \"-c\"]".to_owned()))),
        }
    }
}
