//! The table of a tar archive's members: names, and where their bytes lie.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufReader, Seek as _, SeekFrom};

use crate::error::{Error, ErrorKind, Result};
use crate::tar::{ArchiveReader, Entry, EntryKind, TarError, TarLimits, show};

use super::{MAX_MEMBERS, MAX_NAMES};

/// How many links may lead to one another.
const MAX_LINKS: usize = 8;

/// What a name stands for.
#[derive(Debug)]
enum Place {
    Data {
        offset: u64,
        size: u64,
    },
    /// The normalised name of another member.
    Link(String),
}

/// The members by normalised name.
#[derive(Debug, Default)]
pub(super) struct Members(HashMap<String, Place>);

impl Members {
    /// Reads the headers of the archive in `file` and passes over the data.
    pub(super) fn read(file: &File) -> Result<Self> {
        let length = file.metadata().map_err(|e| Error::from_io("read archive", e))?.len();
        let mut start = file;
        start.seek(SeekFrom::Start(0)).map_err(|e| Error::from_io("read archive", e))?;
        let limits = TarLimits { entries: MAX_MEMBERS, ..TarLimits::default() };
        let mut reader = ArchiveReader::new(BufReader::with_capacity(4096, file), limits);
        let mut entry = Entry::default();
        let (mut members, mut names) = (Self::default(), 0);
        while reader.next_entry(&mut entry).map_err(of_tar)? {
            let offset = reader.offset();
            // With what fills its last block.
            if entry.size.div_ceil(512) > length.saturating_sub(offset) / 512 {
                return Err(corrupt("it is cut short"));
            }
            names += entry.path.len() + entry.link.len();
            if names > MAX_NAMES {
                return Err(
                    corrupt("the names of its members are too long").with_kind(ErrorKind::ResourceExhausted)
                );
            }
            members.add(&entry, offset)?;
            reader.seek_over().map_err(of_tar)?;
        }
        Ok(members)
    }

    fn add(&mut self, entry: &Entry, offset: u64) -> Result<()> {
        let name = normal(&entry.path)?;
        let place = match entry.kind {
            EntryKind::Directory => return Ok(()),
            EntryKind::File if entry.sparse.is_some() => {
                return Err(corrupt(format!("its member {name:?} is sparse")));
            }
            EntryKind::File => Place::Data { offset, size: entry.size },
            EntryKind::HardLink => Place::Link(normal(&entry.link)?),
            EntryKind::Symlink => Place::Link(beside(&name, &entry.link)?),
            EntryKind::CharDevice | EntryKind::BlockDevice | EntryKind::Fifo => {
                return Err(corrupt(format!("its member {name:?} is a device or a pipe")));
            }
        };
        // Which of two members of one name counts is a matter of taste among readers.
        match self.0.insert(name, place) {
            None => Ok(()),
            Some(_) => Err(corrupt(format!("it has two members called {:?}", show(&entry.path)))),
        }
    }

    /// Returns the names, sorted, if none of them is a link.
    pub(super) fn names(&self) -> Result<Vec<String>> {
        if let Some((name, _)) = self.0.iter().find(|(_, place)| matches!(place, Place::Link(_))) {
            return Err(corrupt(format!("its member {name:?} is a link")));
        }
        let mut names: Vec<String> = self.0.keys().cloned().collect();
        names.sort();
        Ok(names)
    }

    /// Returns where a member's bytes lie, following links to other members; `None` if there is no such member.
    pub(super) fn find(&self, name: &str) -> Result<Option<(u64, u64)>> {
        let mut name = normal(name.as_bytes())?;
        for _ in 0..MAX_LINKS {
            match self.0.get(&name) {
                None => return Ok(None),
                Some(Place::Data { offset, size }) => return Ok(Some((*offset, *size))),
                Some(Place::Link(target)) => name.clone_from(target),
            }
        }
        Err(corrupt(format!("links lead from {name:?} to one another")))
    }
}

/// Returns the target of the link `name`, which lies beside it unless it is absolute.
fn beside(name: &str, target: &[u8]) -> Result<String> {
    if target.starts_with(b"/") {
        return Err(corrupt(format!("the link {name:?} leads out of it, to {}", show(target))));
    }
    let dir = name.rsplit_once('/').map_or("", |(dir, _)| dir);
    let mut parts: Vec<&str> = dir.split('/').filter(|part| !part.is_empty()).collect();
    let target = std::str::from_utf8(target).map_err(|_| corrupt("a link's target is no text"))?;
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts
                    .pop()
                    .ok_or_else(|| corrupt(format!("the link {name:?} leads out of it, to {target:?}")))?;
            }
            part => parts.push(part),
        }
    }
    Ok(parts.join("/"))
}

/// Returns a name without `.` and double slashes. One that leads out is refused.
pub(super) fn normal(name: &[u8]) -> Result<String> {
    let text = std::str::from_utf8(name)
        .map_err(|_| corrupt(format!("the name {} of a member is no text", show(name))))?;
    let parts: Vec<&str> = text.split('/').filter(|part| !matches!(*part, "" | ".")).collect();
    if parts.contains(&"..") || text.contains('\0') {
        return Err(corrupt(format!("its member {} leads out of it", show(name))));
    }
    Ok(parts.join("/"))
}

pub(super) fn corrupt(why: impl Into<String>) -> Error {
    Error::new(ErrorKind::Corrupt, "read archive").with_message(why)
}

fn of_tar(error: TarError) -> Error {
    match error {
        TarError::Io(error) => Error::from_io("read archive", error),
        TarError::Limit(_) | TarError::TooLarge(_) => {
            Error::new(ErrorKind::ResourceExhausted, "read archive").with_source(error)
        }
        TarError::Malformed { .. } => Error::new(ErrorKind::Corrupt, "read archive").with_source(error),
    }
}
