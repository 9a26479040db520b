//! `POST /containers/{id}/start`.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, State};
use axum::response::Response;
use axum::routing::post;

use crate::server::api::Api;
use crate::server::error::Result;
use crate::server::reply;

pub(super) fn routes() -> Router<Arc<Api>> {
    Router::new().route("/containers/{id}/start", post(start))
}

/// Clients that attached before are taken along.
async fn start(State(api): State<Arc<Api>>, Path(name): Path<String>) -> Result<Response> {
    let container = api.engine.container(&name).await?;
    if container.inspect().await?.state.status.is_running() {
        return Ok(reply::not_modified());
    }
    let waiting = api.pending.take(container.id());
    let options = waiting.iter().map(|one| one.wanted.options()).collect();
    let attached = container.start_attached_each(options).await?;
    for (one, streams) in waiting.into_iter().zip(attached) {
        one.ready(streams);
    }
    Ok(reply::no_content())
}
