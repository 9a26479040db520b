//! Volumes, over the wire.

use std::ops::ControlFlow;

use axum::response::Response;
use engine_core::engine::PruneOptions;
use engine_core::id::Name;
use engine_core::volume_driver::VolumeOptions;

use super::call::Call;

pub(super) async fn answer(operation: &str, call: Call) -> ControlFlow<Response, Call> {
    ControlFlow::Break(match operation {
        "create_volume" => {
            call.plain(async move |engine, (name, options): (Name, VolumeOptions)| {
                engine.create_volume(&name, &options).await
            })
            .await
        }
        "volume" => call.plain(async move |engine, (name,): (Name,)| engine.volume(&name).await).await,
        "volumes" => call.plain(async move |engine, (): ()| engine.volumes().await).await,
        "volume_users" => call.plain(async move |engine, (): ()| engine.volume_users().await).await,
        "volume_usage" => {
            call.plain(async move |engine, (name,): (Name,)| engine.volume_usage(&name).await).await
        }
        "export_volume" => {
            call.bytes(async move |engine, (name,): (Name,)| engine.export_volume(&name).await).await
        }
        "import_volume" => {
            call.taking(async move |engine, (name,): (Name,), archive| {
                engine.import_volume(&name, archive).await
            })
            .await
        }
        "remove_volume" => {
            call.plain(async move |engine, (name,): (Name,)| engine.remove_volume(&name).await).await
        }
        "rename_volume" => {
            call.plain(async move |engine, (name, new): (Name, Name)| engine.rename_volume(&name, &new).await)
                .await
        }
        "prune_volumes" => {
            call.plain(async move |engine, (options,): (PruneOptions,)| engine.prune_volumes(&options).await)
                .await
        }
        _ => return ControlFlow::Continue(call),
    })
}
