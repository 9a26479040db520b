//! Processes in containers and their streams, over the wire.

use std::ops::ControlFlow;

use axum::response::Response;
use engine_core::ExecId;
use engine_core::engine::ExecOptions;
use engine_core::id::ContainerId;
use engine_core::io::TerminalSize;
use engine_core::launch::ExecSpec;
use engine_core::logs::LogQuery;

use super::call::Call;
use crate::wire::{self, AttachWanted, Began};

type Exec = (ContainerId, ExecSpec, AttachWanted, ExecOptions);

pub(super) async fn answer(operation: &str, call: Call) -> ControlFlow<Response, Call> {
    ControlFlow::Break(match operation {
        "start_attached" => {
            call.session(async move |engine, (id, wanted): (ContainerId, AttachWanted)| {
                let streams = engine.start_attached(&id, vec![wanted.options()]).await?;
                Ok(((), streams.into_iter().next().unwrap_or_default()))
            })
            .await
        }
        "attach" => {
            call.session(async move |engine, (id, wanted): (ContainerId, AttachWanted)| {
                Ok(((), engine.attach(&id, wanted.options()).await?))
            })
            .await
        }
        "detached" => call.plain(async move |engine, (id,): (ContainerId,)| engine.detached(&id).await).await,
        "resize" => {
            call.plain(async move |engine, (id, size): (ContainerId, TerminalSize)| {
                engine.resize(&id, size).await
            })
            .await
        }
        "logs" => {
            call.stream(
                async move |engine, (id, query): (ContainerId, LogQuery)| engine.logs(&id, &query).await,
                wire::log_entry,
            )
            .await
        }
        "exec" => {
            call.session(async move |engine, (id, spec, wanted, mut options): Exec| {
                options.io = wanted.options();
                let process = engine.exec(&id, &spec, options).await?;
                Ok((Began::of(&process), process.streams))
            })
            .await
        }
        "exec_unattached" => {
            call.plain(async move |engine, (id, spec, wanted, mut options): Exec| {
                options.io = wanted.options();
                Ok(Began::of(&engine.exec(&id, &spec, options).await?))
            })
            .await
        }
        "exec_wait" => {
            call.waiting(async move |engine, (id, exec): (ContainerId, ExecId)| {
                engine.exec_wait(&id, &exec).await
            })
            .await
        }
        "exec_signal" => {
            call.plain(async move |engine, (id, exec, signal): (ContainerId, ExecId, i32)| {
                engine.exec_signal(&id, &exec, signal).await
            })
            .await
        }
        "exec_resize" => {
            call.plain(async move |engine, (id, exec, size): (ContainerId, ExecId, TerminalSize)| {
                engine.exec_resize(&id, &exec, size).await
            })
            .await
        }
        "exec_detached" => {
            call.plain(async move |engine, (id, exec): (ContainerId, ExecId)| {
                engine.exec_detached(&id, &exec).await
            })
            .await
        }
        _ => return ControlFlow::Continue(call),
    })
}
