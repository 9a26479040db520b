//! `GET /networks`, `GET /networks/{id}`.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, State};
use axum::response::Response;
use axum::routing::get;
use engine_core::network::NetworkInfo;
use serde_json::{Value, json};

use crate::documents::network_inspect;
use crate::server::api::Api;
use crate::server::error::{ApiError, Result};
use crate::server::filters::Filters;
use crate::server::params::Params;
use crate::server::reply;
use crate::server::version::ApiVersion;

const FILTERS: &[&str] = &["dangling", "driver", "id", "label", "name", "scope", "type"];

pub(super) fn routes() -> Router<Arc<Api>> {
    Router::new().route("/networks", get(list)).route("/networks/{id}", get(inspect))
}

async fn list(State(api): State<Arc<Api>>, version: ApiVersion, params: Params) -> Result<Response> {
    let filters = params.filters()?.only(FILTERS)?;
    let dangling = filters.flag("dangling")?;
    if let Some(wrong) =
        filters.get("type").iter().find(|kind| !matches!(kind.as_str(), "custom" | "builtin"))
    {
        return Err(ApiError::bad_request(format!("invalid filter: 'type'='{wrong}'")));
    }
    if let Some(wrong) = filters.get("scope").iter().find(|scope| !is_scope(scope)) {
        return Err(ApiError::bad_request(format!("invalid filter: 'scope'='{wrong}'")));
    }
    let mut networks = api.engine.networks().await?;
    networks.retain(|info| {
        let is_custom = !api.engine.is_predefined(&info.name);
        // One that nobody made is there whether or not it is used.
        dangling.is_none_or(|wanted| is_custom && wanted == info.endpoints.is_empty())
            && filters.any("type", |kind| (kind == "custom") == is_custom)
            && matches(info, &filters)
    });
    let list: Vec<Value> = networks.iter().map(|info| document(info, version, false)).collect();
    Ok(reply::json(&list))
}

fn is_scope(scope: &str) -> bool {
    matches!(scope, "local" | "global" | "swarm")
}

fn matches(info: &NetworkInfo, filters: &Filters) -> bool {
    filters.any("driver", |driver| info.options.driver.as_ref() == Some(driver))
        && filters.any("id", |id| info.id.starts_with(id.as_str()))
        && filters.any("name", |name| info.name.as_str().contains(name.as_str()))
        && filters.any("scope", |scope| scope == "local")
        && filters.labels(|key| info.options.labels.get(key))
}

async fn inspect(
    State(api): State<Arc<Api>>,
    Path(name): Path<String>,
    version: ApiVersion,
    params: Params,
) -> Result<Response> {
    if let Some(verbose) = params.text("verbose")
        && !matches!(verbose, "1" | "0" | "t" | "f" | "true" | "false" | "True" | "False" | "TRUE" | "FALSE")
    {
        return Err(ApiError::bad_request(format!("invalid value for verbose: {verbose}")));
    }
    let info = api.engine.network(&name).await?;
    if params.text("scope").is_some_and(|scope| scope != "local") {
        return Err(ApiError::not_found(format!("network {name} not found")));
    }
    Ok(reply::json(&document(&info, version, true)))
}

/// The document of a network; a list does not say who is on it, as Docker's has not since 1.28.
fn document(info: &NetworkInfo, version: ApiVersion, whole: bool) -> Value {
    let mut document = serde_json::to_value(network_inspect(info)).unwrap_or_default();
    document["ConfigFrom"] = json!({ "Network": "" });
    if !whole && version >= ApiVersion::v1(28) {
        document["Containers"] = json!({});
    }
    if version < ApiVersion::v1(48)
        && let Some(map) = document.as_object_mut()
    {
        map.remove("EnableIPv4");
    }
    document
}
