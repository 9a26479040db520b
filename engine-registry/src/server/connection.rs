//! From a listener to requests.
//!
//! Owns the life of connections: how many there are, how long they may be silent, how they end. Dropping the future of
//! [`serve`] drops them all.

use std::pin::pin;
use std::sync::Arc;

use axum::Router;
use futures_util::future::BoxFuture;
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::Service;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::graceful::{GracefulConnection, GracefulShutdown, Watcher};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{Duration, sleep, timeout};

use super::access::Peer;
use super::limits::Limits;
use super::sendfile::{AnswerBody, Line, SendsFiles, Socket};
use super::tls::LiveTls;
use super::unhurried::Unhurried;

/// What is buffered of a connection's requests.
const BUFFER: usize = 256 << 10;
/// Requests at once on one HTTP/2 connection, the bytes of one that come in unread, and those that wait to go out.
const STREAMS: u32 = 16;
const WINDOW: u32 = 512 << 10;
const OUT: usize = 128 << 10;
const MAX_HEADERS: u32 = 32 << 10;

pub(super) async fn serve(
    listener: TcpListener,
    router: Router,
    limits: &Limits,
    tls: Option<&LiveTls>,
    stop: impl Future<Output = ()>,
) {
    let slots = Arc::new(Semaphore::new(limits.connections));
    let graceful = GracefulShutdown::new();
    let mut connections = JoinSet::new();
    let mut stop = pin!(stop);
    loop {
        while connections.try_join_next().is_some() {}
        let next = async {
            let slot = Arc::clone(&slots).acquire_owned().await;
            (slot, listener.accept().await)
        };
        let (slot, accepted) = tokio::select! {
            () = &mut stop => break,
            next = next => next,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of descriptors, or the client went before it was served: the others are not to suffer.
                tracing::warn!(%error, "connection not accepted");
                sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let service =
            Served { router: TowerToHyperService::new(router.clone()), peer: Peer(peer), line: None };
        let (limits, watcher) = (limits.clone(), graceful.watcher());
        let acceptor = tls.map(LiveTls::acceptor);
        connections.spawn(async move {
            connection(stream, service, &limits, acceptor, watcher).await;
            drop(slot);
        });
    }
    drop(listener);
    if timeout(limits.drain, graceful.shutdown()).await.is_err() {
        tracing::warn!("requests were cut off");
    }
}

/// The router, which is told who asks, and whether the connection sends files.
#[derive(Clone)]
struct Served {
    router: TowerToHyperService<Router>,
    peer: Peer,
    line: Option<Arc<Line>>,
}

impl Service<Request<Incoming>> for Served {
    type Response = Response<AnswerBody>;
    type Error = <TowerToHyperService<Router> as Service<Request<Incoming>>>::Error;
    type Future = BoxFuture<'static, Result<Self::Response, Self::Error>>;

    fn call(&self, mut request: Request<Incoming>) -> Self::Future {
        request.extensions_mut().insert(self.peer);
        if self.line.is_some() {
            request.extensions_mut().insert(SendsFiles);
        }
        let (answer, line) = (self.router.call(request), self.line.clone());
        Box::pin(async move { Ok(AnswerBody::of(answer.await?, line.as_ref())) })
    }
}

async fn connection(
    stream: TcpStream,
    mut service: Served,
    limits: &Limits,
    acceptor: Option<tokio_rustls::TlsAcceptor>,
    watcher: Watcher,
) {
    // A failure here is the client's to see.
    let _ = stream.set_nodelay(true);
    let Some(acceptor) = acceptor else {
        let line = service.line.insert(Arc::default());
        let socket = Socket::new(stream, Arc::clone(line));
        return http1(Unhurried::new(socket, limits.idle), service, limits, watcher).await;
    };
    let stream = Unhurried::new(stream, limits.idle);
    match timeout(limits.head, acceptor.accept(stream)).await {
        Ok(Ok(stream)) if stream.get_ref().1.alpn_protocol() == Some(b"h2") => {
            http2(stream, service, limits, watcher).await;
        }
        Ok(Ok(stream)) => http1(stream, service, limits, watcher).await,
        Ok(Err(error)) => tracing::debug!(%error, "no TLS handshake"),
        Err(_) => tracing::debug!("no TLS handshake in time"),
    }
}

async fn http1(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    service: Served,
    limits: &Limits,
    watcher: Watcher,
) {
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(limits.head).max_buf_size(BUFFER);
    end(builder.serve_connection(TokioIo::new(stream), service), watcher).await;
}

async fn http2(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    service: Served,
    limits: &Limits,
    watcher: Watcher,
) {
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS)
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(WINDOW * 2)
        .max_send_buf_size(OUT)
        .max_header_list_size(MAX_HEADERS)
        // One that does not answer a ping is gone.
        .keep_alive_interval(limits.idle)
        .keep_alive_timeout(limits.head);
    end(builder.serve_connection(TokioIo::new(stream), service), watcher).await;
}

async fn end<C: GracefulConnection<Error = hyper::Error>>(connection: C, watcher: Watcher) {
    if let Err(error) = watcher.watch(connection).await {
        tracing::debug!(%error, "connection ended");
    }
}
