//! Containers, over the wire.

use std::ops::ControlFlow;
use std::time::Duration;

use axum::response::Response;
use engine_core::container_spec::ContainerSpec;
use engine_core::engine::{PruneOptions, RemoveOptions};
use engine_core::id::{ContainerId, Name};
use engine_core::network::EndpointOptions;
use engine_core::resources::Resources;
use engine_core::restart::RestartPolicy;

use super::call::Call;
use super::scoped;
use crate::wire;

pub(super) async fn answer(operation: &str, call: Call) -> ControlFlow<Response, Call> {
    ControlFlow::Break(match operation {
        "create_container" => {
            call.plain(async move |engine, (image, spec): (String, ContainerSpec)| {
                engine.create_container(&image, spec).await
            })
            .await
        }
        "create_scoped_container" => scoped::create(call).await,
        "find_container" => {
            call.plain(async move |engine, (name,): (String,)| engine.find_container(&name).await).await
        }
        "containers" => call.plain(async move |engine, (): ()| engine.containers().await).await,
        "inspect_container" => {
            call.plain(async move |engine, (id,): (ContainerId,)| engine.inspect_container(&id).await).await
        }
        "start_container" => {
            call.plain(async move |engine, (id,): (ContainerId,)| engine.start_container(&id, None).await)
                .await
        }
        "wait_container" => {
            call.waiting(async move |engine, (id,): (ContainerId,)| engine.wait_container(&id).await).await
        }
        "stop_container" => {
            call.plain(
                async move |engine, (id, signal, timeout): (ContainerId, Option<i32>, Option<Duration>)| {
                    engine.stop_container(&id, signal, timeout).await
                },
            )
            .await
        }
        "restart_container" => {
            call.plain(
                async move |engine, (id, signal, timeout): (ContainerId, Option<i32>, Option<Duration>)| {
                    engine.restart_container(&id, signal, timeout).await
                },
            )
            .await
        }
        "kill_container" => {
            call.plain(async move |engine, (id, signal): (ContainerId, i32)| {
                engine.kill_container(&id, signal).await
            })
            .await
        }
        "pause_container" => {
            call.plain(async move |engine, (id,): (ContainerId,)| engine.pause_container(&id).await).await
        }
        "resume_container" => {
            call.plain(async move |engine, (id,): (ContainerId,)| engine.resume_container(&id).await).await
        }
        "remove_container" => {
            call.plain(async move |engine, (id, options): (ContainerId, RemoveOptions)| {
                engine.remove_container(&id, options).await
            })
            .await
        }
        "update_container" => {
            call.plain(async move |engine, (id, resources): (ContainerId, Resources)| {
                engine.update_container(&id, &resources).await
            })
            .await
        }
        "update_restart_policy" => {
            call.plain(async move |engine, (id, policy): (ContainerId, RestartPolicy)| {
                engine.update_restart_policy(&id, policy).await
            })
            .await
        }
        "rename_container" => {
            call.plain(async move |engine, (id, name): (ContainerId, Name)| {
                engine.rename_container(&id, &name).await
            })
            .await
        }
        "connect_container" => {
            call.plain(async move |engine, (id, network, options): (ContainerId, String, EndpointOptions)| {
                engine.connect_container(&id, &network, options).await
            })
            .await
        }
        "disconnect_container" => {
            call.plain(async move |engine, (id, network, force): (ContainerId, String, bool)| {
                engine.disconnect_container(&id, &network, force).await
            })
            .await
        }
        "container_stats" => {
            call.plain(async move |engine, (id,): (ContainerId,)| engine.container_stats(&id).await).await
        }
        "container_stats_stream" => {
            call.stream(
                async move |engine, (id, interval): (ContainerId, Duration)| {
                    engine.container_stats_stream(&id, interval).await
                },
                wire::text,
            )
            .await
        }
        "container_processes" => {
            call.plain(async move |engine, (id,): (ContainerId,)| engine.container_processes(&id).await).await
        }
        "prune_containers" => {
            call.plain(async move |engine, (options,): (PruneOptions,)| {
                engine.prune_containers(&options).await
            })
            .await
        }
        "start_all" => {
            call.plain(async move |engine, (): ()| {
                Ok(engine.start_all().await?.iter().map(wire::Start::of).collect::<Vec<_>>())
            })
            .await
        }
        _ => return ControlFlow::Continue(call),
    })
}
