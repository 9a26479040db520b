//! `/engine/v1/{operation}`: the engine's own protocol (see [`wire`](crate::wire)).
//!
//! What is asked for is an operation of [`ContainerEngine`](engine_core::engine::ContainerEngine) by its name. There is one file for each group
//! of them, in which a handler says what the arguments are; [`call`] does the rest.
//! Invariant: a client that goes takes its request with it, as dropping the future of an operation does in one program.

mod artifacts;
mod build;
mod call;
mod containers;
mod files;
mod images;
mod networks;
mod presence;
mod processes;
mod scoped;
mod secrets;
mod session;
mod system;
mod transfers;
mod volumes;

use std::ops::ControlFlow;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, Request, State};
use axum::response::Response;
use axum::routing::post;
use engine_core::{Error, ErrorKind};
use hyper::StatusCode;

use super::api::Api;
use call::Call;
pub(super) use presence::ClientSocket;

pub(super) fn routes() -> Router<Arc<Api>> {
    Router::new().route("/engine/v1/{operation}", post(answer))
}

async fn answer(State(api): State<Arc<Api>>, Path(operation): Path<String>, request: Request) -> Response {
    match Call::read(api, request).await {
        Ok(call) => dispatch(&operation, call).await,
        Err((status, error)) => call::failed_with(status, &error),
    }
}

/// Asks each group in turn; one that does not have the operation gives the call back.
macro_rules! ask {
    ($operation:ident, $call:ident: $($group:ident),*) => {{
        $(let $call = match $group::answer($operation, $call).await {
            ControlFlow::Break(response) => return response,
            ControlFlow::Continue(call) => call,
        };)*
        drop($call);
    }};
}

async fn dispatch(operation: &str, call: Call) -> Response {
    ask!(operation, call: containers, processes, files, images, transfers, build, networks, volumes, secrets, system);
    let error = Error::new(ErrorKind::Unsupported, "call engine")
        .with("operation", operation)
        .with_message("the engine there does not have this operation")
        .with_hint("it may be older than this program");
    call::failed_with(StatusCode::NOT_FOUND, &error)
}
