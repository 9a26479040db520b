//! Copy-up: what an image has at a volume's place becomes the first content of the volume.
//!
//! Owns how entries are copied. Both ends are descriptors: the source is a directory of a root file system that was opened
//! beneath its root, the destination one of ours, and no link is followed on either side (SECURITY A9). When to copy, and
//! what a crash leaves, is `files`' to know.
//! Invariant: an entry appears complete, by one rename or by one call; what is there already is never changed. So a copy
//! that was cut short is made whole by copying again.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::fd::{AsRawFd as _, OwnedFd};

use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, RenameFlags, SeekFrom as Seek, Stat, Timespec, Timestamps, Uid,
    XattrFlags,
};
use rustix::io::Errno;

use crate::linux::walk::{Found, open_dir, walk};

/// The name under which a file is written before it has its own.
const PARTIAL: &str = "partial";

/// Copies everything in `source` into `volume`. Files are written in `scratch` first, which is on the same file system.
pub(super) fn copy(source: &OwnedFd, volume: &OwnedFd, scratch: &OwnedFd) -> io::Result<()> {
    let mut copy = Copy { volume, scratch, links: HashMap::new(), parent: None, dirs: Vec::new() };
    walk(source, |found| copy.entry(found))?;
    // Making entries changed the directories' times, and a mode may forbid what was to be made: so they come last, and
    // children before parents.
    let dirs = std::mem::take(&mut copy.dirs);
    for path in dirs.iter().rev() {
        match open_dir(volume, path) {
            Ok(dir) => same_attributes(&open_dir(source, path)?, &dir)?,
            // Somebody removed or replaced it already.
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    same_attributes(source, volume)
}

/// Gives `to` the owner, mode, extended attributes and times of `from`.
pub(super) fn same_attributes(from: &OwnedFd, to: &OwnedFd) -> io::Result<()> {
    let stat = rustix::fs::fstat(from)?;
    // chown(2) clears set-ID bits and capabilities, and everything changes times.
    rustix::fs::fchown(to, Some(Uid::from_raw(stat.st_uid)), Some(Gid::from_raw(stat.st_gid)))?;
    rustix::fs::fchmod(to, Mode::from_raw_mode(stat.st_mode & 0o7777))?;
    same_xattrs(from, to)?;
    Ok(rustix::fs::futimens(to, &times(&stat))?)
}

struct Copy<'a> {
    volume: &'a OwnedFd,
    scratch: &'a OwnedFd,
    /// Files of several names: where the first of them is in the volume.
    links: HashMap<(u64, u64), Vec<u8>>,
    /// The directory of the volume that was opened last, by its path.
    parent: Option<(Vec<u8>, OwnedFd)>,
    dirs: Vec<Vec<u8>>,
}

impl Copy<'_> {
    fn entry(&mut self, found: &Found<'_>) -> io::Result<()> {
        let parent = found.path[..found.path.len() - found.name.len()].strip_suffix(b"/").unwrap_or(b"");
        if self.parent.as_ref().is_none_or(|(path, _)| path != parent) {
            let dir = match open_dir(self.volume, parent) {
                Ok(dir) => dir,
                // Somebody else's file is in the way of a directory, or the directory went.
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(()),
                Err(errno) => return Err(errno.into()),
            };
            self.parent = Some((parent.to_vec(), dir));
        }
        let Some((_, dir)) = &self.parent else { return Ok(()) };
        let name = found.name;
        let made = match found.kind() {
            FileType::Directory => {
                // Nobody but us enters it before it has its owner and mode.
                match rustix::fs::mkdirat(dir, name, Mode::from_raw_mode(0o700)) {
                    Ok(()) | Err(Errno::EXIST) => self.dirs.push(found.path.to_vec()),
                    Err(errno) => return Err(errno.into()),
                }
                return Ok(());
            }
            FileType::RegularFile => {
                if found.stat.st_nlink > 1 {
                    let inode = (found.stat.st_dev, found.stat.st_ino);
                    if let Some(first) = self.links.get(&inode) {
                        return link(self.volume, first, dir, name);
                    }
                    self.links.insert(inode, found.path.to_vec());
                }
                return self.file(found, dir);
            }
            FileType::Symlink => {
                let target = rustix::fs::readlinkat(found.dir, name, Vec::new())?;
                rustix::fs::symlinkat(&*target, dir, name)
            }
            kind @ (FileType::Fifo | FileType::Socket) => {
                rustix::fs::mknodat(dir, name, kind, Mode::from_raw_mode(found.stat.st_mode & 0o777), 0)
            }
            // Devices belong to /dev, and to no volume (SECURITY C5).
            _ => {
                tracing::debug!(path = %String::from_utf8_lossy(found.path), "a device node is not copied");
                return Ok(());
            }
        };
        match made {
            Ok(()) => named_attributes(dir, name, found),
            Err(Errno::EXIST) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }

    fn file(&self, found: &Found<'_>, dir: &OwnedFd) -> io::Result<()> {
        if rustix::fs::statat(dir, found.name, AtFlags::SYMLINK_NOFOLLOW).is_ok() {
            return Ok(());
        }
        // It was a regular file a moment ago, in a file system that nobody can write to.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let from = rustix::fs::openat(found.dir, found.name, flags, Mode::empty())?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let to = rustix::fs::openat(self.scratch, PARTIAL, flags, Mode::from_raw_mode(0o600))?;
        copy_data(&from, &to, u64::try_from(found.stat.st_size).unwrap_or(0))?;
        same_attributes(&from, &to)?;
        let renamed =
            rustix::fs::renameat_with(self.scratch, PARTIAL, dir, found.name, RenameFlags::NOREPLACE);
        match renamed {
            Ok(()) => Ok(()),
            Err(Errno::EXIST) => Ok(rustix::fs::unlinkat(self.scratch, PARTIAL, AtFlags::empty())?),
            Err(errno) => Err(errno.into()),
        }
    }
}

/// Removes the file that a copy which was cut short was writing.
pub(super) fn clean(scratch: &OwnedFd) -> io::Result<()> {
    match rustix::fs::unlinkat(scratch, PARTIAL, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

/// Gives the file `first` of the volume another name.
fn link(volume: &OwnedFd, first: &[u8], dir: &OwnedFd, name: &[u8]) -> io::Result<()> {
    let (parent, old) = match first.iter().rposition(|byte| *byte == b'/') {
        Some(slash) => (&first[..slash], &first[slash + 1..]),
        None => (&b""[..], first),
    };
    let parent = open_dir(volume, parent)?;
    match rustix::fs::linkat(&parent, old, dir, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::EXIST) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

/// Owner, mode and time of what cannot be opened.
fn named_attributes(dir: &OwnedFd, name: &[u8], found: &Found<'_>) -> io::Result<()> {
    let stat = &found.stat;
    let (uid, gid) = (Some(Uid::from_raw(stat.st_uid)), Some(Gid::from_raw(stat.st_gid)));
    rustix::fs::chownat(dir, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW)?;
    if found.kind() != FileType::Symlink {
        // fchmodat(2) follows links; an O_PATH descriptor pins what was just made.
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(dir, name, flags, Mode::empty())?;
        if FileType::from_raw_mode(rustix::fs::fstat(&fd)?.st_mode) == found.kind() {
            let mode = Mode::from_raw_mode(stat.st_mode & 0o7777);
            rustix::fs::chmod(format!("/proc/self/fd/{}", fd.as_raw_fd()), mode)?;
        }
    }
    Ok(rustix::fs::utimensat(dir, name, &times(stat), AtFlags::SYMLINK_NOFOLLOW)?)
}

/// Copies data and leaves holes as they are, see lseek(2) on SEEK_DATA.
fn copy_data(from: &OwnedFd, to: &OwnedFd, size: u64) -> io::Result<()> {
    let (mut source, mut target) = (File::from(from.try_clone()?), File::from(to.try_clone()?));
    let mut at = 0;
    while at < size {
        let data = match rustix::fs::seek(from, Seek::Data(at)) {
            Ok(data) => data,
            // Only a hole is left.
            Err(Errno::NXIO) => break,
            Err(Errno::INVAL) => at,
            Err(errno) => return Err(errno.into()),
        };
        let end = match rustix::fs::seek(from, Seek::Hole(data)) {
            Ok(end) => end.min(size),
            Err(_) => size,
        };
        source.seek(SeekFrom::Start(data))?;
        target.seek(SeekFrom::Start(data))?;
        let copied = io::copy(&mut source.by_ref().take(end - data), &mut target)?;
        if copied == 0 {
            break;
        }
        at = data + copied;
    }
    Ok(rustix::fs::ftruncate(to, size)?)
}

fn same_xattrs(from: &OwnedFd, to: &OwnedFd) -> io::Result<()> {
    // 64 KiB is the most the kernel gives of either, see xattr(7).
    let mut names = vec![0; 64 << 10];
    let count = match rustix::fs::flistxattr(from, &mut names[..]) {
        Ok(count) => count,
        Err(Errno::NOTSUP) => return Ok(()),
        Err(errno) => return Err(errno.into()),
    };
    if count == 0 {
        return Ok(());
    }
    let mut value = vec![0; 64 << 10];
    for name in names[..count].split(|byte| *byte == 0).filter(|name| is_copied(name)) {
        let length = match rustix::fs::fgetxattr(from, name, &mut value[..]) {
            Ok(length) => length,
            Err(Errno::NODATA) => continue,
            Err(errno) => return Err(errno.into()),
        };
        match rustix::fs::fsetxattr(to, name, &value[..length], XattrFlags::empty()) {
            // A file system without them loses decoration, but never capabilities or access rules.
            Err(Errno::NOTSUP) if name.starts_with(b"user.") || name.starts_with(b"trusted.") => {}
            outcome => outcome?,
        }
    }
    Ok(())
}

/// Not overlayfs's own (SECURITY C5), and no label of this host.
fn is_copied(name: &[u8]) -> bool {
    let overlay = name.starts_with(b"trusted.overlay.") || name.starts_with(b"user.overlay.");
    let ours = [&b"user."[..], b"trusted.", b"system.posix_acl_"].iter().any(|start| name.starts_with(start));
    !overlay && (ours || name == b"security.capability")
}

fn times(stat: &Stat) -> Timestamps {
    Timestamps {
        last_access: time(stat.st_atime, stat.st_atime_nsec),
        last_modification: time(stat.st_mtime, stat.st_mtime_nsec),
    }
}

/// The type of the nanoseconds is the architecture's.
fn time(seconds: i64, nanoseconds: impl TryInto<i64>) -> Timespec {
    Timespec { tv_sec: seconds, tv_nsec: nanoseconds.try_into().unwrap_or(0) }
}
