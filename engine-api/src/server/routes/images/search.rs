//! `GET /images/search`: in a registry that lists its repositories.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::response::Response;
use axum::routing::get;
use engine_core::reference::DEFAULT_REGISTRY;
use hyper::header::HeaderMap;
use serde_json::{Value, json};

use super::create::with_credentials;
use crate::server::api::Api;
use crate::server::error::{ApiError, Result};
use crate::server::params::Params;
use crate::server::{registry_auth, reply};

/// Docker's.
const LIMIT: usize = 25;

pub(super) fn routes() -> Router<Arc<Api>> {
    Router::new().route("/images/search", get(search))
}

async fn search(State(api): State<Arc<Api>>, params: Params, headers: HeaderMap) -> Result<Response> {
    let term = params.required("term")?;
    let limit = params.number::<usize>("limit")?.filter(|limit| *limit > 0).unwrap_or(LIMIT);
    let filters = params.filters()?.only(&["is-automated", "is-official", "stars"])?;
    let reference = super::reference(term)?;
    if reference.registry() == DEFAULT_REGISTRY {
        return Err(ApiError::unsupported(
            "Docker Hub is not searched: search a registry that lists its repositories, as HOST/TERM",
        ));
    }
    let registry = with_credentials(&api, &reference, registry_auth::of(&headers).as_ref())?;
    let repositories = registry.catalog(reference.registry()).await?;
    // Nothing there has a star, or is official.
    let none =
        ["is-automated", "is-official"].iter().any(|name| filters.get(name).contains(&"true".to_owned()))
            || filters.get("stars").iter().any(|stars| stars != "0");
    let found: Vec<Value> = repositories
        .iter()
        .filter(|name| !none && name.contains(reference.repository()))
        .take(limit)
        .map(|name| {
            json!({
                "name": format!("{}/{name}", reference.registry()),
                "description": "",
                "star_count": 0,
                "is_official": false,
                "is_automated": false,
            })
        })
        .collect();
    Ok(reply::json(&found))
}
