//! TLS of the server: its certificate, and whose clients it serves.
//!
//! Owns one private `rustls` configuration. Certificates are renewed while a server runs, so the files are looked at
//! again and again; what cannot be used is logged, and the one before stays. Invariant: no process-wide state.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use engine_core::error::{Error, ErrorKind, Result};
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{RootCertStore, ServerConfig};
use tokio_rustls::TlsAcceptor;

/// How often the files are looked at.
const LOOK: Duration = Duration::from_secs(2);
const MAX_PEM_SIZE: u64 = 1 << 20;

/// The files of a server's TLS, in PEM.
#[derive(Clone, Debug)]
pub struct ServerTls {
    certificate: PathBuf,
    key: PathBuf,
    clients: Option<PathBuf>,
}

impl ServerTls {
    /// Uses a certificate, followed by those that lead to its authority, and its private key.
    pub fn new(certificate: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Self {
        Self { certificate: certificate.into(), key: key.into(), clients: None }
    }

    /// Serves only clients whose certificate is of one of the authorities in the file.
    #[must_use]
    pub fn with_client_authorities(mut self, file: impl Into<PathBuf>) -> Self {
        self.clients = Some(file.into());
        self
    }

    pub(super) fn load(self) -> Result<LiveTls> {
        let provider = Arc::new(ring::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| Error::new(ErrorKind::Other, "set up TLS").with_source(error))?;
        let builder = match &self.clients {
            None => builder.with_no_client_auth(),
            Some(file) => {
                let mut roots = RootCertStore::empty();
                for certificate in certificates(file)? {
                    roots
                        .add(certificate)
                        .map_err(|e| unusable(file, "holds no authority").with_source(e))?;
                }
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                    .build()
                    .map_err(|e| unusable(file, "holds no authority").with_source(e))?;
                builder.with_client_cert_verifier(verifier)
            }
        };
        let seen = self.state();
        let current = Arc::new(Current(RwLock::new(self.certified()?)));
        let mut config = builder.with_cert_resolver(Arc::clone(&current) as _);
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(LiveTls { files: self, seen, current, config: Arc::new(config) })
    }

    fn certified(&self) -> Result<Arc<CertifiedKey>> {
        let key = PrivateKeyDer::from_pem_slice(&read(&self.key)?)
            .map_err(|_| unusable(&self.key, "holds no private key in PEM"))?;
        let chain = certificates(&self.certificate)?;
        CertifiedKey::from_der(chain, key, &ring::default_provider())
            .map(Arc::new)
            .map_err(|e| unusable(&self.certificate, "does not fit its key").with_source(e))
    }

    /// What changes when one of the files is replaced or written to.
    fn state(&self) -> [Option<(u64, i64, i64, u64)>; 2] {
        [&self.certificate, &self.key].map(|path| {
            let found = fs::metadata(path).ok()?;
            Some((found.ino(), found.mtime(), found.mtime_nsec(), found.len()))
        })
    }
}

/// The TLS of a running server.
#[derive(Debug)]
pub(super) struct LiveTls {
    files: ServerTls,
    seen: [Option<(u64, i64, i64, u64)>; 2],
    current: Arc<Current>,
    config: Arc<ServerConfig>,
}

impl LiveTls {
    pub(super) fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(Arc::clone(&self.config))
    }

    /// Takes new files over as they come. Never returns.
    pub(super) async fn follow(&self) {
        let mut seen = self.seen;
        loop {
            tokio::time::sleep(LOOK).await;
            let files = self.files.clone();
            let look = move || {
                let now = files.state();
                (now != seen).then(|| (now, files.certified()))
            };
            let Ok(Some((now, loaded))) = tokio::task::spawn_blocking(look).await else { continue };
            match loaded {
                Ok(key) => {
                    *self.current.0.write().unwrap_or_else(PoisonError::into_inner) = key;
                    tracing::info!(certificate = %self.files.certificate.display(), "certificate loaded");
                }
                // Half of it may be written: the other half is another change.
                Err(error) => tracing::warn!(error = %error.report(), "certificate not loaded"),
            }
            seen = now;
        }
    }
}

#[derive(Debug)]
struct Current(RwLock<Arc<CertifiedKey>>);

impl ResolvesServerCert for Current {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner)))
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let found: std::result::Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&read(path)?).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        _ => Err(unusable(path, "holds no certificate in PEM")),
    }
}

fn read(path: &Path) -> Result<Vec<u8>> {
    let failed = |error| {
        Error::from_io("read TLS file", error)
            .with("path", path.display())
            .with_kind(ErrorKind::InvalidArgument)
    };
    if fs::metadata(path).map_err(failed)?.len() > MAX_PEM_SIZE {
        return Err(unusable(path, "is too large"));
    }
    fs::read(path).map_err(failed)
}

fn unusable(path: &Path, why: &str) -> Error {
    Error::new(ErrorKind::InvalidArgument, "read TLS file").with("path", path.display()).with_message(why)
}
