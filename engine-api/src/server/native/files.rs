//! Files of containers, and the states of them that are kept, over the wire.

use std::ops::ControlFlow;

use axum::response::Response;
use engine_core::engine::{CommitOptions, ForkOptions};
use engine_core::files::UnpackFiles;
use engine_core::id::{ContainerId, Name};

use super::call::Call;
use crate::wire::Path;

pub(super) async fn answer(operation: &str, call: Call) -> ControlFlow<Response, Call> {
    ControlFlow::Break(match operation {
        "stat_path" => {
            call.plain(async move |engine, (id, path): (ContainerId, Path)| {
                engine.stat_path(&id, &path.0).await
            })
            .await
        }
        "copy_out" => {
            call.described(async move |engine, (id, path): (ContainerId, Path)| {
                engine.copy_out(&id, &path.0).await
            })
            .await
        }
        "copy_in" => {
            call.taking(
                async move |engine, (id, path, options): (ContainerId, Path, UnpackFiles), archive| {
                    engine.copy_in(&id, &path.0, archive, &options).await
                },
            )
            .await
        }
        "export_container" => {
            call.bytes(async move |engine, (id,): (ContainerId,)| engine.export_container(&id).await).await
        }
        "changes" => call.plain(async move |engine, (id,): (ContainerId,)| engine.changes(&id).await).await,
        "rootfs" => call.plain(async move |engine, (id,): (ContainerId,)| engine.rootfs(&id).await).await,
        "commit_container" => {
            call.plain(async move |engine, (id, options): (ContainerId, CommitOptions)| {
                engine.commit_container(&id, &options).await
            })
            .await
        }
        "fork_container" => {
            call.plain(async move |engine, (id, options): (ContainerId, ForkOptions)| {
                engine.fork_container(&id, options).await
            })
            .await
        }
        "snapshot" => {
            call.plain(async move |engine, (id, name): (ContainerId, Option<Name>)| {
                engine.snapshot(&id, name).await
            })
            .await
        }
        "snapshots" => {
            call.plain(async move |engine, (id,): (ContainerId,)| engine.snapshots(&id).await).await
        }
        "changes_since" => {
            call.plain(async move |engine, (id, name): (ContainerId, Name)| {
                engine.changes_since(&id, &name).await
            })
            .await
        }
        "restore" => {
            call.plain(async move |engine, (id, name): (ContainerId, Name)| engine.restore(&id, &name).await)
                .await
        }
        "remove_snapshot" => {
            call.plain(async move |engine, (id, name): (ContainerId, Name)| {
                engine.remove_snapshot(&id, &name).await
            })
            .await
        }
        _ => return ControlFlow::Continue(call),
    })
}
