//! Long operations as clients follow them: a document a line.
//!
//! Owns when the head of the answer goes out: what fails before there is anything to tell has a status of its own, and what
//! fails later is a line, as with Docker's daemon. A client that goes away cancels the operation, as does one that
//! takes nothing of the answer for too long.

use std::time::Duration;

use axum::response::Response;
use engine_core::Error;
use engine_core::engine::Operation;
use futures_core::Stream;
use futures_util::{StreamExt as _, stream};
use serde_json::{Value, json};

use super::api::Api;
use super::error::{ApiError, Result};
use super::gone::Follower;
use super::{reply, unread};

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

/// The client of an operation, and how long it may take nothing of what is told.
pub(super) struct Listening {
    follower: Follower,
    limit: Duration,
}

impl Listening {
    pub(super) fn new(api: &Api, follower: Follower) -> Self {
        Self { follower, limit: api.limits.unread }
    }

    /// Answers with lines, which end with the client.
    pub(super) fn answer(self, lines: impl Stream<Item = Value> + Send + 'static) -> Response {
        let gone = Box::pin(self.follower.gone());
        reply::json_lines(in_time(lines, self.limit).take_until(gone))
    }
}

/// Answers with what an operation reports.
pub(super) async fn answer<E: Send + 'static, T: Send + 'static>(
    listening: Listening,
    mut operation: Operation<E, T>,
    mut told: Told<E, T>,
) -> Result<Response> {
    let Listening { follower, limit } = listening;
    let mut gone = Box::pin(follower.gone());
    let first = tokio::select! {
        first = operation.next() => first,
        // Nobody reads it.
        () = &mut gone => return Err(ApiError::bad_request("the client is gone")),
    };
    let Some(first) = first else {
        let result = operation.await.map_err(told.error)?;
        return Ok(reply::json_lines(stream::iter((told.end)(result))));
    };
    let first = (told.event)(first);
    let lines = stream::iter(first).chain(lines(operation, told));
    Ok(reply::json_lines(in_time(lines, limit).take_until(gone)))
}

fn in_time(
    lines: impl Stream<Item = Value> + Send + 'static,
    limit: Duration,
) -> impl Stream<Item = Value> + Send + 'static {
    let late = format!("the client took nothing of the answer for {limit:?}");
    let late = move || failure(&ApiError::new(hyper::StatusCode::REQUEST_TIMEOUT, late.clone()));
    unread::in_time(lines, limit, late)
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
