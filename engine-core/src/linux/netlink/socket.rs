//! A netlink socket that only speaks with the kernel, one datagram at a time.

use std::io;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};

use rustix::net::netlink::{self, SocketAddrNetlink};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, sockopt};

use super::{namespace, sys};

/// More than the kernel puts into one datagram of a dump.
const LARGEST: usize = 64 << 10;
/// Room for the acknowledgements of a batch, which all come before the first is read.
const WAITING: usize = 1 << 20;

/// What a netlink socket speaks.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Protocol {
    /// Interfaces, addresses and routes (rtnetlink(7)).
    Route,
    /// nf_tables and connection tracking.
    Netfilter,
}

/// A blocking netlink socket, connected to the kernel: nobody else's messages arrive. Acknowledgements do not repeat what
/// was asked, and say in words what was wrong.
#[derive(Debug)]
pub struct Socket {
    fd: OwnedFd,
    buffer: Vec<u8>,
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Socket {
    /// Opens a socket in the calling thread's network namespace.
    ///
    /// # Errors
    /// As socket(2) and connect(2).
    pub fn open(protocol: Protocol) -> io::Result<Self> {
        let protocol = match protocol {
            // Number 0, which is also "the default one".
            Protocol::Route => None,
            Protocol::Netfilter => Some(netlink::NETFILTER),
        };
        let fd = rustix::net::socket_with(
            AddressFamily::NETLINK,
            SocketType::RAW,
            SocketFlags::CLOEXEC,
            protocol,
        )?;
        rustix::net::connect(&fd, &SocketAddrNetlink::new(0, 0))?;
        sys::switch_on(fd.as_fd(), sys::NETLINK_EXT_ACK)?;
        sys::switch_on(fd.as_fd(), sys::NETLINK_CAP_ACK)?;
        // The first wants CAP_NET_ADMIN; the second goes as far as net.core.rmem_max allows.
        if sockopt::set_socket_recv_buffer_size_force(&fd, WAITING).is_err() {
            sockopt::set_socket_recv_buffer_size(&fd, WAITING)?;
        }
        Ok(Self { fd, buffer: vec![0; LARGEST] })
    }

    /// Opens a socket in a network namespace.
    ///
    /// # Errors
    /// As [`open`](Self::open) and [`in_namespace`](super::in_namespace).
    pub fn open_in(namespace: BorrowedFd<'_>, protocol: Protocol) -> io::Result<Self> {
        namespace::in_namespace(namespace, || Self::open(protocol))
    }

    /// A socket whose other end a test has.
    #[cfg(test)]
    pub(super) fn over(fd: OwnedFd) -> Self {
        Self { fd, buffer: vec![0; LARGEST] }
    }

    /// Sends one datagram.
    ///
    /// # Errors
    /// As send(2): `EMSGSIZE` if it is too large.
    pub fn send(&self, bytes: &[u8]) -> io::Result<()> {
        rustix::io::retry_on_intr(|| rustix::net::send(&self.fd, bytes, SendFlags::empty()))?;
        Ok(())
    }

    /// Waits for a datagram.
    ///
    /// # Errors
    /// As recv(2): `ENOBUFS` if some were lost.
    pub fn receive(&mut self) -> io::Result<&[u8]> {
        let length = loop {
            match rustix::net::recv(&self.fd, self.buffer.as_mut_slice(), RecvFlags::TRUNC) {
                Err(rustix::io::Errno::INTR) => {}
                received => break received?.1,
            }
        };
        self.buffer.get(..length).ok_or_else(|| {
            let message = format!("a netlink datagram of {length} bytes on {}", self.fd.as_raw_fd());
            io::Error::new(io::ErrorKind::InvalidData, message)
        })
    }
}
