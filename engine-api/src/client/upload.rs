//! What is sent behind the arguments: bytes from somewhere, for as long as the other side wants them.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use engine_core::io::ByteStream;
use engine_core::{Error, ErrorKind};
use futures_util::StreamExt as _;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::Frame;
use tokio_util::sync::CancellationToken;

use super::transport::Body;

/// The sending of a body.
#[derive(Debug)]
pub(super) struct Upload {
    failed: Arc<Mutex<Option<Error>>>,
    stop: CancellationToken,
}

impl Upload {
    /// Returns a body of `line` and `bytes` behind it.
    pub(super) fn begin(line: Bytes, bytes: ByteStream) -> (Self, Body) {
        let stop = CancellationToken::new();
        let failed = Arc::new(Mutex::new(None));
        let keep = Arc::clone(&failed);
        let pieces = bytes.map(move |piece| {
            piece.map(Frame::data).map_err(|error| {
                // The caller gets it; the connection only has to end.
                *keep.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
                Error::new(ErrorKind::Canceled, "send body")
            })
        });
        let first = futures_util::stream::iter([Ok(Frame::data(line))]);
        let body = StreamBody::new(first.chain(pieces).take_until(stop.clone().cancelled_owned()));
        (Self { failed, stop }, body.boxed_unsync())
    }

    /// Ends the body here: there is an answer already. Without one it never ends early, since the other side would take what
    /// it got for all.
    pub(super) fn stop(&self) {
        self.stop.cancel();
    }

    /// Returns the failure of the source, rather than what came of it.
    pub(super) fn reason(&self, error: Error) -> Error {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner).take().unwrap_or(error)
    }
}

/// A body of a line alone.
pub(super) fn line(line: Bytes) -> Body {
    Full::new(line).map_err(|never| match never {}).boxed_unsync()
}
