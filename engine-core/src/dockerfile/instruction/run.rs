//! `RUN`.

use std::borrow::Cow;

use super::mount::RunMount;
use super::{Command, Line};
use crate::dockerfile::expand::{ExpandError, Expander};
use crate::dockerfile::heredoc::{self, Heredoc};
use crate::dockerfile::lines::Fail;
use crate::dockerfile::suggest;
use crate::dockerfile::words::{self, Word};

/// `RUN`.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Run {
    /// `--mount`, in their order.
    pub mounts: Vec<RunMount>,
    /// `--network`.
    pub network: RunNetwork,
    /// `--security`.
    pub security: RunSecurity,
    /// `--device`, in their order.
    pub devices: Vec<RunDevice>,
    /// The command; [`script`](Self::script) has its heredocs.
    pub command: Command,
    /// The documents of the command's heredocs.
    pub documents: Vec<Heredoc>,
}

/// The network of a `RUN`.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum RunNetwork {
    /// The build's.
    #[default]
    Default,
    /// None but the loopback.
    None,
    /// The host's, if the build may.
    Host,
}

/// The confinement of a `RUN`.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum RunSecurity {
    /// As usual.
    #[default]
    Sandbox,
    /// None, if the build may.
    Insecure,
}

/// A device of a `RUN`, by its name in CDI.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct RunDevice {
    /// Its name; none means all there are.
    pub name: Option<String>,
    /// Whether the build fails without it.
    pub required: bool,
}

/// What a `RUN` runs, with its heredocs.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum RunScript<'a> {
    /// A text for the shell.
    Shell(Cow<'a, str>),
    /// A program and its arguments.
    Exec(&'a [String]),
    /// A file that names its own interpreter (`#!`), and is run by its path.
    File {
        /// The file's name.
        name: &'a str,
        /// What is in it.
        content: Cow<'a, str>,
    },
}

impl Run {
    pub(super) fn parse(mut line: Line<'_>) -> Result<Self, Fail> {
        let mounts = line.flags.values("mount")?;
        let network = line.flags.value("network")?;
        let security = line.flags.value("security")?;
        let devices = line.flags.values("device")?;
        line.no_flags()?;
        let command = Command::parse(line.rest)?;
        if matches!(&command, Command::Exec(arguments) if arguments.is_empty()) {
            return Err(line.lacks("a command"));
        }
        Ok(Self {
            mounts: mounts.iter().map(RunMount::parse).collect::<Result<_, _>>()?,
            network: choice(network, &NETWORKS, "network")?,
            security: choice(security, &SECURITIES, "security")?,
            devices: devices.iter().map(device).collect::<Result<_, _>>()?,
            command,
            documents: line.heredocs,
        })
    }

    /// Only mounts are expanded.
    pub(super) fn expand(&self, expander: &mut Expander<'_>) -> Result<Self, ExpandError> {
        let mounts = self.mounts.iter().map(|mount| mount.expand(expander)).collect::<Result<_, _>>()?;
        Ok(Self { mounts, ..self.clone() })
    }

    /// Returns what is to be run.
    ///
    /// A command that is nothing but a heredoc is its document; around others the shell reads the heredocs itself.
    #[must_use]
    pub fn script(&self) -> RunScript<'_> {
        let line = match &self.command {
            Command::Exec(arguments) => return RunScript::Exec(arguments),
            Command::Shell(line) => line,
        };
        let Some(first) = self.documents.first() else { return RunScript::Shell(Cow::Borrowed(line)) };
        if heredoc::parse(line).is_none() {
            let mut text = line.clone();
            for document in &self.documents {
                text.push('\n');
                text.push_str(&document.content);
                text.push_str(&document.name);
            }
            return RunScript::Shell(Cow::Owned(text));
        }
        let content = first.document();
        if content.starts_with("#!") {
            return RunScript::File { name: &first.name, content };
        }
        RunScript::Shell(content)
    }
}

const NETWORKS: [(&str, RunNetwork); 3] =
    [("default", RunNetwork::Default), ("none", RunNetwork::None), ("host", RunNetwork::Host)];
const SECURITIES: [(&str, RunSecurity); 2] =
    [("sandbox", RunSecurity::Sandbox), ("insecure", RunSecurity::Insecure)];

/// The value of a flag that has a few.
fn choice<T: Copy + Default>(word: Option<Word>, known: &[(&str, T)], what: &str) -> Result<T, Fail> {
    let Some(word) = word else { return Ok(T::default()) };
    let found = known.iter().find(|(name, _)| *name == word.text);
    found.map(|(_, value)| *value).ok_or_else(|| {
        let names = || known.iter().map(|(name, _)| *name);
        let hint = suggest::hint(&word.text, names());
        let hint = hint.unwrap_or_else(|| format!("it is one of {}", names().collect::<Vec<_>>().join(", ")));
        Fail::new(word.offset, format!("unknown {what} {:?}", word.text)).with_hint(Some(hint))
    })
}

/// Reads `vendor/class=device`, `name=…` and `required`.
fn device(word: &Word) -> Result<RunDevice, Fail> {
    let mut device = RunDevice { name: None, required: false };
    for field in words::fields(word)? {
        let (key, value) = match field.split_once('=') {
            Some((key, value)) => (key.to_ascii_lowercase(), Some(value)),
            None => (field.to_ascii_lowercase(), None),
        };
        match (key.as_str(), value) {
            ("required", None) => device.required = true,
            ("required", Some(value)) => {
                device.required = super::mount::boolean(value).ok_or_else(|| {
                    Fail::new(word.offset, format!("required is true or false, not {value:?}"))
                })?;
            }
            ("name", Some(value)) if device.name.is_none() => device.name = Some(value.to_owned()),
            (_, _) if device.name.is_none() && key != "name" => device.name = Some(field),
            _ => {
                return Err(Fail::new(word.offset, format!("unexpected {field:?} in the flag --device"))
                    .with_hint(suggest::hint(&key, ["name", "required"])));
            }
        }
    }
    Ok(device)
}
