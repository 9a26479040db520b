//! Connections: one request, one answer, nothing more.
//!
//! Owns the HTTP clients (one per TLS configuration) and the deadlines. It follows no redirect, adds no credential and
//! repeats nothing: [`session`](crate::session) does. Invariant: each wait for a peer has a deadline, and
//! no answer is read beyond a given size, except a blob's, which is a stream.

use std::collections::HashMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use engine_core::error::ErrorKind;
use reqwest::redirect::Policy;
use reqwest::{Client, NoProxy, Proxy, Request, Response, Url};
use tokio::time::timeout;

use crate::fault::Fault;
use crate::origin::{Origin, PlainRules};
use crate::tls::TlsOptions;

/// How long to wait for a registry.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Timeouts {
    /// For a connection, TLS included. Default: 10 s.
    pub connect: Duration,
    /// For the head of an answer, and for the verdict on an upload five times as long. Default: 60 s.
    pub answer: Duration,
    /// For the next piece of a body, in either direction. Default: 30 s.
    pub idle: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            answer: Duration::from_secs(60),
            idle: Duration::from_secs(30),
        }
    }
}

impl Timeouts {
    /// Sets the wait for a connection.
    #[must_use]
    pub fn with_connect(mut self, wait: Duration) -> Self {
        self.connect = wait;
        self
    }

    /// Sets the wait for the head of an answer.
    #[must_use]
    pub fn with_answer(mut self, wait: Duration) -> Self {
        self.answer = wait;
        self
    }

    /// Sets the wait for the next piece of a body.
    #[must_use]
    pub fn with_idle(mut self, wait: Duration) -> Self {
        self.idle = wait;
        self
    }
}

/// Sends requests.
pub(crate) struct Transport {
    pub(crate) rules: PlainRules,
    pub(crate) timeouts: Timeouts,
    tls: Arc<TlsOptions>,
    user_agent: String,
    proxy: Option<(Url, String)>,
    clients: Mutex<HashMap<(String, bool), Client>>,
}

impl fmt::Debug for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Without the proxy: its URL may hold a password.
        f.debug_struct("Transport")
            .field("rules", &self.rules)
            .field("timeouts", &self.timeouts)
            .finish_non_exhaustive()
    }
}

impl Transport {
    pub(crate) fn new(
        rules: PlainRules,
        timeouts: Timeouts,
        tls: TlsOptions,
        user_agent: String,
        proxy: Option<(Url, String)>,
    ) -> Self {
        Self { rules, timeouts, tls: Arc::new(tls), user_agent, proxy, clients: Mutex::default() }
    }

    /// Sends `request` as it is and waits for the head of the answer.
    pub(crate) async fn execute(&self, request: Request) -> Result<Response, Fault> {
        let origin = Origin::of(request.url())
            .ok_or_else(|| Fault::new(ErrorKind::InvalidArgument, "the URL is neither http nor https"))?;
        let client = self.client(&origin).await?;
        tracing::debug!(method = %request.method(), %origin, path = request.url().path(), "request");
        let sent = client.execute(request);
        match timeout(self.timeouts.answer, sent).await {
            Ok(Ok(response)) => {
                tracing::debug!(%origin, status = response.status().as_u16(), "answer");
                Ok(response)
            }
            Ok(Err(error)) => Err(Fault::from_transport(error)),
            Err(_) => Err(Fault::late("it did not answer", self.timeouts.answer)),
        }
    }

    /// Returns the client for `origin`, for a request whose deadlines are the caller's business.
    pub(crate) async fn client(&self, origin: &Origin) -> Result<Client, Fault> {
        let insecure = self.rules.is_configured(origin);
        let own_files = self.tls.certs_dir.is_some();
        let key = (if own_files { origin.authority() } else { String::new() }, insecure);
        let known = self.clients.lock().unwrap_or_else(PoisonError::into_inner).get(&key).cloned();
        if let Some(client) = known {
            return Ok(client);
        }
        let (tls, authority) = (Arc::clone(&self.tls), key.0.clone());
        let config =
            tokio::task::spawn_blocking(move || tls.client_config(&authority, !insecure)).await.map_err(
                |e| Fault::new(ErrorKind::Other, "reading certificates was interrupted").source(e),
            )??;
        let loopback = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
        let mut builder = Client::builder()
            .tls_backend_preconfigured(config)
            .redirect(Policy::none())
            .referer(false)
            .http1_only()
            .no_proxy()
            .user_agent(&self.user_agent)
            .connect_timeout(self.timeouts.connect)
            .pool_idle_timeout(Duration::from_secs(30))
            // A name that plain http is allowed for must not be looked up elsewhere.
            .resolve_to_addrs("localhost", &loopback.map(|ip| SocketAddr::new(ip, 0)));
        if let Some((proxy, direct)) = &self.proxy {
            let direct = NoProxy::from_string(&format!("localhost,127.0.0.0/8,::1,{direct}"));
            let proxy = Proxy::all(proxy.clone()).map(|proxy| proxy.no_proxy(direct));
            builder = builder.proxy(proxy.map_err(Fault::from_transport)?);
        }
        let client = builder.build().map_err(|e| {
            Fault::new(ErrorKind::Other, "the HTTP client cannot be made").source(e.without_url())
        })?;
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        // Another task may have been first: one pool of connections for each key.
        Ok(clients.entry(key).or_insert(client).clone())
    }

    /// Returns the next piece of a body, `None` at its end.
    pub(crate) async fn chunk(&self, response: &mut Response) -> Result<Option<Bytes>, Fault> {
        match timeout(self.timeouts.idle, response.chunk()).await {
            Ok(Ok(piece)) => Ok(piece),
            Ok(Err(error)) => Err(Fault::from_transport(error)),
            Err(_) => Err(Fault::late("it sent nothing", self.timeouts.idle)),
        }
    }

    /// Reads a whole body of at most `most` bytes.
    pub(crate) async fn body(&self, mut response: Response, most: u64) -> Result<Bytes, Fault> {
        let too_large = || Fault::corrupt(format!("its answer is larger than {most} bytes"));
        if response.content_length().is_some_and(|length| length > most) {
            return Err(too_large());
        }
        let mut body = BytesMut::new();
        while let Some(piece) = self.chunk(&mut response).await? {
            if (body.len() + piece.len()) as u64 > most {
                return Err(too_large());
            }
            body.extend_from_slice(&piece);
        }
        Ok(body.freeze())
    }
}
