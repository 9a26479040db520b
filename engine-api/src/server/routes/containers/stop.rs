//! `POST /containers/{id}/stop`, `/restart`, `/kill`, `/pause`, `/unpause`.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Path, State};
use axum::response::Response;
use axum::routing::post;
use engine_core::{ContainerStatus, ErrorKind, signal};
use tokio::time::timeout;

use crate::server::api::Api;
use crate::server::error::{ApiError, Result};
use crate::server::params::Params;
use crate::server::reply;

/// How long the end of what was killed is waited for: as long as Docker does.
const KILLED: Duration = Duration::from_secs(10);

pub(super) fn routes() -> Router<Arc<Api>> {
    Router::new()
        .route("/containers/{id}/stop", post(stop))
        .route("/containers/{id}/restart", post(restart))
        .route("/containers/{id}/kill", post(kill))
        .route("/containers/{id}/pause", post(pause))
        .route("/containers/{id}/unpause", post(unpause))
}

async fn stop(State(api): State<Arc<Api>>, Path(name): Path<String>, params: Params) -> Result<Response> {
    let container = api.engine.container(&name).await?;
    let (signal, patience) = (signal_of(&params)?, patience(&params)?);
    if !container.inspect().await?.state.status.is_running() {
        return Ok(reply::not_modified());
    }
    match signal {
        Some(signal) => container.stop_with(signal, patience).await?,
        None => container.stop(patience).await?,
    }
    Ok(reply::no_content())
}

async fn restart(State(api): State<Arc<Api>>, Path(name): Path<String>, params: Params) -> Result<Response> {
    let container = api.engine.container(&name).await?;
    container.restart(signal_of(&params)?, patience(&params)?).await?;
    api.failures.clear(container.id());
    Ok(reply::no_content())
}

async fn kill(State(api): State<Arc<Api>>, Path(name): Path<String>, params: Params) -> Result<Response> {
    let container = api.engine.container(&name).await?;
    let signal = signal_of(&params)?.unwrap_or(signal::SIGKILL);
    match container.kill(signal).await {
        Ok(()) => {
            // Clients remove it next.
            if signal == signal::SIGKILL
                && let Err(error) = timeout(KILLED, container.wait()).await
            {
                tracing::debug!(container = %container.id(), %error, "killed, and not ended");
            }
            Ok(reply::no_content())
        }
        Err(error) if error.kind() == ErrorKind::Conflict => Err(ApiError::conflict(format!(
            "Cannot kill container: {name}: container {} is not running",
            container.id()
        ))),
        Err(error) => Err(error.into()),
    }
}

async fn pause(State(api): State<Arc<Api>>, Path(name): Path<String>) -> Result<Response> {
    let container = api.engine.container(&name).await?;
    let id = container.id();
    match container.inspect().await?.state.status {
        ContainerStatus::Paused => Err(ApiError::conflict(format!("Container {id} is already paused"))),
        ContainerStatus::Restarting => Err(ApiError::conflict(format!(
            "Container {id} is restarting, wait until the container is running"
        ))),
        status if status.is_running() => {
            container.pause().await?;
            Ok(reply::no_content())
        }
        _ => Err(ApiError::conflict(format!("Container {id} is not running"))),
    }
}

async fn unpause(State(api): State<Arc<Api>>, Path(name): Path<String>) -> Result<Response> {
    let container = api.engine.container(&name).await?;
    if container.inspect().await?.state.status != ContainerStatus::Paused {
        return Err(ApiError::conflict(format!("Container {} is not paused", container.id())));
    }
    container.resume().await?;
    Ok(reply::no_content())
}

fn signal_of(params: &Params) -> Result<Option<i32>> {
    let Some(text) = params.text("signal") else { return Ok(None) };
    signal::parse(text).map(Some).map_err(|_| ApiError::bad_request(format!("Invalid signal: {text}")))
}

/// Seconds until it is killed; a negative number is as long as it takes.
fn patience(params: &Params) -> Result<Option<Duration>> {
    let seconds = params.number::<i64>("t")?;
    Ok(seconds.map(|seconds| u64::try_from(seconds).map_or(Duration::MAX, Duration::from_secs)))
}
