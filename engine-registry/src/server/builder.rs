//! [`RegistryServer`]: the parts put together.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::{Request, State};
use axum::response::Response;
use axum::routing::{any, get};
use engine_core::error::{Error, ErrorKind, Result};
use tokio::net::TcpListener;

use super::access::{Anyone, Authorizer};
use super::api::Api;
use super::cache::{Cache, PullThrough, Upstream};
use super::connection;
use super::events::EventListener;
use super::garbage::{GcPolicy, GcReport};
use super::gate::Gate;
use super::limits::Limits;
use super::metrics;
use super::page;
use super::policy::Policy;
use super::quota::Quotas;
use super::storage::Storage;
use super::tls::{LiveTls, ServerTls};
use super::tokens::Tokens;

/// A registry. Clones share its content.
#[derive(Clone, Debug)]
pub struct RegistryServer {
    api: Arc<Api>,
    limits: Limits,
    gc: Option<(Duration, GcPolicy)>,
    tls: Option<Arc<LiveTls>>,
    page: bool,
}

impl RegistryServer {
    /// Returns the options of a server of what `storage` keeps: by default for everybody, without TLS, with the
    /// default [`Limits`].
    pub fn builder(storage: impl Storage) -> RegistryServerBuilder {
        RegistryServerBuilder {
            storage: Arc::new(storage),
            authorizer: Arc::new(Anyone),
            tokens: None,
            policy: Policy::default(),
            quotas: Quotas::default(),
            listeners: Vec::new(),
            pull_through: None,
            limits: Limits::default(),
            gc: None,
            tls: None,
            page: false,
        }
    }

    /// Returns the registry as a router, which answers below `/v2/`, and at `/token` if it has tokens; with a
    /// [page](RegistryServerBuilder::with_page) also at `/`, `/style.css` and below `/repositories/`. Time limits of connections, the sweeping of abandoned uploads ([`sweep_uploads`](Self::sweep_uploads)) and the collection of garbage
    /// ([`collect`](Self::collect)) are then its program's.
    pub fn router(&self) -> Router {
        let answer =
            async |State(api): State<Arc<Api>>, request: Request| -> Response { api.answer(request).await };
        let token = async |State(api): State<Arc<Api>>, request: Request| -> Response {
            api.answer_token(request).await
        };
        let show = async |State(api): State<Arc<Api>>, request: Request| -> Response {
            page::answer(api, request.into_parts().0).await
        };
        let mut router = match self.api.tokens.is_some() {
            true => Router::new().route("/token", any(token)),
            false => Router::new(),
        };
        router =
            router.route("/v2", any(answer)).route("/v2/", any(answer)).route("/v2/{*path}", any(answer));
        if self.page {
            router = router
                .route("/", any(show))
                .route("/repositories/{*reference}", any(show))
                .route("/style.css", get(async || page::style()));
        }
        router.with_state(Arc::clone(&self.api))
    }

    /// Serves connections of `listener` until the future is dropped, which cuts them off.
    ///
    /// # Errors
    /// None today: what goes wrong with one connection is logged and ends that one.
    pub async fn serve(&self, listener: TcpListener) -> Result<()> {
        self.serve_until(listener, std::future::pending()).await
    }

    /// Serves connections of `listener` until `stop` is ready. Then it takes no more, lets requests under way
    /// come to their end ([`Limits::drain`]), and returns.
    ///
    /// # Errors
    /// As [`serve`](Self::serve).
    pub async fn serve_until(&self, listener: TcpListener, stop: impl Future<Output = ()>) -> Result<()> {
        let router = self.router();
        let sweep = async {
            // Twice in the life of an upload is enough; the first time at once, for what was left before.
            let mut ticks = tokio::time::interval(self.limits.upload_age.div_f32(2.0).max(MIN_SWEEP));
            loop {
                ticks.tick().await;
                if let Err(error) = self.sweep_uploads().await {
                    tracing::warn!(error = %error.report(), "uploads were not swept");
                }
            }
        };
        let collect = async {
            let Some((interval, policy)) = &self.gc else { return std::future::pending().await };
            let mut ticks = tokio::time::interval(*interval);
            ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            loop {
                ticks.tick().await;
                match self.collect(policy).await {
                    Ok(report) => tracing::info!(?report, "garbage collected"),
                    Err(error) => tracing::warn!(error = %error.report(), "garbage was not collected"),
                }
            }
        };
        let reload = async {
            match &self.tls {
                Some(tls) => tls.follow().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = connection::serve(listener, router, &self.limits, self.tls.as_deref(), stop) => {}
            () = sweep => {}
            () = collect => {}
            () = reload => {}
        }
        let endings = self.api.listeners.iter().map(|listener| listener.finish(LAST_EVENTS));
        futures_util::future::join_all(endings).await;
        Ok(())
    }

    /// Returns the registry's figures as a router, which answers `/metrics` in the text format of Prometheus. It asks nobody who
    /// they are: it is for an address of its own.
    pub fn metrics_router(&self) -> Router {
        let answer = async |State(api): State<Arc<Api>>| {
            let usage = api.usage().await;
            let text = api.metrics.text(usage.as_ref());
            ([(axum::http::header::CONTENT_TYPE, metrics::TEXT)], text)
        };
        Router::new().route("/metrics", get(answer)).with_state(Arc::clone(&self.api))
    }

    /// Serves [`metrics_router`](Self::metrics_router) in plain http, until the future is dropped.
    pub async fn serve_metrics(&self, listener: TcpListener) {
        connection::serve(listener, self.metrics_router(), &self.limits, None, std::future::pending()).await;
    }

    /// Ends uploads that nobody goes on with ([`Limits::upload_age`]). Returns how many.
    ///
    /// # Errors
    /// What the storage says.
    pub async fn sweep_uploads(&self) -> Result<u64> {
        self.api.storage.sweep_uploads(self.limits.upload_age).await
    }

    /// Removes what nothing leads to, beside whatever else is done ([`Storage::collect`]).
    ///
    /// # Errors
    /// What the storage says.
    pub async fn collect(&self, policy: &GcPolicy) -> Result<GcReport> {
        let started = Instant::now();
        let done = self.api.storage.collect(policy).await;
        // What would be done is not done.
        if !policy.dry_run {
            self.api.metrics.collection(done.as_ref().ok(), started.elapsed());
        }
        done
    }
}

/// How long the end of a server waits for those who hear of events.
const LAST_EVENTS: Duration = Duration::from_secs(10);
const MIN_SWEEP: Duration = Duration::from_secs(1);

/// The options of a [`RegistryServer`].
#[derive(Debug)]
pub struct RegistryServerBuilder {
    storage: Arc<dyn Storage>,
    authorizer: Arc<dyn Authorizer>,
    tokens: Option<Tokens>,
    policy: Policy,
    quotas: Quotas,
    listeners: Vec<Arc<dyn EventListener>>,
    pull_through: Option<PullThrough>,
    limits: Limits,
    gc: Option<(Duration, GcPolicy)>,
    tls: Option<ServerTls>,
    page: bool,
}

impl RegistryServerBuilder {
    /// Sets who decides who may do what. Without it, everybody may do everything.
    #[must_use]
    pub fn with_authorizer(mut self, authorizer: impl Authorizer) -> Self {
        self.authorizer = Arc::new(authorizer);
        self.tokens = None;
        self
    }

