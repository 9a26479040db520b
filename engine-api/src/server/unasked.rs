//! Connections that are taken over without an `Upgrade` header.
//!
//! Docker's API takes a connection over for `attach` and `exec` whether or not the client asked for an upgrade: one that did not
//! gets `200 OK` and then raw bytes in both directions. HTTP has no such thing, and hyper neither. So, on its way to hyper, such a
//! request gets the header that it lacks, with a value that no client sends; and on the way back, the status of an
//! upgrade becomes 200.
//! Invariant: requests and answers are otherwise passed on byte for byte.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The value of the header that is put in.
pub(super) const UNASKED: &str = "engine-unasked";

const PUT_IN: &[u8] = b"Connection: Upgrade\r\nUpgrade: engine-unasked\r\n";
/// hyper's status line of an upgrade, and Docker's without one.
const SWITCHING: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\n";
const TAKEN_OVER: &[u8] = b"HTTP/1.1 200 OK\r\n";

const HEAD: usize = 8 << 10;

pub(super) struct Unasked<S> {
    stream: S,
    /// What was read and put in, and how much of it was passed on.
    read: Vec<u8>,
    passed: usize,
    /// Whether the next answer is to a request that a header was put in.
    rewrite: bool,
    /// What is left to write of the status line that replaces hyper's.
    status: &'static [u8],
}

impl<S> Unasked<S> {
    pub(super) fn new(stream: S) -> Self {
        Self { stream, read: Vec::new(), passed: 0, rewrite: false, status: &[] }
    }

    /// Returns the connection, of which nothing is left here: what was read is with whoever read it.
    pub(super) fn into_inner(self) -> S {
        debug_assert!(self.read.is_empty() && self.status.is_empty());
        self.stream
    }

    /// Passes on what is left, as far as there is room.
    fn pass(&mut self, into: &mut ReadBuf<'_>) -> bool {
        let left = &self.read[self.passed..];
        if left.is_empty() {
            return false;
        }
        let count = left.len().min(into.remaining());
        into.put_slice(&left[..count]);
        self.passed += count;
        if self.passed == self.read.len() {
            self.read = Vec::new();
            self.passed = 0;
        }
        true
    }
}

/// Returns where a header has to be put into `piece`, if that is the head of a request which takes its connection over without
/// saying so.
fn place(piece: &[u8]) -> Option<usize> {
    if !piece.starts_with(b"POST ") {
        return None;
    }
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut request = httparse::Request::new(&mut headers);
    // One that comes in two pieces is answered without being taken over.
    if !request.parse(piece).ok()?.is_complete() || request.version != Some(1) {
        return None;
    }
    let path = request.path?.split('?').next()?;
    let mut parts = path.trim_start_matches('/').rsplit('/');
    let taken_over = matches!(
        (parts.next()?, parts.next()?, parts.next()?),
        ("attach", _, "containers") | ("start", _, "exec")
    );
    let asked = request.headers.iter().any(|header| header.name.eq_ignore_ascii_case("upgrade"));
    let line = piece.iter().position(|byte| *byte == b'\n')?;
    (taken_over && !asked).then_some(line + 1)
}

impl<S: AsyncRead + Unpin> AsyncRead for Unasked<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.pass(into) {
            return Poll::Ready(Ok(()));
        }
        let before = into.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, into))?;
        let piece = &into.filled()[before..];
        if piece.len() > HEAD {
            return Poll::Ready(Ok(()));
        }
        if let Some(place) = place(piece) {
            self.read = [&piece[..place], PUT_IN, &piece[place..]].concat();
            self.rewrite = true;
            into.set_filled(before);
            self.pass(into);
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> Unasked<S> {
    /// Writes what replaces the status line that `buffer` begins with. Ready with how much of `buffer` that stands for.
    fn poll_status(&mut self, cx: &mut Context<'_>, buffer: &[u8]) -> Poll<io::Result<usize>> {
        if self.rewrite && self.status.is_empty() {
            self.rewrite = false;
            if buffer.starts_with(SWITCHING) {
                self.status = TAKEN_OVER;
            }
        }
        let replaced = !self.status.is_empty();
        while !self.status.is_empty() {
            let written = ready!(Pin::new(&mut self.stream).poll_write(cx, self.status))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.status = &self.status[written..];
        }
        Poll::Ready(Ok(if replaced { SWITCHING.len() } else { 0 }))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Unasked<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &[u8]) -> Poll<io::Result<usize>> {
        match ready!(self.poll_status(cx, buffer))? {
            0 => Pin::new(&mut self.stream).poll_write(cx, buffer),
            replaced => Poll::Ready(Ok(replaced)),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffers: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let first = buffers.iter().find(|buffer| !buffer.is_empty()).map_or(&[][..], |buffer| buffer);
        match ready!(self.poll_status(cx, first))? {
            0 => Pin::new(&mut self.stream).poll_write_vectored(cx, buffers),
            replaced => Poll::Ready(Ok(replaced)),
        }
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_takes_a_connection_over_gets_the_header() {
        let line = "POST /v1.41/containers/web/attach?stream=1 HTTP/1.1\r\n";
        assert_eq!(place(format!("{line}Host: d\r\n\r\n").as_bytes()), Some(line.len()));
        for other in [
            "POST /v1.41/containers/web/attach HTTP/1.1\r\nUpgrade: tcp\r\n\r\n",
            "POST /containers/web/start HTTP/1.1\r\nHost: d\r\n\r\n",
            "GET /containers/web/attach HTTP/1.1\r\nHost: d\r\n\r\n",
            "POST /exec/1/start HTTP/1.1\r\nHost:",
            "POST /exec/1/start HTTP/1.0\r\nHost: d\r\n\r\n",
        ] {
            assert_eq!(place(other.as_bytes()), None, "{other}");
        }
    }
}
