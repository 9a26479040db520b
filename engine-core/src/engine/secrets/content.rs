//! The bytes of secrets: a file each, or memory. Methods block.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::error::{Error, ErrorKind, Result};
use crate::id::SecretId;
use crate::secret::{MAX_SIZE, SecretData};

/// Content by id.
#[derive(Debug)]
pub(super) enum Content {
    /// In files of this directory, which only its owner can enter.
    Directory(PathBuf),
    /// Of an engine in memory.
    Memory(Mutex<BTreeMap<SecretId, SecretData>>),
}

fn failed(operation: &'static str, id: &SecretId) -> impl Fn(io::Error) -> Error {
    move |error| Error::from_io(operation, error).with("secret", id)
}

fn locked(memory: &Mutex<BTreeMap<SecretId, SecretData>>) -> MutexGuard<'_, BTreeMap<SecretId, SecretData>> {
    memory.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Content {
    pub(super) fn new(directory: Option<PathBuf>) -> Self {
        directory.map_or_else(|| Self::Memory(Mutex::default()), Self::Directory)
    }

    /// Keeps the content of a new secret. On disk, it is synced when this returns.
    pub(super) fn put(&self, id: &SecretId, content: &SecretData) -> Result<()> {
        let directory = match self {
            Self::Directory(directory) => directory,
            Self::Memory(memory) => {
                locked(memory).insert(id.clone(), content.clone());
                return Ok(());
            }
        };
        let write = || {
            let mut file = OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(directory.join(id.as_str()))?;
            file.write_all(content.reveal())?;
            file.sync_all()?;
            File::open(directory)?.sync_all()
        };
        write().map_err(failed("write secret", id))
    }

    /// Returns a secret's content.
    pub(super) fn get(&self, id: &SecretId) -> Result<SecretData> {
        let gone = || {
            Error::new(ErrorKind::NotFound, "read secret")
                .with("secret", id)
                .with_message("its content is gone")
        };
        let directory = match self {
            Self::Directory(directory) => directory,
            Self::Memory(memory) => return locked(memory).get(id).cloned().ok_or_else(gone),
        };
        let mut content = Vec::new();
        match File::open(directory.join(id.as_str())) {
            Ok(file) => {
                file.take(MAX_SIZE as u64).read_to_end(&mut content).map_err(failed("read secret", id))?;
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(gone()),
            Err(error) => return Err(failed("read secret", id)(error)),
        }
        Ok(SecretData::new(content))
    }

    /// Removes content, if it is there.
    pub(super) fn remove(&self, id: &SecretId) -> Result<()> {
        match self {
            Self::Directory(directory) => match std::fs::remove_file(directory.join(id.as_str())) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    Err(failed("remove secret", id)(error))
                }
                _ => Ok(()),
            },
            Self::Memory(memory) => {
                locked(memory).remove(id);
                Ok(())
            }
        }
    }

    /// Returns the ids of all content.
    pub(super) fn list(&self) -> Result<Vec<SecretId>> {
        match self {
            Self::Directory(directory) => {
                let failed = |error| Error::from_io("list secrets", error).with("path", directory.display());
                let mut ids = Vec::new();
                for entry in std::fs::read_dir(directory).map_err(failed)? {
                    let name = entry.map_err(failed)?.file_name();
                    ids.extend(name.to_str().and_then(|name| name.parse::<SecretId>().ok()));
                }
                Ok(ids)
            }
            Self::Memory(memory) => Ok(locked(memory).keys().cloned().collect()),
        }
    }
}
