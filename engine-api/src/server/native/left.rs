//! What a client still sends when it has its answer.
//!
//! A server that closes a connection while its client sends makes the client lose the answer. So an answer to a request with bytes
//! ends only when they do: our clients stop sending when they see the answer begin.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use engine_core::io::ByteStream;
use futures_util::StreamExt as _;
use futures_util::stream;

/// The bytes of a request, which the engine reads meanwhile.
pub(super) struct Left {
    bytes: Arc<Mutex<ByteStream>>,
    patience: Duration,
}

impl Left {
    /// Returns the bytes for the engine, and what is left of them.
    pub(super) fn of(bytes: ByteStream, patience: Duration) -> (ByteStream, Self) {
        // It is asked again after its end.
        let bytes = Arc::new(Mutex::new(bytes.fuse().boxed()));
        (shared(&bytes), Self { bytes, patience })
    }

    /// Keeps the answer open until all bytes have come.
    pub(super) fn answer(self, response: Response) -> Response {
        let (head, body) = response.into_parts();
        let Self { bytes, patience } = self;
        let rest = stream::once(async move {
            let mut bytes = shared(&bytes);
            let rest = async { while let Some(Ok(_)) = bytes.next().await {} };
            // A client that goes on is cut off.
            let _ = tokio::time::timeout(patience, rest).await;
        });
        let body = body.into_data_stream().chain(rest.filter_map(async |()| None));
        Response::from_parts(head, Body::from_stream(body))
    }
}

fn shared(bytes: &Arc<Mutex<ByteStream>>) -> ByteStream {
    let bytes = Arc::clone(bytes);
    stream::poll_fn(move |cx| bytes.lock().unwrap_or_else(PoisonError::into_inner).as_mut().poll_next(cx))
        .boxed()
}
