//! Mounts: making, attaching, changing and detaching them, see fsopen(2), open_tree(2), mount_setattr(2).

use core::ffi::CStr;

use super::arch::nr;
use super::call::{new, sys};
use super::errno::Result;
use super::{AT_EMPTY_PATH, AT_FDCWD, AT_RECURSIVE, Fd, O_CLOEXEC};

pub(crate) fn fsopen(fstype: &CStr) -> Result<Fd> {
    sys!(new::FSOPEN, fstype, 1_usize).map(|fd| fd as Fd)
}

/// Sets an option of a filesystem being configured; an empty value is a flag.
pub(crate) fn fsconfig(fd: Fd, key: &CStr, value: &CStr) -> Result<()> {
    let done = if value.is_empty() {
        sys!(new::FSCONFIG, fd, 0_usize, key, 0_usize, 0_usize)
    } else {
        sys!(new::FSCONFIG, fd, 1_usize, key, value, 0_usize)
    };
    done.map(drop)
}

/// Sets an option of a filesystem being configured to an open file.
pub(crate) fn fsconfig_fd(fd: Fd, key: &CStr, value: Fd) -> Result<()> {
    sys!(new::FSCONFIG, fd, 5_usize, key, 0_usize, value).map(drop)
}

pub(crate) fn fscreate(fd: Fd) -> Result<()> {
    sys!(new::FSCONFIG, fd, 6_usize, 0_usize, 0_usize, 0_usize).map(drop)
}

pub(crate) fn fsmount(fd: Fd, attributes: u64) -> Result<Fd> {
    sys!(new::FSMOUNT, fd, 1_usize, attributes).map(|fd| fd as Fd)
}

pub(crate) fn open_tree(at: Fd, path: &CStr, flags: usize) -> Result<Fd> {
    // OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC
    sys!(new::OPEN_TREE, at, path, flags | 1 | O_CLOEXEC).map(|fd| fd as Fd)
}

/// Attaches the mount `from` onto the open path `to`.
pub(crate) fn move_mount(from: Fd, to: Fd) -> Result<()> {
    // MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH
    sys!(new::MOVE_MOUNT, from, c"", to, c"", 0x44_usize).map(drop)
}

/// Attaches the mount `from` onto the process's own root.
pub(crate) fn move_mount_root(from: Fd) -> Result<()> {
    sys!(new::MOVE_MOUNT, from, c"", AT_FDCWD, c"/", 4_usize).map(drop)
}

/// Changes a mount's attributes and propagation; `userns` is the namespace of an id-mapped mount.
pub(crate) fn mount_setattr(fd: Fd, recursive: bool, set: u64, propagation: u64, userns: Fd) -> Result<()> {
    let clear = if set & 0x70 == 0 { 0 } else { 0x70 };
    let attributes: [u64; 4] = [set, clear, propagation, userns.max(0) as u64];
    let flags = AT_EMPTY_PATH | if recursive { AT_RECURSIVE } else { 0 };
    sys!(new::MOUNT_SETATTR, fd, c"", flags, attributes.as_ptr(), size_of_val(&attributes)).map(drop)
}

/// Takes attributes away from a mount.
pub(crate) fn mount_clear(fd: Fd, clear: u64) -> Result<()> {
    let attributes: [u64; 4] = [0, clear, 0, 0];
    sys!(new::MOUNT_SETATTR, fd, c"", AT_EMPTY_PATH, attributes.as_ptr(), size_of_val(&attributes)).map(drop)
}

/// Changes the propagation of every mount of this namespace.
pub(crate) fn propagate_root(flags: usize) -> Result<()> {
    sys!(nr::MOUNT, 0_usize, c"/", 0_usize, flags, 0_usize).map(drop)
}

pub(crate) fn pivot_root_here() -> Result<()> {
    sys!(nr::PIVOT_ROOT, c".", c".").map(drop)
}

pub(crate) fn detach(path: &CStr) -> Result<()> {
    sys!(nr::UMOUNT2, path, 2_usize).map(drop)
}
