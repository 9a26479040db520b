//! Credentials that clients send along: for one request, and nothing else.
//!
//! Invariant: none of it is logged, kept, or told in an error.

use std::collections::BTreeMap;
use std::fmt;

use base64::Engine as _;
use base64::alphabet::URL_SAFE;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, STANDARD};
use engine_core::registry_client::Credentials;
use hyper::header::HeaderMap;
use serde::Deserialize;

const HEADER: &str = "x-registry-auth";
/// Clients that build cannot know which registries are asked.
const BUILD_HEADER: &str = "x-registry-config";

/// Clients write it with padding or without.
const BASE64URL: GeneralPurpose = GeneralPurpose::new(
    &URL_SAFE,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Docker's `AuthConfig`.
#[derive(Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct AuthConfig {
    username: String,
    password: String,
    /// `username:password` in base64, as the client's configuration file has it.
    auth: String,
    pub(super) serveraddress: String,
    identitytoken: String,
}

impl fmt::Debug for AuthConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthConfig").field("serveraddress", &self.serveraddress).finish_non_exhaustive()
    }
}

impl AuthConfig {
    /// Returns the credentials, if there are any.
    pub(super) fn credentials(&self) -> Option<Credentials> {
        if !self.identitytoken.is_empty() {
            return Some(Credentials::IdentityToken(self.identitytoken.clone()));
        }
        if !self.username.is_empty() {
            return Some(Credentials::Basic {
                username: self.username.clone(),
                password: self.password.clone(),
            });
        }
        let text = String::from_utf8(STANDARD.decode(&self.auth).ok()?).ok()?;
        let (username, password) = text.split_once(':')?;
        Some(Credentials::Basic { username: username.to_owned(), password: password.to_owned() })
    }

    /// Returns the registry's name: clients send the address that their users gave, and an URL for Docker's own.
    pub(super) fn registry(&self) -> &str {
        registry_of(&self.serveraddress)
    }
}

fn registry_of(address: &str) -> &str {
    let address = address.trim_start_matches("https://").trim_start_matches("http://");
    match address.split('/').next().unwrap_or_default() {
        "" | "index.docker.io" | "registry-1.docker.io" => engine_core::reference::DEFAULT_REGISTRY,
        host => host,
    }
}

/// Returns the credentials of a request. What cannot be read counts as none, as it does for Docker.
pub(super) fn of(headers: &HeaderMap) -> Option<Credentials> {
    let bytes = BASE64URL.decode(headers.get(HEADER)?.as_bytes()).ok()?;
    serde_json::from_slice::<AuthConfig>(&bytes).ok()?.credentials()
}

/// Returns the credentials of a build, by registry. What cannot be read counts as none.
pub(super) fn all(headers: &HeaderMap) -> BTreeMap<String, Credentials> {
    let read = || {
        let bytes = BASE64URL.decode(headers.get(BUILD_HEADER)?.as_bytes()).ok()?;
        serde_json::from_slice::<BTreeMap<String, AuthConfig>>(&bytes).ok()
    };
    let all = read().unwrap_or_default().into_iter();
    all.filter_map(|(address, config)| Some((registry_of(&address).to_owned(), config.credentials()?)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(document: &str, padded: bool) -> Option<Credentials> {
        let mut text = BASE64URL.encode(document);
        if !padded {
            text = text.trim_end_matches('=').to_owned();
        }
        of(&HeaderMap::from_iter([(HEADER.parse().unwrap(), text.parse().unwrap())]))
    }

    #[test]
    fn each_kind_of_credentials_is_read() {
        let basic = Credentials::Basic { username: "a".to_owned(), password: "b?>c".to_owned() };
        for padded in [true, false] {
            let document = r#"{"username":"a","password":"b?>c","serveraddress":"r.example"}"#;
            assert_eq!(read(document, padded), Some(basic.clone()));
        }
        let auth = format!(r#"{{"auth":"{}"}}"#, STANDARD.encode("a:b?>c"));
        assert_eq!(read(&auth, true), Some(basic));
        let token = r#"{"username":"<token>","identitytoken":"t"}"#;
        assert_eq!(read(token, true), Some(Credentials::IdentityToken("t".to_owned())));
        for none in ["{}", "null", "[]", "{", r#"{"username":1}"#] {
            assert_eq!(read(none, true), None, "{none}");
        }
    }

    #[test]
    fn addresses_are_registries() {
        let of = |address: &str| {
            let config = AuthConfig { serveraddress: address.to_owned(), ..AuthConfig::default() };
            config.registry().to_owned()
        };
        assert_eq!(of("https://index.docker.io/v1/"), "docker.io");
        assert_eq!(of(""), "docker.io");
        assert_eq!(of("localhost:5000"), "localhost:5000");
        assert_eq!(of("https://r.example/v2/"), "r.example");
    }

    #[test]
    fn nothing_secret_is_shown() {
        let config: AuthConfig =
            serde_json::from_str(r#"{"username":"me","password":"s3cr3t","identitytoken":"t0k3n"}"#).unwrap();
        let shown = format!("{config:?}");
        assert!(!shown.contains("s3cr3t") && !shown.contains("t0k3n"), "{shown}");
    }
}
