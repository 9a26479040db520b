//! Which manifests a client reads.
//!
//! As in distribution, an OCI manifest is not sent to a client that names other types only, and one that knows no manifest
//! lists gets the list's image for linux/amd64. Docker's single manifests go to everybody.

use axum::http::HeaderMap;
use axum::http::header::ACCEPT;
use engine_core::descriptor::media_type;

/// The media types that a client accepts.
#[derive(Debug)]
pub(super) struct Accepted(Vec<String>);

impl Accepted {
    pub(super) fn of(headers: &HeaderMap) -> Self {
        let values = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
        let types = values
            .flat_map(|value| value.split(','))
            .map(|entry| entry.split(';').next().unwrap_or_default().trim().to_ascii_lowercase());
        Self(types.filter(|kind| !kind.is_empty()).collect())
    }

    fn takes(&self, kind: &str) -> bool {
        let any =
            |accepted: &String| matches!(accepted.as_str(), "*/*" | "application/*") || accepted == kind;
        self.0.is_empty() || self.0.iter().any(any)
    }

    /// Whether a manifest of this type may be sent.
    pub(super) fn may_get(&self, kind: &str) -> bool {
        !matches!(kind, media_type::OCI_MANIFEST | media_type::OCI_INDEX) || self.takes(kind)
    }

    /// Whether instead of a manifest of this type, one of its images is wanted.
    pub(super) fn wants_one_of(&self, kind: &str) -> bool {
        kind == media_type::DOCKER_INDEX && !self.takes(kind)
    }
}
