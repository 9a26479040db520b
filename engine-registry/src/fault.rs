//! What went wrong with a registry, before it is known for whom.
//!
//! Owns the mapping from HTTP, TLS and connection failures to [`ErrorKind`]s, sentences and advice. Invariant: no
//! text here comes from a peer unscrubbed, and no URL query or secret enters it.

use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::time::Duration;

use engine_core::error::{Error, ErrorKind};
use oci_distribution::errors::{OciEnvelope, OciErrorCode};
use reqwest::StatusCode;
use rustls::CertificateError;

use crate::secret::{Secret, scrub};

type Cause = Box<dyn StdError + Send + Sync + 'static>;

/// A failed step: all of an [`Error`] but the operation and its subject.
#[derive(Debug)]
pub(crate) struct Fault(Box<Inner>);

#[derive(Debug)]
struct Inner {
    kind: ErrorKind,
    message: String,
    hint: Option<String>,
    retryable: bool,
    may_be_plain: bool,
    wait: Option<Duration>,
    source: Option<Cause>,
}

impl Fault {
    pub(crate) fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        let message = message.into();
        Self(Box::new(Inner {
            kind,
            message,
            hint: None,
            retryable: false,
            may_be_plain: false,
            wait: None,
            source: None,
        }))
    }

    pub(crate) fn corrupt(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Corrupt, message)
    }

    /// A failure that trying again may cure.
    pub(crate) fn passing(kind: ErrorKind, message: impl Into<String>) -> Self {
        let mut fault = Self::new(kind, message);
        fault.0.retryable = true;
        fault
    }

    pub(crate) fn late(what: &str, after: Duration) -> Self {
        Self::passing(ErrorKind::DeadlineExceeded, format!("{what} within {} s", after.as_secs_f32()))
    }

    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.0.hint = Some(hint.into());
        self
    }

    pub(crate) fn source(mut self, source: impl Into<Cause>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    pub(crate) fn wait(mut self, wait: Option<Duration>) -> Self {
        self.0.wait = wait;
        self
    }

    pub(crate) fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    pub(crate) fn message(&self) -> &str {
        &self.0.message
    }

    pub(crate) fn is_retryable(&self) -> bool {
        self.0.retryable
    }

    /// Returns how long the peer asked to wait.
    pub(crate) fn waits(&self) -> Option<Duration> {
        self.0.wait
    }

    /// Returns whether the peer did not speak TLS at all, or nobody was there.
    pub(crate) fn may_be_plain(&self) -> bool {
        self.0.may_be_plain
    }

    /// Makes it the error of `operation`.
    pub(crate) fn into_error(
        self,
        operation: &'static str,
        registry: &str,
        repository: Option<&str>,
    ) -> Error {
        let error = self.into_error_of(operation, "registry", registry);
        match repository {
            Some(repository) => error.with("repository", repository),
            None => error,
        }
    }

    /// Makes an error of it, about something that is no registry.
    pub(crate) fn into_error_of(self, operation: &'static str, what: &'static str, which: &str) -> Error {
        let error = Error::new(self.0.kind, operation)
            .with(what, which)
            .with_message(self.0.message)
            .with_retryable(self.0.retryable);
        let error = match self.0.hint {
            Some(hint) => error.with_hint(hint),
            None => error,
        };
        match self.0.source {
            Some(source) => error.with_source(source),
            None => error,
        }
    }

    /// Maps a failure of connecting, sending or receiving.
    pub(crate) fn from_transport(error: reqwest::Error) -> Self {
        let connecting = error.is_connect();
        // URLs may carry signatures in their query.
        let error = error.without_url();
        if let Some(tls) = tls_error(&error) {
            return Self::from_tls(tls);
        }
        if error.is_timeout() {
            let mut fault = Self::passing(ErrorKind::DeadlineExceeded, "it did not answer in time");
            fault.0.may_be_plain = connecting;
            return fault.source(error);
        }
        let message = match (connecting, io_kind(&error)) {
            (true, Some(io::ErrorKind::ConnectionRefused)) => "nothing listens there: connection refused",
            (true, _) => "it cannot be reached",
            (false, _) => "the connection broke",
        };
        let mut fault = Self::passing(ErrorKind::Unavailable, message).source(error);
        fault.0.may_be_plain = connecting;
        if connecting {
            fault = fault.hint("check the name, the network, and that the registry is up");
        }
        fault
    }

    /// TLS failures are final: nothing was sent, and nothing is tried with less (SECURITY D3).
    fn from_tls(error: &rustls::Error) -> Self {
        use CertificateError as Cert;
        let not_tls = matches!(error, rustls::Error::InvalidMessage(_));
        let message = match error {
            rustls::Error::InvalidCertificate(
                Cert::UnknownIssuer | Cert::BadSignature | Cert::Other(_) | Cert::UnhandledCriticalExtension,
            ) => "its certificate is not signed by an authority known here",
            rustls::Error::InvalidCertificate(Cert::Expired | Cert::ExpiredContext { .. }) => {
                "its certificate has expired"
            }
            rustls::Error::InvalidCertificate(Cert::NotValidYet | Cert::NotValidYetContext { .. }) => {
                "its certificate is not valid yet"
            }
            rustls::Error::InvalidCertificate(
                Cert::NotValidForName | Cert::NotValidForNameContext { .. },
            ) => "its certificate is for another name",
            rustls::Error::InvalidCertificate(_) => "its certificate is not acceptable",
            _ if not_tls => "it does not speak TLS",
            _ => "the TLS handshake failed",
        };
        let hint = if not_tls {
            "list the registry as insecure (--insecure-registry HOST) if it is meant to speak plain http"
        } else {
            "give the certificate of the registry's authority (--registry-ca FILE), or have its certificate renewed"
        };
        let mut fault = Self::new(ErrorKind::Unavailable, message).hint(hint).source(error.clone());
        fault.0.may_be_plain = not_tls;
        fault
    }

    /// Maps an answer that is no success. `body` is its (bounded) text.
    pub(crate) fn from_status(status: StatusCode, body: &[u8], secrets: &[Secret]) -> Self {
        let envelope: Option<OciEnvelope> = serde_json::from_slice(body).ok();
        let first = envelope.as_ref().and_then(|envelope| envelope.errors.first());
        let told = first.map(|error| scrub(&error.message, secrets)).filter(|text| !text.trim().is_empty());
        let told = told.map_or_else(String::new, |text| format!(": {text}"));
        let code = first.map(|error| &error.code);
        let (kind, message) = match status {
            StatusCode::UNAUTHORIZED => (ErrorKind::Unauthenticated, "it wants credentials"),
            StatusCode::FORBIDDEN => (ErrorKind::PermissionDenied, "it denied access"),
            StatusCode::NOT_FOUND => (
                ErrorKind::NotFound,
                match code {
                    Some(OciErrorCode::NameUnknown | OciErrorCode::NameInvalid) => {
                        "not found: no such repository"
                    }
                    Some(OciErrorCode::ManifestUnknown) => "not found: no such tag or digest",
                    Some(OciErrorCode::BlobUnknown) => "not found: no such blob",
                    _ => "not found: no such repository, tag or digest",
                },
            ),
            StatusCode::TOO_MANY_REQUESTS => (ErrorKind::Unavailable, "too many requests"),
            StatusCode::INSUFFICIENT_STORAGE | StatusCode::PAYLOAD_TOO_LARGE => {
                (ErrorKind::ResourceExhausted, "it has no room for this content")
            }
            StatusCode::REQUEST_TIMEOUT => (ErrorKind::DeadlineExceeded, "it gave up waiting"),
            StatusCode::METHOD_NOT_ALLOWED => (ErrorKind::Unsupported, "it does not support this"),
            status if status.is_server_error() => (ErrorKind::Unavailable, "the registry failed"),
            _ => match code {
                Some(OciErrorCode::ManifestBlobUnknown | OciErrorCode::BlobUnknown) => {
                    (ErrorKind::Conflict, "it lacks a blob that the manifest names")
                }
                Some(OciErrorCode::DigestInvalid | OciErrorCode::SizeInvalid) => {
                    (ErrorKind::Corrupt, "the content does not match its digest or size")
                }
                Some(OciErrorCode::Denied) => (ErrorKind::PermissionDenied, "it denied access"),
                _ => (ErrorKind::Other, "it refused the request"),
            },
        };
        let fault = Self::new(kind, format!("{message} (HTTP {}){told}", status.as_u16()));
        let retryable = matches!(status.as_u16(), 408 | 429 | 500 | 502 | 503 | 504);
        let mut fault = match kind {
            ErrorKind::NotFound => fault.hint("check the spelling; a private repository may look absent"),
            _ if status == StatusCode::TOO_MANY_REQUESTS => {
                fault.hint("wait a while, or log in: accounts are often allowed more")
            }
            ErrorKind::PermissionDenied => fault.hint("check that this account may do this there"),
            _ => fault,
        };
        fault.0.retryable = retryable;
        fault
    }

    /// What to do about a registry that wants (other) credentials.
    pub(crate) fn unauthenticated(registry: &str, had_credentials: bool, told: &str) -> Self {
        let message = if had_credentials {
            format!("unauthorized: it did not accept the credentials{told}")
        } else {
            format!("unauthorized: it wants credentials, or the repository does not exist{told}")
        };
        Self::new(ErrorKind::Unauthenticated, message)
            .hint(format!("log in with `engine-cli login {registry}`"))
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)
    }
}

