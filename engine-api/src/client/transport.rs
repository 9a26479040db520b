//! Requests over connections, which are kept for the next request.
//!
//! A connection carries one request at a time. One whose answer was not read to its end is closed, which is how the other side
//! learns that nobody waits any more.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use engine_core::{Error, ErrorKind, Result};
use http_body_util::combinators::UnsyncBoxBody;
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;

use super::connect;
use super::host::Host;
use super::options::ConnectOptions;
use super::ssh::Said;

/// How long a connection may be idle before it is not used again: less than servers wait for a request.
const IDLE: Duration = Duration::from_secs(20);
/// How many idle ones are kept.
const KEPT: usize = 8;

/// What is sent.
pub(super) type Body = UnsyncBoxBody<Bytes, Error>;

/// The way to an engine.
pub(super) struct Transport {
    host: Host,
    options: ConnectOptions,
    idle: Mutex<Vec<(Instant, Connection)>>,
}

/// A connection that no request uses.
struct Connection {
    sender: SendRequest<Body>,
    said: Option<Arc<Said>>,
    /// How much was said when the last answer began: before the first one, what is said is why there is none.
    heard: Option<usize>,
}

/// An answer whose body is to be read.
pub(super) struct Answer {
    pub(super) response: Response<Incoming>,
    pub(super) lease: Lease,
}

/// The connection of an answer.
pub(super) struct Lease {
    connection: Connection,
    transport: Arc<Transport>,
}

impl Transport {
    pub(super) fn new(host: Host, options: ConnectOptions) -> Arc<Self> {
        Arc::new(Self { host, options, idle: Mutex::default() })
    }

    pub(super) fn host(&self) -> &Host {
        &self.host
    }

    /// Sends a request. It is sent again, by another connection, only where nothing of it was sent.
    pub(super) async fn send(self: &Arc<Self>, request: Request<Body>) -> Result<Answer> {
        let mut request = request;
        loop {
            let (mut connection, used) = match self.idle().await {
                Some(connection) => (connection, true),
                None => (self.open().await?, false),
            };
            match connection.sender.try_send_request(request).await {
                Ok(response) => {
                    connection.heard = Some(connection.said.as_ref().map_or(0, |said| said.length()));
                    let lease = Lease { connection, transport: Arc::clone(self) };
                    return Ok(Answer { response, lease });
                }
                Err(mut error) => match error.take_message() {
                    Some(unsent) if used => request = unsent,
                    _ => {
                        if let Some(said) = &connection.said {
                            said.settle().await;
                        }
                        return Err(connection.lost(&self.host, error.into_error()));
                    }
                },
            }
        }
    }

    /// Returns a connection that was kept, if there is one that is open still.
    async fn idle(&self) -> Option<Connection> {
        loop {
            let (since, mut connection) = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop()?;
            if since.elapsed() < IDLE && connection.sender.ready().await.is_ok() {
                return Some(connection);
            }
        }
    }

    async fn open(&self) -> Result<Connection> {
        let opened = connect::open(&self.host, &self.options).await?;
        let lost = |error| lost(&self.host, opened.said.as_deref(), None, error);
        let (sender, connection) = http1::handshake(TokioIo::new(opened.stream)).await.map_err(lost)?;
        tokio::spawn(async move {
            if let Err(error) = connection.with_upgrades().await {
                tracing::debug!(%error, "connection ended");
            }
        });
        Ok(Connection { sender, said: opened.said, heard: None })
    }
}

impl Lease {
    /// Keeps the connection for other requests: the answer was read to its end.
    pub(super) fn release(self) {
        let mut idle = self.transport.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(|(since, _)| since.elapsed() < IDLE);
        if idle.len() < KEPT && !self.connection.sender.is_closed() {
            idle.push((Instant::now(), self.connection));
        }
    }

    /// The error of an answer that broke off.
    pub(super) fn lost(&self, error: impl std::error::Error + Send + Sync + 'static) -> Error {
        self.connection.lost(&self.transport.host, error)
    }
}

impl Connection {
    fn lost(&self, host: &Host, error: impl std::error::Error + Send + Sync + 'static) -> Error {
        lost(host, self.said.as_deref(), self.heard, error)
    }
}

/// Before an answer, what ssh says is the reason; what it says later may be.
fn lost(
    host: &Host,
    said: Option<&Said>,
    heard: Option<usize>,
    error: impl std::error::Error + Send + Sync + 'static,
) -> Error {
    let broke_off = || {
        Error::new(ErrorKind::Unavailable, "call engine")
            .with("host", host)
            .with_message("the connection broke off")
            .with_source(error)
    };
    match (heard, said) {
        (None, Some(said)) => match said.text() {
            Some(text) => {
                Error::new(ErrorKind::Unavailable, format!("cannot connect to the engine at {host}"))
                    .with_message(text)
                    .with_retryable(false)
            }
            None => broke_off(),
        },
        (Some(heard), Some(said)) => match said.since(heard) {
            Some(text) => broke_off().with("ssh", text),
            None => broke_off(),
        },
        (_, None) => broke_off(),
    }
}

impl fmt::Debug for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transport").field("host", &self.host).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ssh_said_before_an_answer_is_no_reason_for_what_comes_later() {
        let host = "ssh://box".parse().unwrap();
        let said = Said::default();
        said.add(b"Warning: Permanently added 'box' to the list of known hosts.\n");
        let reset = || std::io::Error::from(std::io::ErrorKind::ConnectionReset);
        let before = lost(&host, Some(&said), None, reset()).report();
        assert!(before.contains("cannot connect") && before.contains("Permanently"), "{before}");
        let heard = Some(said.length());
        let later = lost(&host, Some(&said), heard, reset()).report();
        assert!(later.contains("broke off: connection reset") && !later.contains("Permanently"), "{later}");
        said.add(b"Timeout, server box not responding.\n");
        let later = lost(&host, Some(&said), heard, reset()).report();
        assert!(later.contains("Timeout") && later.contains("connection reset"), "{later}");
    }
}
