//! `POST /containers/{id}/start`.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, State};
use axum::response::Response;
use axum::routing::post;
use engine_core::engine::RemoveOptions;
use engine_core::{Container, ContainerInfo, Error, ErrorKind};

use crate::server::api::Api;
use crate::server::error::{ApiError, Result};
use crate::server::reply;

pub(super) fn routes() -> Router<Arc<Api>> {
    Router::new().route("/containers/{id}/start", post(start))
}

/// Clients that attached before are taken along.
async fn start(State(api): State<Arc<Api>>, Path(name): Path<String>) -> Result<Response> {
    let container = api.engine.container(&name).await?;
    let info = container.inspect().await?;
    if info.state.status.is_running() {
        return Ok(reply::not_modified());
    }
    let waiting = api.pending.take(container.id());
    let options = waiting.iter().map(|one| one.wanted.options()).collect();
    let attached = match container.start_attached_each(options).await {
        Ok(attached) => attached,
        Err(error) => {
            let error = failed(&container, &info, error).await;
            if !info.spec.auto_remove {
                api.failures.set(container.id(), error.message());
            }
            return Err(error);
        }
    };
    api.failures.clear(container.id());
    for (one, streams) in waiting.into_iter().zip(attached) {
        one.ready(streams);
    }
    Ok(reply::no_content())
}

/// Says why it did not start, in the words by which clients tell exit codes apart: 126, 127 and 125.
async fn failed(container: &Container, info: &ContainerInfo, error: Error) -> ApiError {
    if info.spec.auto_remove {
        // Clients wait until it is gone.
        let options = RemoveOptions::default().with_force(true).with_volumes(true);
        if let Err(later) = container.remove(options).await {
            tracing::warn!(container = %info.id, error = %later.report(), "container not removed after its start failed");
        }
    }
    match unrunnable(&info.command, &error) {
        Some(why) => ApiError::bad_request(format!(
            "failed to create task for container: failed to create shim task: OCI runtime create failed: {why}"
        )),
        None => error.into(),
    }
}

/// Says in Docker's words why a command was not run, if it is the command's fault.
pub(in crate::server) fn unrunnable(command: &[String], error: &Error) -> Option<String> {
    let command = command.first().map_or("", String::as_str);
    let why = match error.kind() {
        ErrorKind::CommandNotFound if command.contains('/') => {
            format!("exec: \"{command}\": stat {command}: no such file or directory")
        }
        ErrorKind::CommandNotFound => format!("exec: \"{command}\": executable file not found in $PATH"),
        ErrorKind::CommandNotExecutable => format!("exec: \"{command}\": permission denied"),
        _ => return None,
    };
    Some(format!("unable to start container process: {why}: unknown"))
}
