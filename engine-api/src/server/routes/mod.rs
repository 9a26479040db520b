//! The paths of the API, one file for each group. Handlers turn a request into calls of the engine and its answer into
//! documents; they decide nothing.

mod absent;
mod build;
mod containers;
mod exec;
mod images;
mod networks;
mod system;
mod volumes;

use std::sync::Arc;

use axum::Router;

use super::api::Api;
use super::native;

pub(super) fn all() -> Router<Arc<Api>> {
    Router::new()
        .merge(system::routes())
        .merge(containers::routes())
        .merge(exec::routes())
        .merge(images::routes())
        .merge(networks::routes())
        .merge(volumes::routes())
        .merge(build::routes())
        .merge(native::routes())
        .merge(absent::routes())
        .fallback(absent::no_such_page)
        .method_not_allowed_fallback(absent::no_such_page)
}
