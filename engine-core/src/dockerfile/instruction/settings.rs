//! Instructions that set something in the image's configuration, and `ARG` and `ONBUILD`.

use super::{Instruction, Line};
use crate::dockerfile::expand::{ExpandError, Expander};
use crate::dockerfile::lines::Fail;
use crate::dockerfile::words;

/// A name and its value.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct KeyValue {
    /// The name.
    pub key: String,
    /// The value.
    pub value: String,
    /// Whether it was written `ENV name value`, without `=`.
    pub legacy: bool,
}

/// `ENV`.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Env {
    /// Variables in their order.
    pub pairs: Vec<KeyValue>,
}

impl Env {
    pub(super) fn parse(line: Line<'_>) -> Result<Self, Fail> {
        Ok(Self { pairs: pairs(line)? })
    }
}

/// `LABEL`.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Label {
    /// Labels in their order.
    pub pairs: Vec<KeyValue>,
}

impl Label {
    pub(super) fn parse(line: Line<'_>) -> Result<Self, Fail> {
        Ok(Self { pairs: pairs(line)? })
    }
}

/// Reads `name=value …`, or `name value` if the first word has no `=`.
fn pairs(mut line: Line<'_>) -> Result<Vec<KeyValue>, Fail> {
    line.no_flags()?;
    let rest = line.argument()?;
    let words = words::quoted(rest, line.escape)?;
    let keyword = line.keyword.text.to_ascii_uppercase();
    let blank = |offset| Fail::new(offset, format!("{keyword} needs a name in front of ="));
    if words.first().is_some_and(|first| !first.text.contains('=')) {
        let end = rest.text.find(char::is_whitespace);
        let Some(end) = end else {
            return Err(Fail::new(rest.offset, format!("{keyword} needs a name and a value"))
                .with_hint(Some(format!("write {keyword} {}=value", rest.text))));
        };
        let (key, value) = rest.split_at(end);
        let pair = KeyValue { key: key.text.to_owned(), value: value.trim().text.to_owned(), legacy: true };
        return Ok(vec![pair]);
    }
    let mut pairs = Vec::with_capacity(words.len());
    for word in words {
        let Some((key, value)) = word.text.split_once('=') else {
            return Err(Fail::new(word.offset, format!("{:?} lacks =", word.text)).with_hint(Some(format!(
                "write name=value, with quotes around a value that has spaces: {keyword} name=\"a b\""
            ))));
        };
        if key.is_empty() {
            return Err(blank(word.offset));
        }
        pairs.push(KeyValue { key: key.to_owned(), value: value.to_owned(), legacy: false });
    }
    if pairs.is_empty() { Err(line.lacks("an argument")) } else { Ok(pairs) }
}

/// `ARG`.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Arg {
    /// Variables in their order.
    pub definitions: Vec<ArgDefinition>,
}

/// A variable of the build.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct ArgDefinition {
    /// Its name.
    pub name: String,
    /// Its default, unexpanded.
    pub default: Option<String>,
    /// What the comment above says: `# name and what it is for`.
    pub description: Option<String>,
}

impl Arg {
    pub(super) fn parse(mut line: Line<'_>) -> Result<Self, Fail> {
        line.no_flags()?;
        let words = words::quoted(line.argument()?, line.escape)?;
        let mut definitions = Vec::with_capacity(words.len());
        for word in words {
            let (name, default) = match word.text.split_once('=') {
                Some((name, default)) => (name, Some(default.to_owned())),
                None => (word.text.as_str(), None),
            };
            if name.is_empty() {
                return Err(Fail::new(word.offset, "ARG needs a name in front of ="));
            }
            let description = line.description(name);
            definitions.push(ArgDefinition { name: name.to_owned(), default, description });
        }
        if definitions.is_empty() { Err(line.lacks("an argument")) } else { Ok(Self { definitions }) }
    }
}

/// `EXPOSE`.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Expose {
    /// Ports and ranges in order: `80`, `8000-8010/udp`. [`parse_ports`](super::parse_ports) reads them once they are expanded.
    pub ports: Vec<String>,
}

