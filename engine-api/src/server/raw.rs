//! A connection that a request has taken over.
//!
//! A client that has sent all its input closes its half, and one that is gone has closed both. Reading tells neither apart; only
//! the kernel does (`POLLHUP`, poll(2)): of a unix socket at once, of TCP when the other host says so or is silent for too long.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf as _, Bytes};
use hyper::upgrade::{Parts, Upgraded};
use hyper_util::rt::TokioIo;
use rustix::event::PollFlags;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::server::TlsStream;

use super::gone::hung_up;
use super::sys;
use super::unasked::Unasked;

/// How long a client may take to read the head of the answer before it gets output.
const HEAD: Duration = Duration::from_millis(500);

trait Connection: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Connection for T {}

/// The other side of a connection that was taken over.
pub(super) struct Raw {
    connection: Box<dyn Connection>,
    /// What was read with the request.
    rest: Bytes,
    presence: Option<Presence>,
}

/// Tells when a client is gone, whether or not it reads or writes.
#[derive(Debug)]
pub(super) struct Presence {
    socket: OwnedFd,
    is_unix: bool,
}

impl Raw {
    pub(super) fn new(upgraded: Upgraded) -> Self {
        // What looks for requests goes: from here on, there are none.
        let upgraded = match upgraded.downcast::<TokioIo<Unasked<UnixStream>>>() {
            Ok(parts) => {
                let presence = |stream: &UnixStream| Presence::of(stream, true);
                return Self::bare(parts, presence);
            }
            Err(upgraded) => upgraded,
        };
        match upgraded.downcast::<TokioIo<Unasked<TlsStream<TcpStream>>>>() {
            Ok(parts) => Self::bare(parts, |stream| Presence::of(stream.get_ref().0, false)),
            // Of a server that has its own connections.
            Err(upgraded) => {
                Self { connection: Box::new(TokioIo::new(upgraded)), rest: Bytes::new(), presence: None }
            }
        }
    }

    fn bare<S: Connection + 'static>(
        Parts { io, read_buf, .. }: Parts<TokioIo<Unasked<S>>>,
        presence: impl FnOnce(&S) -> Option<Presence>,
    ) -> Self {
        let (stream, unread) = io.into_inner().into_parts();
        let presence = presence(&stream);
        let rest = if unread.is_empty() { read_buf } else { [&read_buf[..], &unread].concat().into() };
        Self { connection: Box::new(stream), rest, presence }
    }

    /// Waits until the client has read the head of the answer, for a moment at most.
    ///
    /// docker-py reads it through a buffer, and output past that buffer: what comes with the head, it loses. Docker's daemon takes so
    /// long to start a process that nobody ever noticed.
    pub(super) async fn head_is_read(&mut self) {
        let Some(Presence { socket, is_unix: true }) = &self.presence else { return };
        let look = async {
            for round in 0_u32.. {
                if sys::has_read_all(socket).unwrap_or(true) {
                    break;
                }
                // Most clients take less than the shortest sleep.
                if round < 100 {
                    tokio::task::yield_now().await;
                } else {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            }
        };
        // One that never reads it has no output to lose.
        let _ = tokio::time::timeout(HEAD, look).await;
    }

    /// Returns once the client is gone.
    pub(super) async fn gone(&mut self) {
        Presence::end(self.presence.as_ref()).await;
    }

    pub(super) fn take_presence(&mut self) -> Option<Presence> {
        self.presence.take()
    }
}

impl Presence {
    /// None if there are no descriptors left.
    fn of(stream: &impl AsFd, is_unix: bool) -> Option<Self> {
        stream.as_fd().try_clone_to_owned().ok().map(|socket| Self { socket, is_unix })
    }

    /// Returns once the client is gone; never, of one that nothing can be told of.
    pub(super) async fn end(presence: Option<&Self>) {
        let Some(Self { socket, .. }) = presence else { return std::future::pending().await };
        hung_up(socket, PollFlags::HUP).await;
    }
}

impl AsyncRead for Raw {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.rest.is_empty() {
            let count = self.rest.len().min(into.remaining());
            into.put_slice(&self.rest[..count]);
            self.rest.advance(count);
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.connection).poll_read(cx, into)
    }
}

impl AsyncWrite for Raw {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.connection).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.connection).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.connection).poll_shutdown(cx)
    }
}
