//! Entry by entry: what becomes of each on disk.

use std::io::BufRead;
use std::os::fd::{AsFd as _, OwnedFd};

use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;

use super::{
    UnpackError,
    attributes::{self, Identity},
    copy::CopyRules,
    dir_log::{DirLog, DirNote},
    tree::{self, Dir, Tree, join},
};
use crate::linux::image_store::remove::{remove_content, remove_tree};
use crate::tar::{ArchiveReader, Entry, EntryKind, Segment, TarLimits};

/// What a layer's whiteouts become.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::linux) enum Whiteouts {
    /// Overlayfs's: character devices 0:0, and an attribute on opaque directories.
    Overlay,
    /// Removals of what is there, and nothing else of the archive: the first pass of a store that copies.
    ApplyOnly,
    /// Nothing: the second pass of a store that copies.
    Ignore,
    /// Files with such names: an archive that is no layer.
    Plain,
}

/// How to unpack.
#[derive(Clone, Debug)]
pub(in crate::linux) struct UnpackOptions {
    pub(in crate::linux) whiteouts: Whiteouts,
    pub(in crate::linux) tar: TarLimits,
    /// Set where the archive is copied into a tree that is in use.
    pub(in crate::linux) copy: Option<CopyRules>,
}

/// What was unpacked.
#[derive(Debug, Default)]
pub(in crate::linux) struct UnpackSummary {
    pub(in crate::linux) entries: u64,
    /// File content, without holes.
    pub(in crate::linux) bytes: u64,
    /// Whether an entry described the root directory itself.
    pub(in crate::linux) has_root: bool,
    /// Directories that no entry described, sorted: lower layers decide their attributes.
    pub(in crate::linux) implied: Vec<Vec<u8>>,
}

/// Writes the archive `source` into the empty directory `root`. `scratch` is on the same file system.
///
/// The thread's umask must be 0. On an error the directory is in any state: remove it.
/// Reads `source` to its end, so that a hash over it is over everything.
pub(in crate::linux) fn unpack<R: BufRead>(
    source: R,
    root: OwnedFd,
    scratch: &OwnedFd,
    options: UnpackOptions,
) -> Result<(UnpackSummary, R), UnpackError> {
    let mut archive = ArchiveReader::new(source, options.tar);
    let mut unpacker = Unpacker {
        tree: Tree::new(root, options.whiteouts == Whiteouts::Overlay),
        whiteouts: options.whiteouts,
        identity: Identity::of_thread(),
        log: DirLog::default(),
        scratch,
        replaced: false,
        summary: UnpackSummary::default(),
        copy: options.copy,
    };
    let mut entry = Entry::default();
    let mut clean = Vec::new();
    while archive.next_entry(&mut entry)? {
        if let Some(rules) = &unpacker.copy
            && !rules.adapt(&mut entry)?
        {
            continue;
        }
        tree::normalise(&entry.path, &mut clean)?;
        unpacker.place(&entry, &clean, &mut archive)?;
        unpacker.summary.entries += 1;
    }
    Ok((unpacker.finish()?, archive.into_inner()))
}

/// Reads the archive to its end and makes nothing: for a store that unpacks into each container.
pub(in crate::linux) fn check<R: BufRead>(
    source: R,
    limits: TarLimits,
) -> Result<(UnpackSummary, R), UnpackError> {
    let mut archive = ArchiveReader::new(source, limits);
    let (mut entry, mut clean) = (Entry::default(), Vec::new());
    let mut summary = UnpackSummary::default();
    while archive.next_entry(&mut entry)? {
        tree::normalise(&entry.path, &mut clean)?;
        summary.entries += 1;
        summary.bytes += entry.size;
        summary.has_root |= clean.is_empty();
    }
    Ok((summary, archive.into_inner()))
}

struct Unpacker<'a> {
    tree: Tree,
    whiteouts: Whiteouts,
    identity: Identity,
    log: DirLog,
    scratch: &'a OwnedFd,
    /// Whether a directory was ever replaced by something else: then notes may be about what is gone.
    replaced: bool,
    summary: UnpackSummary,
    copy: Option<CopyRules>,
}

