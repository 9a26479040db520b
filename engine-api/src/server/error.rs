//! Failures as clients see them: a status and `{"message": "…"}`, in Docker's words where clients look at them.

use axum::response::{IntoResponse, Response};
use engine_core::{Error, ErrorKind};
use hyper::StatusCode;
use serde_json::json;

use super::reply;

pub(super) type Result<T, E = ApiError> = std::result::Result<T, E>;

/// A failure of a request.
#[derive(Debug)]
pub(super) struct ApiError {
    pub(super) status: StatusCode,
    pub(super) message: String,
    /// With which a command ended, where that is the failure.
    pub(super) code: Option<i32>,
}

impl ApiError {
    pub(super) fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status, message: message.into(), code: None }
    }

    pub(super) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }

    pub(super) fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, message)
    }

    pub(super) fn conflict(message: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, message)
    }

    pub(super) fn with_code(mut self, code: i32) -> Self {
        self.code = Some(code);
        self
    }

    pub(super) fn message(&self) -> &str {
        &self.message
    }

    /// What is not there in this engine, and is not going to be.
    pub(super) fn unsupported(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_IMPLEMENTED, message)
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        if self.status.is_server_error() {
            tracing::warn!(status = self.status.as_u16(), message = self.message, "request failed");
        }
        reply::json_with(self.status, &json!({ "message": self.message }))
    }
}

impl From<Error> for ApiError {
    fn from(error: Error) -> Self {
        let status = status_of(error.kind());
        let message = in_dockers_words(&error).unwrap_or_else(|| error.report());
        Self { status, message, code: None }
    }
}

/// The status of a failure.
pub(super) fn status_of(kind: ErrorKind) -> StatusCode {
    match kind {
        ErrorKind::NotFound => StatusCode::NOT_FOUND,
        ErrorKind::AlreadyExists | ErrorKind::Conflict => StatusCode::CONFLICT,
        // The last two: the command of a container cannot be run, which is its image's or its caller's to mend.
        ErrorKind::InvalidArgument | ErrorKind::CommandNotFound | ErrorKind::CommandNotExecutable => {
            StatusCode::BAD_REQUEST
        }
        ErrorKind::Unauthenticated => StatusCode::UNAUTHORIZED,
        ErrorKind::PermissionDenied => StatusCode::FORBIDDEN,
        ErrorKind::Unsupported => StatusCode::NOT_IMPLEMENTED,
        ErrorKind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// What clients look for in a message: the docker CLI, Compose and testcontainers tell "not there" apart by it.
fn in_dockers_words(error: &Error) -> Option<String> {
    if error.kind() != ErrorKind::NotFound {
        return None;
    }
    match error.subject()? {
        ("container", name) => Some(format!("No such container: {name}")),
        ("image", name) => Some(format!("No such image: {name}")),
        ("network", name) => Some(format!("network {name} not found")),
        ("volume", name) => Some(format!("get {name}: no such volume")),
        ("exec", id) => Some(format!("No such exec instance: {id}")),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_there_is_told_as_docker_does() {
        let error = Error::new(ErrorKind::NotFound, "find container").with("container", "web");
        let error = ApiError::from(error);
        assert_eq!((error.status.as_u16(), error.message.as_str()), (404, "No such container: web"));
    }
}
