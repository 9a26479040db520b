//! What must be done to directories after everything in them was made.
//!
//! A directory's time changes with every entry created in it; a set-group-ID bit or a default ACL would be
//! inherited. So these are noted in order and applied at the end; the last note about a directory wins.
//! Notes beyond 4 MiB go to an unnamed file, so an archive of ten million directories costs no memory.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom, Write};
use std::os::fd::OwnedFd;

use rustix::fs::{Mode, OFlags};

use crate::tar::Timestamp;

const IN_MEMORY: usize = 4 << 20;

/// One directory's note.
#[derive(Debug, Default, Eq, PartialEq)]
pub(super) struct DirNote {
    pub(super) path: Vec<u8>,
    pub(super) mtime: Timestamp,
    /// The mode to set, where it could not be set at once.
    pub(super) mode: Option<u32>,
    pub(super) default_acl: Vec<u8>,
}

#[derive(Debug, Default)]
pub(super) struct DirLog {
    memory: Vec<u8>,
    file: Option<File>,
}

impl DirLog {
    pub(super) fn push(&mut self, scratch: &OwnedFd, note: &DirNote) -> io::Result<()> {
        let out = &mut self.memory;
        put(out, &note.path);
        out.extend_from_slice(&note.mtime.seconds.to_le_bytes());
        out.extend_from_slice(&note.mtime.nanoseconds.to_le_bytes());
        out.extend_from_slice(&note.mode.unwrap_or(u32::MAX).to_le_bytes());
        put(out, &note.default_acl);
        if self.memory.len() > IN_MEMORY {
            self.spill(scratch)?;
        }
        Ok(())
    }

    fn spill(&mut self, scratch: &OwnedFd) -> io::Result<()> {
        if self.file.is_none() {
            let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
            let fd = rustix::fs::openat(scratch, c".", flags, Mode::from_raw_mode(0o600))?;
            self.file = Some(File::from(fd));
        }
        if let Some(file) = &mut self.file {
            file.write_all(&self.memory)?;
        }
        self.memory.clear();
        Ok(())
    }

    /// Hands every note to `apply`, in order.
    pub(super) fn replay<E: From<io::Error>>(
        self,
        mut apply: impl FnMut(&DirNote) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut note = DirNote::default();
        if let Some(mut file) = self.file {
            file.seek(SeekFrom::Start(0))?;
            let mut reader = BufReader::with_capacity(1 << 16, file);
            while read(&mut reader, &mut note)? {
                apply(&note)?;
            }
        }
        let mut reader = &self.memory[..];
        while read(&mut reader, &mut note)? {
            apply(&note)?;
        }
        Ok(())
    }
}

fn put(out: &mut Vec<u8>, bytes: &[u8]) {
    // Paths are at most 4096 bytes, ACLs at most 64 KiB.
    out.extend_from_slice(&u32::try_from(bytes.len()).unwrap_or(0).to_le_bytes());
    out.extend_from_slice(bytes);
}

fn read(reader: &mut impl Read, note: &mut DirNote) -> io::Result<bool> {
    let mut word = [0; 4];
    match reader.read(&mut word[..1])? {
        0 => return Ok(false),
        _ => reader.read_exact(&mut word[1..])?,
    }
    bytes(reader, u32::from_le_bytes(word), &mut note.path)?;
    let mut seconds = [0; 8];
    reader.read_exact(&mut seconds)?;
    note.mtime.seconds = i64::from_le_bytes(seconds);
    reader.read_exact(&mut word)?;
    note.mtime.nanoseconds = u32::from_le_bytes(word);
    reader.read_exact(&mut word)?;
    note.mode = Some(u32::from_le_bytes(word)).filter(|mode| *mode != u32::MAX);
    reader.read_exact(&mut word)?;
    bytes(reader, u32::from_le_bytes(word), &mut note.default_acl)?;
    Ok(true)
}

fn bytes(reader: &mut impl Read, length: u32, out: &mut Vec<u8>) -> io::Result<()> {
    out.clear();
    out.resize(length as usize, 0);
    reader.read_exact(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_come_back_in_order_from_memory_and_file() {
        let dir = tempfile::tempdir().unwrap();
        let scratch = OwnedFd::from(File::open(dir.path()).unwrap());
        let mut log = DirLog::default();
        let note = |n: u32| DirNote {
            path: format!("dir/{n}").repeat(20).into_bytes(),
            mtime: Timestamp { seconds: -i64::from(n), nanoseconds: n },
            mode: n.is_multiple_of(2).then_some(0o2755),
            default_acl: vec![7; (n % 5) as usize],
        };
        for n in 0..60_000 {
            log.push(&scratch, &note(n)).unwrap();
        }
        assert!(log.file.is_some() && log.memory.len() <= IN_MEMORY);
        let mut n = 0;
        log.replay::<io::Error>(|got| {
            assert_eq!(*got, note(n));
            n += 1;
            Ok(())
        })
        .unwrap();
        assert_eq!(n, 60_000);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
