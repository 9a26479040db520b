//! Pseudo-terminals, see ioctl_tty(2).

use super::Fd;
use super::arch::nr;
use super::call::sys;
use super::errno::Result;

pub(crate) fn ioctl(fd: Fd, request: usize, argument: usize) -> Result<usize> {
    sys!(nr::IOCTL, fd, request, argument)
}

/// Sets a terminal's size, in rows and columns.
pub(crate) fn set_window(fd: Fd, rows: u16, columns: u16) -> Result<()> {
    let size = [rows, columns, 0, 0];
    sys!(nr::IOCTL, fd, 0x5414_usize, size.as_ptr()).map(drop)
}

/// Lets the other side of a pseudo-terminal be opened (TIOCSPTLCK 0).
pub(crate) fn unlock_pty(fd: Fd) -> Result<()> {
    let zero = 0_i32;
    sys!(nr::IOCTL, fd, 0x4004_5431_usize, &raw const zero).map(drop)
}
