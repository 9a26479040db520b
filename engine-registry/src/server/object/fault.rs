//! What a service answers, as the project's errors.
//!
//! Invariant: no credential enters an error. Those in headers are never in a text; a query, which may be a signature or a shared
//! access token, is cut out of every URL.

use std::error::Error as StdError;
use std::fmt;

use engine_core::error::{Error, ErrorKind};
use object_store::Error as Fault;
use object_store::client::{HttpError, HttpErrorKind};

/// Names the kind of a failure. A service that is late is unavailable: of a storage, `DeadlineExceeded` would say that the
/// client's bytes did not come, and `Conflict` that a quota is full.
pub(super) fn kind(fault: &Fault) -> ErrorKind {
    match fault {
        Fault::NotFound { .. } => ErrorKind::NotFound,
        Fault::AlreadyExists { .. } | Fault::Precondition { .. } => ErrorKind::Unavailable,
        Fault::PermissionDenied { .. } => ErrorKind::PermissionDenied,
        Fault::Unauthenticated { .. } => ErrorKind::Unauthenticated,
        Fault::NotSupported { .. } | Fault::NotImplemented { .. } => ErrorKind::Unsupported,
        Fault::InvalidPath { .. } | Fault::UnknownConfigurationKey { .. } => ErrorKind::InvalidArgument,
        Fault::Generic { source, .. } => kind_of_cause(source.as_ref()),
        _ => ErrorKind::Other,
    }
}

/// A generic failure is told by the connection's, or by the status in its text.
fn kind_of_cause(error: &(dyn StdError + 'static)) -> ErrorKind {
    let mut next = Some(error);
    // Bounded, since the chain is other people's code.
    for _ in 0..16 {
        let Some(error) = next else { break };
        if let Some(http) = error.downcast_ref::<HttpError>() {
            return match http.kind() {
                HttpErrorKind::Decode => ErrorKind::Corrupt,
                _ => ErrorKind::Unavailable,
            };
        }
        next = error.source();
    }
    let text = error.to_string();
    let status = text.split("status code: ").nth(1).and_then(|rest| rest.get(..3)?.parse::<u16>().ok());
    let full = ["QuotaExceeded", "StorageFull", "InsufficientStorage"].iter().any(|word| text.contains(word));
    match status {
        Some(507) => ErrorKind::ResourceExhausted,
        _ if full => ErrorKind::ResourceExhausted,
        Some(408 | 429 | 500..) => ErrorKind::Unavailable,
        _ => ErrorKind::Other,
    }
}

/// Makes it the error of `operation` on an object.
pub(super) fn error(operation: &'static str, bucket: &str, key: &str, fault: &Fault) -> Error {
    let kind = kind(fault);
    let error = Error::new(kind, operation)
        .with("bucket", bucket)
        .with("key", key)
        .with_source(Told(without_queries(&fault.to_string())));
    match kind {
        ErrorKind::PermissionDenied | ErrorKind::Unauthenticated => error.with_hint(
            "check the credentials in the environment, and that they may read, write, delete and list there",
        ),
        _ => error,
    }
}

/// What a failure said.
#[derive(Debug)]
struct Told(String);

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl StdError for Told {}

/// Cuts the query out of every URL in a text.
fn without_queries(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    for (index, word) in text.split(' ').enumerate() {
        if index > 0 {
            clean.push(' ');
        }
        match word.split_once('?') {
            Some((before, _)) if before.contains("://") => {
                clean.push_str(before);
                clean.push_str("?…");
            }
            _ => clean.push_str(word),
        }
    }
    clean
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_have_kinds_and_no_signatures() {
        let generic = |text: &str| Fault::Generic { store: "S3", source: text.to_owned().into() };
        for (text, expected) in [
            ("Server returned non-2xx status code: 503 Slow Down: ", ErrorKind::Unavailable),
            ("Server returned non-2xx status code: 507 x: ", ErrorKind::ResourceExhausted),
            (
                "Server returned non-2xx status code: 400 Bad: <Code>QuotaExceeded</Code>",
                ErrorKind::ResourceExhausted,
            ),
            ("Server returned non-2xx status code: 504 x: ", ErrorKind::Unavailable),
            ("Server returned non-2xx status code: 400 x: ", ErrorKind::Other),
            ("anything", ErrorKind::Other),
        ] {
            assert_eq!(kind(&generic(text)), expected, "{text}");
        }
        let fault = generic("Error performing PUT https://b.example/key?sig=secret&x=1 in 3s - refused");
        let told = error("store object", "az://b", "key", &fault).report();
        assert!(told.contains("https://b.example/key?… in 3s") && !told.contains("secret"), "{told}");
        assert!(told.contains("az://b"), "{told}");
    }
}
