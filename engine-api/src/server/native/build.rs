//! Building images, over the wire.

use std::ops::ControlFlow;

use axum::response::Response;
use engine_core::engine::{Operation, PruneBuildCache};
use futures_util::StreamExt as _;

use super::call::Call;
use crate::wire::build::SentBuild;

pub(super) async fn answer(operation: &str, call: Call) -> ControlFlow<Response, Call> {
    ControlFlow::Break(match operation {
        "build" => call.taking_operation(|engine, (sent,): (SentBuild,), bytes| {
            Operation::new(move |progress| async move {
                let mut building = engine.build(sent.into_spec(bytes)?);
                while let Some(event) = building.next().await {
                    progress.report(event);
                }
                building.await
            })
        }),
        "build_texts" => {
            call.plain(async move |engine, (sent,): (SentBuild,)| {
                // Nothing follows: what is not there is where the engine is.
                engine.build_texts(sent.into_spec(futures_util::stream::empty().boxed())?).await
            })
            .await
        }
        "build_cache" => call.plain(async move |engine, (): ()| engine.build_cache().await).await,
        "prune_build_cache" => {
            call.plain(async move |engine, (options,): (PruneBuildCache,)| {
                engine.prune_build_cache(&options).await
            })
            .await
        }
        _ => return ControlFlow::Continue(call),
    })
}
