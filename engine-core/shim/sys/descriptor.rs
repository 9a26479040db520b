//! Open descriptors: reading, writing, locking, duplicating, closing.

use core::ffi::CStr;

use super::arch::nr;
use super::call::{IoVec, new, sys};
use super::errno::{EINTR, EINVAL, EIO, Result};
use super::path::{S_IFCHR, S_IFIFO, S_IFMT, S_IFREG, fstat, openat};
use super::{AT_FDCWD, Fd, O_CLOEXEC, O_NOCTTY, O_NONBLOCK};

pub(crate) fn read(fd: Fd, buffer: &mut [u8]) -> Result<usize> {
    sys!(nr::READ, fd, buffer.as_mut_ptr(), buffer.len())
}

pub(crate) fn write(fd: Fd, bytes: &[u8]) -> Result<usize> {
    sys!(nr::WRITE, fd, bytes.as_ptr(), bytes.len())
}

/// Writes all of `bytes` to something that does not block, such as a file.
pub(crate) fn write_all(fd: Fd, mut bytes: &[u8]) -> Result<()> {
    while !bytes.is_empty() {
        let count = write(fd, bytes)?;
        bytes = bytes.get(count..).ok_or(EIO)?;
    }
    Ok(())
}

/// Writes pieces one behind the other, in one call.
pub(crate) fn writev(fd: Fd, pieces: &[&[u8]]) -> Result<usize> {
    let mut iov = [const { IoVec(core::ptr::null(), 0) }; 24];
    let count = pieces.len().min(iov.len());
    for (iov, piece) in iov.iter_mut().zip(pieces) {
        *iov = IoVec(piece.as_ptr(), piece.len());
    }
    sys!(nr::WRITEV, fd, iov.as_ptr(), count)
}

/// Reads from a place in a file.
pub(crate) fn pread(fd: Fd, buffer: &mut [u8], at: u64) -> Result<usize> {
    sys!(nr::PREAD64, fd, buffer.as_mut_ptr(), buffer.len(), at)
}

pub(crate) fn ftruncate(fd: Fd, length: u64) -> Result<()> {
    sys!(nr::FTRUNCATE, fd, length).map(drop)
}

/// Waits for the lock of an open file and takes it, or gives it back (flock(2)).
pub(crate) fn flock(fd: Fd, lock: bool) -> Result<()> {
    let operation: usize = if lock { 2 } else { 8 };
    loop {
        match sys!(nr::FLOCK, fd, operation) {
            Err(EINTR) => {}
            done => return done.map(drop),
        }
    }
}

pub(crate) fn close(fd: Fd) {
    if fd >= 0 {
        let _ = sys!(nr::CLOSE, fd);
    }
}

pub(crate) fn close_range(first: Fd, flags: u32) -> Result<()> {
    sys!(new::CLOSE_RANGE, first, u32::MAX, flags).map(drop)
}

pub(crate) fn fcntl(fd: Fd, command: usize, value: usize) -> Result<usize> {
    sys!(nr::FCNTL, fd, command, value)
}

pub(crate) fn nonblocking(fd: Fd) -> Result<()> {
    let flags = fcntl(fd, 3, 0)?;
    if flags & O_NONBLOCK == 0 { fcntl(fd, 4, flags | O_NONBLOCK).map(drop) } else { Ok(()) }
}

/// A descriptor for what a client gave us that does not block us, without changing the client's own: `O_NONBLOCK`
/// belongs to the open file, which a shell may share with it (fcntl(2)). Returns `fd` itself where that is no matter.
pub(crate) fn own_nonblocking(fd: Fd) -> Result<Fd> {
    match u32::from(fstat(fd)?.mode) & S_IFMT {
        // Files never block, and another open file would have another offset.
        S_IFREG => Ok(fd),
        S_IFIFO | S_IFCHR => {
            let mut digits = [0; 12];
            let mut path = [0; 32];
            let mut length = 0;
            for piece in [&b"/proc/self/fd/"[..], crate::process::decimal(fd, &mut digits)] {
                path[length..length + piece.len()].copy_from_slice(piece);
                length += piece.len();
            }
            let path = CStr::from_bytes_until_nul(&path).map_err(|_| EINVAL)?;
            let access = fcntl(fd, 3, 0)? & 3;
            match openat(AT_FDCWD, path, access | O_NONBLOCK | O_NOCTTY, 0) {
                Ok(own) => Ok(own),
                Err(_) => nonblocking(fd).map(|()| fd),
            }
        }
        _ => nonblocking(fd).map(|()| fd),
    }
}

pub(crate) fn dup3(from: Fd, to: Fd, flags: usize) -> Result<()> {
    sys!(nr::DUP3, from, to, flags).map(drop)
}

/// Duplicates above the standard streams.
pub(crate) fn dup_high(fd: Fd) -> Result<Fd> {
    fcntl(fd, 1030, 3).map(|fd| fd as Fd)
}

/// A pipe: (read end, write end).
pub(crate) fn pipe() -> Result<(Fd, Fd)> {
    #[cfg(target_arch = "x86_64")]
    const PIPE2: usize = 293;
    #[cfg(target_arch = "aarch64")]
    const PIPE2: usize = 59;
    let mut pair = [0 as Fd; 2];
    sys!(PIPE2, pair.as_mut_ptr(), O_CLOEXEC)?;
    Ok((pair[0], pair[1]))
}