    /// Lets those do something whom `tokens` lets, and serves its tokens at `/token`. It takes the place of
    /// [`with_authorizer`](Self::with_authorizer).
    #[must_use]
    pub fn with_tokens(mut self, tokens: Tokens) -> Self {
        self.tokens = Some(tokens);
        self
    }

    /// Sets what nobody may do. Without it, everything may be done.
    #[must_use]
    pub fn with_policy(mut self, policy: Policy) -> Self {
        self.policy = policy;
        self
    }

    /// Sets how many bytes repositories may have. Without it, any number.
    #[must_use]
    pub fn with_quotas(mut self, quotas: Quotas) -> Self {
        self.quotas = quotas;
        self
    }

    /// Tells a listener what clients do: an implementation of one's own, or a [`Webhook`](super::Webhook). There may be several.
    #[must_use]
    pub fn with_listener(mut self, listener: impl EventListener) -> Self {
        self.listeners.push(Arc::new(listener));
        self
    }

    /// Makes the server a cache of other registries, too. What it has of them cannot be pushed to, and goes when nobody asks for it
    /// for long, if the server collects garbage.
    #[must_use]
    pub fn with_pull_through(mut self, pull_through: PullThrough) -> Self {
        self.pull_through = Some(pull_through);
        self
    }

    /// Sets how much clients may take.
    #[must_use]
    pub fn with_limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Collects garbage while the server [serves](RegistryServer::serve): at once, and then at an interval. Without it, only
    /// [`RegistryServer::collect`] does.
    #[must_use]
    pub fn with_gc(mut self, interval: Duration, policy: GcPolicy) -> Self {
        self.gc = Some((interval, policy));
        self
    }

    /// Serves TLS instead of plain http.
    #[must_use]
    pub fn with_tls(mut self, tls: ServerTls) -> Self {
        self.tls = Some(tls);
        self
    }

    /// Serves pages of the repositories for people, which show to each what that one may pull. Without it, there are none.
    #[must_use]
    pub fn with_page(mut self, page: bool) -> Self {
        self.page = page;
        self
    }

    /// Checks everything and returns the server. Blocks on files.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidArgument`] if a certificate or key cannot be used, or a limit is zero.
    pub fn build(self) -> Result<RegistryServer> {
        let limits = &self.limits;
        let idle_gc = self.gc.as_ref().is_some_and(|(interval, _)| interval.is_zero());
        if limits.connections == 0 || limits.head.is_zero() || limits.idle.is_zero() || idle_gc {
            return Err(Error::new(ErrorKind::InvalidArgument, "build registry server")
                .with_message("a limit is zero"));
        }
        let tokens = self.tokens.map(|tokens| Arc::new(tokens.served_by(self.tls.is_some())));
        let authorizer = match &tokens {
            Some(tokens) => Arc::clone(tokens) as _,
            None => self.authorizer,
        };
        let mut gc = self.gc;
        let cache = match self.pull_through {
            None => None,
            Some(options) => {
                if let Some((_, policy)) = &mut gc {
                    policy.evictions.extend(options.upstreams.iter().filter_map(Upstream::eviction));
                }
                Some(Arc::new(Cache::new(options, Arc::clone(&self.storage), self.quotas.clone())?))
            }
        };
        let gate = Gate { policy: self.policy, authorizer, cache: cache.clone() };
        Ok(RegistryServer {
            api: Arc::new(Api {
                storage: self.storage,
                gate,
                cache,
                tokens,
                quotas: self.quotas,
                listeners: self.listeners,
                metrics: Arc::default(),
                usage: tokio::sync::Mutex::default(),
                idle: self.limits.idle,
            }),
            tls: self.tls.map(|tls| tls.load().map(Arc::new)).transpose()?,
            limits: self.limits,
            gc,
            page: self.page,
        })
    }
}
