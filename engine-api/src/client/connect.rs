//! Opening a connection.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use engine_core::{Error, ErrorKind, Result};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream, lookup_host};
use tokio::time::timeout;

use super::host::Host;
use super::options::{ClientTls, ConnectOptions};
use super::ssh::{self, Said};
use super::tls;
use crate::keepalive;

/// How long a connection by TCP may take, with its handshake.
const PATIENCE: Duration = Duration::from_secs(20);

/// Both directions of a connection.
pub(super) trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// A connection, and what the program that carries it says in the meantime.
pub(super) struct Opened {
    pub(super) stream: Box<dyn Duplex>,
    pub(super) said: Option<Arc<Said>>,
}

/// Connects to `host`.
pub(super) async fn open(host: &Host, options: &ConnectOptions) -> Result<Opened> {
    let plain = |stream| Opened { stream, said: None };
    match host {
        Host::Unix(path) => match UnixStream::connect(path).await {
            Ok(stream) => Ok(plain(Box::new(stream))),
            Err(error) => Err(unreachable(host, error)),
        },
        Host::Tcp { host: name, port } => {
            let connecting = tcp(host, name, *port, options.tls.as_ref());
            let late = |_| unreachable(host, std::io::ErrorKind::TimedOut.into());
            timeout(PATIENCE, connecting).await.map_err(late)?.map(plain)
        }
        Host::Ssh { .. } => {
            let (stream, said) = ssh::open(host)?;
            Ok(Opened { stream: Box::new(stream), said: Some(said) })
        }
    }
}

async fn tcp(
    host: &Host,
    name: &str,
    port: Option<u16>,
    certificates: Option<&ClientTls>,
) -> Result<Box<dyn Duplex>> {
    let failed = |error| unreachable(host, error);
    let port = Host::port(port, certificates.is_some());
    let addresses: Vec<SocketAddr> = lookup_host((name, port)).await.map_err(failed)?.collect();
    let Some(certificates) = certificates else {
        if !addresses.iter().all(|address| is_own(address.ip())) {
            return Err(Error::new(ErrorKind::InvalidArgument, "connect to the engine")
                .with("host", host)
                .with_message("without certificates, only the loopback address is spoken to")
                .with_hint("give certificates, or use ssh"));
        }
        return Ok(Box::new(first(&addresses).await.map_err(failed)?));
    };
    let connector = tls::connector(certificates)?;
    let server = ServerName::try_from(name.to_owned()).map_err(|error| {
        Error::new(ErrorKind::InvalidArgument, "connect to the engine").with("host", host).with_source(error)
    })?;
    let stream = first(&addresses).await.map_err(failed)?;
    match connector.connect(server, stream).await {
        Ok(stream) => Ok(Box::new(stream)),
        Err(error) if is_about_certificates(&error) => {
            Err(Error::new(ErrorKind::Unauthenticated, "connect to the engine")
                .with("host", host)
                .with_message("the certificates do not fit")
                .with_source(error))
        }
        Err(error) => Err(failed(error)),
    }
}

/// Whether a handshake failed by what one side showed the other, and not by the connection, or by one who speaks something else.
fn is_about_certificates(error: &std::io::Error) -> bool {
    use rustls::Error::{
        AlertReceived, InvalidCertRevocationList, InvalidCertificate, NoCertificatesPresented,
    };
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    matches!(
        inner,
        Some(
            AlertReceived(_) | InvalidCertificate(_) | InvalidCertRevocationList(_) | NoCertificatesPresented
        )
    )
}

fn is_own(address: IpAddr) -> bool {
    address.to_canonical().is_loopback()
}

async fn first(addresses: &[SocketAddr]) -> std::io::Result<TcpStream> {
    let stream = TcpStream::connect(addresses).await?;
    stream.set_nodelay(true)?;
    keepalive::enable(&stream)?;
    Ok(stream)
}

/// Nobody is there.
pub(super) fn unreachable(host: &Host, error: std::io::Error) -> Error {
    let kind = match error.kind() {
        std::io::ErrorKind::PermissionDenied => ErrorKind::PermissionDenied,
        _ => ErrorKind::Unavailable,
    };
    let failed = Error::new(kind, format!("cannot connect to the engine at {host}")).with_source(error);
    match kind {
        ErrorKind::PermissionDenied => failed,
        _ => failed.with_message("is the daemon running?").with_retryable(false),
    }
}
