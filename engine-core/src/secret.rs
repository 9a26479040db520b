//! Secrets: what a container needs while it runs and nobody shall find in its image, its record or its log.
//!
//! This module has the words; `engine/secrets` keeps the content, and a runtime shows it to the container.
//! Invariant: no type here shows content in its `Debug` output, and none of those that are kept or shown has any.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Component, Path, PathBuf};
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorKind, Result};
use crate::id::{Name, SecretId};

/// A secret's content is smaller than this, in bytes, as Docker's and Podman's.
pub const MAX_SIZE: usize = 512_000;

/// Where files of secrets are in a container, unless their target is an absolute path.
pub const DIRECTORY: &str = "/run/secrets";

/// The content of a secret. Its `Debug` output does not show it.
#[derive(Clone, Default, Eq, PartialEq)]
pub struct SecretData(Vec<u8>);

impl SecretData {
    /// Wraps `content`.
    pub fn new(content: impl Into<Vec<u8>>) -> Self {
        Self(content.into())
    }

    /// Returns the content.
    #[must_use]
    pub fn reveal(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for SecretData {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretData(..)")
    }
}

/// A secret of an engine, all but its content.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Secret {
    /// Its id. One that replaces another has one of its own.
    pub id: SecretId,
    /// Its name.
    pub name: Name,
    /// When one of this name was first created.
    pub created_at: SystemTime,
    /// When it got its content.
    pub updated_at: SystemTime,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
}

impl Secret {
    /// Creates a secret's description.
    #[must_use]
    pub fn new(id: SecretId, name: Name, created_at: SystemTime) -> Self {
        Self { id, name, created_at, updated_at: created_at, labels: BTreeMap::new() }
    }
}

/// How a secret is created.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct SecretOptions {
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Takes the place of a secret of the same name. Containers that have that one keep it.
    pub replace: bool,
}

impl SecretOptions {
    /// Sets the labels.
    #[must_use]
    pub fn with_labels(mut self, labels: BTreeMap<String, String>) -> Self {
        self.labels = labels;
        self
    }

    /// Takes the place of a secret of the same name.
    #[must_use]
    pub fn with_replace(mut self, replace: bool) -> Self {
        self.replace = replace;
        self
    }
}

/// A secret that a container gets.
///
/// It gets the content that the secret has when the container is created, and keeps it: over restarts, and also when the
/// secret is replaced or removed. So each run of a container sees the same, whoever starts it.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct SecretUse {
    /// The secret's name, its id, or the beginning of it.
    pub secret: String,
    /// What the container sees of it.
    pub target: SecretTarget,
}

/// What a container sees of a secret.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum SecretTarget {
    /// A file on a memory file system, which cannot be written.
    File {
        /// Its path; a relative one is beneath [`DIRECTORY`], and without one it is the secret's name there.
        path: Option<PathBuf>,
        /// Its owner, as the container numbers users.
        uid: u32,
        /// Its group.
        gid: u32,
        /// Its permission bits.
        mode: u32,
    },
    /// An environment variable, of its processes and of those that are executed in it. Unlike a file, it is there for every
    /// child of theirs to see.
    Env {
        /// Its name; the secret's without one.
        variable: Option<String>,
    },
}

impl SecretUse {
    /// Shows a secret as a file that all in the container may read, of root, beneath [`DIRECTORY`].
    pub fn file(secret: impl Into<String>) -> Self {
        Self { secret: secret.into(), target: SecretTarget::File { path: None, uid: 0, gid: 0, mode: 0o444 } }
    }

    /// Shows a secret as the environment variable `variable`.
    pub fn env(secret: impl Into<String>, variable: impl Into<String>) -> Self {
        Self { secret: secret.into(), target: SecretTarget::Env { variable: Some(variable.into()) } }
    }

    /// Puts the file elsewhere.
    #[must_use]
    pub fn with_path(mut self, target: impl Into<PathBuf>) -> Self {
        if let SecretTarget::File { path, .. } = &mut self.target {
            *path = Some(target.into());
        }
        self
    }

