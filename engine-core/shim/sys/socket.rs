//! Sockets: those that the shim listens on and talks over, and the connections of health checks.

use super::arch::nr;
use super::call::{IoVec, sys};
use super::errno::{EINVAL, ENAMETOOLONG, Errno, Result};
use super::{Fd, O_CLOEXEC, O_NONBLOCK, close};

/// A pair of connected sockets that keep message boundaries.
pub(crate) fn socketpair() -> Result<(Fd, Fd)> {
    let mut pair = [0 as Fd; 2];
    sys!(nr::SOCKETPAIR, 1_usize, 5_usize | O_CLOEXEC, 0_usize, pair.as_mut_ptr())?;
    Ok((pair[0], pair[1]))
}

/// Sets how many bytes may wait in a socket (SO_SNDBUFFORCE).
pub(crate) fn set_send_buffer(fd: Fd, bytes: u64) -> Result<()> {
    let bytes = bytes as i32;
    sys!(nr::SETSOCKOPT, fd, 1_usize, 32_usize, &raw const bytes, 4_usize).map(drop)
}

/// Binds and listens on a path socket.
pub(crate) fn listen(path: &[u8]) -> Result<Fd> {
    let fd = sys!(nr::SOCKET, 1_usize, 5_usize | O_CLOEXEC | O_NONBLOCK, 0_usize)? as Fd;
    let mut address = [0_u8; 110];
    address[0] = 1;
    address.get_mut(2..2 + path.len()).ok_or(ENAMETOOLONG)?.copy_from_slice(path);
    sys!(nr::BIND, fd, address.as_ptr(), 3 + path.len())?;
    sys!(nr::LISTEN, fd, 64_usize)?;
    Ok(fd)
}

pub(crate) fn accept(fd: Fd) -> Result<Fd> {
    sys!(nr::ACCEPT4, fd, 0_usize, 0_usize, O_CLOEXEC | O_NONBLOCK).map(|fd| fd as Fd)
}

/// Brings the loopback interface of this network namespace up (netdevice(7)).
pub(crate) fn loopback_up() -> Result<()> {
    let socket = sys!(nr::SOCKET, 2_usize, 2_usize | O_CLOEXEC, 0_usize)? as Fd;
    // struct ifreq: a name of 16 bytes, then its flags. IFF_UP is 1.
    let mut request = [0_u8; 40];
    request[..2].copy_from_slice(b"lo");
    request[16..18].copy_from_slice(&1_u16.to_ne_bytes());
    // SIOCSIFFLAGS
    let done = sys!(nr::IOCTL, socket, 0x8914_usize, request.as_ptr());
    close(socket);
    done.map(drop)
}

/// A stream socket for `address` (struct sockaddr), of the network namespace that this process is in now.
pub(crate) fn stream_socket(address: &[u8]) -> Result<Fd> {
    let family = match *address {
        [low, high, ..] => u16::from_ne_bytes([low, high]),
        _ => return Err(EINVAL),
    };
    sys!(nr::SOCKET, usize::from(family), 1_usize | O_CLOEXEC | O_NONBLOCK, 0_usize).map(|fd| fd as Fd)
}

/// Begins to connect to `address` (struct sockaddr).
pub(crate) fn connect(fd: Fd, address: &[u8]) -> Result<()> {
    sys!(nr::CONNECT, fd, address.as_ptr(), address.len()).map(drop)
}

/// How an attempt to connect ended (SO_ERROR).
pub(crate) fn socket_error(fd: Fd) -> Result<()> {
    let mut errno = 0_i32;
    let mut length = 4_u32;
    sys!(nr::GETSOCKOPT, fd, 1_usize, 4_usize, &raw mut errno, &raw mut length)?;
    if errno == 0 { Ok(()) } else { Err(Errno(errno)) }
}

/// The user id of the process at the other end (SO_PEERCRED).
pub(crate) fn peer_uid(fd: Fd) -> Result<u32> {
    let mut credentials = [0_u32; 3];
    let mut length = 12_u32;
    sys!(nr::GETSOCKOPT, fd, 1_usize, 17_usize, credentials.as_mut_ptr(), &raw mut length)?;
    Ok(credentials[1])
}

/// Struct msghdr, see recvmsg(2).
#[repr(C)]
pub(super) struct MsgHdr {
    pub(super) name: usize,
    pub(super) name_length: usize,
    pub(super) iov: *const IoVec,
    pub(super) iov_count: usize,
    pub(super) control: *mut u64,
    pub(super) control_length: usize,
    pub(super) flags: usize,
}

