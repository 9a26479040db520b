//! TLS with certificates on both sides.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use engine_core::{Error, ErrorKind, Result};
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio_rustls::TlsAcceptor;

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
        let mut roots = RootCertStore::empty();
        for certificate in certificates(&self.authorities)? {
            roots
                .add(certificate)
                .map_err(|e| unusable(&self.authorities, "holds no authority").with_source(e))?;
        }
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
            .build()
            .map_err(|e| unusable(&self.authorities, "holds no authority").with_source(e))?;
        let key = PrivateKeyDer::from_pem_slice(&read(&self.key)?)
            .map_err(|_| unusable(&self.key, "holds no private key in PEM"))?;
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| Error::new(ErrorKind::Other, "set up TLS").with_source(error))?
            .with_client_cert_verifier(verifier)
            .with_single_cert(certificates(&self.certificate)?, key)
            .map_err(|e| unusable(&self.certificate, "does not fit its key").with_source(e))?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(TlsAcceptor::from(Arc::new(config)))
    }
}

fn read(file: &Path) -> Result<Vec<u8>> {
    fs::read(file).map_err(|error| {
        Error::from_io("set up TLS", error).with_kind(ErrorKind::InvalidArgument).with("file", file.display())
    })
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>> {
    CertificateDer::pem_slice_iter(&read(file)?)
        .collect::<Result<Vec<_>, _>>()
        .ok()
        .filter(|found| !found.is_empty())
        .ok_or_else(|| unusable(file, "holds no certificate in PEM"))
}

fn unusable(file: &Path, why: &'static str) -> Error {
    Error::new(ErrorKind::InvalidArgument, "set up TLS").with("file", file.display()).with_message(why)
}
