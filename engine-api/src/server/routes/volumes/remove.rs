//! `DELETE /volumes/{name}`, `POST /volumes/prune`.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, State};
use axum::response::Response;
use axum::routing::{delete, post};
use engine_core::ErrorKind;
use serde_json::json;

use super::list::parsed;
use crate::server::api::Api;
use crate::server::error::{ApiError, Result};
use crate::server::params::Params;
use crate::server::version::ApiVersion;
use crate::server::{prune, reply};

pub(super) fn routes() -> Router<Arc<Api>> {
    Router::new().route("/volumes/{name}", delete(remove)).route("/volumes/prune", post(prune_volumes))
}

async fn remove(State(api): State<Arc<Api>>, Path(name): Path<String>, params: Params) -> Result<Response> {
    let force = params.flag("force");
    let Ok(volume) = parsed(&name) else {
        return if force { Ok(reply::no_content()) } else { parsed(&name).map(|_| reply::no_content()) };
    };
    match api.engine.volume(&volume).await {
        Err(error) if error.kind() == ErrorKind::NotFound && !force => return Err(error.into()),
        // Another failure is the removal's to report: a damaged volume can be removed.
        _ => {}
    }
    let removed = api.engine.remove_volume(&volume).await;
    if let Err(error) = &removed
        && error.kind() == ErrorKind::Conflict
    {
        let containers = api.engine.containers().await?;
        let uses = |mount: &engine_core::container_spec::MountSpec| mount.volume_name() == Some(&volume);
        let users: Vec<String> = containers
            .iter()
            .filter(|info| info.spec.mounts.iter().any(uses))
            .map(|info| info.id.to_string())
            .collect();
        return Err(ApiError::conflict(format!("remove {name}: volume is in use - [{}]", users.join(", "))));
    }
    removed?;
    Ok(reply::no_content())
}

async fn prune_volumes(State(api): State<Arc<Api>>, version: ApiVersion, params: Params) -> Result<Response> {
    let filters = params.filters()?.only(&["all", "label", "label!"])?;
    // Named volumes went as well before the filter was there.
    let all = filters.flag("all")?.unwrap_or(version < ApiVersion::v1(42));
    let options = prune::options(&filters)?.with_all(all);
    let pruned = api.engine.prune_volumes(&options).await?;
    let names: Vec<_> = pruned.removed.iter().map(ToString::to_string).collect();
    Ok(reply::json(&json!({ "VolumesDeleted": names, "SpaceReclaimed": pruned.bytes })))
}
