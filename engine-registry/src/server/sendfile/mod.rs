//! Parts of files as bodies that the kernel sends (sendfile(2)), so that large blobs are not read into memory: for HTTP/1.1
//! without TLS, which leaves bytes as they are.
//!
//! hyper writes slices of memory and nothing else. So for hyper such a body is one long piece of memory, the *hole*, which it
//! hands to the socket as it does with every large piece: uncopied, in a vectored write. The [`Socket`] knows the hole by its
//! address and sends the file's bytes in its place. What both know of the answer under way is in the connection's [`Line`].
//!
//! The API offers a [`FilePart`] beside an ordinary body with the same bytes, as an extension of the response, and only to a
//! connection that said [`SendsFiles`]; whoever does not look for it, as HTTP/2, sends the body.
//!
//! Invariant: a byte of the hole is never sent, whatever hyper does. While a body of a file is under way, the socket writes memory
//! (the answer's head) only in front of the hole, and none once a byte of the file went out; a hole that is copied, skipped or
//! dropped breaks the line, and a broken line writes nothing any more. What the file lacks ends the connection.

mod body;
mod line;
mod socket;
#[cfg(test)]
mod tests;

use std::fs::File;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use engine_core::io::ByteStream;

pub(super) use self::body::AnswerBody;
pub(super) use self::line::Line;
pub(super) use self::socket::Socket;
use super::pieces;

/// In the extensions of a request: its connection sends files.
#[derive(Clone, Copy, Debug)]
pub(super) struct SendsFiles;

/// In the extensions of a response: its body's bytes are these of a file. Nobody may write to it or cut it: the socket refers to its
/// pages until the client has them.
#[derive(Clone, Debug)]
pub(super) struct FilePart {
    file: Arc<File>,
    range: Range<u64>,
    sent: Arc<AtomicU64>,
}

impl FilePart {
    pub(super) fn new(file: File, range: Range<u64>) -> Self {
        Self { file: Arc::new(file), range, sent: Arc::default() }
    }

    pub(super) fn size(&self) -> u64 {
        self.range.end.saturating_sub(self.range.start)
    }

    /// Lets `sent` count the bytes that the kernel has taken.
    pub(super) fn count(&mut self, sent: &Arc<AtomicU64>) {
        self.sent = Arc::clone(sent);
    }

    /// Streams the same bytes; nothing is read before the stream is asked.
    pub(super) fn stream(&self) -> ByteStream {
        pieces::stream(Arc::clone(&self.file), self.range.clone())
    }
}
