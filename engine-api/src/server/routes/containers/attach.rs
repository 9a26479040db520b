//! `POST /containers/{id}/attach`, `/containers/{id}/resize`.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, Request, State};
use axum::response::Response;
use axum::routing::post;
use engine_core::io::Streams;
use engine_core::logs::LogQuery;
use engine_core::{Container, ContainerStatus};
use futures_util::StreamExt as _;
use hyper::StatusCode;
use tokio::io::AsyncWriteExt as _;

use super::logs::{Entries, entry_bytes};
use crate::DetachKeys;
use crate::server::api::Api;
use crate::server::error::{ApiError, Result};
use crate::server::hijack::{Framing, Hijack};
use crate::server::params::Params;
use crate::server::pump::{self, Ended, Wanted};
use crate::server::raw::Raw;
use crate::server::reply;
use crate::server::routes::exec::size;
use crate::server::version::ApiVersion;

pub(super) fn routes() -> Router<Arc<Api>> {
    Router::new()
        .route("/containers/{id}/attach", post(attach))
        .route("/containers/{id}/resize", post(resize))
}

async fn attach(
    State(api): State<Arc<Api>>,
    Path(name): Path<String>,
    version: ApiVersion,
    params: Params,
    mut request: Request,
) -> Result<Response> {
    let container = api.engine.container(&name).await?;
    let info = container.inspect().await?;
    if info.state.status == ContainerStatus::Paused {
        return Err(ApiError::conflict(format!(
            "container {} is paused, unpause the container before attach",
            container.id()
        )));
    }
    if info.state.status == ContainerStatus::Restarting {
        return Err(ApiError::conflict(format!(
            "container {} is restarting, wait until the container is running",
            container.id()
        )));
    }
    let terminal = info.spec.terminal.is_some();
    let keys = params.text("detachKeys").unwrap_or(DetachKeys::DEFAULT);
    let wanted = Wanted {
        stdin: params.flag("stdin") && info.spec.open_stdin,
        stdout: params.flag("stdout"),
        stderr: params.flag("stderr"),
        framing: Framing::of_terminal(terminal),
        keys: DetachKeys::parse(keys)?.filter(|_| terminal),
    };
    let (replay, stream) = (params.flag("logs"), params.flag("stream"));
    // Attached before the log is read, so that nothing lies between them.
    let attachment = if stream { Some(Attachment::begin(&api, &container, &wanted).await?) } else { None };
    let hijack = Hijack::of(&mut request)?;
    Ok(hijack.answer(wanted.content_type(version), async move |mut connection| {
        if replay && let Err(error) = replay_log(&mut connection, &container, &wanted).await {
            tracing::debug!(%error, "the log was not replayed");
        }
        let streams = match attachment {
            None => None,
            Some(attachment) => attachment.streams(&mut connection, &api).await,
        };
        let Some(streams) = streams else {
            let _ = connection.shutdown().await;
            return;
        };
        let ended = pump::run(connection, streams, &wanted, &api, async {}).await;
        if ended == Ended::Detached
            && let Err(error) = container.detached().await
        {
            tracing::debug!(%error, "nobody was told of the detaching");
        }
    }))
}

/// A client's place at a container's streams: now, or from its next start on.
enum Attachment {
    Now(Streams),
    Later(tokio::sync::oneshot::Receiver<Streams>),
}

impl Attachment {
    async fn begin(api: &Api, container: &Container, wanted: &Wanted) -> Result<Self> {
        let running = async || container.inspect().await.map(|info| info.state.status.is_running());
        if running().await? {
            return Ok(Self::Now(container.attach(wanted.options()).await?));
        }
        let receiver = api.pending.add(container.id(), wanted.clone());
        if running().await? {
            // Somebody has started it in between, perhaps without us.
            return Ok(Self::Now(container.attach(wanted.options()).await?));
        }
        Ok(Self::Later(receiver))
    }

    /// Returns the streams; none if the start failed, the client is gone, or the server is to stop.
    async fn streams(self, connection: &mut Raw, api: &Api) -> Option<Streams> {
        match self {
            Self::Now(streams) => Some(streams),
            Self::Later(receiver) => tokio::select! {
                streams = receiver => streams.ok(),
                () = connection.gone() => None,
                () = api.stopped() => None,
            },
        }
    }
}

async fn replay_log(connection: &mut Raw, container: &Container, wanted: &Wanted) -> engine_core::Result<()> {
    let entries = Entries::of(wanted);
    let mut log = container.logs(&LogQuery::default()).await?;
    while let Some(entry) = log.next().await {
        if let Some(bytes) = entry_bytes(&entry?, &entries)
            && connection.write_all(&bytes).await.is_err()
        {
            break;
        }
    }
    Ok(())
}

async fn resize(State(api): State<Arc<Api>>, Path(name): Path<String>, params: Params) -> Result<Response> {
    let size = size(&params)?;
    let container = api.engine.container(&name).await?;
    let info = container.inspect().await?;
    // As with Docker, one without a terminal has nothing to resize, and that is no failure.
    if info.spec.terminal.is_some() || !info.state.status.is_running() {
        container.resize(size).await?;
    }
    Ok(reply::with_status(StatusCode::OK))
}
