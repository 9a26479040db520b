//! A connection to a shim: one request after the other, descriptors beside them.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType,
};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::wire::{MAX_FDS, REPLY, Reply, Request};

/// A connection to a shim.
#[derive(Debug)]
pub(crate) struct Connection {
    socket: AsyncFd<OwnedFd>,
}

/// Sends one request.
pub(super) fn send(socket: BorrowedFd<'_>, request: &Request, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(io::Error::from(io::ErrorKind::InvalidInput));
    }
    let bytes = request.encode();
    rustix::net::sendmsg(socket, &[IoSlice::new(&bytes)], &mut ancillary, SendFlags::NOSIGNAL)?;
    Ok(())
}

impl Connection {
    /// Uses a connected socket.
    #[allow(
        deprecated,
        reason = "an owned descriptor stays open as long as its AsyncFd, and `register` is unsafe"
    )]
    pub(crate) fn new(socket: OwnedFd) -> io::Result<Self> {
        rustix::io::ioctl_fionbio(&socket, true)?;
        Ok(Self { socket: AsyncFd::with_interest(socket, Interest::READABLE | Interest::WRITABLE)? })
    }

    /// Connects to the shim that serves in `run_dir`. By descriptor, because socket paths are short (unix(7)).
    ///
    /// # Errors
    /// `ENOENT` or `ECONNREFUSED` if there is none (any more).
    pub(crate) fn open(run_dir: BorrowedFd<'_>) -> io::Result<Self> {
        let socket = rustix::net::socket_with(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
            None,
        )?;
        let path = format!("/proc/self/fd/{}/shim.sock", run_dir.as_raw_fd());
        rustix::net::connect(&socket, &SocketAddrUnix::new(path)?)?;
        Self::new(socket)
    }

    /// Sends a request.
    pub(crate) async fn send(&self, request: &Request, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        self.socket.async_io(Interest::WRITABLE, |socket| send(socket.as_fd(), request, fds)).await
    }

    /// Waits for an answer; `None` when the shim is gone.
    pub(crate) async fn receive(&self) -> io::Result<Option<(Reply, Option<OwnedFd>)>> {
        match self.socket.async_io(Interest::READABLE, |socket| receive(socket.as_fd())).await {
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Ok(None),
            received => received,
        }
    }

    /// Sends a request and waits for its answer; `None` when the shim is gone.
    pub(crate) async fn call(&self, request: &Request, fds: &[BorrowedFd<'_>]) -> io::Result<Option<Reply>> {
        match self.send(request, fds).await {
            Err(error) if is_gone(&error) => return Ok(None),
            sent => sent?,
        }
        Ok(self.receive().await?.map(|(reply, _)| reply))
    }
}

/// Whether an error means that no shim is at the other end.
pub(crate) fn is_gone(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionRefused, ConnectionReset, NotConnected, NotFound};
    matches!(error.kind(), BrokenPipe | ConnectionRefused | ConnectionReset | NotConnected | NotFound)
}

fn receive(socket: BorrowedFd<'_>) -> io::Result<Option<(Reply, Option<OwnedFd>)>> {
    let mut bytes = [0; REPLY];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let message = rustix::net::recvmsg(
        socket,
        &mut [IoSliceMut::new(&mut bytes)],
        &mut ancillary,
        RecvFlags::CMSG_CLOEXEC,
    )?;
    if message.bytes == 0 {
        return Ok(None);
    }
    let fd = ancillary.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
        _ => None,
    });
    match Reply::decode(&bytes[..message.bytes]) {
        Some(reply) => Ok(Some((reply, fd))),
        None => Err(io::Error::from(io::ErrorKind::InvalidData)),
    }
}
