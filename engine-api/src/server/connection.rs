//! From a listener to requests.
//!
//! Owns the life of connections: how many there are, how long they may be silent, how they end. Dropping the future of
//! [`serve`] drops them all, except those that a request has taken over ([`hijack`](super::hijack)), which count as before and end with
//! the server's stop.

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::response::IntoResponse as _;
use hyper::Request;
use hyper::body::Incoming;
use hyper::header::{HeaderValue, ORIGIN, SERVER};
use hyper::server::conn::http1;
use hyper::service::Service;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::accept;
use super::api::Api;
use super::error::ApiError;
use super::listen::{Accepted, Listener};
use super::metrics::Metrics;
use super::native::ClientSocket;
use super::unasked::Unasked;
use super::version::{self, ApiVersion};
use crate::{keepalive, wire};

/// What is buffered of a connection's requests.
pub(super) const BUFFER: usize = 64 << 10;

/// What a connection takes of [`Limits::connections`](super::Limits::connections). Each of its requests has it among its extensions.
#[derive(Clone, Debug)]
pub(super) struct Slot(#[expect(dead_code, reason = "it is there to be dropped")] Arc<OwnedSemaphorePermit>);

pub(super) async fn serve(
    listener: Listener,
    api: &Arc<Api>,
    router: Router,
    stop: impl Future<Output = ()>,
) {
    let limits = &api.limits;
    let slots = Arc::new(Semaphore::new(limits.connections));
    let mut connections = JoinSet::new();
    let mut stop = pin!(stop);
    let accept = || listener.accept();
    while let Some((slot, accepted)) = accept::next(&slots, stop.as_mut(), accept).await {
        while connections.try_join_next().is_some() {}
        let slot = Slot(Arc::new(slot));
        let router = TowerToHyperService::new(router.clone());
        let service = Served { router, socket: None, slot, metrics: Arc::clone(&api.metrics) };
        let api = Arc::clone(api);
        connections.spawn(async move { connection(accepted, service, &api).await });
    }
    drop(listener);
    api.stopping.send_replace(true);
    let drained = async {
        while connections.join_next().await.is_some() {}
        // Those that were taken over.
        let all = u32::try_from(limits.connections).unwrap_or(u32::MAX);
        let _ = slots.acquire_many(all).await;
    };
    if timeout(limits.drain, drained).await.is_err() {
        tracing::warn!("requests were cut off");
    }
}

async fn connection(accepted: Accepted, service: Served, api: &Api) {
    match accepted {
        Accepted::Unix(stream) => {
            let service = service.with_socket(ClientSocket::of_unix(&stream));
            http1(stream, service, api).await;
        }
        Accepted::Tcp(stream, acceptor) => {
            // A failure here is the client's to see.
            let _ = stream.set_nodelay(true);
            if let Err(error) = keepalive::enable(&stream) {
                tracing::debug!(%error, "a client that vanishes is not noticed");
            }
            let service = service.with_socket(ClientSocket::of_tcp(&stream));
            match timeout(api.limits.head, acceptor.0.accept(stream)).await {
                Ok(Ok(stream)) => http1(stream, service, api).await,
                Ok(Err(error)) => tracing::debug!(%error, "no TLS handshake"),
                Err(_) => tracing::debug!("no TLS handshake in time"),
            }
        }
    }
}

async fn http1(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, service: Served, api: &Api) {
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(api.limits.head)
        .max_buf_size(BUFFER)
        .half_close(true);
    let stream = TokioIo::new(Unasked::new(stream));
    let mut connection = pin!(builder.serve_connection(stream, service).with_upgrades());
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = api.stopped() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "connection ended");
    }
}

/// The router, behind what every request passes: who asks, and in which version.
#[derive(Clone)]
struct Served {
    router: TowerToHyperService<Router>,
    /// Tells of our own clients when they are gone.
    socket: Option<ClientSocket>,
    slot: Slot,
    metrics: Arc<Metrics>,
}

impl Served {
    fn with_socket(mut self, socket: Option<ClientSocket>) -> Self {
        self.socket = socket;
        self
    }
}

type Answer = axum::response::Response;

impl Service<Request<Incoming>> for Served {
    type Response = Answer;
    type Error = std::convert::Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Answer, Self::Error>> + Send>>;

    fn call(&self, mut request: Request<Incoming>) -> Self::Future {
        let (begun, metrics) = (Instant::now(), Arc::clone(&self.metrics));
        let under_way = metrics.begin();
        // Without the query, in which clients name what is theirs.
        let (method, path) = (request.method().clone(), request.uri().path().to_owned());
        let checked = admitted(&request).and_then(|()| version::split(request.uri()));
        let answer = match checked {
            Ok((version, uri)) => {
                *request.uri_mut() = uri;
                request.extensions_mut().insert(version);
                if let Some(socket) = &self.socket {
                    request.extensions_mut().insert(socket.clone());
                }
                request.extensions_mut().insert(self.slot.clone());
                Ok(self.router.call(request))
            }
            Err(error) => Err(error.into_response()),
        };
        Box::pin(async move {
            let answer = match answer {
                Ok(answer) => answer.await?,
                Err(refusal) => refusal,
            };
            drop(under_way);
            let status = answer.status().as_u16();
            metrics.answered(&method, &path, status, begun.elapsed());
            tracing::debug!(%method, path, status, took = ?begun.elapsed(), "request");
            Ok(with_headers(answer))
        })
    }
}

/// Docker's clients never say where a page came from; whoever does is a browser, led here by a page (SECURITY E6).
fn admitted<B>(request: &Request<B>) -> Result<(), ApiError> {
    if request.headers().contains_key(ORIGIN) {
        return Err(ApiError::new(hyper::StatusCode::FORBIDDEN, "requests of web pages are not served"));
    }
    Ok(())
}

/// What clients look at on each answer, to know whom they speak to.
fn with_headers(mut answer: Answer) -> Answer {
    static SERVER_NAME: HeaderValue =
        HeaderValue::from_static(concat!("engine-api/", env!("CARGO_PKG_VERSION"), " (linux)"));
    let newest = HeaderValue::from_str(&ApiVersion::NEWEST.to_string());
    let headers = answer.headers_mut();
    if let Ok(newest) = newest {
        headers.insert("api-version", newest);
    }
    headers.insert("docker-experimental", HeaderValue::from_static("false"));
    headers.insert("ostype", HeaderValue::from_static("linux"));
    headers.insert(wire::PROTOCOL, HeaderValue::from_static(wire::VERSION));
    headers.insert(SERVER, SERVER_NAME.clone());
    answer
}
