//! Operations on threads of their own, with archives that stream in and out.
//!
//! A thread, and not one of the pool: it gets a umask, a working directory and perhaps a mount namespace of its own, which
//! it never gives back. Memory is a few buffers, whatever the size of the archive.

use std::io::BufRead;

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use tokio::sync::{mpsc, oneshot};

use crate::error::{Error, ErrorKind, Result};
use crate::io::ByteStream;
use crate::pieces::{PieceReader, PieceWriter, QUEUE, feed};

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
    pub(in crate::linux) fn begin(&mut self, value: T) -> Result<PieceWriter> {
        let (Some(first), Some(chunks)) = (self.first.take(), self.chunks.take()) else { return Err(lost()) };
        let stream =
            stream::unfold(chunks, async |mut chunks| chunks.recv().await.map(|chunk| (chunk, chunks)));
        // A caller that has gone is noticed at the first write.
        let _ = first.send(Ok((value, stream.boxed())));
        Ok(PieceWriter::new(self.sender.clone()))
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

/// Runs `work` on a thread of its own, with `archive` as its input. When the future is dropped, the input fails.
pub(in crate::linux) async fn consume<T: Send + 'static>(
    archive: ByteStream,
    work: impl FnOnce(&mut dyn BufRead) -> Result<T> + Send + 'static,
) -> Result<T> {
    let (sender, pieces) = mpsc::channel(QUEUE);
    let (done, receiver) = oneshot::channel();
    spawn(move || {
        let mut source = PieceReader::new(pieces);
        let outcome = settle().and_then(|()| work(&mut source));
        drop(done.send(source.reason(outcome)));
    })?;
    feed(archive, sender).await;
    receiver.await.unwrap_or_else(|_| Err(lost()))
}
