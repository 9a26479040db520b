//! getsockopt(2) for options of IPv4 that rustix has not.

use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};

use nix::libc;
use rustix::net::{AddressFamily, SocketFlags, SocketType, ipproto};

/// A raw socket of IPv4, see raw(7).
pub(super) fn raw_socket() -> io::Result<OwnedFd> {
    let (family, kind) = (AddressFamily::INET, SocketType::RAW);
    Ok(rustix::net::socket_with(family, kind, SocketFlags::CLOEXEC, Some(ipproto::RAW))?)
}

/// Reads an option of the level SOL_IP, whose question is in `buffer` and is replaced by the answer.
pub(super) fn ip_option(socket: &OwnedFd, option: i32, buffer: &mut [u8]) -> io::Result<()> {
    let mut length = libc::socklen_t::try_from(buffer.len()).map_err(io::Error::other)?;
    // SAFETY: the kernel reads and writes at most `length` bytes, which is how long `buffer` is, and `length` itself; both
    // live until the call has returned, and the borrow keeps `socket` open.
    let done = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_IP,
            option,
            buffer.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
