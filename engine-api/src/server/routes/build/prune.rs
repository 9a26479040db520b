//! `POST /build/prune`: which steps of the cache go.
//!
//! Invariant: what a client gives to spare some of the cache spares it, or is refused.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::response::Response;
use axum::routing::post;
use engine_core::engine::{BuildCacheEntry, PruneBuildCache};
use serde_json::json;

use crate::server::api::Api;
use crate::server::error::{ApiError, Result};
use crate::server::filters::Filters;
use crate::server::params::Params;
use crate::server::{prune, reply};

pub(super) fn routes() -> Router<Arc<Api>> {
    Router::new().route("/build/prune", post(prune_cache))
}

/// Filters by what a step is, besides its id.
const KINDS: [&str; 8] = ["type", "description", "inuse", "shared", "private", "parent", "label", "label!"];

async fn prune_cache(State(api): State<Arc<Api>>, params: Params) -> Result<Response> {
    let known = [&["until", "id", "unused-for"], &KINDS[..]].concat();
    let filters = params.filters()?.only(&known)?;
    let mut options = PruneBuildCache::default();
    options.until = prune::until(&filters)?;
    options.ids = filters.get("id").to_vec();
    options.keep = keep(&params)?;
    if KINDS.iter().any(|name| !filters.get(name).is_empty()) {
        let mut matching = Vec::new();
        for step in api.engine.build_cache().await? {
            if matches(&filters, &step)? && (options.ids.is_empty() || named(&options.ids, &step)) {
                matching.push(step.id.hex().to_owned());
            }
        }
        if matching.is_empty() {
            return Ok(told(&[], 0));
        }
        options.ids = matching;
    }
    let pruned = api.engine.prune_build_cache(&options).await?;
    let removed: Vec<&str> = pruned.removed.iter().map(|id| id.hex()).collect();
    Ok(told(&removed, pruned.bytes))
}

fn told(removed: &[&str], bytes: u64) -> Response {
    reply::json(&json!({ "CachesDeleted": removed, "SpaceReclaimed": bytes }))
}

/// How many bytes may stay. What is reserved stays, whatever else there is.
fn keep(params: &Params) -> Result<Option<u64>> {
    let size = |name: &str| -> Result<_> { Ok(params.number::<u64>(name)?.filter(|bytes| *bytes != 0)) };
    if size("min-free-space")?.is_some() {
        return Err(ApiError::bad_request(
            "min-free-space is not carried out: say with max-used-space what the cache may take",
        ));
    }
    // The second is what it was called before.
    let reserved = size("reserved-space")?.or(size("keep-storage")?);
    Ok(reserved.max(size("max-used-space")?))
}

/// Whether a step is what filters of its kind ask for. Steps are not in use, and have neither labels nor parents.
fn matches(filters: &Filters, step: &BuildCacheEntry) -> Result<bool> {
    let flag =
        |name: &str, is: bool| -> Result<_> { Ok(filters.flag(name)?.is_none_or(|wanted| wanted == is)) };
    let nothing = ["parent", "label", "label!"].iter().any(|name| !filters.get(name).is_empty());
    Ok(!nothing
        && filters.any("type", |kind| kind == "regular")
        && filters.any("description", |text| *text == step.description)
        && flag("inuse", false)?
        && flag("shared", step.shared)?
        && flag("private", !step.shared)?)
}

/// Whether one of the ids names a step. One without a digit names none, rather than all.
fn named(ids: &[String], step: &BuildCacheEntry) -> bool {
    let digits = |id: &String| id.strip_prefix("sha256:").unwrap_or(id).to_owned();
    ids.iter().map(digits).any(|id| !id.is_empty() && step.id.hex().starts_with(&id))
}
