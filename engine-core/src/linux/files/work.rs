//! Operations on threads of their own, with archives that stream in and out.
//!
//! A thread, and not one of the pool: it gets a umask, a working directory and perhaps a mount namespace of its own, which
//! it never gives back. Memory is a few buffers, whatever the size of the archive.

use std::io::{self, BufRead, Read, Write};

use bytes::{Buf as _, Bytes};
use futures_util::{StreamExt as _, stream};
use tokio::sync::{mpsc, oneshot};

use crate::error::{Error, ErrorKind, Result};
use crate::io::ByteStream;

/// Bytes of one buffer, and how many wait.
const BUFFER: usize = 128 << 10;
const QUEUE: usize = 8;

fn spawn(work: impl FnOnce() + Send + 'static) -> Result<()> {
    let span = tracing::Span::current();
    let thread = std::thread::Builder::new().name("container-files".into());
    let started = thread.spawn(move || {
        let _entered = span.entered();
        work();
    });
    started.map(drop).map_err(|e| Error::from_io("start thread", e))
}

/// Gives this thread a umask and a working directory of its own (unshare(2), `CLONE_FS`), and has modes taken as given:
/// those of an archive are right without a chmod(2) for each file.
pub(in crate::linux) fn settle() -> Result<()> {
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_FS)
        .map_err(|e| Error::from_io("unshare file system attributes", e.into()))?;
    rustix::process::umask(rustix::fs::Mode::empty());
    Ok(())
}

fn lost() -> Error {
    Error::new(ErrorKind::Other, "work on files").with_message("its thread stopped")
}

/// Runs `work` on a thread of its own.
pub(in crate::linux) async fn run<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    let (sender, receiver) = oneshot::channel();
    spawn(move || drop(sender.send(settle().and_then(|()| work()))))?;
    receiver.await.unwrap_or_else(|_| Err(lost()))
}

/// Where a producer's bytes go.
pub(in crate::linux) struct Target<T> {
    first: Option<oneshot::Sender<Result<(T, ByteStream)>>>,
    chunks: Option<mpsc::Receiver<Result<Bytes>>>,
    sender: mpsc::Sender<Result<Bytes>>,
}

impl<T> Target<T> {
    /// Hands `value` to the caller, and returns the writer of the stream that comes with it.
    pub(in crate::linux) fn begin(&mut self, value: T) -> Result<ChunkWriter> {
        let (Some(first), Some(chunks)) = (self.first.take(), self.chunks.take()) else { return Err(lost()) };
        let stream =
            stream::unfold(chunks, async |mut chunks| chunks.recv().await.map(|chunk| (chunk, chunks)));
        // A caller that has gone is noticed at the first write.
        let _ = first.send(Ok((value, stream.boxed())));
        Ok(ChunkWriter { buffer: Vec::with_capacity(BUFFER), sender: self.sender.clone() })
    }
}

/// Runs `work` on a thread of its own. It begins with what the caller waits for; what it writes then is the stream, which
/// ends with its error if it fails.
pub(in crate::linux) async fn produce<T: Send + 'static>(
    work: impl FnOnce(&mut Target<T>) -> Result<()> + Send + 'static,
) -> Result<(T, ByteStream)> {
    let (first, receiver) = oneshot::channel();
    let (sender, chunks) = mpsc::channel(QUEUE);
    spawn(move || {
        let mut target = Target { first: Some(first), chunks: Some(chunks), sender };
        if let Err(error) = settle().and_then(|()| work(&mut target)) {
            match target.first.take() {
                Some(first) => drop(first.send(Err(error))),
                None => drop(target.sender.blocking_send(Err(error))),
            }
        }
    })?;
    receiver.await.unwrap_or_else(|_| Err(lost()))
}

/// Collects what is written into pieces for the stream.
#[derive(Debug)]
pub(in crate::linux) struct ChunkWriter {
    buffer: Vec<u8>,
    sender: mpsc::Sender<Result<Bytes>>,
}

impl Write for ChunkWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = bytes.len().min(BUFFER - self.buffer.len());
        self.buffer.extend_from_slice(&bytes[..count]);
        if self.buffer.len() == BUFFER {
            self.flush()?;
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let full = std::mem::replace(&mut self.buffer, Vec::with_capacity(BUFFER));
        self.sender.blocking_send(Ok(full.into())).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

/// Runs `work` on a thread of its own, with `archive` as its input. When the future is dropped, the input fails.
pub(in crate::linux) async fn consume<T: Send + 'static>(
    mut archive: ByteStream,
    work: impl FnOnce(&mut dyn BufRead) -> Result<T> + Send + 'static,
) -> Result<T> {
    let (sender, chunks) = mpsc::channel(QUEUE);
    let (done, receiver) = oneshot::channel();
    spawn(move || {
        let mut source = ChunkReader { chunks, current: Bytes::new(), ended: false, failure: None };
        let outcome = settle().and_then(|()| work(&mut source));
        // A failed input is the reason of whatever failed then.
        drop(done.send(match (outcome, source.failure.take()) {
            (Err(_), Some(failure)) => Err(failure),
            (outcome, _) => outcome,
        }));
    })?;
    while let Some(chunk) = archive.next().await {
        let last = chunk.is_err();
        // A worker that is gone has an error to tell.
        if sender.send(Some(chunk)).await.is_err() || last {
            break;
        }
    }
    drop(archive);
    let _ = sender.send(None).await;
    receiver.await.unwrap_or_else(|_| Err(lost()))
}

/// The pieces of a stream as one reader.
struct ChunkReader {
    /// `None` is the end; a channel that closes without it was dropped.
    chunks: mpsc::Receiver<Option<Result<Bytes>>>,
    current: Bytes,
    ended: bool,
    failure: Option<Error>,
}

impl Read for ChunkReader {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let count = self.fill_buf()?.read(buf)?;
        self.consume(count);
        Ok(count)
    }
}

impl BufRead for ChunkReader {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        while self.current.is_empty() && !self.ended {
            match self.chunks.blocking_recv() {
                Some(Some(Ok(chunk))) => self.current = chunk,
                Some(Some(Err(error))) => {
                    self.failure = Some(error);
                    return Err(io::Error::other("the archive's source failed"));
                }
                Some(None) => self.ended = true,
                None => {
                    self.failure = Some(Error::new(ErrorKind::Canceled, "read archive"));
                    return Err(io::Error::other("nobody waits any more"));
                }
            }
        }
        Ok(&self.current)
    }

    fn consume(&mut self, count: usize) {
        self.current.advance(count);
    }
}
