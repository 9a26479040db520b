//! Turns: who holds a container still to look at its files, one after the other.
//!
//! A pause says nothing of who asked for it. Two that pause at once would each end the other's, and a user's pause would end
//! with a snapshot; so whoever pauses takes a turn first.
//! Invariant: a turn is a lock of an open file (flock(2)), so a program that dies gives its turn back.

use std::collections::{BTreeMap, HashSet};
use std::fs::{self, File, TryLockError};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::str::FromStr as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::OwnedMutexGuard;

use crate::error::{Error, Result};
use crate::id::ContainerId;

use super::defaults;

/// Subdirectory of the run root, made when the first turn is taken.
const DIRECTORY: &str = "turns";

/// How long to wait at first and at last before another look. Nobody blocks a thread, so that a caller may give up.
const PATIENCE: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(25));

/// The turns of an engine's containers.
#[derive(Debug)]
pub(super) enum Turns {
    /// One file a container, for several programs.
    Directory(PathBuf),
    /// For an engine in memory, which is one program.
    Memory(MemoryTurns),
}

type MemoryTurns = Mutex<BTreeMap<ContainerId, Arc<tokio::sync::Mutex<()>>>>;

/// A container's turn; it ends when this is dropped.
#[derive(Debug)]
pub(super) enum Turn {
    File { _locked: File },
    Memory { _guard: OwnedMutexGuard<()> },
}

impl Turns {
    /// Returns the turns of an engine with this run root.
    pub(super) fn new(run_root: Option<PathBuf>) -> Self {
        run_root.map_or_else(|| Self::Memory(Mutex::default()), |root| Self::Directory(root.join(DIRECTORY)))
    }

    /// Waits for the turn of container `id`.
    pub(super) async fn take(&self, id: &ContainerId) -> Result<Turn> {
        if let Self::Memory(turns) = self {
            let turn = Self::of(turns, id);
            return Ok(Turn::Memory { _guard: turn.lock_owned().await });
        }
        let mut patience = PATIENCE.0;
        loop {
            if let Some(turn) = self.try_take(id)? {
                return Ok(turn);
            }
            tokio::time::sleep(patience).await;
            patience = PATIENCE.1.min(patience * 2);
        }
    }

    /// Takes the turn of `id`, unless somebody has it.
    pub(super) fn try_take(&self, id: &ContainerId) -> Result<Option<Turn>> {
        let dir = match self {
            Self::Memory(turns) => {
                let guard = Self::of(turns, id).try_lock_owned().ok();
                return Ok(guard.map(|guard| Turn::Memory { _guard: guard }));
            }
            Self::Directory(dir) => dir,
        };
        let failed = |error: io::Error| Error::from_io("take turn", error).with("container", id.short());
        defaults::make_private_dir(dir)?;
        let path = dir.join(id.as_str());
        loop {
            let file = File::create(&path).map_err(failed)?;
            match file.try_lock() {
                // Whoever forgets it may have come between: then it is another file that others lock.
                Ok(()) if is_still(&path, &file) => return Ok(Some(Turn::File { _locked: file })),
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Ok(None),
                Err(TryLockError::Error(error)) => return Err(failed(error)),
            }
        }
    }

    fn of(turns: &MemoryTurns, id: &ContainerId) -> Arc<tokio::sync::Mutex<()>> {
        turns.lock().unwrap_or_else(PoisonError::into_inner).entry(id.clone()).or_default().clone()
    }

    /// Forgets what nobody has a turn of and there is no container of. Idempotent.
    pub(super) fn forget_unused(&self, id: &ContainerId) -> Result<()> {
        match self.try_take(id)? {
            Some(_turn) => self.forget(id),
            None => Ok(()),
        }
    }

    /// Forgets a container that was removed. Idempotent.
    pub(super) fn forget(&self, id: &ContainerId) -> Result<()> {
        match self {
            Self::Memory(turns) => {
                turns.lock().unwrap_or_else(PoisonError::into_inner).remove(id);
                Ok(())
            }
            Self::Directory(dir) => match fs::remove_file(dir.join(id.as_str())) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    Err(Error::from_io("forget turn", error).with("container", id.short()))
                }
                _ => Ok(()),
            },
        }
    }

    /// Returns the containers that have had a turn.
    pub(super) fn list(&self) -> Result<HashSet<ContainerId>> {
        let Self::Directory(dir) = self else { return Ok(HashSet::new()) };
        let failed = |error: io::Error| Error::from_io("list turns", error).with("path", dir.display());
        let entries = match fs::read_dir(dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(HashSet::new()),
            entries => entries.map_err(failed)?,
        };
        let names =
            entries.map(|entry| Ok(entry?.file_name())).collect::<io::Result<Vec<_>>>().map_err(failed)?;
        Ok(names.iter().filter_map(|name| ContainerId::from_str(name.to_str()?).ok()).collect())
    }
}

fn is_still(path: &Path, file: &File) -> bool {
    let same = |a: &fs::Metadata, b: &fs::Metadata| (a.dev(), a.ino()) == (b.dev(), b.ino());
    matches!((fs::symlink_metadata(path), file.metadata()), (Ok(there), Ok(held)) if same(&there, &held))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_has_the_turn_and_the_next_waits() {
        let dir = tempfile::tempdir().unwrap();
        let (id, other) = (ContainerId::random(), ContainerId::random());
        for root in [None, Some(dir.path().to_owned())] {
            let turns = Turns::new(root);
            let turn = turns.take(&id).await.unwrap();
            let _another = turns.take(&other).await.unwrap();
            let second = tokio::time::timeout(Duration::from_millis(60), turns.take(&id));
            assert!(second.await.is_err(), "the first one still has it");
            drop(turn);
            drop(turns.take(&id).await.unwrap());
        }
        // Another program, or another engine in this one, waits as well.
        let (first, second) =
            (Turns::new(Some(dir.path().to_owned())), Turns::new(Some(dir.path().to_owned())));
        let turn = first.take(&id).await.unwrap();
        assert!(tokio::time::timeout(Duration::from_millis(60), second.take(&id)).await.is_err());
        drop(turn);
        second.take(&id).await.unwrap();
        assert_eq!(second.list().unwrap(), HashSet::from([id.clone(), other.clone()]));
        let turn = first.try_take(&id).unwrap();
        assert!(turn.is_some() && second.try_take(&id).unwrap().is_none());
        second.forget_unused(&id).unwrap();
        assert!(second.try_take(&id).unwrap().is_none(), "what is in use is not forgotten");
        drop(turn);
        second.forget(&id).unwrap();
        second.forget(&id).unwrap();
        assert_eq!(first.list().unwrap(), HashSet::from([other]));
    }
}
