//! `COPY` and `ADD`.

use super::settings::{expand_all, expand_optional};
use super::{Line, optional};
use crate::dockerfile::expand::{ExpandError, Expander};
use crate::dockerfile::heredoc::{self, Heredoc};
use crate::dockerfile::lines::Fail;
use crate::dockerfile::words::Word;

/// `COPY`.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Copy {
    /// Paths and wildcards in the source.
    pub sources: Vec<String>,
    /// Files that stand in the Dockerfile.
    pub documents: Vec<Heredoc>,
    /// Where they go.
    pub destination: String,
    /// `--from`: a stage by name or number, a named context or an image; without it the build's context. Never expanded.
    pub from: Option<String>,
    /// `--chown`.
    pub chown: Option<String>,
    /// `--chmod`, octal or symbolic.
    pub chmod: Option<String>,
    /// `--link`: a layer that does not depend on what is below it.
    pub link: bool,
    /// `--parents`: sources keep their directories.
    pub parents: bool,
    /// `--exclude`: patterns as in an ignore file.
    pub exclude: Vec<String>,
}

impl Copy {
    pub(super) fn parse(mut line: Line<'_>) -> Result<Self, Fail> {
        let from = line.flags.value("from")?;
        let (chown, chmod) = (line.flags.value("chown")?, line.flags.value("chmod")?);
        let link = line.flags.switch("link")?.unwrap_or(false);
        let parents = line.flags.switch("parents")?.unwrap_or(false);
        let exclude = line.flags.values("exclude")?;
        line.no_flags()?;
        if let Some(from) = &from {
            not_empty(from, "--from")?;
            no_variables(from, "--from")?;
        }
        let Paths { sources, documents, destination } = Paths::parse(line)?;
        Ok(Self {
            sources,
            documents,
            destination,
            from: optional(from),
            chown: optional(chown),
            chmod: optional(chmod),
            link,
            parents,
            exclude: exclude.into_iter().map(|word| word.text).collect(),
        })
    }

    pub(super) fn expand(&self, expander: &mut Expander<'_>) -> Result<Self, ExpandError> {
        Ok(Self {
            sources: expand_all(&self.sources, expander)?,
            documents: expand_documents(&self.documents, expander)?,
            destination: expander.word(&self.destination)?,
            chown: expand_optional(self.chown.as_deref(), expander)?,
            chmod: expand_optional(self.chmod.as_deref(), expander)?,
            exclude: expand_all(&self.exclude, expander)?,
            ..self.clone()
        })
    }
}

/// `ADD`.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Add {
    /// Paths and wildcards in the context, URLs, git repositories.
    pub sources: Vec<String>,
    /// Files that stand in the Dockerfile.
    pub documents: Vec<Heredoc>,
    /// Where they go.
    pub destination: String,
    /// `--chown`.
    pub chown: Option<String>,
    /// `--chmod`, octal or symbolic.
    pub chmod: Option<String>,
    /// `--link`: a layer that does not depend on what is below it.
    pub link: bool,
    /// `--exclude`: patterns as in an ignore file.
    pub exclude: Vec<String>,
    /// `--checksum`: what the source must have.
    pub checksum: Option<String>,
    /// `--keep-git-dir`: the directory `.git` comes along.
    pub keep_git_dir: bool,
    /// `--unpack`: whether archives are unpacked; without it those of the context are, and those behind URLs are not.
    pub unpack: Option<bool>,
}

impl Add {
    pub(super) fn parse(mut line: Line<'_>) -> Result<Self, Fail> {
        let (chown, chmod) = (line.flags.value("chown")?, line.flags.value("chmod")?);
        let link = line.flags.switch("link")?.unwrap_or(false);
        let exclude = line.flags.values("exclude")?;
        let checksum = line.flags.value("checksum")?;
        let keep_git_dir = line.flags.switch("keep-git-dir")?.unwrap_or(false);
        let unpack = line.flags.switch("unpack")?;
        line.no_flags()?;
        let Paths { sources, documents, destination } = Paths::parse(line)?;
        Ok(Self {
            sources,
            documents,
            destination,
            chown: optional(chown),
            chmod: optional(chmod),
            link,
            exclude: exclude.into_iter().map(|word| word.text).collect(),
            checksum: optional(checksum),
            keep_git_dir,
            unpack,
        })
    }

    pub(super) fn expand(&self, expander: &mut Expander<'_>) -> Result<Self, ExpandError> {
        Ok(Self {
            sources: expand_all(&self.sources, expander)?,
            documents: expand_documents(&self.documents, expander)?,
            destination: expander.word(&self.destination)?,
            chown: expand_optional(self.chown.as_deref(), expander)?,
            chmod: expand_optional(self.chmod.as_deref(), expander)?,
            exclude: expand_all(&self.exclude, expander)?,
            checksum: expand_optional(self.checksum.as_deref(), expander)?,
            ..self.clone()
        })
    }
}

/// Sources and destination.
struct Paths {
    sources: Vec<String>,
    documents: Vec<Heredoc>,
    destination: String,
}

impl Paths {
    fn parse(mut line: Line<'_>) -> Result<Self, Fail> {
        let mut words = line.list()?;
        let destination = match words.pop() {
            Some(destination) if !words.is_empty() => destination,
            _ => return Err(line.lacks("at least one source and a destination")),
        };
        if heredoc::parse(&destination.text).is_some() {
            return Err(Fail::new(destination.offset, "a heredoc cannot be the destination"));
        }
        let mut documents = std::mem::take(&mut line.heredocs);
        // The bodies came in the order of the words.
        let mut names: Vec<String> = documents.iter().map(|document| document.name.clone()).collect();
        names.reverse();
        let mut sources = Vec::new();
        for word in words {
            match heredoc::parse(&word.text) {
                Some(heredoc) if names.last() == Some(&heredoc.name) => {
                    names.pop();
                }
                _ => sources.push(word.text),
            }
        }
        // What Docker would take for the body of a word that is none.
        documents.truncate(documents.len() - names.len());
        Ok(Self { sources, documents, destination: destination.text })
    }
}

/// Expands the documents that ask for it; their tabs are gone before.
fn expand_documents(documents: &[Heredoc], expander: &mut Expander<'_>) -> Result<Vec<Heredoc>, ExpandError> {
    let expand = |document: &Heredoc| {
        let text = document.document();
        let content = if document.expand { expander.document(&text)? } else { text.into_owned() };
        Ok(Heredoc { content, expand: false, strip_tabs: false, ..document.clone() })
    };
    documents.iter().map(expand).collect()
}

pub(super) fn not_empty(word: &Word, flag: &str) -> Result<(), Fail> {
    if word.text.is_empty() {
        return Err(Fail::new(word.offset, format!("the flag {flag} lacks a value behind =")));
    }
    Ok(())
}

/// Refuses variables where the graph of stages must be known before there are any.
pub(super) fn no_variables(word: &Word, what: &str) -> Result<(), Fail> {
    match word.text.find('$') {
        Some(at) if at + 1 < word.text.len() => {
            Err(Fail::new(word.offset, format!("{what} does not support variables"))
                .with_hint(Some("begin a stage FROM the variable, and give its name here".to_owned())))
        }
        _ => Ok(()),
    }
}
