//! A part of a file as a stream of pieces, which threads that may block read.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use engine_core::error::{Error, Result};
use engine_core::io::ByteStream;
use futures_util::stream;
use rustix::buffer::spare_capacity;
use tokio::task::{JoinHandle, spawn_blocking};

/// Bytes of a piece that is read at once.
pub(super) const PIECE: u64 = 256 << 10;

/// Streams a part of a file, which has it. Nothing is read before the stream is asked.
pub(super) fn stream(file: Arc<File>, range: Range<u64>) -> ByteStream {
    follow(Reading { file, range, first: None, next: None })
}

/// Streams a part of a file, of which it reads the first piece at once. Blocks on the file.
pub(super) fn begun(file: Arc<File>, range: Range<u64>) -> Result<ByteStream> {
    let first = piece(&file, &range)?;
    let at = range.start + first.len() as u64;
    Ok(follow(Reading { file, range: at..range.end, first: Some(first), next: None }))
}

fn follow(state: Reading) -> ByteStream {
    Box::pin(stream::try_unfold(state, |mut state| async {
        if state.first.is_none() && state.next.is_none() {
            state.read_ahead();
        }
        let piece = match (state.first.take(), state.next.take()) {
            (Some(first), _) => first,
            (None, Some(next)) => {
                next.await.map_err(|e| Error::from_io("read blob", io::Error::other(e)))??
            }
            (None, None) => return Ok(None),
        };
        state.read_ahead();
        Ok((!piece.is_empty()).then_some((piece, state)))
    }))
}

/// A blob on its way out: while one piece is sent, the next is read.
struct Reading {
    file: Arc<File>,
    range: Range<u64>,
    first: Option<Bytes>,
    next: Option<JoinHandle<Result<Bytes>>>,
}

impl Reading {
    fn read_ahead(&mut self) {
        if self.range.is_empty() {
            return;
        }
        let (file, range) = (Arc::clone(&self.file), self.range.clone());
        self.range.start = (self.range.start + PIECE).min(self.range.end);
        self.next = Some(spawn_blocking(move || piece(&file, &range)));
    }
}

/// Reads the first piece of a range, which the file has.
fn piece(file: &File, range: &Range<u64>) -> Result<Bytes> {
    let size = usize::try_from(PIECE.min(range.end.saturating_sub(range.start))).unwrap_or(0);
    let mut buffer = Vec::with_capacity(size);
    while buffer.len() < size {
        let at = range.start + buffer.len() as u64;
        match rustix::io::pread(file, spare_capacity(&mut buffer), at) {
            Ok(0) => return Err(Error::from_io("read blob", io::ErrorKind::UnexpectedEof.into())),
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(Error::from_io("read blob", error.into())),
        }
    }
    // The capacity, and the file, may be more than was asked for.
    buffer.truncate(size);
    Ok(buffer.into())
}
