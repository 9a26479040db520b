//! [`RemoteEngine`]: an engine behind a connection.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use engine_core::engine::ContainerEngine;
use engine_core::id::Name;
use engine_core::{Error, ErrorKind, Result};
use http_body_util::{BodyExt as _, Empty};
use hyper::Request;
use hyper::header::{HOST, HeaderMap, SERVER};
use tokio::time::timeout;

use super::call::whole;
use super::flows::Flows;
use super::host::Host;
use super::options::ConnectOptions;
use super::scoped::Scoped;
use super::transport::Transport;
use crate::wire::{self, Hello};

/// How long a connection and the first answers may take.
const PATIENCE: Duration = Duration::from_secs(20);
/// The same where a person may be asked for a password: a little longer than servers of ssh wait for one.
const PATIENCE_WITH_PEOPLE: Duration = Duration::from_secs(150);

/// An engine that an `ApiServer` elsewhere serves. Clones are the same engine.
///
/// It becomes an [`Engine`](engine_core::Engine) like any other by `Engine::from`. It needs the runtime that it was connected in.
#[derive(Clone, Debug)]
pub struct RemoteEngine {
    pub(super) transport: Arc<Transport>,
    pub(super) flows: Flows,
    pub(super) scoped: Scoped,
    hello: Arc<Hello>,
}

impl ContainerEngine for RemoteEngine {}

impl RemoteEngine {
    /// Connects to the engine at `host`.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`] if nobody is there or answers in time, [`ErrorKind::Unsupported`] if it is a daemon of another kind.
    pub async fn connect(host: &Host, options: ConnectOptions) -> Result<Self> {
        let patience = options.timeout.unwrap_or(match host {
            Host::Ssh { .. } => PATIENCE_WITH_PEOPLE,
            _ => PATIENCE,
        });
        let late = |_| {
            Error::new(ErrorKind::Unavailable, format!("cannot connect to the engine at {host}"))
                .with_message(format!("it does not answer within {patience:?}"))
        };
        timeout(patience, Self::begin(host, options)).await.map_err(late)?
    }

    async fn begin(host: &Host, options: ConnectOptions) -> Result<Self> {
        let transport = Transport::new(host.clone(), options);
        let ping = Request::get("/_ping")
            .header(HOST, "engine")
            .body(Empty::<Bytes>::new().map_err(|never| match never {}).boxed_unsync())
            .map_err(|error| Error::new(ErrorKind::Other, "call engine").with_source(error))?;
        let answer = transport.send(ping).await?;
        require_ours(host, answer.response.headers())?;
        // Read to its end, the connection is the next request's: by ssh, another one would ask for a password again.
        let (_, lease) = whole(answer).await?;
        lease.release();
        let mut engine =
            Self { transport, flows: Flows::default(), scoped: Scoped::default(), hello: Arc::default() };
        let hello: Hello = engine.call("hello", ()).await?;
        engine.hello = Arc::new(hello);
        Ok(engine)
    }

    /// Returns where it is.
    #[must_use]
    pub fn host(&self) -> &Host {
        self.transport.host()
    }

    pub(super) fn default_network_name(&self) -> Option<&Name> {
        self.hello.default_network.as_ref()
    }

    pub(super) fn predefined(&self) -> &[Name] {
        &self.hello.predefined
    }

    pub(super) fn unsupported(operation: &'static str, why: &'static str) -> Error {
        Error::new(ErrorKind::Unsupported, operation)
            .with_message(format!("an engine behind a connection cannot {why}"))
    }
}

/// Requires of a daemon that it speaks this protocol.
fn require_ours(host: &Host, headers: &HeaderMap) -> Result<()> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let wrong = |why: String| {
        Err(Error::new(ErrorKind::Unsupported, "connect to the engine").with("host", host).with_message(why))
    };
    match text(wire::PROTOCOL) {
        Some(wire::VERSION) => Ok(()),
        Some(other) => {
            wrong(format!("it speaks version {other} of the protocol, and this program {}", wire::VERSION))
        }
        None => {
            let daemon = text(SERVER.as_str()).unwrap_or("a daemon without a name");
            wrong(format!("{daemon} listens there, which is not one of ours"))
        }
    }
}
