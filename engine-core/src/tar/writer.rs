//! Writing tar archives: ustar headers, PAX records for what those cannot say.
//!
//! The same entries give the same bytes, always. What is written here, `reader` reads, and so do GNU tar, bsdtar, Go and
//! Python.

use std::io::{self, Write};

use super::{Entry, EntryKind, Segment, header::BLOCK};

/// The largest values of the octal fields of 8 and of 12 bytes.
const MAX_ID: u32 = 0o777_7777;
const MAX_SIZE: u64 = 0o777_7777_7777;

/// Writes an archive entry by entry. After an entry with data come exactly its stored bytes, through
/// [`data`](Self::data).
#[derive(Debug)]
pub(crate) struct ArchiveWriter<W> {
    target: W,
    /// Stored bytes that are still to come, and the padding behind them.
    remaining: u64,
    padding: usize,
    records: Vec<u8>,
}

impl<W: Write> ArchiveWriter<W> {
    pub(crate) fn new(target: W) -> Self {
        Self { target, remaining: 0, padding: 0, records: Vec::new() }
    }

    /// Writes the header of `entry`. A directory's name gets its slash here.
    ///
    /// A file's stored bytes are its size, or the sum of its segments.
    pub(crate) fn entry(&mut self, entry: &Entry) -> io::Result<()> {
        if self.remaining > 0 {
            return Err(io::Error::other("the entry before is not complete"));
        }
        self.records.clear();
        let mut block = [0; BLOCK];
        let mut name = entry.path.clone();
        if entry.kind == EntryKind::Directory && !name.ends_with(b"/") {
            name.push(b'/');
        }
        let map = entry.sparse.as_deref().filter(|_| entry.kind == EntryKind::File).map(sparse_map);
        let stored = match (&map, entry.kind) {
            (Some((_, stored)), _) => *stored,
            (None, EntryKind::File) => entry.size,
            (None, _) => 0,
        };
        if map.is_some() {
            self.record(b"GNU.sparse.major", b"1");
            self.record(b"GNU.sparse.minor", b"0");
            self.record(b"GNU.sparse.name", &name);
            self.record(b"GNU.sparse.realsize", entry.size.to_string().as_bytes());
            put(&mut block[..100], b"GNUSparseFile.0/file");
        } else {
            if name.len() > 100 || !name.is_ascii() {
                self.record(b"path", &name);
            }
            put(&mut block[..100], &name);
            if name.len() > 100 && entry.kind != EntryKind::Directory && block[99] == b'/' {
                // A name that is cut behind a slash looks like a directory's.
                block[99] = b'_';
            }
        }
        if matches!(entry.kind, EntryKind::HardLink | EntryKind::Symlink) {
            if entry.link.len() > 100 || !entry.link.is_ascii() {
                self.record(b"linkpath", &entry.link);
            }
            put(&mut block[157..257], &entry.link);
        }
        octal(&mut block[100..108], u64::from(entry.mode & 0o7777));
        for (at, key, id) in [(108, &b"uid"[..], entry.uid), (116, b"gid", entry.gid)] {
            if id > MAX_ID {
                self.record(key, id.to_string().as_bytes());
            }
            octal(&mut block[at..at + 8], u64::from(if id > MAX_ID { 0 } else { id }));
        }
        if stored > MAX_SIZE {
            self.record(b"size", stored.to_string().as_bytes());
        }
        octal(&mut block[124..136], if stored > MAX_SIZE { 0 } else { stored });
        let seconds = u64::try_from(entry.mtime.seconds).ok().filter(|seconds| *seconds <= MAX_SIZE);
        if seconds.is_none() || entry.mtime.nanoseconds != 0 {
            self.record(b"mtime", time(entry).as_bytes());
        }
        octal(&mut block[136..148], seconds.unwrap_or(0));
        for xattr in &entry.xattrs {
            self.record(&[b"SCHILY.xattr.", &xattr.name[..]].concat(), &xattr.value);
        }
        block[156] = match entry.kind {
            EntryKind::File => b'0',
            EntryKind::HardLink => b'1',
            EntryKind::Symlink => b'2',
            EntryKind::CharDevice => b'3',
            EntryKind::BlockDevice => b'4',
            EntryKind::Directory => b'5',
            EntryKind::Fifo => b'6',
        };
        block[257..265].copy_from_slice(b"ustar\x0000");
        octal(&mut block[329..337], entry.device.0.into());
        octal(&mut block[337..345], entry.device.1.into());
        if !self.records.is_empty() {
            let mut extended = [0; BLOCK];
            put(&mut extended[..100], b"PaxHeaders.0/entry");
            octal(&mut extended[100..108], 0o644);
            for field in [108..116, 116..124, 136..148, 329..337, 337..345] {
                octal(&mut extended[field], 0);
            }
            octal(&mut extended[124..136], self.records.len() as u64);
            extended[156] = b'x';
            extended[257..265].copy_from_slice(b"ustar\x0000");
            seal(&mut extended);
            self.target.write_all(&extended)?;
            self.target.write_all(&self.records)?;
            pad(&mut self.target, self.records.len() as u64)?;
        }
        seal(&mut block);
        self.target.write_all(&block)?;
        self.remaining = stored;
        self.padding = padding(stored);
        if let Some((map, _)) = map {
            self.data(&map)?;
        }
        Ok(())
    }

