//! What this engine has not: Swarm and plugins answer as those of a Docker engine that has none of them.

use std::sync::Arc;

use axum::Router;
use axum::response::Response;
use axum::routing::{any, get};
use hyper::StatusCode;
use serde_json::json;

use crate::server::api::Api;
use crate::server::error::{ApiError, Result};
use crate::server::reply;

pub(super) fn routes() -> Router<Arc<Api>> {
    let mut router = Router::new()
        .route("/plugins", get(async || reply::json(&json!([]))))
        .route("/plugins/{*rest}", any(no_plugin))
        .route("/swarm", any(no_swarm))
        .route("/swarm/{*rest}", any(no_swarm));
    for kind in ["nodes", "services", "tasks", "secrets", "configs"] {
        router = router
            .route(&format!("/{kind}"), any(no_swarm))
            .route(&format!("/{kind}/{{*rest}}"), any(no_swarm));
    }
    router
}

/// Docker's answer to a path, or a method, that it does not know.
pub(super) async fn no_such_page() -> ApiError {
    ApiError::not_found("page not found")
}

async fn no_swarm() -> Result<Response> {
    Err(ApiError::new(
        StatusCode::SERVICE_UNAVAILABLE,
        "This node is not a swarm manager. Use \"docker swarm init\" or \"docker swarm join\" to connect this node to swarm and try again.",
    ))
}

async fn no_plugin() -> ApiError {
    ApiError::not_found("plugin not found: this engine has no managed plugins")
}
