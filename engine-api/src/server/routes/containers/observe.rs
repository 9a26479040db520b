//! `GET /containers/{id}/top`, `/changes`.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, State};
use axum::response::Response;
use axum::routing::get;
use engine_core::files::ChangeKind;
use engine_core::top::ProcessTable;
use serde_json::{Value, json};

use crate::server::api::Api;
use crate::server::error::{ApiError, Result};
use crate::server::params::Params;
use crate::server::reply;

pub(super) fn routes() -> Router<Arc<Api>> {
    Router::new().route("/containers/{id}/top", get(top)).route("/containers/{id}/changes", get(changes))
}

async fn top(State(api): State<Arc<Api>>, Path(name): Path<String>, params: Params) -> Result<Response> {
    let container = api.engine.container(&name).await?;
    if !container.inspect().await?.state.status.is_running() {
        return Err(ApiError::conflict(format!("container {} is not running", container.id())));
    }
    let options: Vec<String> = params.text("ps_args").map(str::to_owned).into_iter().collect();
    let table = ProcessTable::new(&container.processes().await?, &options)?;
    Ok(reply::json(&json!({ "Titles": table.titles, "Processes": table.rows })))
}

async fn changes(State(api): State<Arc<Api>>, Path(name): Path<String>) -> Result<Response> {
    let changes = api.engine.container(&name).await?.changes().await?;
    let documents: Vec<Value> = changes
        .iter()
        .map(|change| {
            let kind = match change.kind {
                ChangeKind::Added => 1,
                ChangeKind::Deleted => 2,
                _ => 0,
            };
            json!({ "Path": change.path, "Kind": kind })
        })
        .collect();
    // Docker's list of nothing is none.
    Ok(reply::json(&(!documents.is_empty()).then_some(documents)))
}
