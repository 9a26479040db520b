//! Whether the client of a request is there still.
//!
//! hyper does not read while a request is answered, so it does not see a client go. The kernel tells (`EPOLLRDHUP`, epoll_ctl(2)): our clients
//! close no half of a connection, so one that has closed its own is gone.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net;
use std::sync::Arc;

use tokio::io::{Interest, Ready};
use tokio::net::{TcpStream, UnixStream};

/// The socket of a connection, which each of its requests has among its extensions.
#[derive(Clone, Debug)]
pub(in crate::server) enum ClientSocket {
    Unix(Arc<OwnedFd>),
    Tcp(Arc<OwnedFd>),
}

/// The client of one request, of whose socket nothing is read here.
#[derive(Debug)]
pub(super) enum Client {
    Unix(UnixStream),
    Tcp(TcpStream),
    Unknown,
}

impl ClientSocket {
    /// The socket of a connection that is read elsewhere; none if there are no descriptors left.
    pub(in crate::server) fn of_unix(stream: &UnixStream) -> Option<Self> {
        stream.as_fd().try_clone_to_owned().ok().map(|socket| Self::Unix(Arc::new(socket)))
    }

    /// As [`of_unix`](Self::of_unix), of TCP.
    pub(in crate::server) fn of_tcp(stream: &TcpStream) -> Option<Self> {
        stream.as_fd().try_clone_to_owned().ok().map(|socket| Self::Tcp(Arc::new(socket)))
    }
}

impl Client {
    /// Of a connection that nothing is known of, the client stays for ever.
    pub(super) fn of(socket: Option<&ClientSocket>) -> Self {
        let watched = match socket {
            None => return Self::Unknown,
            Some(ClientSocket::Unix(socket)) => socket
                .try_clone()
                .and_then(|socket| UnixStream::from_std(net::UnixStream::from(socket)))
                .map(Self::Unix),
            Some(ClientSocket::Tcp(socket)) => socket
                .try_clone()
                .and_then(|socket| TcpStream::from_std(std::net::TcpStream::from(socket)))
                .map(Self::Tcp),
        };
        watched.unwrap_or_else(|error| {
            tracing::debug!(%error, "client not watched");
            Self::Unknown
        })
    }

    /// Whether nothing is known of its connection.
    pub(super) fn is_unknown(&self) -> bool {
        matches!(self, Self::Unknown)
    }

    /// Returns once the client is gone.
    pub(super) async fn gone(&self) {
        loop {
            match self.ready().await {
                Ok(ready) if ready.is_read_closed() || ready.is_error() => return,
                // It has sent something, which is not for us to read. The end is told anew.
                Ok(_) => self.forget_ready(),
                Err(_) => return std::future::pending().await,
            }
        }
    }

    async fn ready(&self) -> io::Result<Ready> {
        match self {
            Self::Unix(socket) => socket.ready(Interest::READABLE).await,
            Self::Tcp(socket) => socket.ready(Interest::READABLE).await,
            Self::Unknown => std::future::pending().await,
        }
    }

    fn forget_ready(&self) {
        let nothing = || -> io::Result<()> { Err(io::ErrorKind::WouldBlock.into()) };
        // It fails on purpose.
        let _ = match self {
            Self::Unix(socket) => socket.try_io(Interest::READABLE, nothing),
            Self::Tcp(socket) => socket.try_io(Interest::READABLE, nothing),
            Self::Unknown => Ok(()),
        };
    }
}
