//! `POST /networks/{id}/connect`, `POST /networks/{id}/disconnect`.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, State};
use axum::response::Response;
use axum::routing::post;
use engine_core::{Error, ErrorKind};
use hyper::StatusCode;

use crate::models::{NetworkConnectRequest, NetworkDisconnectRequest};
use crate::server::api::Api;
use crate::server::body::Json;
use crate::server::error::{ApiError, Result};
use crate::server::reply;
use crate::server::routes::containers::endpoint_options;

pub(super) fn routes() -> Router<Arc<Api>> {
    Router::new()
        .route("/networks/{id}/connect", post(connect))
        .route("/networks/{id}/disconnect", post(disconnect))
}

async fn connect(
    State(api): State<Arc<Api>>,
    Path(name): Path<String>,
    Json(wanted): Json<NetworkConnectRequest>,
) -> Result<Response> {
    // Docker looks for the network first.
    api.engine.network(&name).await?;
    let container = api.engine.container(&wanted.container).await?;
    let options = endpoint_options(&name, &wanted.endpoint_config.unwrap_or_default())?;
    container.connect(&name, options).await.map_err(|error| match error.kind() {
        ErrorKind::AlreadyExists => forbidden(&error),
        _ => error.into(),
    })?;
    Ok(reply::with_status(StatusCode::OK))
}

async fn disconnect(
    State(api): State<Arc<Api>>,
    Path(name): Path<String>,
    Json(wanted): Json<NetworkDisconnectRequest>,
) -> Result<Response> {
    api.engine.network(&name).await?;
    let force = wanted.force.unwrap_or(false);
    let container = api.engine.container(&wanted.container).await?;
    container.disconnect(&name, force).await.map_err(|error| match error.kind() {
        ErrorKind::Conflict => forbidden(&error),
        _ => error.into(),
    })?;
    Ok(reply::with_status(StatusCode::OK))
}

/// Docker's status for what a container's networks do not allow.
fn forbidden(error: &Error) -> ApiError {
    ApiError::new(StatusCode::FORBIDDEN, error.report())
}