/// Finds rustls' own error beneath what reqwest, hyper and std wrap around it.
fn tls_error<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a rustls::Error> {
    walk(error, |error| error.downcast_ref())
}

fn io_kind(error: &(dyn StdError + 'static)) -> Option<io::ErrorKind> {
    walk(error, |error| error.downcast_ref::<io::Error>()).map(io::Error::kind)
}

fn walk<'a, T>(
    error: &'a (dyn StdError + 'static),
    find: impl Fn(&'a (dyn StdError + 'static)) -> Option<&'a T>,
) -> Option<&'a T> {
    let mut next = Some(error);
    // Bounded, since the chain is other people's code.
    for _ in 0..16 {
        let error = next?;
        if let Some(found) = find(error) {
            return Some(found);
        }
        // An io::Error's source() skips the error it carries.
        let carried = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        next = match carried {
            Some(carried) => Some(carried as &(dyn StdError + 'static)),
            None => error.source(),
        };
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tls_errors_are_found_inside_io_errors() {
        let inner = rustls::Error::InvalidCertificate(CertificateError::Expired);
        let outer = io::Error::other(io::Error::new(io::ErrorKind::InvalidData, inner.clone()));
        assert_eq!(tls_error(&outer), Some(&inner));
        assert!(Fault::from_tls(&inner).message().contains("expired"));
    }

    #[test]
    fn statuses_become_kinds() {
        let body = br#"{"errors":[{"code":"NAME_UNKNOWN","message":"repository name not known"}]}"#;
        let fault = Fault::from_status(StatusCode::NOT_FOUND, body, &[]);
        assert_eq!(fault.kind(), ErrorKind::NotFound);
        assert!(fault.message().contains("no such repository"), "{fault}");
        for (status, kind, retry) in [
            (401, ErrorKind::Unauthenticated, false),
            (403, ErrorKind::PermissionDenied, false),
            (429, ErrorKind::Unavailable, true),
            (500, ErrorKind::Unavailable, true),
            (503, ErrorKind::Unavailable, true),
            (501, ErrorKind::Unavailable, false),
            (418, ErrorKind::Other, false),
        ] {
            let fault = Fault::from_status(StatusCode::from_u16(status).unwrap(), b"<html>", &[]);
            assert_eq!((fault.kind(), fault.is_retryable()), (kind, retry), "{status}");
        }
    }
}
