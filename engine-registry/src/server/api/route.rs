//! From a path to an end-point.
//!
//! Names of repositories have slashes and may contain the very words of end-points (`blobs/uploads` is a name), so a path is
//! read from its end. Invariant: what stands in a [`Route`] was checked by its grammar.

use axum::http::Method;

use super::super::error::{ApiError, Code};
use super::super::names::RepositoryName;

/// An end-point, with what its path names. Digests, tags and upload ids are still text: what is wrong with one depends on
/// the method.
#[derive(Debug, Eq, PartialEq)]
pub(super) enum Route {
    Check,
    Catalog,
    Tags(RepositoryName),
    Referrers(RepositoryName, String),
    Manifest(RepositoryName, String),
    Blob(RepositoryName, String),
    Uploads(RepositoryName),
    Upload(RepositoryName, String),
}

impl Route {
    /// Reads a path; `None` if it is no end-point's.
    pub(super) fn parse(path: &str) -> Result<Option<Self>, ApiError> {
        let Some(rest) = path.strip_prefix("/v2") else { return Ok(None) };
        let Some(rest) = rest.strip_prefix('/') else {
            return Ok(rest.is_empty().then_some(Self::Check));
        };
        let malformed = || ApiError::new(Code::NameInvalid, "the path is malformed");
        let words: Vec<String> = rest.split('/').map(decode).collect::<Option<_>>().ok_or_else(malformed)?;
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let name = |words: &[&str]| {
            words
                .join("/")
                .parse::<RepositoryName>()
                .map_err(|error| ApiError::new(Code::NameInvalid, error.to_string()))
        };
        Ok(Some(match &words[..] {
            [""] => Self::Check,
            ["_catalog"] => Self::Catalog,
            [repository @ .., "tags", "list"] => Self::Tags(name(repository)?),
            // Of POST, the specification ends the path with a slash.
            [repository @ .., "blobs", "uploads", ""] | [repository @ .., "blobs", "uploads"] => {
                Self::Uploads(name(repository)?)
            }
            [repository @ .., "blobs", "uploads", id] => Self::Upload(name(repository)?, (*id).to_owned()),
            [repository @ .., "blobs", digest] => Self::Blob(name(repository)?, (*digest).to_owned()),
            [repository @ .., "manifests", target] => Self::Manifest(name(repository)?, (*target).to_owned()),
            [repository @ .., "referrers", digest] => {
                Self::Referrers(name(repository)?, (*digest).to_owned())
            }
            _ => return Ok(None),
        }))
    }

    /// Returns the methods of the end-point, as an `Allow` header has them.
    pub(super) fn methods(&self) -> &'static str {
        match self {
            Self::Check | Self::Catalog | Self::Tags(_) | Self::Referrers(..) => "GET, HEAD",
            Self::Manifest(..) => "GET, HEAD, PUT, DELETE",
            Self::Blob(..) => "GET, HEAD, DELETE",
            Self::Uploads(_) => "POST",
            Self::Upload(..) => "GET, HEAD, PATCH, PUT, DELETE",
        }
    }

    /// Returns what a request does, as logs and metrics call it.
    pub(super) fn operation(&self, method: &Method) -> &'static str {
        match (self, method.as_str()) {
            (Self::Check, _) => "check",
            (Self::Catalog, _) => "catalog",
            (Self::Tags(_), _) => "tags",
            (Self::Referrers(..), _) => "referrers",
            (Self::Manifest(..), "PUT") => "manifest_put",
            (Self::Manifest(..), "DELETE") => "manifest_delete",
            (Self::Manifest(..), "HEAD") => "manifest_head",
            (Self::Manifest(..), _) => "manifest_get",
            (Self::Blob(..), "DELETE") => "blob_delete",
            (Self::Blob(..), "HEAD") => "blob_head",
            (Self::Blob(..), _) => "blob_get",
            (Self::Uploads(_), _) => "upload_begin",
            (Self::Upload(..), "PATCH") => "upload_append",
            (Self::Upload(..), "PUT") => "upload_commit",
            (Self::Upload(..), "DELETE") => "upload_cancel",
            (Self::Upload(..), _) => "upload_status",
        }
    }

    /// Returns the repository that the path names.
    pub(super) fn repository(&self) -> Option<&str> {
        match self {
            Self::Check | Self::Catalog => None,
            Self::Tags(name)
            | Self::Referrers(name, _)
            | Self::Manifest(name, _)
            | Self::Blob(name, _)
            | Self::Uploads(name)
            | Self::Upload(name, _) => Some(name.as_str()),
        }
    }

    pub(super) fn repository_mut(&mut self) -> Option<&mut RepositoryName> {
        match self {
            Self::Check | Self::Catalog => None,
            Self::Tags(name)
            | Self::Referrers(name, _)
            | Self::Manifest(name, _)
            | Self::Blob(name, _)
            | Self::Uploads(name)
            | Self::Upload(name, _) => Some(name),
        }
    }

    pub(super) fn takes(&self, method: &Method) -> bool {
        self.methods().split(", ").any(|name| name == method.as_str())
    }
}

