//! What a client still sends when it has its answer.
//!
//! A server that closes a connection while its client sends makes the client lose the answer. So an answer to a request with bytes
//! ends only when they do: our clients stop sending when they see the answer begin. Others look at it only when they have sent all.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use engine_core::io::ByteStream;
use futures_util::StreamExt as _;
use futures_util::stream;

/// The bytes of a request, which the engine reads meanwhile.
pub(in crate::server) struct Left {
    bytes: Arc<Mutex<ByteStream>>,
    patience: Duration,
}

impl Left {
    /// Returns the bytes for the engine, and what is left of them.
    pub(in crate::server) fn of(bytes: ByteStream, patience: Duration) -> (ByteStream, Self) {
        // It is asked again after its end.
        let bytes = Arc::new(Mutex::new(bytes.fuse().boxed()));
        (shared(&bytes), Self { bytes, patience })
    }

    /// Keeps the answer open until all bytes have come.
    pub(in crate::server) fn answer(self, response: Response) -> Response {
        let (head, body) = response.into_parts();
        let Self { bytes, patience } = self;
        let rest = stream::once(Self { bytes, patience }.taken());
        let body = body.into_data_stream().chain(rest.filter_map(async |()| None));
        Response::from_parts(head, Body::from_stream(body))
    }

    /// Waits until all bytes have come, for a client of Docker's, which sends everything before it looks at the answer.
    pub(in crate::server) async fn taken(self) {
        let mut bytes = shared(&self.bytes);
        let rest = async { while let Some(Ok(_)) = bytes.next().await {} };
        // A client that goes on is cut off.
        let _ = tokio::time::timeout(self.patience, rest).await;
    }
}

fn shared(bytes: &Arc<Mutex<ByteStream>>) -> ByteStream {
    let bytes = Arc::clone(bytes);
    stream::poll_fn(move |cx| bytes.lock().unwrap_or_else(PoisonError::into_inner).as_mut().poll_next(cx))
        .boxed()
}
