//! Images in the store, over the wire.

use std::ops::ControlFlow;

use axum::response::Response;
use engine_core::ContainerId;
use engine_core::engine::ImagePruneOptions;
use engine_core::platform::Platform;
use engine_core::reference::Reference;

use super::call::Call;

pub(super) async fn answer(operation: &str, call: Call) -> ControlFlow<Response, Call> {
    ControlFlow::Break(match operation {
        "container_image" => {
            call.plain(async move |engine, (id,): (ContainerId,)| engine.container_image(&id).await).await
        }
        "image_for" => {
            call.plain(async move |engine, (name, platform): (String, Platform)| {
                engine.image_for(&name, &platform).await
            })
            .await
        }
        "images" => call.plain(async move |engine, (): ()| engine.images().await).await,
        "tag_image" => {
            call.plain(async move |engine, (source, name): (String, Reference)| {
                engine.tag_image(&source, &name).await
            })
            .await
        }
        "remove_image" => {
            call.plain(async move |engine, (name, force): (String, bool)| {
                engine.remove_image(&name, force).await
            })
            .await
        }
        "image_platforms" => {
            call.plain(async move |engine, (name,): (String,)| engine.image_platforms(&name).await).await
        }
        "remove_image_platform" => {
            call.plain(async move |engine, (name, platform): (String, Platform)| {
                engine.remove_image_platform(&name, &platform).await
            })
            .await
        }
        "image_history" => {
            call.plain(async move |engine, (name, platform): (String, Platform)| {
                engine.image_history(&name, &platform).await
            })
            .await
        }
        "prune_images" => {
            call.plain(async move |engine, (options,): (ImagePruneOptions,)| {
                engine.prune_images(&options).await
            })
            .await
        }
        "image_usage" => call.plain(async move |engine, (): ()| engine.image_usage().await).await,
        "collect_garbage" => call.plain(async move |engine, (): ()| engine.collect_garbage().await).await,
        _ => return ControlFlow::Continue(call),
    })
}
