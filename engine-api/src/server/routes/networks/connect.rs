//! `POST /networks/{id}/connect`, `POST /networks/{id}/disconnect`.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, State};
use axum::response::Response;
use axum::routing::post;
use engine_core::network::EndpointOptions;
use engine_core::{Error, ErrorKind};
use hyper::StatusCode;

use crate::models::{EndpointSettings, NetworkConnectRequest, NetworkDisconnectRequest};
use crate::server::api::Api;
use crate::server::body::Json;
use crate::server::error::{ApiError, Result};
use crate::server::reply;

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
    let options = options(&wanted.endpoint_config.unwrap_or_default())?;
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

/// Reads a container's place on a network.
fn options(settings: &EndpointSettings) -> Result<EndpointOptions> {
    let wrong = |field: &str, value: &str| {
        ApiError::bad_request(format!("invalid endpoint settings: invalid {field}: {value}"))
    };
    let text = |text: Option<&String>| text.cloned().filter(|text| !text.is_empty());
    let mut options = EndpointOptions::default().with_aliases(settings.aliases.clone().unwrap_or_default());
    for link in settings.links.iter().flatten() {
        options.links.push(link.parse()?);
    }
    options.mac = text(settings.mac_address.as_ref()).map(|mac| mac.parse()).transpose()?;
    let asked = settings.ipam_config.clone().unwrap_or_default();
    options.ipv4 = text(asked.ipv4_address.as_ref())
        .map(|value| value.parse().map_err(|_| wrong("IPv4 address", &value)))
        .transpose()?;
    options.ipv6 = text(asked.ipv6_address.as_ref())
        .map(|value| value.parse().map_err(|_| wrong("IPv6 address", &value)))
        .transpose()?;
    if asked.link_local_ips.is_some_and(|list| !list.is_empty()) {
        return Err(ApiError::unsupported("link-local addresses are not supported"));
    }
    let priority = settings.gw_priority.unwrap_or(0);
    options.gateway_priority =
        i32::try_from(priority).map_err(|_| wrong("gateway priority", &priority.to_string()))?;
    options.driver_options = settings.driver_opts.clone().unwrap_or_default().into_iter().collect();
    Ok(options)
}
