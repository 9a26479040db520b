//! Endpoints: where a registry and its mirrors are.
//!
//! Owns the way from the name in a reference to URLs: Docker Hub's two names, mirrors and their order, the schemes to try.

use reqwest::Url;

use crate::fault::Fault;
use crate::origin::{Origin, PlainRules, registry_url};
use engine_core::error::ErrorKind;
use engine_core::reference::DEFAULT_REGISTRY;

/// The host that Docker Hub's registry answers at.
const HUB_HOST: &str = "registry-1.docker.io";

/// A place that speaks the distribution protocol.
#[derive(Clone, Debug)]
pub(crate) struct Endpoint {
    /// The name its credentials are kept under: `docker.io`, `localhost:5000`.
    pub(crate) name: String,
    authority: String,
    prefix: String,
    /// The scheme, where the user chose one.
    secure: Option<bool>,
    /// The registry that a mirror is asked instead of.
    stands_for: Option<String>,
}

impl Endpoint {
    /// The registry itself.
    pub(crate) fn registry(name: &str) -> Result<Self, Fault> {
        let name = registry_key(name);
        let authority = if name == DEFAULT_REGISTRY { HUB_HOST.to_owned() } else { name.clone() };
        registry_url(&authority, "https")?;
        Ok(Self { name, authority, prefix: String::new(), secure: None, stands_for: None })
    }

    /// A mirror: a URL with an optional path, or a host.
    pub(crate) fn mirror(text: &str) -> Result<Self, Fault> {
        if !text.contains("://") {
            return Self::registry(text);
        }
        // Not quoted: people write passwords into URLs.
        let wrong = || Fault::new(ErrorKind::InvalidArgument, "a mirror is no http(s) URL");
        let url = Url::parse(text).map_err(|_| wrong())?;
        let origin = Origin::of(&url).ok_or_else(wrong)?;
        if !url.username().is_empty() || url.password().is_some() || url.query().is_some() {
            return Err(Fault::new(ErrorKind::InvalidArgument, "a mirror's URL has neither user nor query")
                .hint("give its credentials as those of its host"));
        }
        let prefix = url.path().trim_end_matches('/').to_owned();
        let authority = origin.authority();
        Ok(Self {
            name: authority.clone(),
            authority,
            prefix,
            secure: Some(origin.is_secure()),
            stands_for: None,
        })
    }

    /// Returns this mirror, to be asked instead of `registry`. It is told so in every request, as containerd does it and the
    /// section "Registry Proxying" proposed for the distribution specification has it: one mirror may then serve many.
    /// One that serves a single registry ignores it. A registry that is its own mirror is told nothing.
    pub(crate) fn standing_for(mut self, registry: &Self) -> Self {
        self.stands_for = (self.authority != registry.authority).then(|| registry.name.clone());
        self
    }

    /// Returns the host this endpoint speaks plain http with because its URL says so.
    pub(crate) fn plain_host(&self) -> Option<&str> {
        (self.secure == Some(false)).then_some(&self.authority)
    }

    /// Returns the URL of `path` (which begins with a slash) there.
    pub(crate) fn url(&self, secure: bool, path: &str) -> Result<Url, Fault> {
        let scheme = if secure { "https" } else { "http" };
        let mut url = Url::parse(&format!("{scheme}://{}{}{path}", self.authority, self.prefix))
            .map_err(|e| Fault::new(ErrorKind::InvalidArgument, "its URL cannot be formed").source(e))?;
        if let Some(registry) = &self.stands_for {
            url.query_pairs_mut().append_pair("ns", registry);
        }
        Ok(url)
    }

    /// Returns whether to use TLS, in the order to try: https first, as Docker does.
    pub(crate) fn schemes(&self, rules: &PlainRules) -> Result<Vec<bool>, Fault> {
        Ok(match self.secure {
            Some(secure) => vec![secure],
            None => {
                let plain = Origin::of(&registry_url(&self.authority, "http")?);
                if plain.is_some_and(|origin| rules.allows(&origin)) { vec![true, false] } else { vec![true] }
            }
        })
    }

