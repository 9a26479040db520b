//! Directories that a build needs for a while: for what arrives as an archive, and what is fetched.
//!
//! Invariant: a directory's lock (flock(2)) is held for as long as its build lives. So one whose lock nobody holds is of a program that
//! died, and the next opening removes it.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::task::JoinHandle;

use crate::engine::{LocalEngine, blocking};
use crate::error::{Error, ErrorKind, Result};

/// Below the engine's root. Only its user looks into it: contexts keep the modes and owners that they came with.
const DIRECTORY: &str = "builds";
/// Somebody who looks for rubbish may take a directory before its maker has locked it.
const ATTEMPTS: u32 = 100;

/// A directory that goes with this value.
#[derive(Debug)]
pub(super) struct Scratch {
    path: PathBuf,
    _lock: File,
    removals: Removals,
}

/// Directories that are being removed: what is dropped cannot wait for it.
#[derive(Clone, Debug, Default)]
pub(in crate::engine) struct Removals(Arc<Mutex<Vec<JoinHandle<()>>>>);

impl Removals {
    fn add(&self, removal: JoinHandle<()>) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|removal| !removal.is_finished());
        all.push(removal);
    }

    /// Waits until the directories that were dropped are gone. A program that ended before would leave them to the next.
    pub(super) async fn end(&self) {
        loop {
            let Some(next) = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop() else { return };
            // It has told what went wrong.
            let _ = next.await;
        }
    }
}

impl LocalEngine {
    /// Makes a directory for what is fetched.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] in an engine without a root.
    pub(super) async fn scratch(&self) -> Result<Scratch> {
        let Some(root) = self.inner.root.clone() else {
            return Err(Error::new(ErrorKind::Unsupported, "fetch files")
                .with_message("an engine in memory has no place for files")
                .with_hint("give the engine a root directory"));
        };
        let removals = self.inner.removals.clone();
        blocking(move || Scratch::create(&root, removals)).await
    }
}

impl Scratch {
    /// Makes a directory beneath the engine's root.
    fn create(root: &Path, removals: Removals) -> Result<Self> {
        let parent = root.join(DIRECTORY);
        let fail =
            |e: io::Error| Error::from_io("create directory of build", e).with("path", parent.display());
        match DirBuilder::new().mode(0o700).create(&parent) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(fail(error)),
            _ => {}
        }
        for _ in 0..ATTEMPTS {
            let mut random = [0; 12];
            getrandom::fill(&mut random).map_err(|e| fail(io::Error::other(e.to_string())))?;
            let path = parent.join(hex::encode(random));
            DirBuilder::new().mode(0o700).create(&path).map_err(fail)?;
            let Ok(lock) = File::open(&path) else { continue };
            if lock.try_lock().is_ok() && is_still(&path, &lock) {
                return Ok(Self { path, _lock: lock, removals });
            }
        }
        Err(Error::new(ErrorKind::Conflict, "create directory of build")
            .with("path", parent.display())
            .with_message("another program removes them at once"))
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let path = std::mem::take(&mut self.path);
        let remove = move || {
            if let Err(error) = fs::remove_dir_all(&path) {
                tracing::warn!(path = %path.display(), %error, "removing a build's directory failed");
            }
        };
        // There may be many files in it, and this may be a task's thread.
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => self.removals.add(runtime.spawn_blocking(remove)),
            Err(_) => remove(),
        }
    }
}

fn is_still(path: &Path, file: &File) -> bool {
    let same = |a: &fs::Metadata, b: &fs::Metadata| (a.dev(), a.ino()) == (b.dev(), b.ino());
    matches!((fs::symlink_metadata(path), file.metadata()), (Ok(there), Ok(held)) if same(&there, &held))
}

/// Removes the directories of builds whose programs died.
pub(in crate::engine) fn sweep(root: &Path) -> Result<()> {
    let parent = root.join(DIRECTORY);
    let fail = |e: io::Error| Error::from_io("remove directory of build", e).with("path", parent.display());
    let entries = match fs::read_dir(&parent) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(fail(error)),
    };
    for entry in entries {
        let path = entry.map_err(fail)?.path();
        let Ok(lock) = File::open(&path) else { continue };
        if lock.try_lock().is_ok() {
            tracing::info!(path = %path.display(), "removing the directory of a build that is over");
            match fs::remove_dir_all(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(fail(error)),
                _ => {}
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_in_use_stays_and_what_is_left_goes() {
        let root = tempfile::tempdir().unwrap();
        sweep(root.path()).unwrap();
        let scratch = Scratch::create(root.path(), Removals::default()).unwrap();
        fs::write(scratch.path().join("file"), "text").unwrap();
        let left = root.path().join(DIRECTORY).join("left");
        fs::create_dir_all(left.join("below")).unwrap();
        sweep(root.path()).unwrap();
        assert!(scratch.path().join("file").exists() && !left.exists());
        let path = scratch.path().to_owned();
        drop(scratch);
        assert!(!path.exists());
    }
}
