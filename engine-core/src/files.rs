//! A container's file system as archives: what a path is, a tree out of it, a tree into it.
//!
//! Names are resolved as the container's processes would, inside its root file system (SECURITY E4). How a file system
//! is reached is left to the [`Runtime`](crate::Runtime), which hands out [`ContainerFiles`].

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use async_trait::async_trait;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::error::Result;
use crate::io::ByteStream;
use crate::mount::Mount;

/// What a container's file system is made of, for a runtime to reach it whether the container runs or not.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct FilesSpec {
    /// The root file system, from the image store.
    pub rootfs: Vec<Mount>,
    /// Volumes and binds, parents first. A memory file system lives with the container's processes only.
    pub mounts: Vec<Mount>,
    /// Refuses writes outside of `mounts`.
    pub read_only: bool,
    /// What is seen.
    pub scope: FilesScope,
}

impl FilesSpec {
    /// Describes a writable root file system and what is mounted in it.
    #[must_use]
    pub fn new(rootfs: Vec<Mount>, mounts: Vec<Mount>) -> Self {
        Self { rootfs, mounts, read_only: false, scope: FilesScope::Everything }
    }

    /// Leaves out whatever is mounted in the root file system.
    #[must_use]
    pub fn root_only(mut self) -> Self {
        self.scope = FilesScope::Root;
        self
    }

    /// Refuses writes to the root file system itself.
    #[must_use]
    pub fn read_only(mut self, read_only: bool) -> Self {
        self.read_only = read_only;
        self
    }
}

/// How much of a container's file system is seen.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub enum FilesScope {
    /// The root file system with what is mounted in it.
    #[default]
    Everything,
    /// The root file system alone, and nothing is written.
    Root,
}

/// The file system of one container.
///
/// # Contract
/// - Paths are resolved inside the container's root: symbolic links, absolute ones too, lead nowhere else, whatever the
///   container does meanwhile. No program of the container is run.
/// - Each call looks anew whether the container runs.
/// - A dropped future or stream ends its work; what [`unpack`](Self::unpack) wrote until then stays, as with Docker.
#[async_trait]
pub trait ContainerFiles: fmt::Debug + Send + Sync {
    /// Returns what is at `path`. A link in the last component is described itself, unless the path ends in `/` or `/.`.
    ///
    /// # Errors
    /// [`NotFound`](crate::ErrorKind::NotFound) if nothing is there.
    async fn stat(&self, path: &Path) -> Result<PathStat>;

    /// Returns what is at `path` as a tar archive, whose first entry has the last component of the path as its name; `.`
    /// where the path ends in `/.`, or is the root.
    ///
    /// # Errors
    /// As [`stat`](Self::stat). What fails later comes in the stream.
    async fn pack(&self, path: &Path) -> Result<(PathStat, ByteStream)>;

    /// Unpacks a tar archive into the directory `path`, whose last link is followed. It may be compressed by gzip or zstd.
    ///
    /// # Errors
    /// [`NotFound`](crate::ErrorKind::NotFound) if nothing is there;
    /// [`InvalidArgument`](crate::ErrorKind::InvalidArgument) if it is no directory;
    /// [`Conflict`](crate::ErrorKind::Conflict) where [`UnpackFiles::keep_kinds`] forbids a replacement;
    /// [`PermissionDenied`](crate::ErrorKind::PermissionDenied) if it is mounted read-only;
    /// [`ResourceExhausted`](crate::ErrorKind::ResourceExhausted) if it takes more than [`UnpackFiles::max_bytes`];
    /// [`Corrupt`](crate::ErrorKind::Corrupt) if the archive is malformed or asks for what we do not do.
    async fn unpack(&self, path: &Path, archive: ByteStream, options: &UnpackFiles) -> Result<()>;

    /// Lists what is at `path` and, if that is a directory, all beneath it, sorted by name and a directory before what is in
    /// it. Its first entry is what `path` leads to, links followed; paths of entries are relative to that, and the first is
    /// empty.
    ///
    /// # Errors
    /// As [`stat`](Self::stat);
    /// [`ResourceExhausted`](crate::ErrorKind::ResourceExhausted) for more entries than [`MAX_LISTED`].
    async fn list(&self, path: &Path, options: &ListFiles) -> Result<FileList>;

    /// Returns the ids that `user` means, as `USER` has it: `name`, `uid`, `name:group`, `uid:gid`, by this tree's own
    /// `/etc/passwd` and `/etc/group`. The group is the user's own if there is none in `user`.
    ///
    /// # Errors
    /// [`InvalidArgument`](crate::ErrorKind::InvalidArgument) if there is no such user or group, or the id is too large.
    async fn owner(&self, user: &str) -> Result<(u32, u32)>;

