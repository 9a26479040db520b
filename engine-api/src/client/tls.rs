//! TLS with certificates on both sides, from the client's.

use std::sync::Arc;

use engine_core::{Error, ErrorKind, Result};
use rustls::ClientConfig;
use rustls::crypto::ring;
use tokio_rustls::TlsConnector;

use super::options::ClientTls;
use crate::pem;

/// Reads the files, and makes of them what opens connections.
pub(super) fn connector(tls: &ClientTls) -> Result<TlsConnector> {
    let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| Error::new(ErrorKind::Other, "set up TLS").with_source(error))?
        .with_root_certificates(pem::authorities(&tls.authorities)?)
        .with_client_auth_cert(pem::certificates(&tls.certificate)?, pem::key(&tls.key)?)
        .map_err(|error| pem::unusable(&tls.certificate, "does not fit its key").with_source(error))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsConnector::from(Arc::new(config)))
}
