//! `POST /volumes/create`.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::response::Response;
use axum::routing::post;
use engine_core::volume_driver::{ANONYMOUS_LABEL, VolumeOptions};
use engine_core::{Error, Name};
use hyper::StatusCode;

use super::list::document;
use crate::models::VolumeCreateRequest;
use crate::server::api::Api;
use crate::server::body::Json;
use crate::server::error::{ApiError, Result};
use crate::server::reply;

pub(super) fn routes() -> Router<Arc<Api>> {
    Router::new().route("/volumes/create", post(create))
}

async fn create(State(api): State<Arc<Api>>, Json(wanted): Json<VolumeCreateRequest>) -> Result<Response> {
    if wanted.cluster_volume_spec.is_some() {
        return Err(ApiError::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "This node is not a swarm manager. Use \"docker swarm init\" or \"docker swarm join\" to connect this node to swarm and try again.",
        ));
    }
    let own = api.engine.info().await?.volume_driver;
    let driver = wanted.driver.as_deref().filter(|driver| !driver.is_empty()).unwrap_or(&own);
    if driver != own {
        return Err(ApiError::not_found(format!(
            "error looking up volume plugin {driver}: plugin \"{driver}\" not found"
        )));
    }
    let mut options = VolumeOptions::default();
    options.labels = wanted.labels.unwrap_or_default().into_iter().collect();
    options.driver_options = wanted.driver_opts.unwrap_or_default().into_iter().collect();
    let name = match wanted.name.as_deref().unwrap_or_default() {
        "" => {
            options.labels.insert(ANONYMOUS_LABEL.to_owned(), String::new());
            Name::random_hex()
        }
        name => name
            .parse()
            .map_err(|error: Error| ApiError::bad_request(format!("create {name}: {}", error.report())))?,
    };
    // One that is there is returned, whatever its options are, as Docker does; only another kind of storage is a conflict.
    if let Ok(found) = api.engine.volume(&name).await
        && (options.driver_options.is_empty() || options.driver_options == found.driver_options)
    {
        return Ok(reply::json_with(StatusCode::CREATED, &document(&found)));
    }
    let volume = api.engine.create_volume(&name, &options).await?;
    Ok(reply::json_with(StatusCode::CREATED, &document(&volume)))
}