    /// Returns files of this tree as an archive, each under the name and with the attributes that it is given, in the order of
    /// `files`. What has gone since it was listed is an error.
    ///
    /// # Errors
    /// As [`stat`](Self::stat). What fails later comes in the stream.
    async fn pack_files(&self, files: Vec<PackedFile>) -> Result<ByteStream>;
}

/// Most entries that [`ContainerFiles::list`] gives.
pub const MAX_LISTED: usize = 2_000_000;

/// What [`ContainerFiles::list`] is to tell.
#[derive(Clone, Default)]
#[non_exhaustive]
pub struct ListFiles {
    /// Whether each regular file is read for its digest.
    pub digests: bool,
    /// What is known of digests, so that files which have not changed are not read; for trees of the host.
    pub known: Option<Arc<dyn KnownDigests>>,
    /// Lists what is in `path` alone, and nothing beneath.
    pub shallow: bool,
    /// Decides what is listed, by the path relative to the listed one and whether it is a directory. All is without it.
    pub filter: Option<FileFilter>,
}

/// Remembers digests of files from one listing to the next.
pub trait KnownDigests: fmt::Debug + Send + Sync {
    /// Returns the digest of a file, if it is known.
    fn get(&self, file: &FileIdentity) -> Option<Digest>;
    /// Takes the digest of a file that was read.
    fn put(&self, file: &FileIdentity, digest: &Digest);
}

/// Which file it is, and in which state: as long as all of it is the same, so is the content. See inode(7).
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct FileIdentity {
    /// The device (`st_dev`).
    pub device: u64,
    /// The inode (`st_ino`).
    pub inode: u64,
    /// The size in bytes (`st_size`).
    pub size: u64,
    /// Seconds and nanoseconds of the last modification (`st_mtim`).
    pub modified: (i64, u32),
    /// Seconds and nanoseconds of the last change of any kind (`st_ctim`).
    pub changed: (i64, u32),
}

/// Decides what is listed.
pub type FileFilter = Arc<dyn Fn(&[u8], bool) -> Listed + Send + Sync>;

/// What becomes of something that is found.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Listed {
    /// It is listed, and so may be what is in it.
    Yes,
    /// It is not listed, but what is in it may be.
    OnlyBelow,
    /// Neither it nor what is in it is listed.
    No,
}

impl ListFiles {
    /// Reads each regular file for its digest.
    #[must_use]
    pub fn with_digests(mut self) -> Self {
        self.digests = true;
        self
    }

    /// Lists one directory.
    #[must_use]
    pub fn shallow(mut self) -> Self {
        self.shallow = true;
        self
    }

    /// Decides what is listed.
    #[must_use]
    pub fn with_filter(mut self, filter: FileFilter) -> Self {
        self.filter = Some(filter);
        self
    }
}

impl fmt::Debug for ListFiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ListFiles").field("digests", &self.digests).finish_non_exhaustive()
    }
}

/// What [`ContainerFiles::list`] found.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct FileList {
    /// Where it really is: the absolute path, without links.
    pub path: PathBuf,
    /// What is there.
    pub entries: Vec<FileEntry>,
}

impl FileList {
    /// Says what is beneath `path`.
    pub fn new(path: impl Into<PathBuf>, entries: Vec<FileEntry>) -> Self {
        Self { path: path.into(), entries }
    }
}

/// One file of a tree, of any kind.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct FileEntry {
    /// Where it is, relative to what was listed.
    pub path: PathBuf,
    /// Type and permission bits, as in `st_mode` (inode(7)).
    pub mode: u32,
    /// Its owner.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
    /// The size of its content in bytes; 0 for what is no regular file.
    pub size: u64,
    /// When it was last modified.
    pub modified: SystemTime,
    /// The text of a symbolic link.
    pub link: PathBuf,
    /// The digest of a regular file's content, if it was asked for: with its file capabilities, where it has any.
    pub digest: Option<Digest>,
}

impl FileEntry {
    /// Describes a file by its path and its mode.
    pub fn new(path: impl Into<PathBuf>, mode: u32) -> Self {
        Self {
            path: path.into(),
            mode,
            uid: 0,
            gid: 0,
            size: 0,
            modified: SystemTime::UNIX_EPOCH,
            link: PathBuf::new(),
            digest: None,
        }
    }

    /// Returns whether it is a directory.
    #[must_use]
    pub fn is_dir(&self) -> bool {
        self.mode & 0o170_000 == 0o040_000
    }

    /// Returns whether it is a regular file.
    #[must_use]
    pub fn is_file(&self) -> bool {
        self.mode & 0o170_000 == 0o100_000
    }
}