    /// Gives the file to a user and a group.
    #[must_use]
    pub fn with_owner(mut self, user: u32, group: u32) -> Self {
        if let SecretTarget::File { uid, gid, .. } = &mut self.target {
            (*uid, *gid) = (user, group);
        }
        self
    }

    /// Sets the file's permission bits.
    #[must_use]
    pub fn with_mode(mut self, bits: u32) -> Self {
        if let SecretTarget::File { mode, .. } = &mut self.target {
            *mode = bits;
        }
        self
    }

    /// Returns the path of its file in the container; `None` for a variable.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidArgument`] for a path that leads up, or is none.
    pub fn path(&self) -> Result<Option<PathBuf>> {
        let SecretTarget::File { path, mode, .. } = &self.target else { return Ok(None) };
        let path = path.as_deref().unwrap_or(Path::new(&self.secret));
        let plain = path.components().all(|part| !matches!(part, Component::ParentDir));
        let whole: PathBuf = Path::new(DIRECTORY).join(path).components().collect();
        if !plain || whole == Path::new(DIRECTORY) || whole.parent().is_none() {
            return Err(self
                .invalid("its target is a path of a file, without \"..\"")
                .with("target", path.display()));
        }
        if *mode > 0o777 {
            return Err(self.invalid("its mode is more than 777").with("mode", format!("{mode:o}")));
        }
        Ok(Some(whole))
    }

    /// Returns the name of its variable; `None` for a file.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidArgument`] for what is no name of a variable.
    pub fn variable(&self) -> Result<Option<&str>> {
        let SecretTarget::Env { variable } = &self.target else { return Ok(None) };
        let name = variable.as_deref().unwrap_or(&self.secret);
        if name.is_empty() || name.contains(['=', '\0']) {
            return Err(self.invalid("a variable has a name, without '='").with("variable", name));
        }
        Ok(Some(name))
    }

    /// An error of this use.
    pub(crate) fn invalid(&self, why: impl Into<String>) -> Error {
        Error::new(ErrorKind::InvalidArgument, "use secret").with("secret", &self.secret).with_message(why)
    }
}

/// A file of a secret, for a runtime: see [`LaunchSpec::secret_files`](crate::LaunchSpec::secret_files).
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SecretFile {
    /// The absolute path inside the container.
    pub path: PathBuf,
    /// The content.
    pub content: SecretData,
    /// The owner, as the container numbers users.
    pub uid: u32,
    /// The group.
    pub gid: u32,
    /// The permission bits.
    pub mode: u32,
}

/// An environment variable of a secret, for a runtime.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SecretVariable {
    /// Its name.
    pub name: String,
    /// The content.
    pub value: SecretData,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn d6_content_is_not_in_debug_output() {
        let data = SecretData::new(*b"hunter2");
        let file = SecretFile { path: "/a".into(), content: data.clone(), uid: 0, gid: 0, mode: 0 };
        let variable = SecretVariable { name: "A".into(), value: data.clone() };
        let said = format!("{data:?} {file:?} {variable:#?}");
        assert!(!said.contains("hunter2") && !said.contains("104"), "{said}");
    }

    #[test]
    fn targets_are_paths_in_the_container_or_names() {
        let path = |target: &str| SecretUse::file("db").with_path(target).path();
        assert_eq!(SecretUse::file("db").path().unwrap(), Some("/run/secrets/db".into()));
        assert_eq!(path("a/b").unwrap(), Some("/run/secrets/a/b".into()));
        assert_eq!(path("/etc//db/").unwrap(), Some("/etc/db".into()));
        for wrong in ["..", "a/../../b", "", "/", ".", "/run/secrets"] {
            assert_eq!(path(wrong).unwrap_err().kind(), ErrorKind::InvalidArgument, "{wrong:?}");
        }
        assert!(SecretUse::file("db").with_mode(0o1000).path().is_err());
        assert_eq!(SecretUse::env("db", "DB").variable().unwrap(), Some("DB"));
        assert_eq!(SecretUse::env("db", "DB").path().unwrap(), None);
        for wrong in ["", "A=B", "A\0"] {
            assert!(SecretUse::env("db", wrong).variable().is_err(), "{wrong:?}");
        }
    }
}
