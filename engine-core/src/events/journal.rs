//! Where events are kept: in a directory, or in memory.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;
use std::sync::{Arc, PoisonError};

use super::directory::Files;
use super::event::{BEGINNING, Cursor, Event, Line, fragment};
use super::memory::Memory;
use crate::error::{Error, Result};

/// Subdirectory of the containers whose attributes changed since they were started.
const ACTORS: &str = "actors";

/// Keeps events in order. Clones are the same journal, and so are journals of one directory in several programs.
///
/// Appending blocks for some ten microseconds, or while another program appends.
#[derive(Clone, Debug)]
pub struct Journal(Arc<Place>);

#[derive(Debug)]
pub(super) enum Place {
    Directory(Files),
    Memory(Memory),
}

impl Journal {
    /// Opens the journal in directory `path`, and makes it if it is not there.
    ///
    /// # Errors
    /// What the file system says.
    pub fn open(path: &Path) -> Result<Self> {
        let files = Files::open(path)
            .map_err(|error| Error::from_io("open events", error).with("path", path.display()))?;
        Ok(Self(Arc::new(Place::Directory(files))))
    }

    /// Creates a journal in memory, which keeps the last 65,536 events.
    #[must_use]
    pub fn in_memory() -> Self {
        Self(Arc::new(Place::Memory(Memory::new())))
    }

    /// Returns the directory, if it has one. A helper process may append there by itself.
    #[must_use]
    pub fn directory(&self) -> Option<&Path> {
        match &*self.0 {
            Place::Directory(files) => Some(&files.path),
            Place::Memory(_) => None,
        }
    }

    /// Returns the place of the last event: what happens from now on comes after it.
    ///
    /// # Errors
    /// What the file system says.
    pub fn cursor(&self) -> Result<Cursor> {
        let last = match &*self.0 {
            Place::Directory(files) => files
                .end()
                .map_err(|error| Error::from_io("read events", error).with("path", files.path.display()))?
                .map_or(BEGINNING, |(_, _, last)| last),
            Place::Memory(memory) => memory.last(),
        };
        Ok(Cursor(last))
    }

    /// Appends events, one behind the other, with the time of now.
    ///
    /// # Errors
    /// What the file system says; then none of them is there.
    pub fn append(&self, events: &[Event]) -> Result<()> {
        match &*self.0 {
            Place::Directory(_) => {
                self.append_lines(&events.iter().map(|event| Line::new(event, None)).collect::<Vec<_>>())
            }
            Place::Memory(memory) => {
                memory.append(events);
                Ok(())
            }
        }
    }

    pub(crate) fn append_lines(&self, lines: &[Line]) -> Result<()> {
        match &*self.0 {
            Place::Directory(files) => files.append(lines).map(drop).map_err(failed),
            Place::Memory(memory) => {
                memory.append(&lines.iter().filter_map(Line::event).collect::<Vec<_>>());
                Ok(())
            }
        }
    }

    /// Those of `keys` that no event has.
    pub(crate) fn missing(&self, keys: &[i64]) -> Result<Vec<i64>> {
        match &*self.0 {
            Place::Directory(files) => files.missing(keys).map_err(failed),
            Place::Memory(_) => Ok(Vec::new()),
        }
    }

    pub(crate) fn append_missing(&self, lines: &[(i64, Line)]) -> Result<()> {
        match &*self.0 {
            Place::Directory(files) => files.append_missing(lines).map_err(failed),
            Place::Memory(_) => Ok(()),
        }
    }

    /// Replaces the attributes of container `id` in events to come from its runtime (a new name).
    pub(crate) fn describe(&self, id: &str, attributes: &BTreeMap<String, String>) -> Result<()> {
        match &*self.0 {
            Place::Directory(files) => {
                let dir = files.path.join(ACTORS);
                let (new, path) = (dir.join(format!("{id}.new")), dir.join(id));
                let made = fs::create_dir(&dir).or_else(|error| match error.kind() {
                    io::ErrorKind::AlreadyExists => Ok(()),
                    _ => Err(error),
                });
                made.and_then(|()| fs::write(&new, fragment(attributes)))
                    .and_then(|()| fs::rename(&new, &path))
                    .map_err(failed)
            }
            Place::Memory(memory) => {
                let mut actors = memory.actors.lock().unwrap_or_else(PoisonError::into_inner);
                actors.insert(id.to_owned(), attributes.clone());
                Ok(())
            }
        }
    }

    /// Returns what [`describe`](Self::describe) said of container `id`, in memory.
    pub(crate) fn described(&self, id: &str) -> Option<BTreeMap<String, String>> {
        match &*self.0 {
            Place::Directory(_) => None,
            Place::Memory(memory) => {
                memory.actors.lock().unwrap_or_else(PoisonError::into_inner).get(id).cloned()
            }
        }
    }

    /// Forgets what [`describe`](Self::describe) said of container `id`.
    pub(crate) fn forget(&self, id: &str) -> Result<()> {
        match &*self.0 {
            Place::Directory(files) => match fs::remove_file(files.path.join(ACTORS).join(id)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed(error)),
                _ => Ok(()),
            },
            Place::Memory(memory) => {
                memory.actors.lock().unwrap_or_else(PoisonError::into_inner).remove(id);
                Ok(())
            }
        }
    }

    pub(super) fn place(&self) -> &Place {
        &self.0
    }
}

fn failed(error: io::Error) -> Error {
    Error::from_io("append event", error)
}
