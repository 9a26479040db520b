//! `/_ping`, `/version`, `/info`, `/events`, `/system/df`.

mod df;
mod events;
mod info;
mod ping;

use std::sync::Arc;

use axum::Router;

use crate::server::api::Api;

pub(super) fn routes() -> Router<Arc<Api>> {
    Router::new().merge(df::routes()).merge(events::routes()).merge(info::routes()).merge(ping::routes())
}
