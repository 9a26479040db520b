//! `GET /volumes`, `GET /volumes/{name}`.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, State};
use axum::response::Response;
use axum::routing::{get, put};
use engine_core::Name;
use hyper::StatusCode;
use serde_json::{Value, json};

use crate::documents::volume_inspect;
use crate::server::api::Api;
use crate::server::error::{ApiError, Result};
use crate::server::params::Params;
use crate::server::reply;

pub(super) fn routes() -> Router<Arc<Api>> {
    Router::new()
        .route("/volumes", get(list))
        .route("/volumes/{name}", get(inspect))
        .route("/volumes/{name}", put(update))
}

async fn list(State(api): State<Arc<Api>>, params: Params) -> Result<Response> {
    let filters = params.filters()?.only(&["dangling", "driver", "label", "name"])?;
    let dangling = filters.flag("dangling")?;
    let users = api.engine.volume_users().await?;
    let volumes = api.engine.volumes().await?;
    let list: Vec<Value> = volumes
        .iter()
        .filter(|volume| {
            dangling.is_none_or(|wanted| wanted != users.contains_key(&volume.name))
                && filters.any("driver", |driver| *driver == volume.driver)
                && filters.any("name", |name| volume.name.as_str().contains(name.as_str()))
                && filters.labels(|key| volume.labels.get(key))
        })
        .map(document)
        .collect();
    Ok(reply::json(&json!({ "Volumes": list, "Warnings": null })))
}

async fn inspect(State(api): State<Arc<Api>>, Path(name): Path<String>) -> Result<Response> {
    let volume = api.engine.volume(&parsed(&name)?).await?;
    Ok(reply::json(&document(&volume)))
}

/// Only volumes of a cluster can be changed.
async fn update() -> ApiError {
    ApiError::new(
        StatusCode::SERVICE_UNAVAILABLE,
        "volume update only valid for cluster volumes, but swarm is unavailable",
    )
}

/// What cannot be a volume's name is the name of none.
pub(super) fn parsed(name: &str) -> Result<Name> {
    name.parse().map_err(|_| ApiError::not_found(format!("get {name}: no such volume")))
}

pub(super) fn document(volume: &engine_core::volume_driver::Volume) -> Value {
    let mut document = serde_json::to_value(volume_inspect(volume, None)).unwrap_or_default();
    // Docker tells "none were given" from "none are there".
    for (key, empty) in [("Labels", volume.labels.is_empty()), ("Options", volume.driver_options.is_empty())]
    {
        if empty {
            document[key] = Value::Null;
        }
    }
    document
}