/// Sends one message, with a descriptor beside it unless `fd` is negative. Never blocks.
pub(crate) fn send(socket: Fd, bytes: &[u8], fd: Fd) -> Result<()> {
    let iov = IoVec(bytes.as_ptr(), bytes.len());
    // struct cmsghdr: length 20, SOL_SOCKET, SCM_RIGHTS, then the descriptor.
    let mut control = [20_u64, 1 | (1 << 32), u64::from(fd as u32)];
    let control_length = if fd >= 0 { 24 } else { 0 };
    let header = MsgHdr {
        name: 0,
        name_length: 0,
        iov: &raw const iov,
        iov_count: 1,
        control: control.as_mut_ptr(),
        control_length,
        flags: 0,
    };
    // MSG_NOSIGNAL | MSG_DONTWAIT
    sys!(nr::SENDMSG, socket, &raw const header, 0x4040_usize).map(drop)
}

/// Receives one message; its descriptors land in `fds`, -1 where there is none.
pub(crate) fn receive(socket: Fd, bytes: &mut [u8], fds: &mut [Fd; 4]) -> Result<usize> {
    *fds = [-1; 4];
    receive_rights(socket, bytes, fds, &mut [0; 4], 0)
}

/// Most descriptors beside one message (SCM_MAX_FD of unix(7)).
pub(crate) const MAX_RIGHTS: usize = 253;

/// Reads the next message, which stays in the queue after [`peek_on`]; its descriptors land in `fds`, -1 where there is none.
/// Never waits.
pub(crate) fn peek(socket: Fd, bytes: &mut [u8], fds: &mut [Fd; MAX_RIGHTS]) -> Result<usize> {
    *fds = [-1; MAX_RIGHTS];
    // MSG_PEEK | MSG_DONTWAIT
    receive_rights(socket, bytes, fds, &mut [0; 2 + MAX_RIGHTS.div_ceil(2)], 0x42)
}

/// From the first message on, each is read once without being taken (SO_PEEK_OFF).
pub(crate) fn peek_on(socket: Fd) -> Result<()> {
    set_option(socket, 1, 42, &[0])
}

/// Sets an option that is made of numbers.
pub(super) fn set_option(socket: Fd, level: usize, option: usize, value: &[i32]) -> Result<()> {
    sys!(nr::SETSOCKOPT, socket, level, option, value.as_ptr(), size_of_val(value)).map(drop)
}

/// The kind of a socket (SO_TYPE).
pub(crate) fn socket_kind(socket: Fd) -> Result<i32> {
    let mut kind = 0_i32;
    let mut length = 4_u32;
    sys!(nr::GETSOCKOPT, socket, 1_usize, 3_usize, &raw mut kind, &raw mut length)?;
    Ok(kind)
}

/// Lets a connection carry each piece at once, and find out in the end when the other side is gone (tcp(7)).
pub(crate) fn set_interactive(socket: Fd) {
    // TCP_NODELAY, SO_KEEPALIVE
    let _ = set_option(socket, 6, 1, &[1]);
    let _ = set_option(socket, 1, 9, &[1]);
}

/// Closes a connection so that the other end learns of a failure, and not of an end (SO_LINGER).
pub(crate) fn reset(socket: Fd) {
    let _ = set_option(socket, 1, 13, &[1, 0]);
    close(socket);
}

fn receive_rights(
    socket: Fd,
    bytes: &mut [u8],
    fds: &mut [Fd],
    control: &mut [u64],
    flags: usize,
) -> Result<usize> {
    let iov = IoVec(bytes.as_mut_ptr(), bytes.len());
    let mut header = MsgHdr {
        name: 0,
        name_length: 0,
        iov: &raw const iov,
        iov_count: 1,
        control: control.as_mut_ptr(),
        control_length: size_of_val(control),
        flags: 0,
    };
    // MSG_CMSG_CLOEXEC
    let count = sys!(nr::RECVMSG, socket, &raw mut header, 0x4000_0000 | flags)?;
    if header.control_length >= 20 && control[1] == (1 | (1 << 32)) {
        let given = (control[0] as usize).saturating_sub(16) / 4;
        for (at, fd) in fds.iter_mut().enumerate().take(given) {
            *fd = (control[2 + at / 2] >> (32 * (at % 2))) as u32 as Fd;
        }
    }
    Ok(count)
}
