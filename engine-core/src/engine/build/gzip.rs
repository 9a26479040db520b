//! Compression of a stream, on a thread of the pool.

use std::io::{self, Write};

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use futures_util::{StreamExt as _, stream};
use tokio::sync::mpsc;

use crate::error::{Error, ErrorKind, Result};
use crate::io::ByteStream;

/// Pieces that wait on either side, and bytes of one that comes out.
const QUEUE: usize = 8;
const PIECE: usize = 128 << 10;

/// Compresses `stream` by gzip. The same bytes give the same bytes: the header has no time. Dropping it ends the work.
pub(super) fn gzip(mut stream: ByteStream) -> ByteStream {
    let (plain, mut incoming) = mpsc::channel::<Result<Bytes>>(QUEUE);
    let (outgoing, packed) = mpsc::channel::<Result<Bytes>>(QUEUE);
    tokio::task::spawn_blocking(move || {
        let sink = Sink { buffer: Vec::with_capacity(PIECE), outgoing: outgoing.clone() };
        // What compresses little more costs several times as much.
        let mut encoder = GzEncoder::new(sink, Compression::fast());
        let mut work = || -> Result<()> {
            let fail = |e| Error::from_io("compress layer", e);
            loop {
                match incoming.blocking_recv() {
                    Some(Ok(piece)) if piece.is_empty() => break,
                    Some(Ok(piece)) => encoder.write_all(&piece).map_err(fail)?,
                    Some(Err(error)) => return Err(error),
                    None => return Err(Error::new(ErrorKind::Canceled, "compress layer")),
                }
            }
            encoder.try_finish().map_err(fail)?;
            encoder.get_mut().flush().map_err(fail)
        };
        if let Err(error) = work() {
            // Nobody may wait for it any more.
            let _ = outgoing.blocking_send(Err(error));
        }
    });
    // Both sides in one stream: whoever takes compressed pieces moves plain ones along.
    let feed = async move {
        while let Some(piece) = stream.next().await {
            if piece.as_ref().is_ok_and(Bytes::is_empty) {
                continue;
            }
            if plain.send(piece).await.is_err() {
                return;
            }
        }
        // An empty piece is the end.
        let _ = plain.send(Ok(Bytes::new())).await;
    };
    let taken = stream::unfold(packed, async |mut packed| packed.recv().await.map(|piece| (piece, packed)));
    let fed = stream::once(feed).filter_map(async |()| None);
    stream::select(fed, taken).boxed()
}

/// Collects what is written into pieces.
struct Sink {
    buffer: Vec<u8>,
    outgoing: mpsc::Sender<Result<Bytes>>,
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = bytes.len().min(PIECE - self.buffer.len());
        self.buffer.extend_from_slice(&bytes[..count]);
        if self.buffer.len() == PIECE {
            self.flush()?;
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let full = std::mem::replace(&mut self.buffer, Vec::with_capacity(PIECE));
        self.outgoing.blocking_send(Ok(full.into())).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use futures_util::TryStreamExt as _;

    use super::*;

    async fn packed(pieces: Vec<Result<Bytes>>) -> Result<Vec<u8>> {
        gzip(stream::iter(pieces).boxed())
            .try_fold(Vec::new(), async |mut all, piece| {
                all.extend_from_slice(&piece);
                Ok(all)
            })
            .await
    }

    #[tokio::test]
    async fn what_is_packed_is_the_same_again_and_the_same_each_time() {
        let plain: Vec<u8> = (0..3_000_000_u32).map(|n| (n.wrapping_mul(n) >> 7) as u8).collect();
        let pieces =
            || plain.chunks(100_000).map(|piece| Ok(Bytes::copy_from_slice(piece))).collect::<Vec<_>>();
        let first = packed(pieces()).await.unwrap();
        let mut again = Vec::new();
        flate2::read::GzDecoder::new(&first[..]).read_to_end(&mut again).unwrap();
        assert!(again == plain);
        assert!(packed(pieces()).await.unwrap() == first);
        let empty = packed(Vec::new()).await.unwrap();
        assert_eq!(flate2::read::GzDecoder::new(&empty[..]).read_to_end(&mut Vec::new()).unwrap(), 0);
    }

    #[tokio::test]
    async fn a_failure_of_the_source_is_told() {
        let failure = Err(Error::new(ErrorKind::NotFound, "read"));
        let told = packed(vec![Ok(Bytes::from_static(b"x")), failure]).await.unwrap_err();
        assert_eq!(told.kind(), ErrorKind::NotFound);
    }
}