    /// Writes stored bytes of the current entry.
    pub(crate) fn data(&mut self, bytes: &[u8]) -> io::Result<()> {
        let length = bytes.len() as u64;
        self.remaining = self
            .remaining
            .checked_sub(length)
            .ok_or_else(|| io::Error::other("more data than the entry has"))?;
        self.target.write_all(bytes)?;
        if self.remaining == 0 {
            let padding = std::mem::take(&mut self.padding);
            self.target.write_all(&[0; BLOCK][..padding])?;
        }
        Ok(())
    }

    /// Writes the end of the archive.
    pub(crate) fn finish(mut self) -> io::Result<W> {
        self.target.write_all(&[0; 2 * BLOCK])?;
        self.target.flush()?;
        Ok(self.target)
    }

    /// One PAX record; its length counts itself.
    fn record(&mut self, key: &[u8], value: &[u8]) {
        let body = key.len() + value.len() + 3;
        let mut length = body + 1;
        while length.to_string().len() + body != length {
            length = length.to_string().len() + body;
        }
        for part in [length.to_string().as_bytes(), b" ", key, b"=", value, b"\n"] {
            self.records.extend_from_slice(part);
        }
    }
}

/// The map of PAX sparse format 1.0, which stands before the data, and how much both take.
fn sparse_map(segments: &[Segment]) -> (Vec<u8>, u64) {
    let mut map = format!("{}\n", segments.len()).into_bytes();
    for segment in segments {
        map.extend_from_slice(format!("{}\n{}\n", segment.offset, segment.length).as_bytes());
    }
    map.resize(map.len().next_multiple_of(BLOCK), 0);
    let stored = map.len() as u64 + segments.iter().map(|segment| segment.length).sum::<u64>();
    (map, stored)
}

/// Seconds with a fraction. POSIX counts downwards before the epoch: half a second before it is `-0.5`.
fn time(entry: &Entry) -> String {
    let (seconds, nanoseconds) = (entry.mtime.seconds, entry.mtime.nanoseconds);
    let (sign, whole, part) = if seconds < 0 && nanoseconds > 0 {
        ("-", (seconds + 1).unsigned_abs(), 1_000_000_000 - nanoseconds)
    } else {
        (if seconds < 0 { "-" } else { "" }, seconds.unsigned_abs(), nanoseconds)
    };
    if part == 0 {
        return format!("{sign}{whole}");
    }
    let digits = format!("{part:09}");
    format!("{sign}{whole}.{}", digits.trim_end_matches('0'))
}

fn put(field: &mut [u8], bytes: &[u8]) {
    let length = bytes.len().min(field.len());
    field[..length].copy_from_slice(&bytes[..length]);
}

fn octal(field: &mut [u8], value: u64) {
    put(field, format!("{value:0width$o}\0", width = field.len() - 1).as_bytes());
}

fn seal(block: &mut [u8; BLOCK]) {
    block[148..156].fill(b' ');
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    put(&mut block[148..156], format!("{sum:06o}\0 ").as_bytes());
}

fn padding(length: u64) -> usize {
    // Less than a block.
    (length.wrapping_neg() % BLOCK as u64) as usize
}

fn pad(target: &mut impl Write, length: u64) -> io::Result<()> {
    target.write_all(&[0; BLOCK][..padding(length)])
}

#[cfg(test)]
mod tests {
    use engine_testkit::require;

    use super::*;
    use crate::tar::{ArchiveReader, TarLimits, Timestamp, Xattr};

