//! setsockopt(2) for options of netlink sockets that are switched on.

use std::ffi::c_int;
use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd};

use nix::libc;

// linux/netlink.h
pub(super) const NETLINK_CAP_ACK: c_int = 10;
pub(super) const NETLINK_EXT_ACK: c_int = 11;
pub(super) const NETLINK_GET_STRICT_CHK: c_int = 12;

/// Switches an option on, see netlink(7).
pub(super) fn switch_on(socket: BorrowedFd<'_>, option: c_int) -> io::Result<()> {
    const SOL_NETLINK: c_int = 270;
    const SIZE: libc::socklen_t = size_of::<c_int>() as libc::socklen_t;
    let on: c_int = 1;
    // SAFETY: the kernel reads the `SIZE` bytes of `on`, which lives until the call has returned, and the borrow keeps
    // `socket` open.
    let done =
        unsafe { libc::setsockopt(socket.as_raw_fd(), SOL_NETLINK, option, (&raw const on).cast(), SIZE) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
