//! Networks, over the wire.

use std::ops::ControlFlow;

use axum::response::Response;
use engine_core::engine::PruneOptions;
use engine_core::id::Name;
use engine_core::network::NetworkOptions;

use super::call::Call;

pub(super) async fn answer(operation: &str, call: Call) -> ControlFlow<Response, Call> {
    ControlFlow::Break(match operation {
        "create_network" => {
            call.plain(async move |engine, (name, options): (Name, NetworkOptions)| {
                engine.create_network(&name, &options).await
            })
            .await
        }
        "network" => call.plain(async move |engine, (name,): (String,)| engine.network(&name).await).await,
        "networks" => call.plain(async move |engine, (): ()| engine.networks().await).await,
        "remove_network" => {
            call.plain(async move |engine, (name,): (String,)| engine.remove_network(&name).await).await
        }
        "prune_networks" => {
            call.plain(async move |engine, (options,): (PruneOptions,)| engine.prune_networks(&options).await)
                .await
        }
        _ => return ControlFlow::Continue(call),
    })
}