    fn entries() -> Vec<Entry> {
        let time = |seconds, nanoseconds| Timestamp { seconds, nanoseconds };
        let base = Entry { mode: 0o644, mtime: time(1_700_000_000, 0), ..Entry::default() };
        let long = "directory/".repeat(20);
        let xattrs = vec![Xattr { name: b"user.x".to_vec(), value: vec![0, 10, 255, b'='] }];
        vec![
            Entry { path: b"d/".to_vec(), kind: EntryKind::Directory, mode: 0o1777, ..base.clone() },
            Entry { path: b"d/file".to_vec(), size: 513, ..base.clone() },
            Entry { path: format!("{long}file").into_bytes(), size: 1, ..base.clone() },
            Entry { path: "d/\u{e4}".into(), size: 0, mtime: time(-2, 500_000_000), ..base.clone() },
            Entry {
                path: b"d/nano".to_vec(),
                mtime: time(5, 1_000),
                uid: 1 << 30,
                gid: 3,
                xattrs,
                ..base.clone()
            },
            Entry {
                path: b"d/hard".to_vec(),
                kind: EntryKind::HardLink,
                link: b"d/file".to_vec(),
                ..base.clone()
            },
            Entry { path: b"d/soft".to_vec(), kind: EntryKind::Symlink, link: long.into(), ..base.clone() },
            Entry { path: b"d/null".to_vec(), kind: EntryKind::CharDevice, device: (1, 3), ..base.clone() },
            Entry {
                path: b"d/loop".to_vec(),
                kind: EntryKind::BlockDevice,
                device: (7, 300),
                ..base.clone()
            },
            Entry { path: b"d/fifo".to_vec(), kind: EntryKind::Fifo, mode: 0o6755, ..base.clone() },
            Entry {
                path: b"d/holes".to_vec(),
                size: 5000,
                sparse: Some(vec![Segment { offset: 512, length: 3 }, Segment { offset: 4096, length: 904 }]),
                ..base
            },
        ]
    }

    fn stored(entry: &Entry) -> u64 {
        match &entry.sparse {
            Some(map) => map.iter().map(|segment| segment.length).sum(),
            None if entry.kind == EntryKind::File => entry.size,
            None => 0,
        }
    }

    fn archive() -> Vec<u8> {
        let mut writer = ArchiveWriter::new(Vec::new());
        for entry in entries() {
            writer.entry(&entry).unwrap();
            writer.data(&vec![b'x'; usize::try_from(stored(&entry)).unwrap()]).unwrap();
        }
        writer.finish().unwrap()
    }

    #[test]
    fn what_is_written_is_read_again() {
        let bytes = archive();
        assert_eq!(bytes, archive());
        let mut reader = ArchiveReader::new(&bytes[..], TarLimits::default());
        let mut got = Entry::default();
        for wanted in entries() {
            assert!(reader.next_entry(&mut got).unwrap());
            assert_eq!(
                (&got.path, got.kind, &got.link, got.mode, got.uid, got.gid, got.mtime, got.size),
                (
                    &wanted.path,
                    wanted.kind,
                    &wanted.link,
                    wanted.mode,
                    wanted.uid,
                    wanted.gid,
                    wanted.mtime,
                    wanted.size
                )
            );
            assert_eq!(
                (&got.sparse, got.device, &got.xattrs),
                (&wanted.sparse, wanted.device, &wanted.xattrs)
            );
            let mut count = 0;
            while let length @ 1.. = reader.data().unwrap().len() {
                reader.consume(length);
                count += length as u64;
            }
            assert_eq!(count, stored(&wanted));
        }
        assert!(!reader.next_entry(&mut got).unwrap());
    }

    #[test]
    fn wrong_amounts_of_data_are_refused() {
        let mut writer = ArchiveWriter::new(Vec::new());
        let file = Entry { path: b"f".to_vec(), size: 2, ..Entry::default() };
        writer.entry(&file).unwrap();
        assert!(writer.data(b"xxx").is_err());
        writer.data(b"x").unwrap();
        assert!(writer.entry(&file).is_err());
    }

    #[test]
    fn other_readers_agree() {
        require!("python3", "tar", "bsdtar");
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.tar");
        std::fs::write(&path, archive()).unwrap();
        let python = "import sys,tarfile\nfor m in tarfile.open(sys.argv[1]): print(m.name + ('/' if m.isdir() else ''))";
        let path = path.to_str().unwrap();
        let lists = [
            vec!["python3", "-c", python, path],
            vec!["tar", "--quoting-style=literal", "-tf", path],
            vec!["bsdtar", "-tf", path],
        ];
        let names: Vec<String> =
            entries().iter().map(|entry| String::from_utf8_lossy(&entry.path).into_owned()).collect();
        for command in lists {
            let output = std::process::Command::new(command[0])
                .args(&command[1..])
                .env("LC_ALL", "C.UTF-8")
                .output()
                .unwrap();
            assert!(output.status.success(), "{output:?}");
            let text = String::from_utf8(output.stdout).unwrap();
            assert_eq!(text.lines().collect::<Vec<_>>(), names, "{}", command[0]);
        }
    }
}
