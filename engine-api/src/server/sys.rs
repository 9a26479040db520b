//! ioctl(2) for what rustix has no name for.

use std::ffi::c_int;
use std::io;
use std::os::fd::OwnedFd;

use rustix::ioctl::{Getter, Opcode, ioctl};

/// The same on x86_64 and aarch64; see SIOCOUTQ in unix(7).
const SIOCOUTQ: Opcode = 0x5411;

/// Returns whether the other side of a unix socket has read all that was written to it.
pub(super) fn has_read_all(socket: &OwnedFd) -> io::Result<bool> {
    // SAFETY: of a unix socket, the kernel writes one int where the argument points, which is what `Getter` has room for.
    let unread = unsafe { ioctl(socket, Getter::<SIOCOUTQ, c_int>::new()) }?;
    Ok(unread == 0)
}
