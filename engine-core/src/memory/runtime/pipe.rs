//! A pipe in memory: bounded, with one reader and any number of writers.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use bytes::{Buf as _, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::super::lock;

/// What a pipe holds before its writers wait: as pipe(7).
const CAPACITY: usize = 64 << 10;

/// Both ends of a pipe. Clones are the same pipe.
#[derive(Clone, Debug, Default)]
pub(super) struct Pipe(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    data: VecDeque<Bytes>,
    length: usize,
    /// No more comes.
    closed: bool,
    /// Nobody reads.
    abandoned: bool,
    reader: Option<Waker>,
    writers: Vec<Waker>,
}

impl State {
    fn wake_writers(&mut self) {
        self.writers.drain(..).for_each(Waker::wake);
    }
}

impl Pipe {
    /// Adds `bytes`, however full the pipe is. Returns whether anybody may read them.
    pub(super) fn push(&self, bytes: Bytes) -> bool {
        let mut state = lock(&self.0);
        if state.abandoned || state.closed {
            return false;
        }
        state.length += bytes.len();
        state.data.push_back(bytes);
        if let Some(reader) = state.reader.take() {
            reader.wake();
        }
        true
    }

    /// Waits until the pipe is not full, or nobody reads it.
    pub(super) async fn ready(&self) {
        poll_fn(|cx| self.poll_ready(cx)).await;
    }

    fn poll_ready(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = lock(&self.0);
        if state.length < CAPACITY || state.abandoned || state.closed {
            return Poll::Ready(());
        }
        state.writers.push(cx.waker().clone());
        Poll::Pending
    }

    /// Returns whether `more` bytes fit.
    pub(super) fn fits(&self, more: usize) -> bool {
        lock(&self.0).length + more <= CAPACITY
    }

    /// Ends the pipe: its reader sees the end after what is in it.
    pub(super) fn close(&self) {
        let mut state = lock(&self.0);
        state.closed = true;
        state.wake_writers();
        if let Some(reader) = state.reader.take() {
            reader.wake();
        }
    }

    fn abandon(&self) {
        let mut state = lock(&self.0);
        state.abandoned = true;
        state.data.clear();
        state.length = 0;
        state.wake_writers();
    }

    pub(super) fn poll_read(&self, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<()> {
        let mut state = lock(&self.0);
        let Some(mut first) = state.data.pop_front() else {
            if state.closed || buffer.remaining() == 0 {
                return Poll::Ready(());
            }
            state.reader = Some(cx.waker().clone());
            return Poll::Pending;
        };
        let count = first.len().min(buffer.remaining());
        buffer.put_slice(&first[..count]);
        first.advance(count);
        state.length -= count;
        if !first.is_empty() {
            state.data.push_front(first);
        }
        state.wake_writers();
        Poll::Ready(())
    }
}

/// The reading end, whose loss the writers notice.
#[derive(Debug)]
pub(super) struct PipeReader(pub(super) Pipe);

impl Drop for PipeReader {
    fn drop(&mut self) {
        self.0.abandon();
    }
}

impl AsyncRead for PipeReader {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.0.poll_read(cx, buffer).map(Ok)
    }
}

/// A writing end, which closes the pipe when it goes, if it is told to.
#[derive(Debug)]
pub(super) struct PipeWriter {
    pub(super) pipe: Pipe,
    pub(super) closes: bool,
}

impl Drop for PipeWriter {
    fn drop(&mut self) {
        if self.closes {
            self.pipe.close();
        }
    }
}

impl AsyncWrite for PipeWriter {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.pipe.poll_ready(cx).is_pending() {
            return Poll::Pending;
        }
        let part = &bytes[..bytes.len().min(CAPACITY)];
        if !part.is_empty() && !self.pipe.push(Bytes::copy_from_slice(part)) {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        Poll::Ready(Ok(part.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.closes {
            self.pipe.close();
        }
        Poll::Ready(Ok(()))
    }
}
