//! What a container changed: a walk over its writable layers, and its whole tree where those do not tell.
//!
//! Overlayfs keeps in the writable layer each name that was touched, and a mark where a directory does not go on below
//! (opaque, or renamed). So only touched names are compared, except beneath such marks. Contents are always read through
//! overlayfs, never from the writable layer itself, which may hold half of a file (metacopy).

use std::collections::BTreeSet;
use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use super::ingest::Temporary;
use super::unpack::join;
use crate::files::{Change, ChangeKind};
use crate::linux::files::pack::{look, names, xattrs};

/// As many levels as descriptors allow.
const MAX_DEPTH: usize = 200;
/// Mount points that a start makes for what the engine mounts there: nobody changed anything by them.
const MOUNT_POINTS: [&[u8]; 7] =
    [b"dev", b"proc", b"sys", b"etc/hosts", b"etc/hostname", b"etc/resolv.conf", b"etc/mtab"];
/// The directory of mount points of secrets.
const SECRETS: &[u8] = b"run/secrets";

/// The two trees that are compared.
pub(super) struct Trees {
    /// The directories that took the changes, topmost first; `None` if they do not tell all.
    pub(super) written: Option<Vec<OwnedFd>>,
    pub(super) now: OwnedFd,
    pub(super) before: OwnedFd,
    /// Mount points beside the known ones, relative to the root: where one is new and empty, nobody changed anything.
    pub(super) mount_points: BTreeSet<Vec<u8>>,
    /// The directory of `before`, where that was made for the comparison.
    pub(super) _pristine: Option<Temporary>,
}

/// One change as the walk shows it.
pub(super) struct Found<'a> {
    /// Relative to the root.
    pub(super) path: &'a [u8],
    pub(super) kind: ChangeKind,
    /// What is there now, unless it was deleted.
    pub(super) now: Option<(&'a OwnedFd, &'a Stat)>,
}

/// Walks the differences in order, directories before what is in them. A directory in which something is different is
/// shown as modified.
pub(super) fn walk(trees: &Trees, visit: &mut dyn FnMut(Found<'_>) -> io::Result<()>) -> io::Result<()> {
    let mut walk = Walk { visit, mount_points: &trees.mount_points, path: Vec::new(), pending: Vec::new() };
    walk.directory(trees.written.as_deref(), &trees.now, Some(&trees.before))
}

/// Lists the differences, as Docker's `diff` does.
pub(super) fn list(trees: &Trees) -> io::Result<Vec<Change>> {
    let mut changes = Vec::new();
    walk(trees, &mut |found| {
        use std::os::unix::ffi::OsStrExt as _;
        let path: PathBuf = Path::new("/").join(std::ffi::OsStr::from_bytes(found.path));
        changes.push(Change { path, kind: found.kind });
        Ok(())
    })?;
    Ok(changes)
}

struct Walk<'a> {
    visit: &'a mut dyn FnMut(Found<'_>) -> io::Result<()>,
    mount_points: &'a BTreeSet<Vec<u8>>,
    path: Vec<u8>,
    /// Directories on the way that were not shown yet: the length of their path, and what they are.
    pending: Vec<(usize, OwnedFd, Stat)>,
}

