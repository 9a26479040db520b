//! What a request's `Authorization` holds: a name and a password (RFC 7617), or a token (RFC 6750).

use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

/// What a client is told to send.
pub(super) const CHALLENGE: &str = "Basic realm=\"registry\", charset=\"UTF-8\"";
/// Longest `Authorization` that is looked at; a token for many repositories is long.
const MAX_HEADER: usize = 16 << 10;

/// What a request says about its sender.
pub(super) enum Credentials {
    /// Nothing.
    None,
    /// A name and a password. Neither was checked.
    Basic(String, Zeroizing<Vec<u8>>),
    /// A token.
    Bearer(Zeroizing<String>),
    /// Something that is no credential.
    Malformed,
}

impl Credentials {
    pub(super) fn of(headers: &HeaderMap) -> Self {
        let mut values = headers.get_all(AUTHORIZATION).iter();
        let Some(header) = values.next() else { return Self::None };
        let mut parsed = || {
            let header =
                Some(header).filter(|header| header.len() <= MAX_HEADER && values.next().is_none())?;
            let (scheme, rest) = header.to_str().ok()?.split_once(' ')?;
            if scheme.eq_ignore_ascii_case("bearer") {
                return Some(Self::Bearer(Zeroizing::new(rest.trim().to_owned())));
            }
            if !scheme.eq_ignore_ascii_case("basic") {
                return None;
            }
            let decoded = Zeroizing::new(STANDARD.decode(rest.trim()).ok()?);
            let colon = decoded.iter().position(|byte| *byte == b':')?;
            let name = std::str::from_utf8(&decoded[..colon]).ok()?.to_owned();
            // Podman and skopeo send this where they have no credentials and were asked for some.
            if decoded.len() == 1 {
                return Some(Self::None);
            }
            Some(Self::Basic(name, Zeroizing::new(decoded[colon + 1..].to_vec())))
        };
        parsed().unwrap_or(Self::Malformed)
    }
}
