//! Containers that end with their client.
//!
//! To the engine here they are this program's. The request that made one stays open for as long as the client has it, and when it ends, for
//! whatever reason, the container does.

use axum::response::Response;
use bytes::Bytes;
use engine_core::container_spec::ContainerSpec;
use engine_core::engine::RemoveOptions;
use engine_core::id::ContainerId;
use futures_util::{StreamExt as _, stream};
use tokio::runtime::Handle;

use super::call::{Call, Ops, failed};
use crate::wire::{self, frame};

/// Removes the container when it is dropped.
struct Scope {
    engine: Ops,
    id: ContainerId,
}

pub(super) async fn create(call: Call) -> Response {
    let (image, spec): (String, ContainerSpec) = match call.arguments() {
        Ok(arguments) => arguments,
        Err(error) => return failed(&error),
    };
    let engine = call.engine();
    let created = tokio::select! {
        created = engine.create_scoped_container(&image, spec) => created,
        () = call.client.gone() => return super::call::gone(),
    };
    let scope = match created {
        Ok(id) => Scope { engine, id },
        Err(error) => return failed(&error),
    };
    match wire::text(&scope.id) {
        Ok(id) => call.framed(lasting(frame::frame(frame::ITEM, &id), scope)),
        Err(error) => failed(&error),
    }
}

/// A frame, and then nothing until somebody else ends it.
fn lasting(first: Bytes, scope: Scope) -> super::call::FrameStream {
    let frames = stream::unfold((Some(first), scope), |(first, scope)| async {
        match first {
            Some(first) => Some((first, (None, scope))),
            None => std::future::pending().await,
        }
    });
    frames.boxed()
}

impl Drop for Scope {
    fn drop(&mut self) {
        let (engine, id) = (Ops::clone(&self.engine), self.id.clone());
        // Without a runtime, this program is about to end, and the container with it.
        let Ok(handle) = Handle::try_current() else { return };
        handle.spawn(async move {
            let options = RemoveOptions::default().with_force(true).with_volumes(true);
            if let Err(error) = engine.remove_container(&id, options).await {
                tracing::warn!(container = %id, error = %error.report(), "container without its client not removed");
            }
        });
    }
}