impl Unpacker<'_> {
    fn place<R: BufRead>(
        &mut self,
        entry: &Entry,
        clean: &[u8],
        archive: &mut ArchiveReader<R>,
    ) -> Result<(), UnpackError> {
        let (parent, name) = tree::split(clean);
        if self.whiteouts == Whiteouts::Plain {
            return self.content(entry, clean, archive);
        }
        if clean.first() == Some(&b'.') && clean.starts_with(b".wh..wh.") && name != b".wh..wh..opq" {
            // Aufs kept its own files at the root of a layer, as Docker's first images show. Nobody unpacks them.
            return Ok(());
        }
        if tree::components(parent).any(|part| part.starts_with(b".wh.")) {
            return Err(UnpackError::refused(&entry.path, "a whiteout is no directory"));
        }
        if let Some(hidden) = name.strip_prefix(b".wh.") {
            return self.whiteout(entry, parent, hidden);
        }
        if self.whiteouts == Whiteouts::ApplyOnly {
            return Ok(());
        }
        self.content(entry, clean, archive)
    }

    fn content<R: BufRead>(
        &mut self,
        entry: &Entry,
        clean: &[u8],
        archive: &mut ArchiveReader<R>,
    ) -> Result<(), UnpackError> {
        let (parent, name) = tree::split(clean);
        if clean.is_empty() {
            return self.root_directory(entry);
        }
        let dir = self.tree.dir(parent)?;
        match entry.kind {
            EntryKind::Directory => self.directory(entry, clean, &dir, name),
            EntryKind::File => self.file(entry, &dir, name, archive),
            EntryKind::HardLink => self.hard_link(entry, &dir, name),
            EntryKind::Symlink => {
                self.create(&dir, name, |dir| rustix::fs::symlinkat(&*entry.link, &*dir.fd, name))?;
                attributes::set_on_name(&dir, name, entry, self.identity)
            }
            EntryKind::CharDevice | EntryKind::BlockDevice | EntryKind::Fifo => self.node(entry, &dir, name),
        }
    }

    fn root_directory(&mut self, entry: &Entry) -> Result<(), UnpackError> {
        if entry.kind != EntryKind::Directory {
            return Err(UnpackError::refused(&entry.path, "the root of a layer must be a directory"));
        }
        self.summary.has_root = true;
        let fd = tree::reopen(self.tree.root())?;
        self.directory_attributes(entry, &fd, None, b"")
    }

    fn directory(&mut self, entry: &Entry, clean: &[u8], dir: &Dir, name: &[u8]) -> Result<(), UnpackError> {
        let path = join(&dir.path, name);
        // mkdir(2) takes the permission bits and the sticky bit.
        let mode = entry.mode & 0o1777;
        let made = rustix::fs::mkdirat(&*dir.fd, name, Mode::from_raw_mode(mode));
        let mut created = Some(mode);
        match made {
            Ok(()) => {}
            Err(Errno::EXIST) => {
                let stat = self.stat(dir, name)?;
                if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
                    created = None;
                } else {
                    self.check_kind(&path, "it would replace a file by a directory")?;
                    let opaque = self.tree.is_whiteout(dir, name)?;
                    tree::unlink(dir, name)?;
                    self.tree.forget();
                    rustix::fs::mkdirat(&*dir.fd, name, Mode::from_raw_mode(mode))
                        .map_err(|e| UnpackError::io("create directory", &path, e))?;
                    if opaque {
                        tree::set_opaque(&self.opened(dir, name, &path)?)?;
                    }
                }
            }
            Err(errno) => return Err(UnpackError::io("create directory", &path, errno)),
        }
        self.tree.described(&path);
        let own = self.opened(dir, name, &path)?;
        if created.is_some() && entry.xattrs.is_empty() && !self.needs_change(entry, mode) {
            self.note(entry, &path, None)?;
        } else {
            let fd = tree::reopen(&own)?;
            self.directory_attributes(entry, &fd, created, &path)?;
        }
        self.tree.remember(clean, own);
        Ok(())
    }

    fn needs_change(&self, entry: &Entry, created: u32) -> bool {
        entry.mode != created || !self.identity.owns(entry)
    }

    fn opened(&self, dir: &Dir, name: &[u8], path: &[u8]) -> Result<Dir, UnpackError> {
        let fd = tree::open_dir(&dir.fd, name).map_err(|e| UnpackError::io("open directory", path, e))?;
        Ok(Dir { fd: fd.into(), path: path.into() })
    }

    /// Owner, mode and attributes now; what children would inherit, and the time, at the end.
    fn directory_attributes(
        &mut self,
        entry: &Entry,
        fd: &OwnedFd,
        created: Option<u32>,
        path: &[u8],
    ) -> Result<(), UnpackError> {
        let late = entry.mode & 0o2000 != 0;
        if late {
            let plain = Entry { mode: entry.mode & !0o2000, ..entry.clone() };
            attributes::set_on_fd(fd, &plain, self.identity, created, path)?;
        } else {
            attributes::set_on_fd(fd, entry, self.identity, created, path)?;
        }
        self.note(entry, path, late.then_some(entry.mode))
    }

    fn note(&mut self, entry: &Entry, path: &[u8], mode: Option<u32>) -> Result<(), UnpackError> {
        let default_acl = entry.xattrs.iter().find(|xattr| attributes::is_default_acl(xattr));
        let default_acl = default_acl.map(|xattr| xattr.value.clone()).unwrap_or_default();
        let note = DirNote { path: path.to_vec(), mtime: entry.mtime, mode, default_acl };
        self.log.push(self.scratch, &note).map_err(|error| log_error(error, path))
    }

    fn file<R: BufRead>(
        &mut self,
        entry: &Entry,
        dir: &Dir,
        name: &[u8],
        archive: &mut ArchiveReader<R>,
    ) -> Result<(), UnpackError> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        // Set-ID bits come after the owner, which would clear them.
        let mode = entry.mode & 0o1777;
        let fd = self
            .create(dir, name, |dir| rustix::fs::openat(&*dir.fd, name, flags, Mode::from_raw_mode(mode)))?;
        let path = || join(&dir.path, name);
        let fail = |e| UnpackError::io("write", &path(), e);
        match &entry.sparse {
            None => loop {
                let data = archive.data()?;
                if data.is_empty() {
                    break;
                }
                let count = rustix::io::retry_on_intr(|| rustix::io::write(&fd, data)).map_err(fail)?;
                archive.consume(count);
                self.summary.bytes += count as u64;
            },
            Some(map) => {
                for Segment { mut offset, length } in map.iter().copied() {
                    let end = offset + length;
                    while offset < end {
                        let data = archive.data()?;
                        let wanted = usize::try_from(end - offset).unwrap_or(usize::MAX).min(data.len());
                        let data = &data[..wanted];
                        let count = rustix::io::retry_on_intr(|| rustix::io::pwrite(&fd, data, offset))
                            .map_err(fail)?;
                        archive.consume(count);
                        offset += count as u64;
                        self.summary.bytes += count as u64;
                    }
                }
                rustix::fs::ftruncate(&fd, entry.size).map_err(fail)?;
            }
        }
        if !entry.xattrs.is_empty() || self.needs_change(entry, mode) {
            attributes::set_on_fd(&fd, entry, self.identity, Some(mode), &path())?;
        }
        attributes::set_time_on_fd(&fd, entry.mtime, &dir.path)
    }

    fn hard_link(&mut self, entry: &Entry, dir: &Dir, name: &[u8]) -> Result<(), UnpackError> {
        let mut target = Vec::new();
        tree::normalise(&entry.link, &mut target)?;
        let (parent, old) = tree::split(&target);
        if old.is_empty() {
            return Err(UnpackError::refused(&entry.path, "a hard link to the root directory"));
        }
        let from = self.tree.dir(parent)?;
        let refused = |reason| Err(UnpackError::refused(&entry.path, reason));
        let stat = match rustix::fs::statat(&*from.fd, old, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(Errno::NOENT) => return refused("a hard link to a file that the layer does not hold"),
            Err(errno) => return Err(UnpackError::io("stat", &target, errno)),
        };
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => return refused("a hard link to a directory"),
            FileType::CharacterDevice if stat.st_rdev == 0 => return refused("a hard link to a whiteout"),
            _ => {}
        }
        let link = |dir: &Dir| rustix::fs::linkat(&*from.fd, old, &*dir.fd, name, AtFlags::empty());
        match link(dir) {
            Err(Errno::EXIST) => {
                let there = self.stat(dir, name)?;
                if (there.st_dev, there.st_ino) == (stat.st_dev, stat.st_ino) {
                    return Ok(());
                }
                self.create(dir, name, link)
            }
            outcome => outcome.map_err(|e| UnpackError::io("create hard link", &join(&dir.path, name), e)),
        }
    }

    fn node(&mut self, entry: &Entry, dir: &Dir, name: &[u8]) -> Result<(), UnpackError> {
        let (major, minor) = entry.device;
        if self.copy.is_some() && entry.kind != EntryKind::Fifo {
            // SECURITY C5: a tree in use may be one that honours devices, a bind mount of the host's among them.
            return Err(UnpackError::refused(&entry.path, "device nodes are not copied"));
        }
        let kind = match entry.kind {
            EntryKind::CharDevice if (major, minor) == (0, 0) => {
                return Err(UnpackError::refused(&entry.path, "it is a whiteout of overlayfs"));
            }
            EntryKind::CharDevice => FileType::CharacterDevice,
            EntryKind::BlockDevice => FileType::BlockDevice,
            _ => FileType::Fifo,
        };
        let device = rustix::fs::makedev(major, minor);
        self.create(dir, name, |dir| {
            rustix::fs::mknodat(&*dir.fd, name, kind, Mode::from_raw_mode(entry.mode), device)
        })?;
        attributes::set_on_name(dir, name, entry, self.identity)
    }

    /// `.wh.` names, see OCI image-spec layer.md, "Whiteouts". They hide what lower layers have, never what
    /// this layer adds, in whichever order the two appear.
    fn whiteout(&mut self, entry: &Entry, parent: &[u8], hidden: &[u8]) -> Result<(), UnpackError> {
        if entry.kind != EntryKind::File {
            return Err(UnpackError::refused(&entry.path, "a whiteout must be a file"));
        }
        if matches!(hidden, b"" | b"." | b"..") {
            return Err(UnpackError::refused(&entry.path, "a whiteout of nothing"));
        }
        let opaque = hidden == b".wh..opq";
        // Other names of this kind were private to aufs.
        if hidden.starts_with(b".wh.") && !opaque {
            return Err(UnpackError::refused(&entry.path, "an unknown kind of whiteout"));
        }
        if self.whiteouts == Whiteouts::Ignore {
            return Ok(());
        }
        let dir = self.tree.dir(parent)?;
        if self.whiteouts == Whiteouts::ApplyOnly {
            self.tree.forget();
            let fail = |error| UnpackError::Io {
                operation: "apply whiteout",
                path: tree::display(&join(&dir.path, hidden)),
                error,
            };
            return if opaque {
                remove_content(&tree::reopen(&dir)?).map_err(fail)
            } else {
                remove_tree(dir.fd.as_fd(), hidden).map_err(fail)
            };
        }
        if opaque {
            return tree::set_opaque(&dir);
        }
        let kind = FileType::CharacterDevice;
        match rustix::fs::mknodat(&*dir.fd, hidden, kind, Mode::empty(), 0) {
            Ok(()) => Ok(()),
            Err(Errno::EXIST) => {
                let stat = self.stat(&dir, hidden)?;
                if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
                    let path = join(&dir.path, hidden);
                    tree::set_opaque(&self.opened(&dir, hidden, &path)?)?;
                }
                Ok(())
            }
            Err(errno) => Err(UnpackError::io("create whiteout", &join(&dir.path, hidden), errno)),
        }
    }

    fn check_kind(&self, path: &[u8], reason: &'static str) -> Result<(), UnpackError> {
        match &self.copy {
            Some(rules) if rules.keep_kinds => {
                Err(UnpackError::Occupied { path: tree::display(path), reason })
            }
            _ => Ok(()),
        }
    }

    /// Runs `make`; if the name is taken by an earlier entry, replaces that.
    fn create<T>(
        &mut self,
        dir: &Dir,
        name: &[u8],
        make: impl Fn(&Dir) -> Result<T, Errno>,
    ) -> Result<T, UnpackError> {
        let fail = |e| UnpackError::io("create", &join(&dir.path, name), e);
        match make(dir) {
            Err(Errno::EXIST) => {}
            outcome => return outcome.map_err(fail),
        }
        let stat = self.stat(dir, name)?;
        if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
            self.check_kind(&join(&dir.path, name), "it would replace a directory by a file")?;
            self.replaced = true;
            remove_tree(dir.fd.as_fd(), name).map_err(|error| UnpackError::Io {
                operation: "replace",
                path: tree::display(&join(&dir.path, name)),
                error,
            })?;
        } else {
            tree::unlink(dir, name)?;
        }
        self.tree.forget();
        make(dir).map_err(fail)
    }

    fn stat(&self, dir: &Dir, name: &[u8]) -> Result<rustix::fs::Stat, UnpackError> {
        rustix::fs::statat(&*dir.fd, name, AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|e| UnpackError::io("stat", &join(&dir.path, name), e))
    }

    fn finish(mut self) -> Result<UnpackSummary, UnpackError> {
        self.tree.forget();
        let (log, replaced) = (std::mem::take(&mut self.log), self.replaced);
        let tree = &mut self.tree;
        log.replay::<LogError>(|note| finish_directory(tree, note, replaced))?;
        self.summary.implied = self.tree.into_implied();
        Ok(self.summary)
    }
}

