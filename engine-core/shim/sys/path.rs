//! Names: opening, making, changing and removing what a path leads to, and what it is.

use core::ffi::CStr;

use super::Fd;
use super::arch::nr;
use super::call::{new, sys};
use super::errno::{EAGAIN, Result};

pub(crate) const AT_FDCWD: Fd = -100;
pub(crate) const AT_EMPTY_PATH: usize = 0x1000;
pub(crate) const AT_SYMLINK_NOFOLLOW: usize = 0x100;
pub(crate) const AT_REMOVEDIR: usize = 0x200;
pub(crate) const AT_RECURSIVE: usize = 0x8000;

pub(crate) const O_RDONLY: usize = 0;
pub(crate) const O_WRONLY: usize = 1;
pub(crate) const O_RDWR: usize = 2;
pub(crate) const O_CREAT: usize = 0o100;
pub(crate) const O_EXCL: usize = 0o200;
pub(crate) const O_NOCTTY: usize = 0o400;
pub(crate) const O_TRUNC: usize = 0o1000;
pub(crate) const O_APPEND: usize = 0o2000;
pub(crate) const O_NONBLOCK: usize = 0o4000;
#[cfg(target_arch = "x86_64")]
pub(crate) const O_DIRECTORY: usize = 0o200_000;
#[cfg(target_arch = "x86_64")]
pub(crate) const O_NOFOLLOW: usize = 0o400_000;
#[cfg(target_arch = "aarch64")]
pub(crate) const O_DIRECTORY: usize = 0o40_000;
#[cfg(target_arch = "aarch64")]
pub(crate) const O_NOFOLLOW: usize = 0o100_000;
pub(crate) const O_CLOEXEC: usize = 0o2_000_000;
pub(crate) const O_PATH: usize = 0o10_000_000;

pub(crate) const RESOLVE_NO_XDEV: u64 = 1;
pub(crate) const RESOLVE_NO_MAGICLINKS: u64 = 2;
pub(crate) const RESOLVE_NO_SYMLINKS: u64 = 4;
pub(crate) const RESOLVE_BENEATH: u64 = 8;
pub(crate) const RESOLVE_IN_ROOT: u64 = 16;

pub(crate) const S_IFMT: u32 = 0o170_000;
pub(crate) const S_IFREG: u32 = 0o100_000;
pub(crate) const S_IFDIR: u32 = 0o040_000;
pub(crate) const S_IFLNK: u32 = 0o120_000;
pub(crate) const S_IFCHR: u32 = 0o020_000;
pub(crate) const S_IFIFO: u32 = 0o010_000;

pub(crate) fn openat(at: Fd, path: &CStr, flags: usize, mode: u32) -> Result<Fd> {
    sys!(nr::OPENAT, at, path, flags | O_CLOEXEC, mode).map(|fd| fd as Fd)
}

/// Opens `path` under `resolve` rules; retries what a concurrent rename disturbed (openat2(2), EAGAIN).
pub(crate) fn openat2(at: Fd, path: &CStr, flags: usize, resolve: u64) -> Result<Fd> {
    let how: [u64; 3] = [(flags | O_CLOEXEC) as u64, 0, resolve];
    let mut tries = 0;
    loop {
        match sys!(new::OPENAT2, at, path, how.as_ptr(), size_of_val(&how)) {
            Err(EAGAIN) if tries < 64 => tries += 1,
            result => return result.map(|fd| fd as Fd),
        }
    }
}

pub(crate) fn mkdirat(at: Fd, path: &CStr, mode: u32) -> Result<()> {
    sys!(nr::MKDIRAT, at, path, mode).map(drop)
}

pub(crate) fn mknodat(at: Fd, path: &CStr, mode: u32, device: u64) -> Result<()> {
    sys!(nr::MKNODAT, at, path, mode, device).map(drop)
}

pub(crate) fn symlinkat(target: &CStr, at: Fd, path: &CStr) -> Result<()> {
    sys!(nr::SYMLINKAT, target, at, path).map(drop)
}

pub(crate) fn fchownat(at: Fd, path: &CStr, uid: u32, gid: u32) -> Result<()> {
    sys!(nr::FCHOWNAT, at, path, uid, gid, AT_SYMLINK_NOFOLLOW).map(drop)
}

pub(crate) fn fchown(fd: Fd, uid: u32, gid: u32) -> Result<()> {
    sys!(nr::FCHOWN, fd, uid, gid).map(drop)
}

/// Changes the mode of a node that is not a link.
pub(crate) fn fchmodat(at: Fd, path: &CStr, mode: u32) -> Result<()> {
    sys!(nr::FCHMODAT, at, path, mode).map(drop)
}

pub(crate) fn unlinkat(at: Fd, path: &CStr, flags: usize) -> Result<()> {
    sys!(nr::UNLINKAT, at, path, flags).map(drop)
}

pub(crate) fn renameat(at: Fd, from: &CStr, to: &CStr) -> Result<()> {
    sys!(nr::RENAMEAT, at, from, at, to).map(drop)
}

pub(crate) fn readlinkat(at: Fd, path: &CStr, buffer: &mut [u8]) -> Result<usize> {
    sys!(nr::READLINKAT, at, path, buffer.as_mut_ptr(), buffer.len())
}

/// Reads a part of a directory's listing, in the form of getdents64(2).
pub(crate) fn getdents(fd: Fd, buffer: &mut [u8]) -> Result<usize> {
    sys!(nr::GETDENTS64, fd, buffer.as_mut_ptr(), buffer.len())
}

/// The part of struct statx (statx(2)) that the shim uses; the same on every architecture.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Stat {
    head: [u32; 5],
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) mode: u16,
    pad: u16,
    pub(crate) ino: u64,
    pub(crate) size: u64,
    rest: [u64; 10],
    pub(crate) rdev: (u32, u32),
    tail: [u64; 15],
}

/// Stats an open descriptor.
pub(crate) fn fstat(fd: Fd) -> Result<Stat> {
    // SAFETY: all-zero bytes are a Stat.
    let mut stat: Stat = unsafe { core::mem::zeroed() };
    let basic: usize = 0x7ff;
    sys!(nr::STATX, fd, c"", AT_EMPTY_PATH, basic, &raw mut stat)?;
    Ok(stat)
}

/// The filesystem's magic number.
pub(crate) fn fstatfs(fd: Fd) -> Result<u64> {
    let mut statfs = [0_u64; 16];
    sys!(nr::FSTATFS, fd, statfs.as_mut_ptr())?;
    Ok(statfs[0])
}

pub(crate) fn chdir(path: &CStr) -> Result<()> {
    sys!(nr::CHDIR, path).map(drop)
}

pub(crate) fn fchdir(fd: Fd) -> Result<()> {
    sys!(nr::FCHDIR, fd).map(drop)
}

pub(crate) fn getcwd(buffer: &mut [u8]) -> Result<usize> {
    sys!(nr::GETCWD, buffer.as_mut_ptr(), buffer.len())
}

pub(crate) fn umask(mask: u32) {
    let _ = sys!(nr::UMASK, mask);
}
