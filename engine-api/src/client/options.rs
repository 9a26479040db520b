//! How to connect.

use std::path::{Path, PathBuf};
use std::time::Duration;

/// How a [`RemoteEngine`](super::RemoteEngine) connects. Everything is optional.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct ConnectOptions {
    /// The certificates for a host by TCP; without, only the loopback address is spoken to.
    pub tls: Option<ClientTls>,
    /// How long it may take until the engine has answered for the first time: 20 seconds by default, and 150 by ssh, which may ask
    /// somebody for a password.
    pub timeout: Option<Duration>,
}

impl ConnectOptions {
    /// Sets the certificates.
    #[must_use]
    pub fn with_tls(mut self, tls: ClientTls) -> Self {
        self.tls = Some(tls);
        self
    }

    /// Sets how long it may take until the engine has answered for the first time.
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }
}

/// The files of TLS, in PEM.
#[derive(Clone, Debug)]
pub struct ClientTls {
    pub(super) certificate: PathBuf,
    pub(super) key: PathBuf,
    pub(super) authorities: PathBuf,
}

impl ClientTls {
    /// Uses the client's certificate, its private key, and the authorities that the server's certificate is to be of.
    pub fn new(
        certificate: impl Into<PathBuf>,
        key: impl Into<PathBuf>,
        authorities: impl Into<PathBuf>,
    ) -> Self {
        Self { certificate: certificate.into(), key: key.into(), authorities: authorities.into() }
    }

    /// Uses `cert.pem`, `key.pem` and `ca.pem` of a directory, as Docker's `DOCKER_CERT_PATH` names one.
    #[must_use]
    pub fn in_directory(directory: &Path) -> Self {
        Self::new(directory.join("cert.pem"), directory.join("key.pem"), directory.join("ca.pem"))
    }
}
