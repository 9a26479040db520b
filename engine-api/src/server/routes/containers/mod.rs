//! `/containers/…`.

mod archive;
mod attach;
mod logs;
mod start;
mod stats;
mod wait;

use std::sync::Arc;

use axum::Router;

use crate::server::api::Api;

pub(super) fn routes() -> Router<Arc<Api>> {
    Router::new()
        .merge(archive::routes())
        .merge(attach::routes())
        .merge(logs::routes())
        .merge(start::routes())
        .merge(stats::routes())
        .merge(wait::routes())
}
