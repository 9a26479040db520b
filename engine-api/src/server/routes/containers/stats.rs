//! `GET /containers/{id}/stats`.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Path, State};
use axum::response::Response;
use axum::routing::get;
use engine_core::engine::HostInfo;
use engine_core::{Container, ErrorKind};
use futures_util::{StreamExt as _, stream};
use serde_json::Value;

use crate::documents::{StatsSample, container_stats};
use crate::server::api::Api;
use crate::server::error::Result;
use crate::server::params::Params;
use crate::server::{host, reply};

/// How often Docker samples.
const INTERVAL: Duration = Duration::from_secs(1);

pub(super) fn routes() -> Router<Arc<Api>> {
    Router::new().route("/containers/{id}/stats", get(stats))
}

async fn stats(State(api): State<Arc<Api>>, Path(name): Path<String>, params: Params) -> Result<Response> {
    let container = api.engine.container(&name).await?;
    let mut samples = Samples { container, before: None };
    if !params.flag_or("stream", true) {
        if !params.flag("one-shot") {
            // Clients make a share of CPU time of two samples.
            let first = samples.next().await?;
            if first["memory_stats"]["usage"].is_u64() {
                tokio::time::sleep(INTERVAL).await;
            }
        }
        return Ok(reply::json(&samples.next().await?));
    }
    let first = samples.next().await?;
    let later = stream::unfold(samples, async |mut samples| {
        tokio::time::sleep(INTERVAL).await;
        match samples.next().await {
            Ok(document) => Some((document, samples)),
            Err(error) => {
                if error.kind() != ErrorKind::NotFound {
                    tracing::warn!(error = %error.report(), "statistics ended");
                }
                None
            }
        }
    });
    let all = stream::once(std::future::ready(first)).chain(later);
    Ok(reply::json_lines(all.take_until(Box::pin(async move { api.stopped().await }))))
}

struct Samples {
    container: Container,
    before: Option<StatsSample>,
}

impl Samples {
    /// Takes a sample. One of a container that does not run is empty.
    async fn next(&mut self) -> engine_core::Result<Value> {
        let info = self.container.inspect().await?;
        let stats = match self.container.stats().await {
            Ok(stats) => stats,
            Err(error) if matches!(error.kind(), ErrorKind::Conflict | ErrorKind::NotFound) => {
                Default::default()
            }
            Err(error) => return Err(error),
        };
        let now = StatsSample { stats, host_cpu: host::cpu_time(), host_memory: HostInfo::of_this().memory };
        let document = container_stats(info.id.as_str(), info.name.as_str(), &now, self.before.as_ref());
        self.before = Some(now);
        Ok(document)
    }
}
