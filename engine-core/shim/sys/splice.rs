//! Moving bytes between sockets and pipes within the kernel, see splice(2).

use super::Fd;
use super::arch::nr;
use super::call::sys;
use super::errno::Result;

/// Moves up to `count` bytes. Never waits.
pub(crate) fn splice(from: Fd, to: Fd, count: usize) -> Result<usize> {
    // SPLICE_F_MOVE | SPLICE_F_NONBLOCK
    sys!(nr::SPLICE, from, 0_usize, to, 0_usize, count, 3_usize)
}

/// Tells the other end of a connection that nothing more comes (SHUT_WR).
pub(crate) fn end_writing(fd: Fd) {
    let _ = sys!(nr::SHUTDOWN, fd, 1_usize);
}