/// Where a file of an archive comes from.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum PackedSource {
    /// It is in the tree: a path from the root without links.
    Tree(PathBuf),
    /// It is a directory that only the archive has.
    Directory,
    /// It is a regular file of this content.
    Content(Bytes),
}

/// A file on its way into an archive.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct PackedFile {
    /// Where it comes from.
    pub source: PackedSource,
    /// What it is called in the archive.
    pub name: PathBuf,
    /// Its permission bits.
    pub mode: u32,
    /// Its owner and group.
    pub owner: (u32, u32),
    /// Its time of modification, in whole seconds.
    pub modified: SystemTime,
    /// Leaves out extended attributes but file capabilities, and makes hard links files: they are the host's affair.
    pub plain: bool,
    /// The digest that [`FileEntry::digest`] had of it. A file that has another one by now fails the archive.
    pub digest: Option<Digest>,
}

impl PackedFile {
    /// Describes a file by where it comes from, and its name and mode in the archive.
    pub fn new(source: PackedSource, name: impl Into<PathBuf>, mode: u32) -> Self {
        let modified = SystemTime::UNIX_EPOCH;
        Self { source, name: name.into(), mode, owner: (0, 0), modified, plain: false, digest: None }
    }
}

/// How an archive is unpacked into a container.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct UnpackFiles {
    /// Refuses to replace a directory by something else, and the other way round (Docker's `noOverwriteDirNonDir`).
    pub keep_kinds: bool,
    /// Gives everything this owner and group; the archive's without it.
    pub owner: Option<(u32, u32)>,
    /// Replaces the first component of names, the first by the second.
    pub rename: Option<(PathBuf, PathBuf)>,
    /// The most bytes that the archive may take when it is decompressed and the holes of its files are written out. A container
    /// takes what its engine does without it ([`EngineBuilder::max_bytes`](crate::EngineBuilder::max_bytes)), and
    /// [`ContainerFiles`] have no limit.
    pub max_bytes: Option<u64>,
}

impl UnpackFiles {
    /// Refuses to replace a directory by something else, and the other way round.
    #[must_use]
    pub fn with_keep_kinds(mut self, keep_kinds: bool) -> Self {
        self.keep_kinds = keep_kinds;
        self
    }

    /// Sets the most bytes that the archive may take.
    #[must_use]
    pub fn with_max_bytes(mut self, bytes: u64) -> Self {
        self.max_bytes = Some(bytes);
        self
    }

    /// Gives everything this owner and group.
    #[must_use]
    pub fn with_owner(mut self, owner: Option<(u32, u32)>) -> Self {
        self.owner = owner;
        self
    }
}

/// What is at a path.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct PathStat {
    /// The last component of the path that was asked for.
    pub name: String,
    /// The size in bytes.
    pub size: u64,
    /// Type and permission bits, as in `st_mode` (inode(7)).
    pub mode: u32,
    /// When it was last modified.
    #[serde(with = "crate::exact::time")]
    pub modified: SystemTime,
    /// Where a symbolic link leads, as an absolute path in the container; empty for anything else.
    pub link_target: String,
}

impl PathStat {
    /// Creates a description.
    pub fn new(name: impl Into<String>, mode: u32, size: u64, modified: SystemTime) -> Self {
        Self { name: name.into(), size, mode, modified, link_target: String::new() }
    }

    /// Says where a link leads.
    #[must_use]
    pub fn with_link_target(mut self, target: impl Into<String>) -> Self {
        self.link_target = target.into();
        self
    }

    /// Returns whether it is a directory.
    #[must_use]
    pub fn is_dir(&self) -> bool {
        self.mode & 0o170_000 == 0o040_000
    }

    /// Returns whether it is a regular file.
    #[must_use]
    pub fn is_file(&self) -> bool {
        self.mode & 0o170_000 == 0o100_000
    }

    /// Returns whether it is a symbolic link.
    #[must_use]
    pub fn is_symlink(&self) -> bool {
        self.mode & 0o170_000 == 0o120_000
    }
}

/// One difference between a container's root file system and its image.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
pub struct Change {
    /// The absolute path in the container.
    #[serde(with = "crate::exact::path")]
    pub path: PathBuf,
    /// What happened to it.
    pub kind: ChangeKind,
}

/// What happened to a path.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
pub enum ChangeKind {
    /// It, or something in it, is different.
    Modified,
    /// It is new.
    Added,
    /// It is gone.
    Deleted,
}

impl ChangeKind {
    /// Returns Docker's letter.
    #[must_use]
    pub fn letter(self) -> char {
        match self {
            Self::Modified => 'C',
            Self::Added => 'A',
            Self::Deleted => 'D',
        }
    }
}
