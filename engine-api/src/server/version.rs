//! Versions of the API: which one a request is of.

use std::fmt;
use std::str::FromStr;

use axum::extract::FromRequestParts;
use hyper::Uri;
use hyper::http::request::Parts;

use super::error::ApiError;

/// A version of the API: `1.47`.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct ApiVersion {
    /// Docker's has been 1 for ever.
    pub major: u16,
    /// What counts.
    pub minor: u16,
}

impl ApiVersion {
    /// The newest one that is served: that of the documents' types.
    pub const NEWEST: Self = Self::v1(53);
    /// The oldest one that is served.
    pub const OLDEST: Self = Self::v1(24);

    /// Returns version 1.`minor`.
    #[must_use]
    pub const fn v1(minor: u16) -> Self {
        Self { major: 1, minor }
    }
}

impl fmt::Display for ApiVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

impl FromStr for ApiVersion {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let number = |text: &str| text.parse().ok().filter(|_| text.bytes().all(|b| b.is_ascii_digit()));
        let (major, minor) = text.split_once('.').ok_or(())?;
        Ok(Self { major: number(major).ok_or(())?, minor: number(minor).ok_or(())? })
    }
}

/// The version that the request is of; the newest where its path names none.
impl<S: Sync> FromRequestParts<S> for ApiVersion {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        Ok(parts.extensions.get().copied().unwrap_or(Self::NEWEST))
    }
}

/// Takes the version off a request's path, and refuses one that is not served.
pub(super) fn split(uri: &Uri) -> Result<(ApiVersion, Uri), ApiError> {
    let whole = uri.path_and_query().map_or("/", |path| path.as_str());
    let versioned = whole.strip_prefix("/v").and_then(|rest| {
        let (version, _) = rest.split_once('/')?;
        Some((version.parse::<ApiVersion>().ok()?, &rest[version.len()..]))
    });
    let Some((version, rest)) = versioned else { return Ok((ApiVersion::NEWEST, uri.clone())) };
    if version < ApiVersion::OLDEST {
        return Err(ApiError::bad_request(format!(
            "client version {version} is too old. Minimum supported API version is {}, please upgrade your client to a newer version",
            ApiVersion::OLDEST
        )));
    }
    if version > ApiVersion::NEWEST {
        return Err(ApiError::bad_request(format!(
            "client version {version} is too new. Maximum supported API version is {}",
            ApiVersion::NEWEST
        )));
    }
    let rest = rest.parse().map_err(|_| ApiError::bad_request(format!("invalid path {rest:?}")))?;
    Ok((version, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_taken_off_the_path() {
        let of = |path: &str| split(&path.parse().unwrap()).map(|(version, uri)| (version, uri.to_string()));
        assert_eq!(
            of("/v1.41/containers/json?all=1").unwrap(),
            (ApiVersion::v1(41), "/containers/json?all=1".to_owned())
        );
        assert_eq!(of("/volumes").unwrap(), (ApiVersion::NEWEST, "/volumes".to_owned()));
        assert_eq!(of("/v1.x/volumes").unwrap().1, "/v1.x/volumes");
        assert!(of("/v1.23/_ping").is_err());
        assert!(of("/v1.99/_ping").is_err());
        assert!(of("/v2.0/_ping").is_err());
    }
}
