//! Frames: a kind in one byte, the length of what follows in four, most significant first, and that.
//!
//! Invariant: a sequence that came to its end has an [`END`] or an [`ERROR`] as its last frame. One that stops without was cut off.

use std::io;

use bytes::{BufMut as _, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt as _};

/// One of many: a document, or bytes.
pub(crate) const ITEM: u8 = 1;
/// An error document, which ends the sequence.
pub(crate) const ERROR: u8 = 2;
/// The end, with the result of an operation that has one.
pub(crate) const END: u8 = 3;
/// Input of a process.
pub(crate) const STDIN: u8 = 4;
/// The end of its input; from the server, that the process takes no more.
pub(crate) const STDIN_END: u8 = 5;
/// Output of a process.
pub(crate) const STDOUT: u8 = 6;
/// Output of a process.
pub(crate) const STDERR: u8 = 7;

/// The largest piece of bytes in one frame.
pub(crate) const PIECE: usize = 256 << 10;

const HEAD: usize = 5;

/// Returns the head of a frame.
pub(crate) fn head(kind: u8, length: usize) -> [u8; HEAD] {
    // What is written is far below that; a reader would refuse it.
    let [a, b, c, d] = u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes();
    [kind, a, b, c, d]
}

/// Returns a frame.
pub(crate) fn frame(kind: u8, payload: &[u8]) -> Bytes {
    let mut frame = BytesMut::with_capacity(HEAD + payload.len());
    frame.put_slice(&head(kind, payload.len()));
    frame.put_slice(payload);
    frame.freeze()
}

/// Reads a frame; `None` where there are no more bytes. It may not be larger than `limit`.
///
/// # Errors
/// `UnexpectedEof` if the bytes end amid it, `InvalidData` if it is too large.
pub(crate) async fn read(
    from: &mut (impl AsyncRead + Unpin),
    limit: usize,
) -> io::Result<Option<(u8, Bytes)>> {
    let mut head = [0; HEAD];
    if from.read(&mut head[..1]).await? == 0 {
        return Ok(None);
    }
    from.read_exact(&mut head[1..]).await?;
    let [kind, a, b, c, d] = head;
    let length = u32::from_be_bytes([a, b, c, d]) as usize;
    if length > limit {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "a frame is too large"));
    }
    // What is said of the length is believed as far as bytes come.
    let mut payload = BytesMut::with_capacity(length.min(PIECE));
    while payload.len() < length {
        let mut rest = (&mut *from).take((length - payload.len()) as u64);
        if rest.read_buf(&mut payload).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(Some((kind, payload.freeze())))
}
