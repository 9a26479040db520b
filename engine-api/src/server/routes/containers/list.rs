//! `GET /containers/json`.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::response::Response;
use axum::routing::get;
use engine_core::ErrorKind;

use crate::documents::{container_summary, image_size};
use crate::listing::ContainerFilters;
use crate::server::api::Api;
use crate::server::error::Result;
use crate::server::params::Params;
use crate::server::reply;

pub(super) fn routes() -> Router<Arc<Api>> {
    Router::new().route("/containers/json", get(list))
}

async fn list(State(api): State<Arc<Api>>, params: Params) -> Result<Response> {
    let given = params.filters()?;
    // Until 1.24 these two were parameters, which clients still send.
    let mut pairs: Vec<(&str, &str)> = given.pairs().collect();
    for name in ["since", "before"] {
        pairs.extend(params.text(name).map(|value| (name, value)));
    }
    let filters = ContainerFilters::read(&api.engine, &pairs).await?;
    let limit = params.number::<i64>("limit")?.and_then(|limit| usize::try_from(limit).ok());
    let limit = limit.filter(|limit| *limit > 0);
    let everything = params.flag("all") || limit.is_some() || filters.names_a_status();
    let mut found = api.engine.containers().await?;
    found.retain(|info| (everything || info.state.status.is_running()) && filters.matches(info));
    found.truncate(limit.unwrap_or(usize::MAX));
    let volume_driver = api.engine.info().await?.volume_driver;
    let mut documents = Vec::with_capacity(found.len());
    for info in &found {
        let mut document = container_summary(info);
        for point in document.mounts.iter_mut().flatten() {
            if point.name.is_some() {
                point.driver = Some(volume_driver.clone());
            }
        }
        if params.flag("size") {
            let written = match api.engine.container_usage(&info.id).await {
                Ok(written) => written,
                // It has gone since.
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                Err(error) => return Err(error.into()),
            };
            let whole = written + image_size(&api.engine, info).await;
            document.size_rw = i64::try_from(written).ok();
            document.size_root_fs = i64::try_from(whole).ok();
        }
        documents.push(document);
    }
    Ok(reply::json(&documents))
}
