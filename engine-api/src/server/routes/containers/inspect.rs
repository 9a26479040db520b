//! `GET /containers/{id}/json`.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, State};
use axum::response::Response;
use axum::routing::get;
use serde_json::{Value, json};

use crate::documents::{Shown, container_document};
use crate::server::api::Api;
use crate::server::error::Result;
use crate::server::params::Params;
use crate::server::reply;
use crate::server::version::ApiVersion;

pub(super) fn routes() -> Router<Arc<Api>> {
    Router::new().route("/containers/{id}/json", get(inspect))
}

async fn inspect(
    State(api): State<Arc<Api>>,
    Path(name): Path<String>,
    version: ApiVersion,
    params: Params,
) -> Result<Response> {
    let container = api.engine.container(&name).await?;
    let info = container.inspect().await?;
    let shown = Shown::default()
        .with_size(params.flag("size"))
        .with_default_network(version < ApiVersion::v1(52))
        .with_manifest(version >= ApiVersion::v1(48));
    let mut document = container_document(&container, &info, &shown).await?;
    let execs: Vec<String> = api.execs.running_in(&info.id).iter().map(ToString::to_string).collect();
    document["ExecIDs"] = if execs.is_empty() { Value::Null } else { json!(execs) };
    if let Some(why) = api.failures.of(&info.id).filter(|_| !info.state.status.is_running()) {
        document["State"]["Error"] = json!(why);
    }
    Ok(reply::json(&document))
}
