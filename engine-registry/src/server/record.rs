//! What one request was: for the log and for the metrics.
//!
//! Invariant: nothing of a query and no header but the client's address and its user's name gets into the log (SECURITY D6).

use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Instant;

use axum::body::{Body, Bytes, HttpBody};
use axum::http::request::Parts;
use axum::http::{Method, Version};
use axum::response::Response;

use super::access::Peer;
use super::metrics::Metrics;
use super::sendfile::FilePart;

/// Who sends a request: an [`Authorizer`](super::Authorizer) that finds out notes it, so that logs and events know the name.
#[derive(Clone, Debug, Default)]
pub struct Caller(Arc<OnceLock<String>>);

impl Caller {
    /// Notes the name of the user that `request` is from. The first note counts.
    pub fn note(request: &Parts, name: &str) {
        if let Some(caller) = request.extensions.get::<Self>() {
            let _ = caller.0.set(name.to_owned());
        }
    }

    /// Returns the name of the user that `request` is from, if somebody has noted it.
    #[must_use]
    pub fn of(request: &Parts) -> Option<&str> {
        request.extensions.get::<Self>()?.0.get().map(String::as_str)
    }
}

/// A request under way. It is logged and counted when it has ended, however that was.
#[derive(Debug)]
pub(super) struct Record {
    metrics: Arc<Metrics>,
    started: Instant,
    operation: &'static str,
    repository: Option<String>,
    method: Method,
    path: String,
    version: Version,
    client: Option<Peer>,
    caller: Caller,
    /// Of an answer; while there is none, the client went away.
    status: u16,
    received: Arc<AtomicU64>,
    sent: Arc<AtomicU64>,
    /// How many bytes there are to send, if the kernel sends them from a file.
    file: Option<u64>,
    is_upload: bool,
    is_whole: bool,
}

/// What nginx logs where the client went before it got an answer.
const NO_ANSWER: u16 = 499;

impl Record {
    /// Begins the record of a request, of which it is known what it wants.
    pub(super) fn begin(
        metrics: &Arc<Metrics>,
        parts: &mut Parts,
        operation: &'static str,
        repository: Option<&str>,
    ) -> Self {
        let caller = Caller::default();
        parts.extensions.insert(caller.clone());
        let is_upload = matches!(operation, "upload_begin" | "upload_append" | "upload_commit");
        metrics.requests_under_way.fetch_add(1, Ordering::Relaxed);
        metrics.uploads_under_way.fetch_add(u64::from(is_upload), Ordering::Relaxed);
        Self {
            metrics: Arc::clone(metrics),
            started: Instant::now(),
            operation,
            repository: repository.map(str::to_owned),
            method: parts.method.clone(),
            path: parts.uri.path().to_owned(),
            version: parts.version,
            client: parts.extensions.get::<Peer>().copied(),
            caller,
            status: NO_ANSWER,
            received: Arc::default(),
            sent: Arc::default(),
            file: None,
            is_upload,
            is_whole: false,
        }
    }

    /// Returns the counter of the bytes that come in.
    pub(super) fn received(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.received)
    }

    /// Goes on with the answer, until its last byte is sent.
    pub(super) fn answer(mut self, mut response: Response) -> Response {
        self.status = response.status().as_u16();
        if let Some(part) = response.extensions_mut().get_mut::<FilePart>() {
            part.count(&self.sent);
            self.file = Some(part.size());
        }
        self.is_whole = response.body().is_end_stream();
        response.map(|body| Body::new(Recorded { body, record: self }))
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        let took = self.started.elapsed();
        let received = self.received.load(Ordering::Relaxed);
        let sent = self.sent.load(Ordering::Relaxed);
        let is_whole = self.is_whole || self.file == Some(sent);
        self.metrics.requests_under_way.fetch_sub(1, Ordering::Relaxed);
        self.metrics.uploads_under_way.fetch_sub(u64::from(self.is_upload), Ordering::Relaxed);
        self.metrics.received.fetch_add(received, Ordering::Relaxed);
        self.metrics.sent.fetch_add(sent, Ordering::Relaxed);
        self.metrics.request(self.operation, self.status, took);
        tracing::info!(
            client = self.client.map(|peer| peer.0.to_string()),
            user = self.caller.0.get().map(String::as_str),
            operation = self.operation,
            repository = self.repository,
            method = %self.method,
            path = self.path,
            version = ?self.version,
            status = self.status,
            received,
            sent,
            milliseconds = u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
            cut = !is_whole,
            "request"
        );
    }
}

/// An answer's body, which knows how much of it was sent.
#[derive(Debug)]
struct Recorded {
    body: Body,
    record: Record,
}

impl HttpBody for Recorded {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<hyper::body::Frame<Bytes>, axum::Error>>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.body).poll_frame(cx);
        match &polled {
            Poll::Ready(Some(Ok(frame))) => {
                let sent = frame.data_ref().map_or(0, |data| data.len() as u64);
                this.record.sent.fetch_add(sent, Ordering::Relaxed);
                this.record.is_whole = this.body.is_end_stream();
            }
            Poll::Ready(None) => this.record.is_whole = true,
            _ => {}
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> hyper::body::SizeHint {
        self.body.size_hint()
    }
}
