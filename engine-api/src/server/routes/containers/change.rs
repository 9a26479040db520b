//! `POST /containers/{id}/rename`, `/update`.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, State};
use axum::response::Response;
use axum::routing::post;
use engine_core::{ErrorKind, Resources};
use serde_json::json;

use crate::models::HostConfig;
use crate::server::api::Api;
use crate::server::body::Json;
use crate::server::error::{ApiError, Result};
use crate::server::params::Params;
use crate::server::reply;

use super::create::{bad, limits, restart_policy};
use super::names;

pub(super) fn routes() -> Router<Arc<Api>> {
    Router::new()
        .route("/containers/{id}/rename", post(rename))
        .route("/containers/{id}/update", post(update))
}

async fn rename(State(api): State<Arc<Api>>, Path(name): Path<String>, params: Params) -> Result<Response> {
    let container = api.engine.container(&name).await?;
    let Some(wanted) = params.text("name") else {
        return Err(ApiError::bad_request("Neither old nor new names may be empty"));
    };
    let wanted = names::read(wanted)?;
    match container.rename(&wanted).await {
        Ok(()) => Ok(reply::no_content()),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            let taken = names::taken(&api.engine, &wanted).await;
            Err(ApiError::conflict(format!("Error when allocating new name: {}", taken.message)))
        }
        Err(error) => Err(error.into()),
    }
}

/// The document is a part of `HostConfig`, and nothing around it.
async fn update(
    State(api): State<Arc<Api>>,
    Path(name): Path<String>,
    Json(wish): Json<HostConfig>,
) -> Result<Response> {
    let container = api.engine.container(&name).await?;
    // What cannot be changed is told, and not passed over.
    for (field, is_there) in [
        ("Devices", wish.devices.as_ref().is_some_and(|list| !list.is_empty())),
        ("DeviceRequests", wish.device_requests.as_ref().is_some_and(|list| !list.is_empty())),
        ("DeviceCgroupRules", wish.device_cgroup_rules.as_ref().is_some_and(|list| !list.is_empty())),
        ("Ulimits", wish.ulimits.as_ref().is_some_and(|list| !list.is_empty())),
        ("CgroupParent", wish.cgroup_parent.as_ref().is_some_and(|parent| !parent.is_empty())),
        ("Init", wish.init == Some(true)),
    ] {
        if is_there {
            return Err(bad(field, "it cannot be changed"));
        }
    }
    let limits = limits::resources(&wish)?;
    let policy = wish.restart_policy.as_ref().filter(|policy| policy.name.is_some());
    // Clients send an empty one for no change.
    let policy = policy.filter(|policy| policy.name != Some(crate::models::RestartPolicyNameEnum::EMPTY));
    let policy = policy.map(restart_policy).transpose()?;
    // Told before anything is changed.
    if policy.is_some_and(|policy| policy.is_on()) && container.inspect().await?.spec.auto_remove {
        return Err(ApiError::bad_request(
            "Restart policy cannot be updated because AutoRemove is enabled for the container",
        ));
    }
    if limits != Resources::default() {
        container.update(&limits).await?;
    }
    if let Some(policy) = policy {
        container.update_restart_policy(policy).await?;
    }
    Ok(reply::json(&json!({ "Warnings": [] })))
}
