//! `POST /containers/{id}/wait`.

use std::convert::Infallible;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::response::Response;
use axum::routing::post;
use bytes::Bytes;
use engine_core::events::{Action, EventFilters, EventQuery, EventStream, ObjectKind};
use engine_core::{Container, ContainerStatus, ErrorKind};
use futures_util::{StreamExt as _, stream};
use hyper::header::CONTENT_TYPE;
use serde_json::json;

use crate::server::api::Api;
use crate::server::error::{ApiError, Result};
use crate::server::gone::Follower;
use crate::server::params::Params;
use crate::server::reply;

pub(super) fn routes() -> Router<Arc<Api>> {
    Router::new().route("/containers/{id}/wait", post(wait))
}

/// What somebody waits for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Condition {
    NotRunning,
    NextExit,
    Removed,
}

async fn wait(
    State(api): State<Arc<Api>>,
    Path(name): Path<String>,
    params: Params,
    follower: Follower,
) -> Result<Response> {
    let condition = match params.text("condition") {
        None | Some("not-running") => Condition::NotRunning,
        Some("next-exit") => Condition::NextExit,
        Some("removed") => Condition::Removed,
        Some(other) => return Err(ApiError::bad_request(format!("invalid condition: \"{other}\""))),
    };
    let container = api.engine.container(&name).await?;
    let filters = EventFilters::default()
        .with_object(ObjectKind::Container)
        .with_action(Action::Die)
        .with_action(Action::Destroy)
        .with_container(container.id().to_string());
    // What happens from here on is not missed.
    let events = api.engine.events(EventQuery::default().with_filters(filters)).await?;
    let info = container.inspect().await?;
    let code = info.state.exit.map_or(0, |exit| exit.code);
    let over = !info.state.status.is_running() || info.state.status == ContainerStatus::Restarting;
    let document = async move {
        let status = match condition {
            Condition::NotRunning if over => Ok(code),
            Condition::NotRunning => container.wait().await.map(|status| status.code),
            Condition::NextExit => next(events, Action::Die, code).await,
            Condition::Removed => removed(&container, events, code).await,
        };
        match status {
            Ok(code) => json!({ "StatusCode": code }),
            Err(error) => json!({ "StatusCode": -1, "Error": { "Message": error.report() } }),
        }
    };
    // The head goes out at once: by it the client knows that it may start the container.
    let work = async move {
        tokio::select! {
            document = document => reply::line(&document),
            () = follower.end(api) => Bytes::new(),
        }
    };
    let body = Body::from_stream(stream::once(work).map(Ok::<_, Infallible>));
    Ok(reply::with_header(Response::new(body), CONTENT_TYPE, reply::JSON))
}

/// Waits until the container is gone; its last exit code is that of its last end.
async fn removed(container: &Container, events: EventStream, code: u8) -> engine_core::Result<u8> {
    // It may have been removed since the events are followed.
    match container.inspect().await {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(code),
        _ => next(events, Action::Destroy, code).await,
    }
}

/// Waits for an event and returns the exit code of the last end until then.
async fn next(mut events: EventStream, action: Action, mut code: u8) -> engine_core::Result<u8> {
    while let Some(event) = events.next().await {
        let event = event?;
        if event.action == Action::Die {
            code = event.attributes.get("exitCode").and_then(|code| code.parse().ok()).unwrap_or(code);
        }
        // Whoever waits for an end does not wait for one of a container that is gone.
        if event.action == action || event.action == Action::Destroy {
            break;
        }
    }
    Ok(code)
}
