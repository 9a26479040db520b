//! [`ApiServer`]: an engine, and what its clients share.

use std::sync::Arc;

use axum::Router;
use engine_core::{Engine, Error, Result};
use tokio::sync::watch;

use super::connection;
use super::defaults::ContainerDefaults;
use super::execs::Execs;
use super::failures::Failures;
use super::keeper;
use super::limits::Limits;
use super::listen::Listener;
use super::metrics::{self, Metrics};
use super::pending::Pending;
use super::routes;
use super::server_info::ServerInfo;
use super::starts::Starts;
use super::temp::TempServer;

/// A server of the Docker Engine API. Clones share their engine and their clients' state. Configure it before it serves.
#[derive(Clone, Debug)]
pub struct ApiServer {
    api: Arc<Api>,
}

/// What every request sees.
#[derive(Debug)]
pub(super) struct Api {
    pub(super) engine: Engine,
    pub(super) info: ServerInfo,
    pub(super) limits: Limits,
    pub(super) defaults: ContainerDefaults,
    pub(super) execs: Execs,
    pub(super) failures: Failures,
    pub(super) pending: Pending,
    pub(super) starts: Starts,
    pub(super) metrics: Arc<Metrics>,
    /// Held from the choice of a port of the host until its container is created, so that no two choose the same.
    pub(super) choosing_ports: tokio::sync::Mutex<()>,
    /// Becomes true when the server is to stop: then what would follow for ever ends.
    pub(super) stopping: watch::Sender<bool>,
}

impl ApiServer {
    /// Serves `engine`, with the default [`Limits`].
    #[must_use]
    pub fn new(engine: Engine) -> Self {
        Self { api: Arc::new(Api::new(engine)) }
    }

    /// Sets what the server tells of itself.
    #[must_use]
    pub fn with_info(self, info: ServerInfo) -> Self {
        self.changed(|api| api.info = info)
    }

    /// Sets the limits.
    #[must_use]
    pub fn with_limits(self, limits: Limits) -> Self {
        self.changed(|api| api.limits = limits)
    }

    /// Sets what containers get that their clients do not ask for.
    #[must_use]
    pub fn with_container_defaults(self, defaults: ContainerDefaults) -> Self {
        self.changed(|api| api.defaults = defaults)
    }

    fn changed(&self, change: impl FnOnce(&mut Api)) -> Self {
        let old = &self.api;
        let mut api = Api::new(old.engine.clone());
        (api.info, api.limits, api.defaults) = (old.info.clone(), old.limits.clone(), old.defaults.clone());
        change(&mut api);
        Self { api: Arc::new(api) }
    }

    /// Returns the API as a router, for paths without a version. What a listener needs is then its program's: versions,
    /// limits, upgrades of connections.
    pub fn router(&self) -> Router {
        routes::all().with_state(Arc::clone(&self.api))
    }

    /// Serves connections of `listener` until the future is dropped, which cuts them off.
    ///
    /// # Errors
    /// None today: what goes wrong with one connection is logged and ends that one.
    pub async fn serve(&self, listener: Listener) -> Result<()> {
        self.serve_until(listener, std::future::pending()).await
    }

    /// Serves connections of `listener` until `stop` is ready. Then it takes no more, ends what follows something, lets
    /// requests under way come to their end ([`Limits::drain`]), and returns. Containers do not notice.
    ///
    /// Meanwhile containers that are to be removed after their end are, also those that others started.
    ///
    /// # Errors
    /// As [`serve`](Self::serve).
    pub async fn serve_until(&self, listener: Listener, stop: impl Future<Output = ()>) -> Result<()> {
        let serving = connection::serve(listener, &self.api, self.router(), stop);
        tokio::select! {
            () = serving => {}
            () = keeper::keep(Arc::clone(&self.api)) => {}
        }
        Ok(())
    }

    /// Serves figures for Prometheus at `/metrics` of `listener` until `stop` is ready: what [`serve_until`](Self::serve_until) has answered,
    /// containers by state, and the process. Nothing else is served there, and whoever reaches it may read them.
    ///
    /// # Errors
    /// If `listener` cannot be used by this runtime.
    pub async fn serve_metrics(
        &self,
        listener: std::net::TcpListener,
        stop: impl Future<Output = ()>,
    ) -> Result<()> {
        let fail = |error| Error::from_io("serve metrics", error);
        listener.set_nonblocking(true).map_err(fail)?;
        let listener = tokio::net::TcpListener::from_std(listener).map_err(fail)?;
        metrics::serve(listener, Arc::clone(&self.api), stop).await;
        Ok(())
    }

    /// Serves the engine in this process at a private socket, for as long as the returned value lives.
    ///
    /// # Errors
    /// If the socket cannot be made.
    pub async fn serve_temp(&self) -> Result<TempServer> {
        TempServer::start(self.clone())
    }
}

impl Api {
    fn new(engine: Engine) -> Self {
        Self {
            engine,
            info: ServerInfo::default(),
            limits: Limits::default(),
            defaults: ContainerDefaults::default(),
            execs: Execs::default(),
            failures: Failures::default(),
            pending: Pending::default(),
            starts: Starts::default(),
            metrics: Arc::default(),
            choosing_ports: tokio::sync::Mutex::default(),
            stopping: watch::Sender::new(false),
        }
    }

    /// Returns once the server is to stop.
    pub(super) async fn stopped(&self) {
        let mut stopping = self.stopping.subscribe();
        // The sender is a part of this.
        let _ = stopping.wait_for(|stopping| *stopping).await;
    }
}