    /// Returns what the scheme found out is remembered by.
    pub(crate) fn authority(&self) -> &str {
        &self.authority
    }
}

/// Returns the one name of a registry, from any of the forms that configurations use: `https://host/v1/`, `Host:5000`,
/// and Docker Hub's several.
pub(crate) fn registry_key(text: &str) -> String {
    let text = text.trim();
    let host = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://")).unwrap_or(text);
    let host = host.strip_suffix('/').unwrap_or(host);
    let host = host.strip_suffix("/v1").or_else(|| host.strip_suffix("/v2")).unwrap_or(host);
    let host = host.to_ascii_lowercase();
    match host.as_str() {
        "index.docker.io" | HUB_HOST => DEFAULT_REGISTRY.to_owned(),
        _ => host,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn docker_hub_has_many_names_and_one_host() {
        for name in ["docker.io", "https://index.docker.io/v1/", "registry-1.docker.io", "Index.Docker.io"] {
            assert_eq!(registry_key(name), "docker.io");
            let url = Endpoint::registry(name).unwrap().url(true, "/v2/").unwrap();
            assert_eq!(url.as_str(), "https://registry-1.docker.io/v2/");
        }
        assert_eq!(registry_key("https://a:5000/v2/"), "a:5000");
        // A key of one repository is not a key of the whole host.
        assert_eq!(registry_key("a.example/team"), "a.example/team");
    }

    #[test]
    fn mirrors_are_hosts_or_urls() {
        let url = |text: &str| Endpoint::mirror(text).unwrap().url(true, "/v2/a").unwrap().to_string();
        assert_eq!(url("mirror.example"), "https://mirror.example/v2/a");
        assert_eq!(url("https://mirror.example:444/hub/"), "https://mirror.example:444/hub/v2/a");
        for wrong in ["ftp://a", "https://u:p@a", "https://a?b", "a/b", "https://"] {
            assert!(Endpoint::mirror(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn mirrors_are_told_whom_they_stand_for() {
        let url = |mirror: &str, registry: &str, path: &str| {
            let registry = Endpoint::registry(registry).unwrap();
            let mirror = Endpoint::mirror(mirror).unwrap().standing_for(&registry);
            mirror.url(true, path).unwrap().to_string()
        };
        let hub = url("https://mirror.example/hub", "index.docker.io", "/v2/a/blobs/b");
        assert_eq!(hub, "https://mirror.example/hub/v2/a/blobs/b?ns=docker.io");
        assert_eq!(url("m.example", "A.example:5000", "/v2/"), "https://m.example/v2/?ns=a.example%3A5000");
        assert_eq!(url("m.example", "a.example", "/v2/x?n=1"), "https://m.example/v2/x?n=1&ns=a.example");
        // Docker Hub asked at its own host, and a registry as a mirror of itself.
        for mirror in ["docker.io", "registry-1.docker.io", "https://registry-1.docker.io"] {
            assert_eq!(url(mirror, "docker.io", "/v2/"), "https://registry-1.docker.io/v2/");
        }
        assert_eq!(url("https://a.example", "a.example", "/v2/"), "https://a.example/v2/");
    }

    #[test]
    fn d3_http_is_tried_only_where_it_is_allowed() {
        let mut rules = PlainRules::default();
        let schemes =
            |name: &str, rules: &PlainRules| Endpoint::registry(name).unwrap().schemes(rules).unwrap();
        assert_eq!(schemes("localhost:5000", &rules), [true, false]);
        assert_eq!(schemes("a.example:5000", &rules), [true]);
        rules.add("a.example:5000").unwrap();
        assert_eq!(schemes("a.example:5000", &rules), [true, false]);
    }
}
