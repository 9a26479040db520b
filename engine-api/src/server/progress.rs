//! Long operations as clients follow them: a document a line.
//!
//! Owns when the head of the answer goes out: what fails before there is anything to tell has a status of its own, and what
//! fails later is a line, as with Docker's daemon. A client that goes away cancels the operation.

use axum::response::Response;
use engine_core::Error;
use engine_core::engine::Operation;
use futures_core::Stream;
use futures_util::{StreamExt as _, stream};
use serde_json::{Value, json};

use super::error::{ApiError, Result};
use super::reply;

/// Docker shows layers by the first digits of their digests.
pub(super) fn line(id: &str, status: &str) -> Value {
    json!({ "status": status, "progressDetail": {}, "id": id })
}

/// A layer of which so many bytes are done.
pub(super) fn counted(id: &str, status: &str, current: u64, total: u64) -> Value {
    json!({ "status": status, "progressDetail": { "current": current, "total": total }, "id": id })
}

/// A sentence about the whole.
pub(super) fn status(text: impl Into<String>) -> Value {
    json!({ "status": text.into() })
}

/// What ends a stream of lines that failed.
pub(super) fn failure(error: &ApiError) -> Value {
    tracing::info!(message = error.message, "operation failed");
    let mut failure = json!({ "errorDetail": { "message": error.message }, "error": error.message });
    if let Some(code) = error.code {
        failure["errorDetail"]["code"] = code.into();
    }
    failure
}

/// What an operation is told as.
pub(super) struct Told<E, T> {
    pub(super) event: Box<dyn FnMut(E) -> Vec<Value> + Send>,
    pub(super) end: Box<dyn FnOnce(T) -> Vec<Value> + Send>,
    pub(super) error: Box<dyn FnOnce(Error) -> ApiError + Send>,
}

/// Answers with what an operation reports.
pub(super) async fn answer<E: Send + 'static, T: Send + 'static>(
    mut operation: Operation<E, T>,
    mut told: Told<E, T>,
) -> Result<Response> {
    let Some(first) = operation.next().await else {
        let result = operation.await.map_err(told.error)?;
        return Ok(reply::json_lines(stream::iter((told.end)(result))));
    };
    let first = (told.event)(first);
    Ok(reply::json_lines(stream::iter(first).chain(lines(operation, told))))
}

/// Returns what an operation reports, its failure among it.
pub(super) fn lines<E: Send + 'static, T: Send + 'static>(
    operation: Operation<E, T>,
    told: Told<E, T>,
) -> impl Stream<Item = Value> + Send + 'static {
    stream::unfold(Some((operation, told)), async |state| {
        let (mut operation, mut told) = state?;
        if let Some(event) = operation.next().await {
            return Some(((told.event)(event), Some((operation, told))));
        }
        let last = match operation.await {
            Ok(result) => (told.end)(result),
            Err(error) => vec![failure(&(told.error)(error))],
        };
        Some((last, None))
    })
    .flat_map(stream::iter)
}

/// Ends lines after the first failure.
pub(super) fn until_failure(
    lines: impl Stream<Item = Value> + Send + 'static,
) -> impl Stream<Item = Value> + Send {
    lines.scan(false, |failed, line| {
        let ended = *failed;
        *failed |= line.get("errorDetail").is_some();
        std::future::ready((!ended).then_some(line))
    })
}
