//! `GET /images/json`.

use std::collections::HashMap;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::response::Response;
use axum::routing::get;
use serde_json::{Value, json};

use super::summary::{self, Listed};
use crate::notation;
use crate::server::api::Api;
use crate::server::error::Result;
use crate::server::filters::Filters;
use crate::server::params::Params;
use crate::server::version::ApiVersion;
use crate::server::{reply, times};

const FILTERS: &[&str] = &["before", "dangling", "label", "reference", "since", "until"];

pub(super) fn routes() -> Router<Arc<Api>> {
    Router::new().route("/images/json", get(list))
}

async fn list(State(api): State<Arc<Api>>, version: ApiVersion, params: Params) -> Result<Response> {
    let filters = params.filters()?.only(FILTERS)?;
    let mut list = Listed::of(api.engine.images().await?);
    filter(&api, &mut list, &filters).await?;
    // What the last versions before the filter had in its place.
    if version < ApiVersion::v1(25)
        && let Some(pattern) = params.text("filter")
    {
        by_reference(&mut list, &[pattern.to_owned()]);
    }
    let shared = version >= ApiVersion::v1(42) && params.flag("shared-size");
    let usage = if shared { Some(api.engine.image_usage().await?) } else { None };
    let mut users: HashMap<_, usize> = HashMap::new();
    if version >= ApiVersion::v1(51) {
        for container in api.engine.containers().await? {
            *users.entry(container.image_id).or_default() += 1;
        }
    }
    let mut documents = Vec::with_capacity(list.len());
    for listed in &list {
        let usage = usage.as_ref().and_then(|usage| {
            usage.images.iter().find(|known| known.target.digest == listed.image.target.digest)
        });
        let containers =
            (version >= ApiVersion::v1(51)).then(|| users.get(listed.id()).copied().unwrap_or(0));
        let mut document = listed.document(usage, containers);
        if version >= ApiVersion::v1(47) && params.flag("manifests") {
            let name = listed.image.reference.to_string();
            document["Manifests"] = summary::manifests(&api.engine.image_platforms(&name).await?);
        }
        of_version(&mut document, version);
        documents.push(document);
    }
    Ok(reply::json(&documents))
}

async fn filter(api: &Api, list: &mut Vec<Listed>, filters: &Filters) -> Result<()> {
    if let Some(wanted) = filters.flag("dangling")? {
        list.retain(|listed| listed.names.is_empty() == wanted);
    }
    list.retain(|listed| filters.labels(|key| listed.image.labels.get(key)));
    for (key, older) in [("before", true), ("since", false)] {
        for name in filters.get(key) {
            let other = api.engine.image(name).await.map_err(|error| super::absent(name, error))?;
            let other = times::created(&other.config.created);
            list.retain(|listed| {
                let created = times::created(&listed.image.created);
                if older { created < other } else { created > other }
            });
        }
    }
    for text in filters.get("until") {
        let until = times::parse("until", text)?;
        list.retain(|listed| times::created(&listed.image.created).is_none_or(|created| created < until));
    }
    by_reference(list, filters.get("reference"));
    Ok(())
}

/// Leaves the names that match one of the patterns, and the images that have one.
fn by_reference(list: &mut Vec<Listed>, patterns: &[String]) {
    if patterns.is_empty() {
        return;
    }
    let matches = |pattern: &String, name: &engine_core::Reference| {
        notation::matches_glob(pattern, &name.familiar())
            || notation::matches_glob(pattern, &name.familiar_name())
    };
    for listed in list.iter_mut() {
        listed.names.retain(|name| patterns.iter().any(|pattern| matches(pattern, name)));
    }
    list.retain(|listed| !listed.names.is_empty());
}

/// Puts in, and takes out, what this version has otherwise.
fn of_version(document: &mut Value, version: ApiVersion) {
    let nameless = document["RepoTags"].as_array().is_some_and(Vec::is_empty)
        && document["RepoDigests"].as_array().is_some_and(Vec::is_empty);
    if version < ApiVersion::v1(43) && nameless {
        document["RepoTags"] = json!(["<none>:<none>"]);
        document["RepoDigests"] = json!(["<none>@<none>"]);
    }
    if version < ApiVersion::v1(44) {
        document["VirtualSize"] = document["Size"].clone();
    }
    if version < ApiVersion::v1(48)
        && let Some(map) = document.as_object_mut()
    {
        map.remove("Descriptor");
    }
}
