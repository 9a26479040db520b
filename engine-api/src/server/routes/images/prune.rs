//! `POST /images/prune`.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::response::Response;
use axum::routing::post;
use engine_core::engine::ImagePruneOptions;
use serde_json::json;

use super::remove::records;
use crate::server::api::Api;
use crate::server::error::Result;
use crate::server::filters::Filters;
use crate::server::params::Params;
use crate::server::{prune, reply};

pub(super) fn routes() -> Router<Arc<Api>> {
    Router::new().route("/images/prune", post(prune_images))
}

async fn prune_images(State(api): State<Arc<Api>>, params: Params) -> Result<Response> {
    let filters = params.filters()?.only(&["dangling", "label", "label!", "until"])?;
    let mut options = ImagePruneOptions::default().with_all(filters.flag("dangling")? == Some(false));
    options.until = prune::until(&filters)?;
    options.labels = labels(&filters, "label");
    options.without_labels = labels(&filters, "label!");
    // Which of the content are images is not known once they are gone.
    let ids: HashSet<_> = api.engine.images().await?.into_iter().filter_map(|image| image.id).collect();
    let pruned = api.engine.prune_images(&options).await?;
    let records = records(&pruned.untagged, pruned.deleted, |digest| ids.contains(digest));
    Ok(reply::json(&json!({
        "ImagesDeleted": Some(records).filter(|records| !records.is_empty()),
        "SpaceReclaimed": pruned.bytes,
    })))
}

fn labels(filters: &Filters, name: &str) -> BTreeMap<String, Option<String>> {
    let pair = |text: &String| match text.split_once('=') {
        Some((key, value)) => (key.to_owned(), Some(value.to_owned())),
        None => (text.clone(), None),
    };
    filters.get(name).iter().map(pair).collect()
}