/// Decodes percent escapes of one word of a path: Go's clients escape the colon of a digest.
pub(in crate::server) fn decode(word: &str) -> Option<String> {
    if !word.contains('%') {
        return Some(word.to_owned());
    }
    let mut bytes = Vec::with_capacity(word.len());
    let mut rest = word.bytes();
    while let Some(byte) = rest.next() {
        let byte = match byte {
            b'%' => {
                let mut digit = || char::from(rest.next()?).to_digit(16);
                u8::try_from(digit()? * 16 + digit()?).ok()?
            }
            other => other,
        };
        bytes.push(byte);
    }
    // A slash that was escaped would be another path.
    String::from_utf8(bytes).ok().filter(|word| !word.contains('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> RepositoryName {
        text.parse().unwrap()
    }

    #[test]
    fn paths_are_read_from_their_end() {
        let cases = [
            ("/v2", Route::Check),
            ("/v2/", Route::Check),
            ("/v2/_catalog", Route::Catalog),
            ("/v2/a/b/tags/list", Route::Tags(name("a/b"))),
            ("/v2/a/manifests/x", Route::Manifest(name("a"), "x".into())),
            ("/v2/a/blobs/sha256:0", Route::Blob(name("a"), "sha256:0".into())),
            ("/v2/a/blobs/sha256%3A0", Route::Blob(name("a"), "sha256:0".into())),
            ("/v2/a/blobs/uploads/", Route::Uploads(name("a"))),
            ("/v2/a/blobs/uploads", Route::Uploads(name("a"))),
            ("/v2/a/blobs/uploads/1", Route::Upload(name("a"), "1".into())),
            ("/v2/blobs/uploads/manifests/x", Route::Manifest(name("blobs/uploads"), "x".into())),
            ("/v2/tags/list/tags/list", Route::Tags(name("tags/list"))),
            ("/v2/a/manifests/manifests/x", Route::Manifest(name("a/manifests"), "x".into())),
            ("/v2/a/referrers/sha256:0", Route::Referrers(name("a"), "sha256:0".into())),
        ];
        for (path, route) in cases {
            assert_eq!(Route::parse(path).unwrap(), Some(route), "{path}");
        }
    }

    #[test]
    fn e8_names_that_are_none_are_refused() {
        for path in [
            "/v2/../manifests/x",
            "/v2/a/../../b/manifests/x",
            "/v2/A/manifests/x",
            "/v2//manifests/x",
            "/v2/manifests/x",
            "/v2/a%2f..%2fb/manifests/x",
            "/v2/a%00/blobs/x",
            "/v2/%2e%2e/tags/list",
            "/v2/a%/tags/list",
            "/v2/a%zz/tags/list",
            "/v2/%ff/tags/list",
            "/v2/tags/list",
        ] {
            assert!(Route::parse(path).is_err(), "{path}");
        }
        for path in
            ["/", "/v1/", "/v22", "/v2/a", "/v2/a/b/c", "/v2/_catalog/x", "/v2/a/tags", "/v2/a/tags/x"]
        {
            assert_eq!(Route::parse(path).unwrap(), None, "{path}");
        }
    }
}