impl Expose {
    pub(super) fn parse(mut line: Line<'_>) -> Result<Self, Fail> {
        line.no_flags()?;
        let mut ports: Vec<String> =
            words::split(line.argument()?)?.into_iter().map(|word| word.text).collect();
        ports.sort();
        Ok(Self { ports })
    }

    /// Here a value may be several words.
    pub(super) fn expand(&self, expander: &mut Expander<'_>) -> Result<Self, ExpandError> {
        let mut ports = Vec::new();
        for port in &self.ports {
            ports.extend(expander.words(port)?);
        }
        Ok(Self { ports })
    }
}

/// `MAINTAINER`.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Maintainer {
    /// The image's author.
    pub name: String,
}

impl Maintainer {
    pub(super) fn parse(line: Line<'_>) -> Result<Self, Fail> {
        Ok(Self { name: text(line)? })
    }
}

/// `STOPSIGNAL`.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct StopSignal {
    /// Its name or number.
    pub signal: String,
}

impl StopSignal {
    pub(super) fn parse(line: Line<'_>) -> Result<Self, Fail> {
        Ok(Self { signal: text(line)? })
    }
}

/// `USER`.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct User {
    /// A user and perhaps a group, by name or number.
    pub user: String,
}

impl User {
    pub(super) fn parse(line: Line<'_>) -> Result<Self, Fail> {
        Ok(Self { user: text(line)? })
    }
}

/// `WORKDIR`.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Workdir {
    /// A path, relative to the one before.
    pub path: String,
}

impl Workdir {
    pub(super) fn parse(line: Line<'_>) -> Result<Self, Fail> {
        Ok(Self { path: text(line)? })
    }
}

/// The whole line is one text.
fn text(mut line: Line<'_>) -> Result<String, Fail> {
    line.no_flags()?;
    Ok(line.argument()?.text.to_owned())
}

/// `VOLUME`.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Volume {
    /// Paths in the container.
    pub paths: Vec<String>,
}

impl Volume {
    pub(super) fn parse(mut line: Line<'_>) -> Result<Self, Fail> {
        line.no_flags()?;
        let words = line.list()?;
        if words.is_empty() {
            return Err(line.lacks("an argument"));
        }
        let mut paths = Vec::with_capacity(words.len());
        for word in words {
            let path = word.text.trim();
            if path.is_empty() {
                return Err(Fail::new(word.offset, "the path of a VOLUME is empty"));
            }
            paths.push(path.to_owned());
        }
        Ok(Self { paths })
    }
}

/// `ONBUILD`.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct OnBuild {
    /// The instruction, with its heredocs: [`Instruction::parse`] reads it when a build has this image as its base.
    pub instruction: String,
}

impl OnBuild {
    pub(super) fn parse(mut line: Line<'_>) -> Result<Self, Fail> {
        line.no_flags()?;
        let rest = line.argument()?;
        let words::Command { keyword, flags, rest: behind } = words::command(rest)?;
        // What is wrong with it is wrong now, not in somebody else's build.
        let inner = Line {
            keyword,
            flags,
            rest: behind,
            escape: line.escape,
            heredocs: line.heredocs.clone(),
            comments: &[],
        };
        Instruction::of_line(inner, true)?;
        let mut instruction = rest.text.to_owned();
        for heredoc in &line.heredocs {
            instruction.push('\n');
            instruction.push_str(&heredoc.content);
            instruction.push_str(&heredoc.name);
        }
        Ok(Self { instruction })
    }
}

pub(super) fn expand_all(texts: &[String], expander: &mut Expander<'_>) -> Result<Vec<String>, ExpandError> {
    texts.iter().map(|text| expander.word(text)).collect()
}

pub(super) fn expand_optional(
    text: Option<&str>,
    expander: &mut Expander<'_>,
) -> Result<Option<String>, ExpandError> {
    text.map(|text| expander.word(text)).transpose()
}

/// Names are expanded, too.
pub(super) fn expand_pairs(
    pairs: &[KeyValue],
    expander: &mut Expander<'_>,
) -> Result<Vec<KeyValue>, ExpandError> {
    let mut expand = |pair: &KeyValue| {
        let (key, value) = (expander.word(&pair.key)?, expander.word(&pair.value)?);
        Ok(KeyValue { key, value, legacy: pair.legacy })
    };
    pairs.iter().map(&mut expand).collect()
}
