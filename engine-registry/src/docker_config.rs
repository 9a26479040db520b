//! Docker's `config.json`: credentials by registry, in the file or in helpers.
//!
//! Owns looking them up, storing and erasing them. Everything else in the file stays as it was. Invariant: the file is
//! replaced by a rename, never half written, and readable by its owner only; no content of it enters an error.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{ErrorKind as IoKind, Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use engine_core::error::{Error, ErrorKind, Result};
use engine_core::reference::DEFAULT_REGISTRY;
use engine_core::registry_client::Credentials;
use serde_json::{Map, Value};

use crate::endpoint::registry_key;
use crate::helper::Helper;

/// The name Docker keeps Docker Hub's credentials under.
const HUB_KEY: &str = "https://index.docker.io/v1/";
const MAX_SIZE: u64 = 4 << 20;
/// How long to wait for another process that changes the file.
const LOCK_WAIT: Duration = Duration::from_secs(10);

/// A `config.json` as Docker keeps it, named by its path. It need not exist.
///
/// Registries are named as in references: `docker.io`, `localhost:5000`. Helpers that the file names
/// (`credsStore`, `credHelpers`) are run, and only those.
#[derive(Clone, Debug)]
pub struct DockerConfig {
    path: PathBuf,
    helper_dirs: Vec<PathBuf>,
}

impl<P: Into<PathBuf>> From<P> for DockerConfig {
    fn from(path: P) -> Self {
        Self::new(path)
    }
}

