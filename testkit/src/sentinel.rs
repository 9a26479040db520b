//! A tree outside of what the engine may touch, recorded before and compared after.
//!
//! Owns the record: owner, mode, xattrs, size, SHA-256, modification time, link target, device number and link count of every entry.
//! Also useful as an oracle: two trees unpacked by two programs are equal when their records are.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fmt::Write as _,
    fs,
    io::{self, Read},
    os::unix::{
        ffi::{OsStrExt, OsStringExt},
        fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink},
    },
    path::{Path, PathBuf},
};

use sha2::{Digest as _, Sha256};

/// Everything of one file that a hostile image might have changed.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Entry {
    /// `file`, `directory`, `symlink`, `char`, `block`, `fifo` or `socket`.
    pub kind: &'static str,
    /// Permission bits with set-id and sticky bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Size in bytes; 0 for a directory, whose size is the file system's affair.
    pub size: u64,
    /// Seconds and nanoseconds of the last modification.
    pub mtime: (i64, i64),
    /// Number of names; 0 for a directory.
    pub links: u64,
    /// Device number of a device, else 0.
    pub device: u64,
    /// SHA-256 of a file's content, or a link's target; otherwise empty.
    pub content: String,
    /// Extended attributes: names and values in hexadecimal.
    pub xattrs: BTreeMap<String, String>,
}

/// The record of a tree.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Sentinel {
    root: PathBuf,
    entries: BTreeMap<PathBuf, Entry>,
}

impl Sentinel {
    /// Records the tree beneath `root`, `root` itself included. Never follows a link.
    ///
    /// # Panics
    /// When something cannot be read.
    pub fn record(root: &Path) -> Self {
        let mut entries = BTreeMap::new();
        let mut todo = vec![PathBuf::new()];
        while let Some(path) = todo.pop() {
            let full = if path.as_os_str().is_empty() { root.to_path_buf() } else { root.join(&path) };
            let entry = read(&full).unwrap_or_else(|error| panic!("record {}: {error}", full.display()));
            if entry.kind == "directory" {
                let list =
                    fs::read_dir(&full).unwrap_or_else(|error| panic!("list {}: {error}", full.display()));
                todo.extend(list.map(|item| path.join(item.expect("directory entry").file_name())));
            }
            entries.insert(path, entry);
        }
        Self { root: root.to_path_buf(), entries }
    }

    /// Makes a tree of typical targets (secrets, an executable, links, a deep directory) in `root` and records it.
    ///
    /// # Panics
    /// When it cannot be made.
    pub fn plant(root: &Path) -> Self {
        let make = || -> io::Result<()> {
            fs::create_dir_all(root.join("etc/deep/er"))?;
            for name in ["passwd", "shadow", "hosts", "hostname", "resolv.conf", "mtab", "deep/er/secret"] {
                fs::write(root.join("etc").join(name), format!("untouched {name}\n"))?;
            }
            fs::write(root.join("program"), "#!/bin/sh\nexit 0\n")?;
            fs::set_permissions(root.join("program"), fs::Permissions::from_mode(0o4755))?;
            fs::set_permissions(root.join("etc/shadow"), fs::Permissions::from_mode(0o600))?;
            fs::create_dir(root.join("empty"))?;
            symlink("/etc/passwd", root.join("link"))?;
            symlink("nowhere", root.join("dangling"))
        };
        make().unwrap_or_else(|error| panic!("plant a sentinel in {}: {error}", root.display()));
        Self::record(root)
    }

    /// Returns the entries by their path relative to the root.
    pub fn entries(&self) -> &BTreeMap<PathBuf, Entry> {
        &self.entries
    }

    /// Returns one line for each difference to `other`, empty when the trees are equal.
    pub fn differences(&self, other: &Self) -> Vec<String> {
        self.differences_except(other, |_, _| {})
    }

    /// As [`differences`](Self::differences), after `adjust` changed both sides' entries: for trees whose comparison must
    /// leave something out, the modification time for example.
    pub fn differences_except(&self, other: &Self, adjust: impl Fn(&Path, &mut Entry)) -> Vec<String> {
        let mut lines = Vec::new();
        for (path, before) in &self.entries {
            let Some(after) = other.entries.get(path) else {
                lines.push(format!("{} is gone", show(path)));
                continue;
            };
            let (mut before, mut after) = (before.clone(), after.clone());
            adjust(path, &mut before);
            adjust(path, &mut after);
            if before != after {
                lines.push(format!("{}: {}", show(path), describe(&before, &after)));
            }
        }
        lines.extend(
            other
                .entries
                .keys()
                .filter(|p| !self.entries.contains_key(*p))
                .map(|p| format!("{} is new", show(p))),
        );
        lines
    }

