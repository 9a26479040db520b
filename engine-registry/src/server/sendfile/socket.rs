//! The connection's socket: writes memory, and where a hole is, what the file has.
//!
//! sendfile(2) waits for the disk where the page cache lacks the bytes, and a worker that waits serves nobody. Whether it will
//! cannot be asked beforehand without a race, so a thread that may block calls it, for [`AT_ONCE`](super::line) bytes at most.
//! It never waits for the reader: the socket does not block, and the worker sees to it that there is room first.

use std::fs::File;
use std::io::{self, IoSlice};
use std::ops::Range;
use std::os::fd::AsFd;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::sendfile;
use rustix::io::{Errno, pread};
use rustix::net::{SendFlags, send};
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;
use tokio::task::{JoinHandle, spawn_blocking};

use super::line::{Line, Next};

/// Bytes that go through memory at once where the kernel cannot send a file.
const PIECE: usize = 64 << 10;

#[derive(Debug)]
pub(in crate::server) struct Socket {
    stream: TcpStream,
    line: Arc<Line>,
    /// Sends bytes of the file under way.
    sending: Option<JoinHandle<io::Result<usize>>>,
}

impl Socket {
    pub(in crate::server) fn new(stream: TcpStream, line: Arc<Line>) -> Self {
        Self { stream, line, sending: None }
    }

    fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        file: &Arc<File>,
        range: &Range<u64>,
    ) -> Poll<io::Result<usize>> {
        loop {
            if let Some(sending) = &mut self.sending {
                let sent = ready!(Pin::new(sending).poll(cx));
                self.sending = None;
                match sent.map_err(io::Error::other)? {
                    // The room was gone.
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    Err(error) => return Poll::Ready(Err(error)),
                    Ok(count) => {
                        self.line.sent(count);
                        return Poll::Ready(Ok(count));
                    }
                }
            }
            ready!(self.poll_room(cx))?;
            // A descriptor of its own: the connection may end while the thread is on its way.
            let socket = self.stream.as_fd().try_clone_to_owned()?;
            let (file, range) = (Arc::clone(file), range.clone());
            self.sending = Some(spawn_blocking(move || send_file(&socket, &file, range)));
        }
    }

    /// Waits until the socket takes bytes, or has an error to tell.
    fn poll_room(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            ready!(self.stream.poll_write_ready(cx))?;
            // tokio hears of room once, when it comes. What takes it is elsewhere, so ask whether it is still there.
            match self.stream.try_io(Interest::WRITABLE, || has_room(&self.stream)) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                asked => return Poll::Ready(asked),
            }
        }
    }
}

fn has_room(socket: &TcpStream) -> io::Result<()> {
    let mut asked = [PollFd::new(socket, PollFlags::OUT)];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    match rustix::io::retry_on_intr(|| poll(&mut asked, Some(&now)))? {
        0 => Err(io::ErrorKind::WouldBlock.into()),
        _ => Ok(()),
    }
}

/// Sends what the socket takes of a part of a file. Blocks on the file.
pub(super) fn send_file(socket: &impl AsFd, file: &File, range: Range<u64>) -> io::Result<usize> {
    let count = size(&range);
    loop {
        let mut at = range.start;
        match sendfile(socket, file, Some(&mut at), count) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(sent) => return Ok(sent),
            Err(Errno::INTR) => {}
            // Not every file system can.
            Err(Errno::INVAL | Errno::NOSYS) => return send_read(socket, file, range),
            Err(error) => return Err(error.into()),
        }
    }
}

/// Does the same without sendfile(2).
pub(super) fn send_read(socket: &impl AsFd, file: &File, range: Range<u64>) -> io::Result<usize> {
    let mut buffer = vec![0; size(&range).min(PIECE)];
    let read = rustix::io::retry_on_intr(|| pread(file, &mut buffer, range.start))?;
    if read == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
    Ok(rustix::io::retry_on_intr(|| send(socket, &buffer[..read], flags))?)
}

fn size(range: &Range<u64>) -> usize {
    usize::try_from(range.end.saturating_sub(range.start)).unwrap_or(usize::MAX)
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.line.next(slices)? {
            Next::Memory(count) => Pin::new(&mut self.stream).poll_write_vectored(cx, &slices[..count]),
            Next::File(file, range) => self.poll_send(cx, &file, &range),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