fn finish_directory(tree: &mut Tree, note: &DirNote, replaced: bool) -> Result<(), LogError> {
    let simple = note.mode.is_none() && note.default_acl.is_empty();
    if note.path.is_empty() {
        let root = tree.root().clone();
        let fd = tree::reopen(&root)?;
        return Ok(finish_fd(&fd, note)?);
    }
    let (parent, name) = tree::split(&note.path);
    if !replaced && simple {
        let dir = tree.dir(parent)?;
        return Ok(attributes::set_time_at(&dir, name, note.mtime)?);
    }
    match tree::open_beneath(&tree.root().fd.clone(), &note.path) {
        Ok(fd) => {
            let fd = tree::reopen(&Dir { fd: fd.into(), path: note.path[..].into() })?;
            Ok(finish_fd(&fd, note)?)
        }
        // A later entry put something else there.
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) if replaced => Ok(()),
        Err(errno) => Err(UnpackError::io("open directory", &note.path, errno).into()),
    }
}

fn finish_fd(fd: &OwnedFd, note: &DirNote) -> Result<(), UnpackError> {
    if let Some(mode) = note.mode {
        rustix::fs::fchmod(fd, Mode::from_raw_mode(mode))
            .map_err(|e| UnpackError::io("set the mode of", &note.path, e))?;
    }
    if !note.default_acl.is_empty() {
        let flags = rustix::fs::XattrFlags::empty();
        rustix::fs::fsetxattr(fd, c"system.posix_acl_default", &note.default_acl, flags)
            .map_err(|e| UnpackError::io("set the default ACL of", &note.path, e))?;
    }
    attributes::set_time_on_fd(fd, note.mtime, &note.path)
}

/// Lets [`DirLog::replay`] report its own failures and ours.
struct LogError(UnpackError);

impl From<std::io::Error> for LogError {
    fn from(error: std::io::Error) -> Self {
        Self(log_error(error, b""))
    }
}

impl From<UnpackError> for LogError {
    fn from(error: UnpackError) -> Self {
        Self(error)
    }
}

impl From<LogError> for UnpackError {
    fn from(error: LogError) -> Self {
        error.0
    }
}

fn log_error(error: std::io::Error, path: &[u8]) -> UnpackError {
    UnpackError::Io { operation: "note the time of", path: tree::display(path), error }
}
