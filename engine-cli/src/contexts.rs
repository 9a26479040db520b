//! Named contexts: hosts that people give names to.
//!
//! They lie where Docker keeps its own, in Docker's format, so that either program finds what the other has made: `contexts` in
//! the directory of Docker's `config.json`, by the hash of their names. Which of them is used without being named is this
//! program's own choice (`engine-cli.json` there): a daemon of Docker's does not speak this program's protocol.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use engine_core::Digest;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::context::docker_dir;
use crate::failure::{Failure, Result};

/// The context of the engine in this process.
pub(crate) const DEFAULT: &str = "default";
/// Docker's name for the endpoint of an engine.
const ENDPOINT: &str = "docker";

/// The files of a context by TCP, by what they are called where they are given.
pub(crate) const CERTIFICATES: [(&str, &str); 3] =
    [("ca", "ca.pem"), ("cert", "cert.pem"), ("key", "key.pem")];

/// One context. What only others know of it stays as it is.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct NamedContext {
    pub(crate) name: String,
    pub(crate) metadata: Metadata,
    pub(crate) endpoints: BTreeMap<String, EndpointOf>,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

/// What people say about it.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct Metadata {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) description: String,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

/// Where it leads.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct EndpointOf {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) host: String,
    #[serde(rename = "SkipTLSVerify", skip_serializing_if = "Option::is_none")]
    skip_tls_verify: Option<bool>,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

impl NamedContext {
    pub(crate) fn new(name: &str) -> Self {
        Self { name: name.to_owned(), ..Self::default() }
    }

    /// Sets its host.
    pub(crate) fn set_host(&mut self, host: String) {
        let endpoint = self.endpoints.entry(ENDPOINT.to_owned()).or_default();
        endpoint.host = host;
        // Docker always says it.
        endpoint.skip_tls_verify.get_or_insert(false);
    }

    /// Returns its host, empty if it has none.
    pub(crate) fn host(&self) -> &str {
        self.endpoints.get(ENDPOINT).map_or("", |endpoint| endpoint.host.as_str())
    }
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Choice {
    #[serde(skip_serializing_if = "Option::is_none")]
    current_context: Option<String>,
}

/// The contexts of this user.
#[derive(Clone, Debug)]
pub(crate) struct Contexts {
    dir: PathBuf,
}

impl Contexts {
    /// Finds the user's contexts; `None` without a home directory.
    pub(crate) fn of_user() -> Option<Self> {
        Some(Self { dir: docker_dir()? })
    }

    /// As [`of_user`](Self::of_user), for who needs them.
    pub(crate) fn required() -> Result<Self> {
        Self::of_user().ok_or_else(|| {
            Failure::usage(
                "there is no home directory to keep contexts in (set DOCKER_CONFIG to a directory)",
            )
        })
    }

    fn meta(&self, name: &str) -> PathBuf {
        self.dir.join("contexts/meta").join(Digest::sha256(name.as_bytes()).hex())
    }

    /// Returns the directory of a context's certificates.
    pub(crate) fn tls(&self, name: &str) -> PathBuf {
        self.dir.join("contexts/tls").join(Digest::sha256(name.as_bytes()).hex()).join(ENDPOINT)
    }

    /// Returns which of [`CERTIFICATES`] a context lacks, if it has any beside these.
    pub(crate) fn missing_certificate(&self, name: &str, more: &[&str]) -> Option<&'static str> {
        let dir = self.tls(name);
        let there = |file: &str| more.contains(&file) || dir.join(file).exists();
        let (known, missing): (Vec<_>, Vec<_>) = CERTIFICATES.iter().partition(|(_, file)| there(file));
        missing.first().filter(|_| !known.is_empty()).map(|(name, _)| *name)
    }

    fn choice(&self) -> PathBuf {
        self.dir.join("engine-cli.json")
    }

    /// Returns a context, `None` if there is none of this name.
    pub(crate) fn find(&self, name: &str) -> Result<Option<NamedContext>> {
        read(&self.meta(name).join("meta.json"))
    }

    /// Returns a context that must be there.
    pub(crate) fn require(&self, name: &str) -> Result<NamedContext> {
        self.find(name)?.ok_or_else(|| {
            Failure::usage(format!("context {name:?} does not exist (\"context ls\" lists those there are)"))
        })
    }

    /// Returns all contexts, by name.
    pub(crate) fn list(&self) -> Result<Vec<NamedContext>> {
        let dir = self.dir.join("contexts/meta");
        let entries = match std::fs::read_dir(&dir) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(|error| unreadable(&dir, &error))?,
        };
        let mut list = Vec::new();
        for entry in entries {
            let entry = entry.map_err(|error| unreadable(&dir, &error))?;
            list.extend(read::<NamedContext>(&entry.path().join("meta.json"))?);
        }
        list.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(list)
    }

    /// Keeps a context, with copies of these certificates: file name and source.
    pub(crate) fn store(&self, context: &NamedContext, certificates: &[(&str, &Path)]) -> Result<()> {
        let tls = self.tls(&context.name);
        for (name, source) in certificates {
            let content = std::fs::read(source).map_err(|error| unreadable(source, &error))?;
            write(&tls.join(name), &content)?;
        }
        let text = serde_json::to_vec(context).map_err(|error| Failure::usage(error.to_string()))?;
        write(&self.meta(&context.name).join("meta.json"), &text)
    }

    /// Forgets a context.
    pub(crate) fn remove(&self, name: &str) -> Result<()> {
        let tls = self.tls(name);
        for dir in [tls.parent().unwrap_or(&tls), &self.meta(name)] {
            match std::fs::remove_dir_all(dir) {
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                removed => removed
                    .map_err(|error| Failure::usage(format!("cannot remove {}: {error}", dir.display())))?,
            }
        }
        Ok(())
    }

    /// Returns the name of the context in use.
    pub(crate) fn current(&self) -> Result<String> {
        let choice: Option<Choice> = read(&self.choice())?;
        Ok(choice.and_then(|choice| choice.current_context).unwrap_or_else(|| DEFAULT.to_owned()))
    }

    /// Chooses the context in use.
    pub(crate) fn choose(&self, name: &str) -> Result<()> {
        let current_context = Some(name.to_owned()).filter(|name| name != DEFAULT);
        let text = serde_json::to_vec(&Choice { current_context });
        write(&self.choice(), &text.map_err(|error| Failure::usage(error.to_string()))?)
    }
}

fn unreadable(path: &Path, error: &std::io::Error) -> Failure {
    Failure::usage(format!("cannot read {}: {error}", path.display()))
}

fn read<T: for<'de> Deserialize<'de>>(path: &Path) -> Result<Option<T>> {
    let text = match std::fs::read(path) {
        // A file beside the directories of contexts is nobody's context.
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            return Ok(None);
        }
        text => text.map_err(|error| unreadable(path, &error))?,
    };
    serde_json::from_slice(&text)
        .map(Some)
        .map_err(|error| Failure::usage(format!("{} is no context: {error}", path.display())))
}

/// Writes a file that only its owner may read; it is there whole or not at all.
fn write(path: &Path, content: &[u8]) -> Result<()> {
    let dir = path.parent().unwrap_or(Path::new("/"));
    let done = || -> std::io::Result<()> {
        std::fs::create_dir_all(dir)?;
        let mut file = tempfile::NamedTempFile::new_in(dir)?;
        std::io::Write::write_all(&mut file, content)?;
        file.persist(path)?;
        Ok(())
    };
    done().map_err(|error| Failure::usage(format!("cannot write {}: {error}", path.display())))
}