impl DockerConfig {
    /// Names the file; nothing is read yet.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), helper_dirs: Vec::new() }
    }

    /// Adds a directory to look for helpers in before the `PATH`.
    #[must_use]
    pub fn with_helper_dir(mut self, dir: impl Into<PathBuf>) -> Self {
        self.helper_dirs.push(dir.into());
        self
    }

    /// Returns the file's path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the credentials kept for `registry`.
    ///
    /// # Errors
    /// If the file is malformed, or if a helper it names is missing or fails: what another place
    /// holds for this registry is then not used instead.
    pub async fn credentials(&self, registry: &str) -> Result<Option<Credentials>> {
        let document = self.blocking(|config| config.read()).await?;
        let key = registry_key(registry);
        if let Some(helper) = self.helper(&document, &key)? {
            return helper.get(server_name(&key)).await;
        }
        let Some(auths) = document.get("auths").and_then(Value::as_object) else { return Ok(None) };
        let Some((_, entry)) = auths.iter().find(|(name, _)| registry_key(name) == key) else {
            return Ok(None);
        };
        self.inline(entry, &key)
    }

    /// Returns the registries that the file names.
    ///
    /// # Errors
    /// If the file is malformed.
    pub async fn registries(&self) -> Result<BTreeSet<String>> {
        let document = self.blocking(|config| config.read()).await?;
        let named = ["auths", "credHelpers"].map(|key| document.get(key).and_then(Value::as_object));
        Ok(named.into_iter().flatten().flat_map(Map::keys).map(|name| registry_key(name)).collect())
    }

    /// Keeps `credentials` for `registry`, in the helper that the file names for it, else in the file.
    ///
    /// # Errors
    /// If the helper fails or the file cannot be replaced; it is then unchanged.
    pub async fn store(&self, registry: &str, credentials: &Credentials) -> Result<()> {
        let key = registry_key(registry);
        let document = self.blocking(|config| config.read()).await?;
        let entry = match self.helper(&document, &key)? {
            Some(helper) => {
                helper.store(server_name(&key), credentials).await?;
                // An empty entry lists the registry, as Docker's own does.
                Value::Object(Map::new())
            }
            None => inline_entry(credentials, &key)?,
        };
        self.blocking(move |config| {
            config.change(|document| {
                let auths = document.entry("auths").or_insert_with(|| Value::Object(Map::new()));
                let Some(auths) = auths.as_object_mut() else {
                    return Err(config.malformed("\"auths\" is no object"));
                };
                auths.retain(|name, _| registry_key(name) != key);
                auths.insert(server_name(&key).to_owned(), entry);
                Ok(true)
            })
        })
        .await
    }

    /// Forgets the credentials of `registry`. It is `Ok` if there were none.
    ///
    /// # Errors
    /// If the helper fails or the file cannot be replaced.
    pub async fn erase(&self, registry: &str) -> Result<()> {
        let key = registry_key(registry);
        let document = self.blocking(|config| config.read()).await?;
        if let Some(helper) = self.helper(&document, &key)? {
            helper.erase(server_name(&key)).await?;
        }
        self.blocking(move |config| {
            config.change(|document| {
                let Some(auths) = document.get_mut("auths").and_then(Value::as_object_mut) else {
                    return Ok(false);
                };
                let before = auths.len();
                auths.retain(|name, _| registry_key(name) != key);
                Ok(auths.len() != before)
            })
        })
        .await
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Self) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let config = self.clone();
        tokio::task::spawn_blocking(move || work(&config)).await.unwrap_or_else(|e| {
            Err(Error::new(ErrorKind::Other, "read docker config").with_message("interrupted").with_source(e))
        })
    }

    /// Returns the helper for a registry: its own, else the one for all.
    fn helper(&self, document: &Map<String, Value>, key: &str) -> Result<Option<Helper>> {
        let own = document
            .get("credHelpers")
            .and_then(Value::as_object)
            .and_then(|helpers| helpers.iter().find(|(name, _)| registry_key(name) == key))
            .map(|(_, helper)| helper);
        match own.or_else(|| document.get("credsStore")) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(name)) if name.is_empty() => Ok(None),
            Some(Value::String(name)) => Helper::new(name, &self.helper_dirs).map(Some),
            Some(_) => Err(self.malformed("the name of a credential helper is no string")),
        }
    }

    fn inline(&self, entry: &Value, key: &str) -> Result<Option<Credentials>> {
        let text = |name: &str| entry.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
        if let Some(token) = text("identitytoken") {
            return Ok(Some(Credentials::IdentityToken(token.to_owned())));
        }
        if let (Some(username), Some(password)) = (text("username"), text("password")) {
            let (username, password) = (username.to_owned(), password.to_owned());
            return Ok(Some(Credentials::Basic { username, password }));
        }
        let Some(auth) = text("auth") else { return Ok(None) };
        let decoded = BASE64.decode(auth.trim()).ok().and_then(|bytes| String::from_utf8(bytes).ok());
        let pair = decoded.as_deref().and_then(|text| text.split_once(':'));
        match pair {
            Some((username, password)) if !username.is_empty() => Ok(Some(Credentials::Basic {
                username: username.to_owned(),
                password: password.trim_end_matches('\0').to_owned(),
            })),
            _ => Err(self.malformed(&format!("\"auth\" of {key:?} is not base64 of USER:PASSWORD"))),
        }
    }

    fn read(&self) -> Result<Map<String, Value>> {
        let failed = |e| Error::from_io("read docker config", e).with("path", self.path.display());
        let file = match File::open(&self.path) {
            Ok(file) => file,
            Err(e) if e.kind() == IoKind::NotFound => return Ok(Map::new()),
            Err(e) => return Err(failed(e)),
        };
        let mut text = Vec::new();
        file.take(MAX_SIZE + 1).read_to_end(&mut text).map_err(failed)?;
        if text.len() as u64 > MAX_SIZE {
            return Err(self.malformed("it is too large"));
        }
        if text.trim_ascii().is_empty() {
            return Ok(Map::new());
        }
        // The parser's own message may quote a secret: only the place is told.
        serde_json::from_slice(&text).map_err(|e| {
            self.malformed(&format!("no JSON object at line {}, column {}", e.line(), e.column()))
        })
    }

    /// Reads, changes and replaces the file; `change` says whether there is anything to write.
    fn change(&self, change: impl FnOnce(&mut Map<String, Value>) -> Result<bool>) -> Result<()> {
        let failed = |e| {
            Error::from_io("write docker config", e)
                .with("path", self.path.display())
                .with_hint("check that the directory exists and is yours to write")
        };
        // The file may be a link into a user's own configuration tree: replace what it points at.
        let target = fs::canonicalize(&self.path).unwrap_or_else(|_| self.path.clone());
        let dir = match target.parent() {
            Some(dir) if !dir.as_os_str().is_empty() => dir,
            _ => Path::new("."),
        };
        fs::create_dir_all(dir).map_err(failed)?;
        let dir_file = File::open(dir).map_err(failed)?;
        self.lock(&dir_file)?;
        let mut document = self.read()?;
        if !change(&mut document)? {
            return Ok(());
        }
        let mut text =
            serde_json::to_vec_pretty(&document).map_err(|_| self.malformed("it cannot be written"))?;
        text.push(b'\n');
        // tempfile makes it 0600.
        let mut file = tempfile::Builder::new().prefix(".config.json-").tempfile_in(dir).map_err(failed)?;
        file.as_file().set_permissions(fs::Permissions::from_mode(0o600)).map_err(failed)?;
        file.write_all(&text).map_err(failed)?;
        file.as_file().sync_all().map_err(failed)?;
        file.persist(&target).map_err(|e| failed(e.error))?;
        dir_file.sync_all().map_err(failed)
    }

    /// Keeps two logins from losing one another's entry. The lock goes with the descriptor.
    fn lock(&self, dir: &File) -> Result<()> {
        let end = Instant::now() + LOCK_WAIT;
        loop {
            match dir.try_lock() {
                Ok(()) => return Ok(()),
                // Some network file systems cannot lock; Docker does not even try.
                Err(fs::TryLockError::Error(_)) => return Ok(()),
                Err(fs::TryLockError::WouldBlock) if Instant::now() < end => {
                    thread::sleep(Duration::from_millis(20));
                }
                Err(fs::TryLockError::WouldBlock) => {
                    return Err(Error::new(ErrorKind::DeadlineExceeded, "write docker config")
                        .with("path", self.path.display())
                        .with_message("another process keeps its directory locked"));
                }
            }
        }
    }

    fn malformed(&self, why: &str) -> Error {
        Error::new(ErrorKind::InvalidArgument, "read docker config")
            .with("path", self.path.display())
            .with_message(why)
            .with_hint("correct or remove the file, then log in again")
    }
}

/// Returns the name Docker and its helpers know a registry by.
fn server_name(key: &str) -> &str {
    if key == DEFAULT_REGISTRY { HUB_KEY } else { key }
}

fn inline_entry(credentials: &Credentials, key: &str) -> Result<Value> {
    let wrong = |why: &str| {
        Error::new(ErrorKind::InvalidArgument, "store credentials").with("registry", key).with_message(why)
    };
    let (name, value) = match credentials {
        Credentials::Basic { username, .. } if username.is_empty() || username.contains(':') => {
            return Err(wrong("the user name is empty or has a colon"));
        }
        Credentials::Basic { username, password } => {
            ("auth", BASE64.encode(format!("{username}:{password}")))
        }
        Credentials::IdentityToken(token) => ("identitytoken", token.clone()),
        _ => return Err(wrong("this form of credentials cannot be kept")),
    };
    Ok(Value::Object(Map::from_iter([(name.to_owned(), Value::String(value))])))
}
