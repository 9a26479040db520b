//! Credentials that clients send along: for one request, and nothing else.
//!
//! Invariant: none of it is logged, kept, or told in an error.

use std::collections::BTreeMap;
use std::fmt;

use base64::Engine as _;
use base64::alphabet::URL_SAFE;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, STANDARD};
use engine_core::reference::DEFAULT_REGISTRY;
use engine_core::registry_client::Credentials;
use hyper::header::HeaderMap;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

const HEADER: &str = "x-registry-auth";
/// Clients that build cannot know which registries are asked.
const BUILD_HEADER: &str = "x-registry-config";

/// Clients write it with padding or without.
const BASE64URL: GeneralPurpose = GeneralPurpose::new(
    &URL_SAFE,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Docker's `AuthConfig`. Its fields have their names in any case, as for Docker: docker-py writes `Username`.
#[derive(Clone, Default)]
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

impl<'de> Deserialize<'de> for AuthConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut config = Self::default();
        for (name, value) in BTreeMap::<String, Value>::deserialize(deserializer)? {
            let field = match name.to_ascii_lowercase().as_str() {
                "username" => &mut config.username,
                "password" => &mut config.password,
                "auth" => &mut config.auth,
                "serveraddress" => &mut config.serveraddress,
                "identitytoken" => &mut config.identitytoken,
                _ => continue,
            };
            match value {
                Value::Null => {}
                Value::String(text) => *field = text,
                _ => return Err(D::Error::custom(format!("{name} is no text"))),
            }
        }
        Ok(config)
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
    match split(address).0 {
        "" | "index.docker.io" | "registry-1.docker.io" => DEFAULT_REGISTRY,
        host => host,
    }
}

/// Splits an address into its host and its path.
fn split(address: &str) -> (&str, &str) {
    let address = address.trim_start_matches("https://").trim_start_matches("http://");
    let address = address.trim_end_matches('/');
    address.split_once('/').unwrap_or((address, ""))
}

/// Returns the registry that a client's address of a build's credentials is, and how far it is from the registry's own; none if it is
/// another thing at that host: beside those of Docker's own registry, clients keep the tokens of its web site.
fn known_by(address: &str) -> Option<(&str, u8)> {
    let registry = registry_of(address);
    match split(address).1 {
        "v1" if registry == DEFAULT_REGISTRY => Some((registry, 0)),
        "" => Some((registry, 1)),
        _ if registry == DEFAULT_REGISTRY => None,
        _ => Some((registry, 2)),
    }
}

/// Returns the credentials of a request. What cannot be read counts as none, as it does for Docker.
pub(super) fn of(headers: &HeaderMap) -> Option<Credentials> {
    let bytes = BASE64URL.decode(headers.get(HEADER)?.as_bytes()).ok()?;
    serde_json::from_slice::<AuthConfig>(&bytes).ok()?.credentials()
}

/// Returns the credentials of a build, by registry. What cannot be read counts as none, each for itself. Of several addresses of a
/// registry, the one that is most like its own counts.
pub(super) fn all(headers: &HeaderMap) -> BTreeMap<String, Credentials> {
    let read = || {
        let bytes = BASE64URL.decode(headers.get(BUILD_HEADER)?.as_bytes()).ok()?;
        serde_json::from_slice::<BTreeMap<String, Value>>(&bytes).ok()
    };
    let all = read().unwrap_or_default();
    let mut nearest = BTreeMap::new();
    for (address, value) in &all {
        let Some((registry, distance)) = known_by(address) else { continue };
        let Some(credentials) = AuthConfig::deserialize(value).ok().and_then(|config| config.credentials())
        else {
            continue;
        };
        if nearest.get(registry).is_none_or(|(known, _)| distance < *known) {
            nearest.insert(registry, (distance, credentials));
        }
    }
    nearest.into_iter().map(|(registry, (_, credentials))| (registry.to_owned(), credentials)).collect()
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
        // As docker-py writes what a credential store has.
        let python = r#"{"ServerAddress":"r.example","Username":"a","Password":"p"}"#;
        let basic = Credentials::Basic { username: "a".to_owned(), password: "p".to_owned() };
        assert_eq!(read(python, true), Some(basic));
        let token = r#"{"ServerAddress":"r.example","IdentityToken":"t","auth":null}"#;
        assert_eq!(read(token, true), Some(Credentials::IdentityToken("t".to_owned())));
        for none in ["{}", "null", "[]", "{", r#"{"username":1}"#] {
            assert_eq!(read(none, true), None, "{none}");
        }
    }

    #[test]
    fn a_build_has_the_credentials_of_each_registry() {
        let hub = |user: &str| format!(r#"{{"Username":"{user}","Password":"p"}}"#);
        let token = r#"{"IdentityToken":"t"}"#;
        let document = format!(
            r#"{{"https://index.docker.io/v1/":{},"https://index.docker.io/v1/access-token":{},"index.docker.io":{},
                "broken.example":null,"odd.example":{{"username":1}},"https://r.example/v2/":{token},"r.example":{},"z.example/v1":{token}}}"#,
            hub("me"),
            hub("site"),
            hub("old"),
            hub("exact"),
        );
        let header = BASE64URL.encode(document).parse().unwrap();
        let all = all(&HeaderMap::from_iter([(BUILD_HEADER.parse().unwrap(), header)]));
        let basic = |user: &str| Credentials::Basic { username: user.to_owned(), password: "p".to_owned() };
        let expected = [
            ("docker.io", basic("me")),
            ("r.example", basic("exact")),
            ("z.example", Credentials::IdentityToken("t".to_owned())),
        ];
        assert_eq!(all, expected.map(|(registry, one)| (registry.to_owned(), one)).into());
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
