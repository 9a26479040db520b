//! `POST /commit`.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::response::Response;
use axum::routing::post;
use engine_core::engine::CommitOptions;
use engine_core::image_config::ProcessDefaults;
use hyper::StatusCode;
use serde_json::{Value, json};

use crate::server::api::Api;
use crate::server::body::{self, OptionalJson};
use crate::server::error::Result;
use crate::server::params::Params;
use crate::server::reply;

pub(super) fn routes() -> Router<Arc<Api>> {
    Router::new().route("/commit", post(commit))
}

async fn commit(
    State(api): State<Arc<Api>>,
    params: Params,
    OptionalJson(config): OptionalJson<Value>,
) -> Result<Response> {
    let container = api.engine.container(params.required("container")?).await?;
    let mut options = CommitOptions::default();
    options.name = params.text("repo").map(|repo| super::target(repo, params.text("tag"))).transpose()?;
    options.author = params.text("author").unwrap_or_default().to_owned();
    options.message = params.text("comment").unwrap_or_default().to_owned();
    options.changes = params.all("changes").flat_map(super::create::instructions).collect();
    options.no_pause = !params.flag_or("pause", true);
    if config.is_object() {
        // A container's configuration has the same words for what an image has of it.
        options.config = body::parsed::<ProcessDefaults>(config)?;
    }
    let id = container.commit(&options).await?;
    Ok(reply::json_with(StatusCode::CREATED, &json!({ "Id": id })))
}