impl Walk<'_> {
    fn directory(
        &mut self,
        written: Option<&[OwnedFd]>,
        now: &OwnedFd,
        before: Option<&OwnedFd>,
    ) -> io::Result<()> {
        if self.path.iter().filter(|byte| **byte == b'/').count() > MAX_DEPTH {
            return Err(io::Error::other(format!("directories are nested more than {MAX_DEPTH} times")));
        }
        let mut all: BTreeSet<CString> = BTreeSet::new();
        match written {
            Some(layers) => {
                for layer in layers {
                    all.extend(names(layer)?);
                }
            }
            None => {
                all.extend(names(now)?);
                if let Some(before) = before {
                    all.extend(names(before)?);
                }
            }
        }
        for name in all {
            let new = look(now.as_fd(), &name)?;
            let old = before.map(|dir| look(dir.as_fd(), &name)).transpose()?.flatten();
            let length = self.path.len();
            self.path = join(&self.path, name.to_bytes());
            self.one(written, &name, new, old)?;
            self.path.truncate(length);
        }
        Ok(())
    }

    fn one(
        &mut self,
        written: Option<&[OwnedFd]>,
        name: &CString,
        new: Option<(OwnedFd, Stat)>,
        old: Option<(OwnedFd, Stat)>,
    ) -> io::Result<()> {
        let Some((handle, stat)) = new else {
            return if old.is_some() { self.show(ChangeKind::Deleted, None) } else { Ok(()) };
        };
        let is_dir = |stat: &Stat| FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
        let kind = match &old {
            None if self.is_mount_point(&handle, &stat)? => return Ok(()),
            // It is shown with what turns out to be in it.
            None if is_dir(&stat) && self.mount_points.contains(&self.path) => None,
            None => Some(ChangeKind::Added),
            Some((was, old)) if differs((was, old), (&handle, &stat))? => Some(ChangeKind::Modified),
            Some(_) => None,
        };
        let shown = kind.is_some();
        if let Some(kind) = kind {
            self.show(kind, Some((&handle, &stat)))?;
        }
        if !is_dir(&stat) {
            return Ok(());
        }
        let before = old.filter(|(_, old)| is_dir(old)).map(|(was, _)| was);
        let layers = match (written, &before) {
            (Some(written), Some(_)) => written_dirs(written, name)?,
            // All of it is new.
            _ => None,
        };
        if !shown {
            self.pending.push((self.path.len(), handle.try_clone()?, stat));
        }
        let count = self.pending.len();
        self.directory(layers.as_deref(), &handle, before.as_ref())?;
        if !shown && self.pending.len() == count {
            self.pending.pop();
        }
        Ok(())
    }

    /// Shows what is at the current path, and before it the directories above that were not shown.
    fn show(&mut self, kind: ChangeKind, now: Option<(&OwnedFd, &Stat)>) -> io::Result<()> {
        for (length, handle, stat) in self.pending.drain(..) {
            let path = &self.path[..length];
            (self.visit)(Found { path, kind: ChangeKind::Modified, now: Some((&handle, &stat)) })?;
        }
        (self.visit)(Found { path: &self.path, kind, now })
    }

    fn is_mount_point(&self, handle: &OwnedFd, stat: &Stat) -> io::Result<bool> {
        let path = &self.path[..];
        let made = self.mount_points.contains(path)
            && FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
        if made && stat.st_size == 0 {
            return Ok(true);
        }
        let of_secret = path.strip_prefix(SECRETS).is_some_and(|rest| rest.is_empty() || rest[0] == b'/');
        if !of_secret && !MOUNT_POINTS.contains(&path) {
            return Ok(false);
        }
        Ok(match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory if of_secret => has_only_empty_files(handle)?,
            FileType::Directory => names(handle)?.is_empty(),
            FileType::RegularFile => stat.st_size == 0,
            _ => false,
        })
    }
}

fn has_only_empty_files(dir: &OwnedFd) -> io::Result<bool> {
    for name in names(dir)? {
        let stat = rustix::fs::statat(dir, &name, AtFlags::SYMLINK_NOFOLLOW)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile || stat.st_size > 0 {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The directories called `name` in `layers`, topmost first; `None` if one of them hides or moves what is below.
fn written_dirs(layers: &[OwnedFd], name: &CString) -> io::Result<Option<Vec<OwnedFd>>> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut dirs = Vec::new();
    for layer in layers {
        match rustix::fs::openat(layer, name, flags, Mode::empty()) {
            Ok(dir) => {
                for mark in [c"trusted.overlay.opaque", c"trusted.overlay.redirect"] {
                    match rustix::fs::fgetxattr(&dir, mark, &mut [0_u8; 1][..]) {
                        Ok(0) | Err(Errno::NODATA | Errno::NOTSUP) => {}
                        Ok(_) | Err(Errno::RANGE) => return Ok(None),
                        Err(errno) => return Err(errno.into()),
                    }
                }
                dirs.push(dir);
            }
            Err(Errno::NOENT) => {}
            // A file or a whiteout in one of several written layers: what is above it was made after.
            Err(Errno::NOTDIR | Errno::LOOP | Errno::NXIO) => return Ok(None),
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(Some(dirs))
}

/// Whether something was changed. A directory's size and time tell only of what is in it.
fn differs((was, old): (&OwnedFd, &Stat), (is, new): (&OwnedFd, &Stat)) -> io::Result<bool> {
    let about = |stat: &Stat| (stat.st_mode, stat.st_uid, stat.st_gid, stat.st_rdev);
    if about(old) != about(new) {
        return Ok(true);
    }
    let kind = FileType::from_raw_mode(new.st_mode);
    let content = |stat: &Stat| (stat.st_size, stat.st_mtime, stat.st_mtime_nsec);
    if kind != FileType::Directory && content(old) != content(new) {
        return Ok(true);
    }
    if kind == FileType::Symlink {
        let text = |fd: &OwnedFd| rustix::fs::readlinkat(fd, c"", Vec::new());
        return Ok(text(was)? != text(is)?);
    }
    let listed = matches!(kind, FileType::RegularFile | FileType::Directory);
    Ok(listed && was.as_raw_fd() != is.as_raw_fd() && xattrs(was)? != xattrs(is)?)
}
