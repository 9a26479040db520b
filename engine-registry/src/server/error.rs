//! The error bodies of the distribution specification.
//!
//! Owns the codes with the status each has, and how an engine's error becomes one. Invariant: what went wrong inside
//! (a path, an errno) is logged and not sent.

use std::time::Duration;

use axum::body::Body;
use axum::http::header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use engine_core::error::{Error, ErrorKind};
use serde_json::{Value, json};

/// The codes of the specification ("Error Codes"), and the two that distribution adds for what it does not name.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Code {
    BlobUnknown,
    BlobUploadInvalid,
    BlobUploadUnknown,
    DigestInvalid,
    ManifestBlobUnknown,
    ManifestInvalid,
    ManifestUnknown,
    NameInvalid,
    NameUnknown,
    PaginationNumberInvalid,
    SizeInvalid,
    Unauthorized,
    Denied,
    TooManyRequests,
    Unsupported,
    Unavailable,
    Unknown,
}

impl Code {
    fn parts(self) -> (&'static str, StatusCode) {
        use StatusCode as S;
        match self {
            Self::BlobUnknown => ("BLOB_UNKNOWN", S::NOT_FOUND),
            Self::BlobUploadInvalid => ("BLOB_UPLOAD_INVALID", S::BAD_REQUEST),
            Self::BlobUploadUnknown => ("BLOB_UPLOAD_UNKNOWN", S::NOT_FOUND),
            Self::DigestInvalid => ("DIGEST_INVALID", S::BAD_REQUEST),
            Self::ManifestBlobUnknown => ("MANIFEST_BLOB_UNKNOWN", S::NOT_FOUND),
            Self::ManifestInvalid => ("MANIFEST_INVALID", S::BAD_REQUEST),
            Self::ManifestUnknown => ("MANIFEST_UNKNOWN", S::NOT_FOUND),
            Self::NameInvalid => ("NAME_INVALID", S::BAD_REQUEST),
            Self::NameUnknown => ("NAME_UNKNOWN", S::NOT_FOUND),
            Self::PaginationNumberInvalid => ("PAGINATION_NUMBER_INVALID", S::BAD_REQUEST),
            Self::SizeInvalid => ("SIZE_INVALID", S::BAD_REQUEST),
            Self::Unauthorized => ("UNAUTHORIZED", S::UNAUTHORIZED),
            Self::Denied => ("DENIED", S::FORBIDDEN),
            Self::TooManyRequests => ("TOOMANYREQUESTS", S::TOO_MANY_REQUESTS),
            Self::Unsupported => ("UNSUPPORTED", S::METHOD_NOT_ALLOWED),
            Self::Unavailable => ("UNAVAILABLE", S::SERVICE_UNAVAILABLE),
            Self::Unknown => ("UNKNOWN", S::INTERNAL_SERVER_ERROR),
        }
    }
}

/// A request that failed.
#[derive(Debug)]
pub(super) struct ApiError {
    status: StatusCode,
    code: Code,
    message: String,
    detail: Vec<Value>,
    headers: Vec<(HeaderName, HeaderValue)>,
}

impl ApiError {
    pub(super) fn new(code: Code, message: impl Into<String>) -> Self {
        let (_, status) = code.parts();
        Self { status, code, message: message.into(), detail: Vec::new(), headers: Vec::new() }
    }

    pub(super) fn unauthenticated(challenge: &str) -> Self {
        let error = Self::new(Code::Unauthorized, "authentication is required");
        match HeaderValue::from_str(challenge) {
            Ok(value) => error.with_header(WWW_AUTHENTICATE, value),
            Err(_) => error,
        }
    }

    pub(super) fn too_many(wait: Duration) -> Self {
        let seconds = HeaderValue::from(wait.as_secs().max(1));
        Self::new(Code::TooManyRequests, "there were too many wrong passwords")
            .with_header(RETRY_AFTER, seconds)
    }

    pub(super) fn message(&self) -> &str {
        &self.message
    }

    /// Replaces the status that the code has by itself.
    pub(super) fn with_status(mut self, status: StatusCode) -> Self {
        self.status = status;
        self
    }

    pub(super) fn with_header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    /// Names one thing the error is about. Each becomes an error of the body.
    pub(super) fn with_detail(mut self, detail: Value) -> Self {
        self.detail.push(detail);
        self
    }
}

/// What the storage said, where nothing more is known of it.
impl From<Error> for ApiError {
    fn from(error: Error) -> Self {
        match error.kind() {
            ErrorKind::ResourceExhausted => {
                tracing::error!(error = %error.report(), "no space");
                // The specification has no code for it; Harbor says the same when a quota is exceeded.
                Self::new(Code::Denied, "the registry has no space left")
                    .with_status(StatusCode::INSUFFICIENT_STORAGE)
            }
            ErrorKind::Unavailable => {
                tracing::debug!(error = %error.report(), "unavailable");
                Self::new(Code::Unavailable, "try again")
                    .with_header(RETRY_AFTER, HeaderValue::from_static("1"))
            }
            ErrorKind::DeadlineExceeded => Self::new(Code::BlobUploadInvalid, "the request did not go on")
                .with_status(StatusCode::REQUEST_TIMEOUT),
            ErrorKind::Canceled => Self::new(Code::BlobUploadInvalid, "the request broke off"),
            ErrorKind::InvalidArgument => Self::new(Code::SizeInvalid, error.to_string()),
            _ => {
                tracing::error!(error = %error.report(), "request failed");
                Self::new(Code::Unknown, "the registry failed")
            }
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let (code, _) = self.code.parts();
        let one = |detail: Value| json!({ "code": code, "message": self.message, "detail": detail });
        let errors: Vec<Value> = match self.detail.is_empty() {
            true => vec![one(Value::Null)],
            false => self.detail.iter().cloned().map(one).collect(),
        };
        let mut response = Response::new(Body::from(json!({ "errors": errors }).to_string()));
        *response.status_mut() = self.status;
        response.headers_mut().extend(self.headers);
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        response
    }
}
