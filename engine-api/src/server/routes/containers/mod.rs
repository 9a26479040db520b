//! `/containers/…`.

mod archive;
mod attach;
mod change;
mod create;
mod inspect;
mod list;
mod logs;
mod names;
mod observe;
mod remove;
mod start;
mod stats;
mod stop;
mod wait;

pub(super) use create::limits;

use std::sync::Arc;

use axum::Router;

use crate::server::api::Api;

pub(super) use create::endpoint_options;
pub(super) use start::unrunnable;

pub(super) fn routes() -> Router<Arc<Api>> {
    Router::new()
        .merge(archive::routes())
        .merge(attach::routes())
        .merge(change::routes())
        .merge(create::routes())
        .merge(inspect::routes())
        .merge(list::routes())
        .merge(logs::routes())
        .merge(observe::routes())
        .merge(remove::routes())
        .merge(start::routes())
        .merge(stats::routes())
        .merge(stop::routes())
        .merge(wait::routes())
}
