//! Sockets of the resolver and of relays: datagrams and connections by IP, see ip(7), udp(7), tcp(7).

use core::net::SocketAddr;

use super::arch::nr;
use super::call::{IoVec, sys};
use super::errno::Result;
use super::socket::{MsgHdr, set_option};
use super::{Fd, O_CLOEXEC, O_NONBLOCK, close};

/// A socket address in the kernel's form: struct sockaddr_in or sockaddr_in6, in its first bytes.
#[derive(Clone, Copy)]
pub(crate) struct Address {
    bytes: [u8; 28],
    length: usize,
}

const AF_INET: u16 = 2;
const AF_INET6: u16 = 10;

impl From<SocketAddr> for Address {
    fn from(address: SocketAddr) -> Self {
        let mut bytes = [0; 28];
        bytes[2..4].copy_from_slice(&address.port().to_be_bytes());
        let (family, length) = match address {
            SocketAddr::V4(address) => {
                bytes[4..8].copy_from_slice(&address.ip().octets());
                (AF_INET, 16)
            }
            SocketAddr::V6(address) => {
                bytes[8..24].copy_from_slice(&address.ip().octets());
                bytes[24..].copy_from_slice(&address.scope_id().to_ne_bytes());
                (AF_INET6, 28)
            }
        };
        bytes[..2].copy_from_slice(&family.to_ne_bytes());
        Address { bytes, length }
    }
}

impl PartialEq for Address {
    fn eq(&self, other: &Self) -> bool {
        self.bytes[..self.length] == other.bytes[..other.length]
    }
}

impl Address {
    fn family(&self) -> usize {
        usize::from(u16::from_ne_bytes([self.bytes[0], self.bytes[1]]))
    }
}

/// What kind of socket.
#[derive(Clone, Copy)]
pub(crate) enum Kind {
    Stream = 1,
    Datagram = 2,
}

fn socket(address: &Address, kind: Kind) -> Result<Fd> {
    sys!(nr::SOCKET, address.family(), kind as usize | O_CLOEXEC | O_NONBLOCK, 0_usize).map(|fd| fd as Fd)
}

/// A socket bound to `address` in the network namespace that this process is in now; one for connections listens.
pub(crate) fn bound_socket(address: &Address, kind: Kind) -> Result<Fd> {
    let fd = socket(address, kind)?;
    let done = sys!(nr::BIND, fd, address.bytes.as_ptr(), address.length).and_then(|_| match kind {
        Kind::Stream => sys!(nr::LISTEN, fd, 128_usize),
        Kind::Datagram => Ok(0),
    });
    done.map(|_| fd).inspect_err(|_| close(fd))
}

/// A socket that talks to `address` alone; a connection may still be under way.
pub(crate) fn connected_socket(address: &Address, kind: Kind) -> Result<Fd> {
    let fd = socket(address, kind)?;
    match sys!(nr::CONNECT, fd, address.bytes.as_ptr(), address.length) {
        Ok(_) | Err(super::errno::EINPROGRESS) => Ok(fd),
        Err(errno) => {
            close(fd);
            Err(errno)
        }
    }
}

/// Receives a datagram: how many bytes of it there are in `bytes`, and who sent it.
pub(crate) fn receive_from(fd: Fd, bytes: &mut [u8]) -> Result<(usize, Address)> {
    let mut from = Address { bytes: [0; 28], length: 0 };
    let mut length = 28_u32;
    let (buffer, room) = (bytes.as_mut_ptr(), bytes.len());
    let count = sys!(nr::RECVFROM, fd, buffer, room, 0_usize, from.bytes.as_mut_ptr(), &raw mut length)?;
    from.length = (length as usize).min(28);
    Ok((count, from))
}

/// Sends a datagram. Never waits.
pub(crate) fn send_to(fd: Fd, bytes: &[u8], to: &Address) -> Result<()> {
    // MSG_DONTWAIT | MSG_NOSIGNAL
    sys!(nr::SENDTO, fd, bytes.as_ptr(), bytes.len(), 0x4040_usize, to.bytes.as_ptr(), to.length).map(drop)
}

/// Which of this host's addresses a datagram came to, and its answer comes from: a control message with struct in_pktinfo or
/// in6_pktinfo.
#[derive(Clone, Copy)]
pub(crate) struct Local {
    message: [u64; 5],
}

impl Local {
    const V4: u64 = 8 << 32;
    const V6: u64 = 41 | 50 << 32;

    /// Leaves the way of the answer to the kernel, where only one leads to the address.
    fn of_any_interface(mut self) -> Self {
        match self.message[1] {
            Self::V4 => self.message[2] &= !0xffff_ffff,
            Self::V6 if self.message[2].to_ne_bytes()[..2] != [0xfe, 0x80] => {
                self.message[4] &= !0xffff_ffff;
            }
            _ => {}
        }
        self
    }
}

/// Has it told at which address datagrams arrive.
pub(crate) fn tell_local(fd: Fd) {
    // IP_PKTINFO, IPV6_RECVPKTINFO: one of them is not of this socket's family.
    let _ = set_option(fd, 0, 8, &[1]);
    let _ = set_option(fd, 41, 49, &[1]);
}

/// Receives a datagram as [`receive_from`], with where it arrived.
pub(crate) fn receive_at(fd: Fd, bytes: &mut [u8]) -> Result<(usize, Address, Local)> {
    let mut from = Address { bytes: [0; 28], length: 0 };
    let mut local = Local { message: [0; 5] };
    let iov = IoVec(bytes.as_mut_ptr(), bytes.len());
    let mut header = MsgHdr {
        name: from.bytes.as_mut_ptr() as usize,
        name_length: 28,
        iov: &raw const iov,
        iov_count: 1,
        control: local.message.as_mut_ptr(),
        control_length: size_of_val(&local.message),
        flags: 0,
    };
    let count = sys!(nr::RECVMSG, fd, &raw mut header, 0_usize)?;
    from.length = (header.name_length as u32 as usize).min(28);
    Ok((count, from, local.of_any_interface()))
}

/// Sends a datagram as [`send_to`], from one of this host's addresses.
pub(crate) fn send_at(fd: Fd, bytes: &[u8], to: &Address, local: &Local) -> Result<()> {
    let mut message = local.message;
    let control_length = match message[1] {
        Local::V4 => 32,
        Local::V6 => 40,
        _ => 0,
    };
    let iov = IoVec(bytes.as_ptr(), bytes.len());
    let header = MsgHdr {
        name: to.bytes.as_ptr() as usize,
        name_length: to.length,
        iov: &raw const iov,
        iov_count: 1,
        control: message.as_mut_ptr(),
        control_length,
        flags: 0,
    };
    // MSG_DONTWAIT | MSG_NOSIGNAL
    sys!(nr::SENDMSG, fd, &raw const header, 0x4040_usize).map(drop)
}
