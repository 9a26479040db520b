//! TLS: which authorities are trusted, which client certificate is shown.
//!
//! Owns the making of one private `rustls` configuration per host. Invariant: nothing here reads or sets
//! process-wide state: the crypto provider is passed by hand, the environment is not read.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use engine_core::error::ErrorKind;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};

use crate::fault::Fault;

/// Where the distributions keep their bundle of authorities; the first that exists is read.
const SYSTEM_BUNDLES: [&str; 5] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];
const MAX_PEM_SIZE: u64 = 8 << 20;

/// What the user said about TLS.
#[derive(Debug)]
pub(crate) struct TlsOptions {
    /// Authorities beside the system's.
    pub(crate) authorities: Vec<CertificateDer<'static>>,
    pub(crate) system_roots: bool,
    /// A directory like `/etc/docker/certs.d`.
    pub(crate) certs_dir: Option<PathBuf>,
    /// The system's authorities, once read.
    pub(crate) system: OnceLock<RootCertStore>,
}

impl TlsOptions {
    /// Makes the configuration for `authority` (`host` or `host:port`). Blocks on files.
    pub(crate) fn client_config(&self, authority: &str, verify: bool) -> Result<ClientConfig, Fault> {
        let provider = Arc::new(ring::default_provider());
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|e| Fault::new(ErrorKind::Other, "TLS cannot be set up").source(e))?;
        let files = self.files_of(authority)?;
        let builder = if verify {
            let mut roots = if self.system_roots {
                self.system.get_or_init(system_roots).clone()
            } else {
                RootCertStore::empty()
            };
            for certificate in self.authorities.iter().chain(&files.authorities) {
                roots
                    .add(certificate.clone())
                    .map_err(|e| invalid("a given certificate is no authority's").source(e))?;
            }
            builder.with_root_certificates(roots)
        } else {
            builder.dangerous().with_custom_certificate_verifier(Arc::new(Unverified(provider)))
        };
        match files.identity {
            Some((chain, key)) => builder
                .with_client_auth_cert(chain, key)
                .map_err(|e| invalid("the client certificate does not fit its key").source(e)),
            None => Ok(builder.with_no_client_auth()),
        }
    }

    fn files_of(&self, authority: &str) -> Result<HostFiles, Fault> {
        let mut files = HostFiles::default();
        // A host's name becomes a file's name here: no way up.
        let Some(dir) = self.certs_dir.as_ref().filter(|_| !authority.starts_with('.')) else {
            return Ok(files);
        };
        let Ok(entries) = fs::read_dir(dir.join(authority)) else { return Ok(files) };
        let mut paths: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
        paths.sort();
        for path in paths {
            match path.extension().and_then(|extension| extension.to_str()) {
                Some("crt") => files.authorities.extend(certificates(&read(&path)?, &path)?),
                Some("cert") if files.identity.is_none() => {
                    let key = path.with_extension("key");
                    let chain = certificates(&read(&path)?, &path)?;
                    let key = PrivateKeyDer::from_pem_slice(&read(&key)?)
                        .map_err(|_| invalid(format!("{} holds no private key", key.display())))?;
                    files.identity = Some((chain, key));
                }
                _ => {}
            }
        }
        Ok(files)
    }
}

#[derive(Default)]
struct HostFiles {
    authorities: Vec<CertificateDer<'static>>,
    identity: Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>,
}

/// Reads the certificates of a PEM text.
pub(crate) fn certificates(pem: &[u8], origin: &Path) -> Result<Vec<CertificateDer<'static>>, Fault> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        _ => Err(invalid(format!("{} holds no PEM certificate", origin.display()))),
    }
}

fn read(path: &Path) -> Result<Vec<u8>, Fault> {
    let failed = |e| invalid(format!("{} cannot be read", path.display())).source(e);
    if fs::metadata(path).map_err(failed)?.len() > MAX_PEM_SIZE {
        return Err(invalid(format!("{} is too large", path.display())));
    }
    fs::read(path).map_err(failed)
}

fn invalid(message: impl Into<String>) -> Fault {
    Fault::new(ErrorKind::InvalidArgument, message)
}

fn system_roots() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    if let Some(pem) = SYSTEM_BUNDLES.iter().find_map(|path| fs::read(path).ok()) {
        // A bundle may hold certificates that this library refuses; the others count.
        roots.add_parsable_certificates(CertificateDer::pem_slice_iter(&pem).flatten());
    }
    roots
}

/// Accepts any certificate: only for hosts that the user listed as insecure.
#[derive(Debug)]
struct Unverified(Arc<CryptoProvider>);

impl ServerCertVerifier for Unverified {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
