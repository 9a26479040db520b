//! What an archive entry is, after every extension header was applied.
//!
//! Plain data: no input is read and no file is made here.

use std::fmt;

/// A point in time as seconds and nanoseconds since the epoch; nanoseconds are 0..1e9 also before it.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Timestamp {
    pub(crate) seconds: i64,
    pub(crate) nanoseconds: u32,
}

/// The kind of an entry. Links carry their target in [`Entry::link`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum EntryKind {
    File,
    HardLink,
    Symlink,
    CharDevice,
    BlockDevice,
    Directory,
    Fifo,
}

/// A run of stored bytes of a sparse file.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Segment {
    pub(crate) offset: u64,
    pub(crate) length: u64,
}

/// One extended attribute.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Xattr {
    pub(crate) name: Vec<u8>,
    pub(crate) value: Vec<u8>,
}

/// One entry of an archive. Reused from entry to entry to save allocations.
#[derive(Clone)]
pub(crate) struct Entry {
    /// The name as stored: not normalised, may be absolute or hold `..`.
    pub(crate) path: Vec<u8>,
    pub(crate) kind: EntryKind,
    /// The target of a hard link or symlink, else empty.
    pub(crate) link: Vec<u8>,
    /// The permission bits, 0..0o7777.
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) mtime: Timestamp,
    /// The size of the file once written out; 0 for what is no file.
    pub(crate) size: u64,
    /// The stored runs of a sparse file, ascending and disjoint; `None` for an ordinary one.
    pub(crate) sparse: Option<Vec<Segment>>,
    pub(crate) device: (u32, u32),
    pub(crate) xattrs: Vec<Xattr>,
}

impl Default for Entry {
    fn default() -> Self {
        Self {
            path: Vec::new(),
            kind: EntryKind::File,
            link: Vec::new(),
            mode: 0,
            uid: 0,
            gid: 0,
            mtime: Timestamp::default(),
            size: 0,
            sparse: None,
            device: (0, 0),
            xattrs: Vec::new(),
        }
    }
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entry")
            .field("path", &super::show(&self.path))
            .field("kind", &self.kind)
            .field("link", &super::show(&self.link))
            .field("mode", &format_args!("{:o}", self.mode))
            .field("owner", &(self.uid, self.gid))
            .field("size", &self.size)
            .finish_non_exhaustive()
    }
}
