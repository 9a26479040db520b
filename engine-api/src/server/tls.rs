//! TLS with certificates on both sides.

use std::path::PathBuf;
use std::sync::Arc;

use engine_core::{Error, ErrorKind, Result};
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::server::WebPkiClientVerifier;
use tokio_rustls::TlsAcceptor;

use crate::pem;

/// The files of TLS, in PEM: as `dockerd --tlsverify` takes them.
#[derive(Clone, Debug)]
pub struct MutualTls {
    certificate: PathBuf,
    key: PathBuf,
    authorities: PathBuf,
}

impl MutualTls {
    /// Uses the server's certificate (followed by those that lead to its authority), its private key, and the authorities
    /// whose clients are served.
    pub fn new(
        certificate: impl Into<PathBuf>,
        key: impl Into<PathBuf>,
        authorities: impl Into<PathBuf>,
    ) -> Self {
        Self { certificate: certificate.into(), key: key.into(), authorities: authorities.into() }
    }

    pub(super) fn acceptor(&self) -> Result<TlsAcceptor> {
        let provider = Arc::new(ring::default_provider());
        let roots = Arc::new(pem::authorities(&self.authorities)?);
        let verifier = WebPkiClientVerifier::builder_with_provider(roots, Arc::clone(&provider))
            .build()
            .map_err(|e| pem::unusable(&self.authorities, "holds no authority").with_source(e))?;
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| Error::new(ErrorKind::Other, "set up TLS").with_source(error))?
            .with_client_cert_verifier(verifier)
            .with_single_cert(pem::certificates(&self.certificate)?, pem::key(&self.key)?)
            .map_err(|e| pem::unusable(&self.certificate, "does not fit its key").with_source(e))?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(TlsAcceptor::from(Arc::new(config)))
    }
}
