//! A connection that a request has taken over.
//!
//! A client that has sent all its input closes its half, and one that is gone has closed both. Reading tells neither apart; only
//! the kernel does (`POLLHUP`, poll(2)), and only of unix sockets.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf as _, Bytes};
use hyper::upgrade::{Parts, Upgraded};
use hyper_util::rt::TokioIo;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::UnixStream;

use super::sys;
use super::unasked::Unasked;

/// How long a client may take to read the head of the answer before it gets output.
const HEAD: Duration = Duration::from_millis(500);
/// How often it is looked whether a silent client is there still.
const LOOK: Duration = Duration::from_secs(2);

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
pub(super) struct Presence(OwnedFd);

impl Raw {
    pub(super) fn new(upgraded: Upgraded) -> Self {
        match upgraded.downcast::<TokioIo<Unasked<UnixStream>>>() {
            Ok(Parts { io, read_buf, .. }) => {
                let stream = io.into_inner().into_inner();
                let presence = stream.as_fd().try_clone_to_owned().ok().map(Presence);
                Self { connection: Box::new(stream), rest: read_buf, presence }
            }
            Err(upgraded) => {
                Self { connection: Box::new(TokioIo::new(upgraded)), rest: Bytes::new(), presence: None }
            }
        }
    }

    /// Waits until the client has read the head of the answer, for a moment at most.
    ///
    /// docker-py reads it through a buffer, and output past that buffer: what comes with the head, it loses. Docker's daemon takes so
    /// long to start a process that nobody ever noticed.
    pub(super) async fn head_is_read(&mut self) {
        let Some(Presence(socket)) = &self.presence else { return };
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
    /// Returns once the client is gone; never, of one that nothing can be told of.
    pub(super) async fn end(presence: Option<&Self>) {
        let Some(Self(socket)) = presence else { return std::future::pending().await };
        loop {
            tokio::time::sleep(LOOK).await;
            let mut sockets = [PollFd::new(socket, PollFlags::empty())];
            let now = Timespec { tv_sec: 0, tv_nsec: 0 };
            let gone = PollFlags::HUP | PollFlags::ERR;
            if poll(&mut sockets, Some(&now)).is_ok() && sockets[0].revents().intersects(gone) {
                return;
            }
        }
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
