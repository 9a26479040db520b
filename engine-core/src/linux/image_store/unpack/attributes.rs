//! Owners, modes, times and extended attributes.
//!
//! Everything is set through a descriptor, or through a parent's descriptor without following a link.
//! Order matters: chown(2) clears set-ID bits and capabilities, writing clears capabilities, and every one
//! of them changes times. So: owner, mode, extended attributes, time.

use std::os::fd::{AsRawFd as _, OwnedFd};

use rustix::fs::{AtFlags, Gid, Mode, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;

use super::{
    UnpackError,
    tree::{Dir, join},
};
use crate::tar::{Entry, EntryKind, Timestamp, Xattr};

/// The owner that files get at creation.
#[derive(Clone, Copy, Debug)]
pub(super) struct Identity {
    uid: u32,
    gid: u32,
}

impl Identity {
    pub(super) fn of_thread() -> Self {
        let (uid, gid) = crate::linux::files::ids::file_ids();
        Self { uid, gid }
    }

    /// Whether a new file has the entry's owner from its creation.
    pub(super) fn owns(self, entry: &Entry) -> bool {
        entry.uid == self.uid && entry.gid == self.gid
    }

    /// The ids to set, unless they are right already.
    fn change(self, entry: &Entry) -> Option<(Option<Uid>, Option<Gid>)> {
        (!self.owns(entry)).then(|| (Some(Uid::from_raw(entry.uid)), Some(Gid::from_raw(entry.gid))))
    }
}

/// Sets everything on an open file or directory that was made with `created_mode`, except the time.
pub(super) fn set_on_fd(
    fd: &OwnedFd,
    entry: &Entry,
    identity: Identity,
    created_mode: Option<u32>,
    path: &[u8],
) -> Result<(), UnpackError> {
    if let Some((uid, gid)) = identity.change(entry) {
        rustix::fs::fchown(fd, uid, gid).map_err(|e| UnpackError::io("set the owner of", path, e))?;
    }
    if created_mode != Some(entry.mode) {
        rustix::fs::fchmod(fd, Mode::from_raw_mode(entry.mode))
            .map_err(|e| UnpackError::io("set the mode of", path, e))?;
    }
    for xattr in &entry.xattrs {
        if is_default_acl(xattr) || !wanted(xattr, entry.kind, path)? {
            continue;
        }
        let outcome = rustix::fs::fsetxattr(fd, &*xattr.name, &xattr.value, XattrFlags::empty());
        check_xattr(outcome, xattr, path)?;
    }
    Ok(())
}

/// Sets everything on what cannot be opened: links, devices, FIFOs. `name` was just made in `dir`.
pub(super) fn set_on_name(
    dir: &Dir,
    name: &[u8],
    entry: &Entry,
    identity: Identity,
) -> Result<(), UnpackError> {
    let fail = |operation| move |e| UnpackError::io(operation, &join(&dir.path, name), e);
    let changed = identity.change(entry);
    if let Some((uid, gid)) = changed {
        rustix::fs::chownat(&*dir.fd, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW)
            .map_err(fail("set the owner of"))?;
    }
    if entry.kind != EntryKind::Symlink && entry.mode & 0o6000 != 0 && changed.is_some() {
        // chown(2) cleared the set-ID bits. An O_PATH descriptor pins the inode that we change.
        let flags = rustix::fs::OFlags::PATH | rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::CLOEXEC;
        let fd = rustix::fs::openat(&*dir.fd, name, flags, Mode::empty()).map_err(fail("open"))?;
        rustix::fs::chmod(format!("/proc/self/fd/{}", fd.as_raw_fd()), Mode::from_raw_mode(entry.mode))
            .map_err(fail("set the mode of"))?;
    }
    for xattr in &entry.xattrs {
        if !wanted(xattr, entry.kind, &join(&dir.path, name))? {
            continue;
        }
        // There is no setxattrat(2) before Linux 6.13; the last component is not followed.
        let mut path = format!("/proc/self/fd/{}/", dir.fd.as_raw_fd()).into_bytes();
        path.extend_from_slice(name);
        let outcome = rustix::fs::lsetxattr(&*path, &*xattr.name, &xattr.value, XattrFlags::empty());
        check_xattr(outcome, xattr, &join(&dir.path, name))?;
    }
    set_time_at(dir, name, entry.mtime)
}

pub(super) fn set_time_at(dir: &Dir, name: &[u8], time: Timestamp) -> Result<(), UnpackError> {
    rustix::fs::utimensat(&*dir.fd, name, &timestamps(time), AtFlags::SYMLINK_NOFOLLOW)
        .map_err(|e| UnpackError::io("set the time of", &join(&dir.path, name), e))
}

pub(super) fn set_time_on_fd(fd: &OwnedFd, time: Timestamp, path: &[u8]) -> Result<(), UnpackError> {
    rustix::fs::futimens(fd, &timestamps(time)).map_err(|e| UnpackError::io("set the time of", path, e))
}

fn timestamps(time: Timestamp) -> Timestamps {
    let time = Timespec { tv_sec: time.seconds, tv_nsec: i64::from(time.nanoseconds) };
    Timestamps { last_access: time, last_modification: time }
}

pub(super) fn is_default_acl(xattr: &Xattr) -> bool {
    xattr.name == b"system.posix_acl_default"
}

/// Whether an attribute of an archive is set. Overlayfs's own are refused: they would give a layer the power
/// to redirect and hide files (SECURITY C5). Labels of the machine that made the archive mean nothing here.
fn wanted(xattr: &Xattr, kind: EntryKind, path: &[u8]) -> Result<bool, UnpackError> {
    let name = &xattr.name[..];
    if name.contains(&0) {
        return Err(UnpackError::refused(path, "an extended attribute's name holds a NUL byte"));
    }
    if name.starts_with(b"trusted.overlay.") || name.starts_with(b"user.overlay.") {
        return Err(UnpackError::refused(path, "it carries an extended attribute of overlayfs"));
    }
    Ok(match name {
        b"security.capability" | b"system.posix_acl_access" | b"system.posix_acl_default" => true,
        // xattr(7): user attributes exist on files and directories only.
        _ if name.starts_with(b"user.") => matches!(kind, EntryKind::File | EntryKind::Directory),
        _ => name.starts_with(b"trusted."),
    })
}

/// A file system without extended attributes loses decoration, but never capabilities or access rules.
fn check_xattr(outcome: Result<(), Errno>, xattr: &Xattr, path: &[u8]) -> Result<(), UnpackError> {
    match outcome {
        Err(Errno::NOTSUP) if xattr.name.starts_with(b"user.") || xattr.name.starts_with(b"trusted.") => {
            tracing::warn!(path = %super::tree::display(path), "the file system keeps no extended attributes");
            Ok(())
        }
        outcome => outcome.map_err(|e| UnpackError::io("set an extended attribute of", path, e)),
    }
}
