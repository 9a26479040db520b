//! `DELETE /networks/{id}`, `POST /networks/prune`.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, State};
use axum::response::Response;
use axum::routing::{delete, post};
use engine_core::engine::PruneOptions;
use engine_core::network::NetworkInfo;
use engine_core::{Error, ErrorKind};
use hyper::StatusCode;
use serde_json::json;

use crate::server::api::Api;
use crate::server::error::{ApiError, Result};
use crate::server::params::Params;
use crate::server::{prune, reply};

pub(super) fn routes() -> Router<Arc<Api>> {
    Router::new().route("/networks/{id}", delete(remove)).route("/networks/prune", post(prune_networks))
}

async fn remove(State(api): State<Arc<Api>>, Path(name): Path<String>) -> Result<Response> {
    let info = api.engine.network(&name).await?;
    if api.engine.is_predefined(&info.name) {
        return Err(ApiError::new(
            StatusCode::FORBIDDEN,
            format!("{} is a pre-defined network and cannot be removed", info.name),
        ));
    }
    api.engine.remove_network(&info.id).await.map_err(|error| in_use(&info, error))?;
    Ok(reply::no_content())
}

/// Docker answers 403 here, and not the 409 of other things in use.
fn in_use(info: &NetworkInfo, error: Error) -> ApiError {
    if error.kind() != ErrorKind::Conflict {
        return error.into();
    }
    let users: Vec<String> = info
        .endpoints
        .iter()
        .map(|endpoint| {
            let name = endpoint.options.names.first().map_or("", String::as_str);
            format!("name:{name:?} id:{:?}", endpoint.container.short())
        })
        .collect();
    ApiError::new(
        StatusCode::FORBIDDEN,
        format!(
            "error while removing network: network {} has active endpoints ({})",
            info.name,
            users.join(", ")
        ),
    )
}

async fn prune_networks(State(api): State<Arc<Api>>, params: Params) -> Result<Response> {
    let filters = params.filters()?.only(&["label", "label!", "until"])?;
    let mut options: PruneOptions = prune::options(&filters)?;
    // What only a host without a daemon would want goes without filters: the default network itself. It stays here.
    if options == PruneOptions::default() {
        options.until = Some(std::time::SystemTime::now());
    }
    let pruned = api.engine.prune_networks(&options).await?;
    let names: Vec<_> = pruned.removed.iter().map(ToString::to_string).collect();
    Ok(reply::json(&json!({ "NetworksDeleted": Some(names).filter(|names| !names.is_empty()) })))
}
