//! `POST /containers/{id}/start`.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Path, State};
use axum::response::Response;
use axum::routing::post;
use engine_core::engine::RemoveOptions;
use engine_core::{Container, ContainerInfo, Error, ErrorKind};
use tokio::time::Instant;

use crate::server::api::Api;
use crate::server::error::{ApiError, Result};
use crate::server::pending::Waiting;
use crate::server::reply;

/// How long another program's start of the same container is waited for, and how often it is looked.
const OTHER_START: Duration = Duration::from_secs(10);
const LOOK: Duration = Duration::from_millis(50);

pub(super) fn routes() -> Router<Arc<Api>> {
    Router::new().route("/containers/{id}/start", post(start))
}

/// Clients that attached before are taken along.
async fn start(State(api): State<Arc<Api>>, Path(name): Path<String>) -> Result<Response> {
    let container = api.engine.container(&name).await?;
    // A client that asks again gets what its first request comes to.
    let turn = api.starts.turn(container.id());
    let _turn = turn.lock().await;
    let info = container.inspect().await?;
    if info.state.status.is_running() {
        return Ok(reply::not_modified());
    }
    let waiting = api.pending.take(container.id());
    let options = waiting.iter().map(|one| one.wanted.options()).collect();
    let attached = match container.start_attached_each(options).await {
        Ok(attached) => attached,
        Err(error) if is_beaten(&container, &error).await => {
            return another(&api, &container, waiting, error).await;
        }
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

/// Whether a start failed since another program has started the container, or is about to.
async fn is_beaten(container: &Container, error: &Error) -> bool {
    match error.kind() {
        // The other one's sandbox is there.
        ErrorKind::AlreadyExists => error.operation() == "create container",
        ErrorKind::Conflict => container.inspect().await.is_ok_and(|info| info.state.status.is_running()),
        _ => false,
    }
}

/// Waits for a start that somebody else began, who does not know the clients that wait here.
async fn another(api: &Api, container: &Container, waiting: Vec<Waiting>, error: Error) -> Result<Response> {
    let end = Instant::now() + OTHER_START;
    while !container.inspect().await?.state.status.is_running() {
        if Instant::now() > end {
            api.pending.put_back(container.id(), waiting);
            return Err(error.into());
        }
        tokio::time::sleep(LOOK).await;
    }
    for one in waiting {
        match container.attach(one.wanted.options()).await {
            Ok(streams) => one.ready(streams),
            Err(error) => tracing::debug!(container = %container.id(), %error, "not attached"),
        }
    }
    api.failures.clear(container.id());
    Ok(reply::not_modified())
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
