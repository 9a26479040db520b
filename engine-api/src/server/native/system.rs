//! The engine as a whole, over the wire.

use std::ops::ControlFlow;

use axum::response::Response;
use engine_core::events::EventQuery;
use engine_core::id::{ContainerId, Name};

use super::call::{Call, Ops};
use crate::wire::{self, Hello};

pub(super) async fn answer(operation: &str, call: Call) -> ControlFlow<Response, Call> {
    ControlFlow::Break(match operation {
        "hello" => call.plain(async move |engine, (): ()| Ok(hello(&engine))).await,
        "info" => call.plain(async move |engine, (): ()| engine.info().await).await,
        "events" => {
            call.stream(async move |engine, (query,): (EventQuery,)| engine.events(query).await, wire::text)
                .await
        }
        "event_cursor" => call.plain(async move |engine, (): ()| engine.event_cursor().await).await,
        "diagnose" => call.plain(async move |engine, (): ()| engine.diagnose().await).await,
        "disk_usage" => call.plain(async move |engine, (): ()| engine.disk_usage().await).await,
        "container_usage" => {
            call.plain(async move |engine, (id,): (ContainerId,)| engine.container_usage(&id).await).await
        }
        _ => return ControlFlow::Continue(call),
    })
}

fn hello(engine: &Ops) -> Hello {
    let default_network = engine.default_network().cloned();
    let modes = ["none", "host"].into_iter().filter_map(|name| name.parse::<Name>().ok());
    let all = modes.chain(default_network.clone());
    let predefined = all.filter(|name| engine.is_predefined(name)).collect();
    Hello { default_network, predefined }
}
