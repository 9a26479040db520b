//! The `info` file of an unpacked layer: what later steps need to know without reading the layer again.
//!
//! Text, a key and a value on each line; a layer whose file is of another version counts as not unpacked.

use std::fs::{self, Metadata};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use super::unpack::UnpackSummary;
use crate::digest::Digest;

const VERSION: &str = "1";

/// What is known of an unpacked layer.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct LayerInfo {
    /// The blob it came from, and what stat(2) said of that when it was known to be right.
    pub(super) blob: Option<(Digest, Fingerprint)>,
    pub(super) bytes: u64,
    pub(super) entries: u64,
    /// Whether there is a directory `fs`; a store that copies has none.
    pub(super) has_files: bool,
    /// Whether an entry described the root directory.
    pub(super) has_root: bool,
    /// Directories that no entry described, sorted.
    pub(super) implied: Vec<Vec<u8>>,
}

/// Tells whether a file was written to since.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Fingerprint {
    size: u64,
    inode: u64,
    mtime: i128,
    ctime: i128,
}

impl Fingerprint {
    pub(super) fn of(metadata: &Metadata) -> Self {
        let nanoseconds = |s: i64, n: i64| i128::from(s) * 1_000_000_000 + i128::from(n);
        Self {
            size: metadata.size(),
            inode: metadata.ino(),
            mtime: nanoseconds(metadata.mtime(), metadata.mtime_nsec()),
            ctime: nanoseconds(metadata.ctime(), metadata.ctime_nsec()),
        }
    }

    /// Equal but for the change time, which a rename moves.
    pub(super) fn matches(&self, other: &Self) -> bool {
        (self.size, self.inode, self.mtime) == (other.size, other.inode, other.mtime)
    }
}

impl LayerInfo {
    pub(super) fn new(summary: UnpackSummary, blob: Option<(Digest, Fingerprint)>, has_files: bool) -> Self {
        let UnpackSummary { entries, bytes, has_root, implied } = summary;
        Self { blob, bytes, entries, has_files, has_root, implied }
    }

    /// Writes the file into the layer's directory.
    pub(super) fn write(&self, layer: &Path) -> io::Result<()> {
        let mut text = Vec::new();
        writeln!(text, "version {VERSION}")?;
        if let Some((digest, print)) = &self.blob {
            writeln!(text, "blob {digest} {} {} {} {}", print.size, print.inode, print.mtime, print.ctime)?;
        }
        writeln!(text, "bytes {}", self.bytes)?;
        writeln!(text, "entries {}", self.entries)?;
        writeln!(text, "files {}", u8::from(self.has_files))?;
        writeln!(text, "root {}", u8::from(self.has_root))?;
        for path in &self.implied {
            writeln!(text, "implied {}", hex::encode(path))?;
        }
        let mut file =
            fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(layer.join("info"))?;
        file.write_all(&text)
    }

    /// Reads the file; `None` if there is no such layer.
    pub(super) fn read(layer: &Path) -> io::Result<Option<Self>> {
        let text = match fs::read_to_string(layer.join("info")) {
            Ok(text) => text,
            Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::InvalidData) => {
                return Ok(None);
            }
            Err(e) => return Err(e),
        };
        Ok(Self::parse(&text))
    }

    fn parse(text: &str) -> Option<Self> {
        let mut info = Self::default();
        let mut lines = text.lines();
        if lines.next()?.strip_prefix("version ")? != VERSION {
            return None;
        }
        for line in lines {
            let (key, value) = line.split_once(' ')?;
            match key {
                "blob" => {
                    let mut parts = value.split(' ');
                    let digest = parts.next()?.parse().ok()?;
                    let print = Fingerprint {
                        size: parts.next()?.parse().ok()?,
                        inode: parts.next()?.parse().ok()?,
                        mtime: parts.next()?.parse().ok()?,
                        ctime: parts.next()?.parse().ok()?,
                    };
                    info.blob = Some((digest, print));
                }
                "bytes" => info.bytes = value.parse().ok()?,
                "entries" => info.entries = value.parse().ok()?,
                "files" => info.has_files = value == "1",
                "root" => info.has_root = value == "1",
                "implied" => info.implied.push(hex::decode(value).ok()?),
                _ => return None,
            }
        }
        Some(info)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn info_survives_a_round_trip_and_other_versions_do_not_count() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(LayerInfo::read(dir.path()).unwrap(), None);
        let print = Fingerprint::of(&fs::metadata(dir.path()).unwrap());
        let info = LayerInfo {
            blob: Some((Digest::sha256(b"x"), print)),
            bytes: 7,
            entries: 3,
            has_files: true,
            has_root: false,
            implied: vec![b"a".to_vec(), b"b\n\xff".to_vec()],
        };
        info.write(dir.path()).unwrap();
        assert_eq!(LayerInfo::read(dir.path()).unwrap(), Some(info));
        fs::write(dir.path().join("info"), "version 99\n").unwrap();
        assert_eq!(LayerInfo::read(dir.path()).unwrap(), None);
    }
}
