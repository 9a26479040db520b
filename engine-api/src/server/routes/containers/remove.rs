//! `DELETE /containers/{id}`, `POST /containers/prune`.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, State};
use axum::response::Response;
use axum::routing::{delete, post};
use engine_core::engine::RemoveOptions;
use engine_core::{ContainerStatus, ErrorKind};
use serde_json::json;

use crate::server::api::Api;
use crate::server::error::{ApiError, Result};
use crate::server::params::Params;
use crate::server::{prune, reply};

pub(super) fn routes() -> Router<Arc<Api>> {
    Router::new().route("/containers/{id}", delete(remove)).route("/containers/prune", post(prune_all))
}

async fn remove(State(api): State<Arc<Api>>, Path(name): Path<String>, params: Params) -> Result<Response> {
    if params.flag("link") {
        return Err(ApiError::bad_request("removing a link alone is not supported: remove its container"));
    }
    let container = api.engine.container(&name).await?;
    let info = container.inspect().await?;
    let force = params.flag("force");
    let refused = |status: ContainerStatus| {
        let why = match status {
            ContainerStatus::Paused => "container is paused and must be unpaused first".to_owned(),
            status => format!(
                "container is {}: stop the container before removing or force remove",
                status.as_str()
            ),
        };
        ApiError::conflict(format!("cannot remove container \"/{}\": {why}", info.name))
    };
    if info.state.status.is_running() && !force {
        return Err(refused(info.state.status));
    }
    let options = RemoveOptions::default().with_force(force).with_volumes(params.flag("v"));
    match container.remove(options).await {
        Ok(()) => {
            api.forget(container.id());
            Ok(reply::no_content())
        }
        // It was started since.
        Err(error) if error.kind() == ErrorKind::Conflict && !force => Err(refused(ContainerStatus::Running)),
        Err(error) => Err(error.into()),
    }
}

async fn prune_all(State(api): State<Arc<Api>>, params: Params) -> Result<Response> {
    let filters = params.filters()?.only(&["until", "label", "label!"])?;
    let pruned = api.engine.prune_containers(&prune::options(&filters)?).await?;
    let removed: Vec<&str> = pruned.removed.iter().map(|id| id.as_str()).collect();
    Ok(reply::json(&json!({ "ContainersDeleted": removed, "SpaceReclaimed": pruned.bytes })))
}
