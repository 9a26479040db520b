//! `/networks/…`.

mod connect;
mod create;
mod list;
mod remove;

use std::sync::Arc;

use axum::Router;

use crate::server::api::Api;

pub(super) fn routes() -> Router<Arc<Api>> {
    Router::new()
        .merge(connect::routes())
        .merge(create::routes())
        .merge(list::routes())
        .merge(remove::routes())
}
