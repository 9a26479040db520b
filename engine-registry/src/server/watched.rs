//! A file that is read again when it changes.
//!
//! Invariant: what cannot be read is told once and changes nothing. Better the users of before than none, or half of them.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use engine_core::error::{Error, ErrorKind, Result};

const MAX_FILE: u64 = 16 << 20;

/// What changes when a file is replaced or written to.
type State = Option<(u64, i64, i64, u64)>;

#[derive(Debug)]
pub(super) struct Watched<T> {
    path: PathBuf,
    read: fn(&Path, &str) -> Result<T>,
    current: Mutex<(State, Arc<T>)>,
}

impl<T> Watched<T> {
    /// Reads the file for the first time.
    pub(super) fn open(path: PathBuf, read: fn(&Path, &str) -> Result<T>) -> Result<Self> {
        let seen = state(&path);
        let content = Arc::new(read(&path, &text(&path)?)?);
        Ok(Self { path, read, current: Mutex::new((seen, content)) })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the content, read anew if the file has changed.
    pub(super) fn current(&self) -> Arc<T> {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        let now = state(&self.path);
        if now != current.0 {
            match text(&self.path).and_then(|text| (self.read)(&self.path, &text)) {
                Ok(content) => {
                    current.1 = Arc::new(content);
                    tracing::info!(path = %self.path.display(), "file of users loaded");
                }
                Err(error) => {
                    tracing::warn!(error = %error.report(), "file of users not loaded, the one before stays");
                }
            }
            current.0 = now;
        }
        Arc::clone(&current.1)
    }
}

/// Reads a file of users.
pub(super) fn text(path: &Path) -> Result<String> {
    let failed = |error| Error::from_io("read file of users", error).with("path", path.display());
    let size = fs::metadata(path).map_err(failed)?.len();
    if size > MAX_FILE {
        return Err(Error::new(ErrorKind::InvalidArgument, "read file of users")
            .with("path", path.display())
            .with_message(format!("it has {size} bytes, more than {MAX_FILE}")));
    }
    fs::read_to_string(path).map_err(failed)
}

fn state(path: &Path) -> State {
    let found = fs::metadata(path).ok()?;
    Some((found.ino(), found.mtime(), found.mtime_nsec(), found.len()))
}
