//! Connections that are taken over without an `Upgrade` header.
//!
//! Docker's API takes a connection over for `attach` and `exec` whether or not the client asked for an upgrade: one that did not
//! gets `200 OK` and then raw bytes in both directions. HTTP has no such thing, and hyper neither. So, on its way to hyper, such a
//! request gets the header that it lacks, with a value that no client sends; and on the way back, the status of an
//! upgrade becomes 200. Which bytes are the head of a request, [`Heads`] tells.
//! Invariant: requests and answers are otherwise passed on byte for byte, and bodies always.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::heads::{HEADERS, Heads};

/// The value of the header that is put in.
pub(super) const UNASKED: &str = "engine-unasked";

const PUT_IN: &[u8] = b"Connection: Upgrade\r\nUpgrade: engine-unasked\r\n";
/// hyper's status line of an upgrade, and Docker's without one.
const SWITCHING: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\n";
const TAKEN_OVER: &[u8] = b"HTTP/1.1 200 OK\r\n";
/// What comes before an answer, to a client that waits with its body.
const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

pub(super) struct Unasked<S> {
    stream: S,
    heads: Heads,
    /// What was read and put in, and how much of it was passed on.
    read: Vec<u8>,
    passed: usize,
    /// Whether what is written next begins an answer, and whether that is to a request that a header was put in.
    begins: bool,
    rewrite: bool,
    /// What is left to write of the status line that replaces hyper's.
    status: &'static [u8],
}

impl<S> Unasked<S> {
    pub(super) fn new(stream: S) -> Self {
        Self {
            stream,
            heads: Heads::default(),
            read: Vec::new(),
            passed: 0,
            begins: false,
            rewrite: false,
            status: &[],
        }
    }

    /// Returns the connection, and what was read of it and has not been passed on.
    pub(super) fn into_parts(mut self) -> (S, Vec<u8>) {
        debug_assert!(self.status.is_empty());
        (self.stream, self.read.split_off(self.passed))
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

/// Returns where a header has to be put into the head of a request, if that takes its connection over without saying so.
fn place(head: &[u8]) -> Option<usize> {
    if !head.starts_with(b"POST ") {
        return None;
    }
    let mut headers = [httparse::EMPTY_HEADER; HEADERS];
    let mut request = httparse::Request::new(&mut headers);
    if !request.parse(head).ok()?.is_complete() || request.version != Some(1) {
        return None;
    }
    let path = request.path?.split('?').next()?;
    let mut parts = path.trim_start_matches('/').rsplit('/');
    let taken_over = matches!(
        (parts.next()?, parts.next()?, parts.next()?),
        ("attach", _, "containers") | ("start", _, "exec")
    );
    let asked = request.headers.iter().any(|header| header.name.eq_ignore_ascii_case("upgrade"));
    let line = head.iter().position(|byte| *byte == b'\n')?;
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
        let (mut at, mut put_in) = (0, None);
        while let Some(head) = self.heads.next(piece, &mut at) {
            self.begins = true;
            // The next answer has to be this one's: of what is sent without waiting for an answer, and of a head that comes in two
            // pieces, the connection is not taken over.
            if head.start == 0 {
                put_in = place(&piece[head]);
            }
        }
        if let Some(place) = put_in {
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
        if self.begins && self.status.is_empty() && !buffer.starts_with(CONTINUE) {
            self.begins = false;
            let rewrite = std::mem::take(&mut self.rewrite);
            if buffer.starts_with(SWITCHING) {
                // What the client sends from here on is input. One that asked for this is told by what it asked.
                self.heads.end();
                if rewrite {
                    self.status = TAKEN_OVER;
                }
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

    #[tokio::test]
    async fn e8_a_body_that_looks_like_a_request_is_passed_on_as_it_is() {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

        let (mut client, server) = tokio::io::duplex(1 << 10);
        let mut server = Unasked::new(server);
        let mut read = vec![0; 1 << 10];
        let body = "POST /exec/1/start HTTP/1.1\r\n\r\n";
        let load = format!("POST /images/load HTTP/1.1\r\nContent-Length: {}\r\n\r\n", body.len());
        for (sent, is_changed) in [(load.as_str(), false), (body, false), (body, true)] {
            client.write_all(sent.as_bytes()).await.unwrap();
            let count = server.read(&mut read).await.unwrap();
            assert_eq!(&read[..count] != sent.as_bytes(), is_changed, "{sent}");
        }
        // Once it is taken over, everything is input.
        server.write_all(SWITCHING).await.unwrap();
        client.write_all(body.as_bytes()).await.unwrap();
        let count = server.read(&mut read).await.unwrap();
        assert_eq!(&read[..count], body.as_bytes());
    }
}