    /// Records the tree again and compares.
    ///
    /// # Panics
    /// When anything changed.
    pub fn assert_unchanged(&self) {
        let lines = self.differences(&Self::record(&self.root));
        assert!(lines.is_empty(), "the sentinel {} changed:\n{}", self.root.display(), lines.join("\n"));
    }
}

fn show(path: &Path) -> String {
    if path.as_os_str().is_empty() { ".".to_owned() } else { path.display().to_string() }
}

fn describe(before: &Entry, after: &Entry) -> String {
    let mut text = String::new();
    macro_rules! field {
        ($($name:ident),+) => { $(if before.$name != after.$name {
            let _ = write!(text, "{} {:?} -> {:?}; ", stringify!($name), before.$name, after.$name);
        })+ };
    }
    field!(kind, mode, uid, gid, size, mtime, links, device, content, xattrs);
    text
}

fn read(path: &Path) -> io::Result<Entry> {
    let meta = fs::symlink_metadata(path)?;
    let kind = meta.file_type();
    let (name, content) = if kind.is_file() {
        ("file", digest(path)?)
    } else if kind.is_dir() {
        ("directory", String::new())
    } else if kind.is_symlink() {
        ("symlink", fs::read_link(path)?.display().to_string())
    } else if kind.is_char_device() {
        ("char", String::new())
    } else if kind.is_block_device() {
        ("block", String::new())
    } else if kind.is_fifo() {
        ("fifo", String::new())
    } else {
        ("socket", String::new())
    };
    Ok(Entry {
        kind: name,
        mode: meta.mode() & 0o7777,
        uid: meta.uid(),
        gid: meta.gid(),
        size: if kind.is_dir() { 0 } else { meta.size() },
        mtime: (meta.mtime(), meta.mtime_nsec()),
        links: if kind.is_dir() { 0 } else { meta.nlink() },
        device: if kind.is_char_device() || kind.is_block_device() { meta.rdev() } else { 0 },
        content,
        xattrs: xattrs(path)?,
    })
}

fn digest(path: &Path) -> io::Result<String> {
    let mut file = fs::File::open(path)?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 128 << 10];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hex::encode(hash.finalize())),
            n => hash.update(&buffer[..n]),
        }
    }
}

fn xattrs(path: &Path) -> io::Result<BTreeMap<String, String>> {
    let mut names = vec![0; 64 << 10];
    let length = match rustix::fs::llistxattr(path, &mut names) {
        Ok(length) => length,
        Err(rustix::io::Errno::OPNOTSUPP) => return Ok(BTreeMap::new()),
        Err(error) => return Err(error.into()),
    };
    let mut found = BTreeMap::new();
    for name in names[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        let name = OsString::from_vec(name.to_vec());
        let mut value = vec![0; 64 << 10];
        let length = rustix::fs::lgetxattr(path, name.as_os_str(), &mut value)?;
        found.insert(String::from_utf8_lossy(name.as_bytes()).into_owned(), hex::encode(&value[..length]));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sentinel_sees_every_kind_of_change() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let before = Sentinel::plant(dir.path());
        before.assert_unchanged();
        fs::write(dir.path().join("etc/passwd"), "touched").expect("write");
        fs::set_permissions(dir.path().join("etc/shadow"), fs::Permissions::from_mode(0o644)).expect("chmod");
        fs::remove_dir(dir.path().join("empty")).expect("rmdir");
        fs::write(dir.path().join("new"), "").expect("write");
        rustix::fs::setxattr(dir.path().join("program"), "user.x", b"1", rustix::fs::XattrFlags::empty())
            .expect("setxattr");
        let lines = before.differences(&Sentinel::record(dir.path()));
        for part in ["etc/passwd: size", "etc/shadow: mode", "empty is gone", "new is new", "program: xattrs"]
        {
            assert!(lines.iter().any(|line| line.starts_with(part)), "{part} is not in {lines:#?}");
        }
    }
}
