//! Certificates and keys in files.

use std::fs;
use std::path::Path;

use engine_core::{Error, ErrorKind, Result};
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

pub(crate) fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>> {
    CertificateDer::pem_slice_iter(&read(file)?)
        .collect::<Result<Vec<_>, _>>()
        .ok()
        .filter(|found| !found.is_empty())
        .ok_or_else(|| unusable(file, "holds no certificate in PEM"))
}

pub(crate) fn authorities(file: &Path) -> Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(file)? {
        roots.add(certificate).map_err(|error| unusable(file, "holds no authority").with_source(error))?;
    }
    Ok(roots)
}

pub(crate) fn key(file: &Path) -> Result<PrivateKeyDer<'static>> {
    PrivateKeyDer::from_pem_slice(&read(file)?).map_err(|_| unusable(file, "holds no private key in PEM"))
}

pub(crate) fn unusable(file: &Path, why: &'static str) -> Error {
    Error::new(ErrorKind::InvalidArgument, "set up TLS").with("file", file.display()).with_message(why)
}

fn read(file: &Path) -> Result<Vec<u8>> {
    fs::read(file).map_err(|error| {
        Error::from_io("set up TLS", error).with_kind(ErrorKind::InvalidArgument).with("file", file.display())
    })
}
