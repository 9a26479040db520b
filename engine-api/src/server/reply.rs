//! Answers: one document, a stream of documents, raw bytes, or nothing.

use std::convert::Infallible;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use engine_core::Error;
use futures_core::Stream;
use futures_util::StreamExt as _;
use hyper::StatusCode;
use hyper::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use serde::Serialize;

pub(super) const JSON: HeaderValue = HeaderValue::from_static("application/json");
pub(super) const TAR: HeaderValue = HeaderValue::from_static("application/x-tar");

/// A document.
pub(super) fn json(document: &impl Serialize) -> Response {
    json_with(StatusCode::OK, document)
}

/// A document with a status of its own.
pub(super) fn json_with(status: StatusCode, document: &impl Serialize) -> Response {
    let mut response = match serde_json::to_vec(document) {
        Ok(mut bytes) => {
            bytes.push(b'\n');
            Response::new(Body::from(bytes))
        }
        // Only of a map whose keys are no strings, and there is none.
        Err(error) => {
            tracing::error!(%error, "answer not written");
            return with_status(StatusCode::INTERNAL_SERVER_ERROR);
        }
    };
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, JSON);
    response
}

/// A status and nothing else.
pub(super) fn with_status(status: StatusCode) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response
}

/// Done, and nothing to tell.
pub(super) fn no_content() -> Response {
    with_status(StatusCode::NO_CONTENT)
}

/// Done before.
pub(super) fn not_modified() -> Response {
    with_status(StatusCode::NOT_MODIFIED)
}

/// Documents as they come, one a line.
pub(super) fn json_lines<T: Serialize>(documents: impl Stream<Item = T> + Send + 'static) -> Response {
    let lines = documents.map(|document| Ok::<_, Infallible>(line(&document)));
    let mut response = Response::new(Body::from_stream(lines));
    response.headers_mut().insert(CONTENT_TYPE, JSON);
    response
}

/// A document as a line.
pub(super) fn line(document: &impl Serialize) -> Bytes {
    let mut line = serde_json::to_vec(document).unwrap_or_default();
    line.extend_from_slice(b"\r\n");
    line.into()
}

/// Bytes as they come. One that fails amid them is cut off, which the client sees.
pub(super) fn bytes(
    stream: impl Stream<Item = Result<Bytes, Error>> + Send + 'static,
    content_type: HeaderValue,
) -> Response {
    let stream = stream.inspect(|piece| {
        if let Err(error) = piece {
            tracing::warn!(error = %error.report(), "answer cut off");
        }
    });
    with_header(Response::new(Body::from_stream(stream)), CONTENT_TYPE, content_type)
}

pub(super) fn with_header(mut response: Response, name: HeaderName, value: HeaderValue) -> Response {
    response.headers_mut().insert(name, value);
    response
}
