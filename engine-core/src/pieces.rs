//! Streams of pieces for code that blocks: a reader, a writer, and work that turns one stream into another.
//!
//! Invariant: memory is a few buffers, whatever goes through, and who gives up ends the other side's work.

use std::io::{self, BufRead, Read, Write};

use bytes::{Buf as _, Bytes};
use futures_util::{StreamExt as _, stream};
use tokio::sync::mpsc;

use crate::error::{Error, ErrorKind, Result};
use crate::io::ByteStream;

/// Bytes of one buffer, and how many wait.
const BUFFER: usize = 128 << 10;
pub(crate) const QUEUE: usize = 8;

/// Collects what is written into pieces for a stream.
#[derive(Debug)]
pub(crate) struct PieceWriter {
    buffer: Vec<u8>,
    sender: mpsc::Sender<Result<Bytes>>,
}

impl PieceWriter {
    pub(crate) fn new(sender: mpsc::Sender<Result<Bytes>>) -> Self {
        Self { buffer: Vec::with_capacity(BUFFER), sender }
    }
}

impl Write for PieceWriter {
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

/// The pieces of a stream as one reader.
pub(crate) struct PieceReader {
    /// `None` is the end; a channel that closes without it was dropped.
    pieces: mpsc::Receiver<Option<Result<Bytes>>>,
    current: Bytes,
    ended: bool,
    failure: Option<Error>,
}

impl PieceReader {
    pub(crate) fn new(pieces: mpsc::Receiver<Option<Result<Bytes>>>) -> Self {
        Self { pieces, current: Bytes::new(), ended: false, failure: None }
    }

    /// Whether the source failed.
    pub(crate) fn has_failed(&self) -> bool {
        self.failure.is_some()
    }

    /// Returns `outcome`, or why the source failed: that is the reason of whatever failed then.
    pub(crate) fn reason<T>(&mut self, outcome: Result<T>) -> Result<T> {
        outcome.map_err(|error| self.failure.take().unwrap_or(error))
    }
}

impl Read for PieceReader {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let count = self.fill_buf()?.read(buf)?;
        self.consume(count);
        Ok(count)
    }
}

impl BufRead for PieceReader {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        while self.current.is_empty() && !self.ended {
            match self.pieces.blocking_recv() {
                Some(Some(Ok(piece))) => self.current = piece,
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

/// Sends a stream's pieces to a [`PieceReader`], until it has an error to tell.
pub(crate) async fn feed(mut source: ByteStream, pieces: mpsc::Sender<Option<Result<Bytes>>>) {
    while let Some(piece) = source.next().await {
        let last = piece.is_err();
        if pieces.send(Some(piece)).await.is_err() || last {
            break;
        }
    }
    drop(source);
    let _ = pieces.send(None).await;
}

/// Has `work` turn one stream into another, on a thread of the pool. Dropping the stream ends the work.
pub(crate) fn transform(
    source: ByteStream,
    work: impl FnOnce(&mut PieceReader, PieceWriter) -> Result<()> + Send + 'static,
) -> ByteStream {
    let (incoming, pieces) = mpsc::channel(QUEUE);
    let (outgoing, made) = mpsc::channel::<Result<Bytes>>(QUEUE);
    tokio::task::spawn_blocking(move || {
        let mut reader = PieceReader::new(pieces);
        let outcome = work(&mut reader, PieceWriter::new(outgoing.clone()));
        if let Err(error) = reader.reason(outcome) {
            // Nobody may wait for it any more.
            let _ = outgoing.blocking_send(Err(error));
        }
    });
    // Both sides in one stream: whoever takes what was made moves the source along.
    let fed = stream::once(feed(source, incoming)).filter_map(async |()| None);
    let taken = stream::unfold(made, async |mut made| made.recv().await.map(|piece| (piece, made)));
    stream::select(fed, taken).boxed()
}
