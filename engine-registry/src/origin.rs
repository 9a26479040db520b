//! Origins: where a credential may go, and which hosts may be spoken to without TLS.
//!
//! Owns [`Origin`] (scheme, host, port: RFC 6454), [`PlainRules`] (loopback and configured hosts) and the check of
//! every URL that a peer hands us. Invariant: a URL that passed [`PlainRules::check`] has no user name, is http or https,
//! and is http only where that is allowed and no step down from https (SECURITY D2, D3).

use std::fmt;
use std::net::IpAddr;

use reqwest::Url;

use crate::fault::Fault;
use engine_core::error::ErrorKind;

/// Scheme, host and port.
#[derive(Clone, Eq, Hash, PartialEq)]
pub(crate) struct Origin {
    secure: bool,
    host: String,
    port: u16,
}

impl Origin {
    /// Returns the origin of an http or https URL, or `None` for any other.
    pub(crate) fn of(url: &Url) -> Option<Self> {
        let secure = match url.scheme() {
            "https" => true,
            "http" => false,
            _ => return None,
        };
        Some(Self { secure, host: url.host_str()?.to_owned(), port: url.port_or_known_default()? })
    }

    pub(crate) fn is_secure(&self) -> bool {
        self.secure
    }

    pub(crate) fn host(&self) -> &str {
        &self.host
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Returns `host`, or `host:port` if the port is not the scheme's own.
    pub(crate) fn authority(&self) -> String {
        let usual = if self.secure { 443 } else { 80 };
        if self.port == usual { self.host.clone() } else { format!("{}:{}", self.host, self.port) }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", if self.secure { "https" } else { "http" }, self.authority())
    }
}

impl fmt::Debug for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Parses `registry` (`host` or `host:port`) as the URL of its root.
pub(crate) fn registry_url(registry: &str, scheme: &str) -> Result<Url, Fault> {
    let wrong = || {
        Fault::new(ErrorKind::InvalidArgument, "the registry is not a host name with an optional port")
            .hint("write it as registry.example:5000, without https:// and without a path")
    };
    if registry.is_empty() || registry.contains(['/', '@', '?', '#', '\\', ' ']) {
        return Err(wrong());
    }
    let url = Url::parse(&format!("{scheme}://{registry}/")).map_err(|_| wrong())?;
    if url.host_str().is_none_or(str::is_empty) || has_userinfo(&url) {
        return Err(wrong());
    }
    Ok(url)
}

fn has_userinfo(url: &Url) -> bool {
    !url.username().is_empty() || url.password().is_some()
}

/// Which hosts may be reached by plain http, or by TLS that proves nothing.
#[derive(Clone, Debug, Default)]
pub(crate) struct PlainRules {
    hosts: Vec<String>,
    networks: Vec<(IpAddr, u8)>,
}

impl PlainRules {
    /// Adds `host`, `host:port` or a network such as `10.0.0.0/8`, as in dockerd's `insecure-registries`.
    pub(crate) fn add(&mut self, entry: &str) -> Result<(), Fault> {
        let Some((address, bits)) = entry.split_once('/') else {
            self.hosts
                .push(Origin::of(&registry_url(entry, "https")?).map_or_else(String::new, |o| o.authority()));
            return Ok(());
        };
        let parsed = address.parse::<IpAddr>().ok().zip(bits.parse::<u8>().ok());
        match parsed.filter(|(address, bits)| *bits <= if address.is_ipv4() { 32 } else { 128 }) {
            Some(network) => self.networks.push(network),
            None => {
                return Err(Fault::new(
                    ErrorKind::InvalidArgument,
                    "an insecure registry is neither a host nor a network",
                ));
            }
        }
        Ok(())
    }

    /// Returns whether the user listed this origin's host: then TLS there need not prove anything either.
    pub(crate) fn is_configured(&self, origin: &Origin) -> bool {
        let with_port = format!("{}:{}", origin.host(), origin.port());
        let named = self.hosts.iter().any(|entry| *entry == origin.authority() || *entry == with_port);
        named || address_of(origin).is_some_and(|ip| self.networks.iter().any(|net| contains(net, ip)))
    }

    /// Returns whether plain http to `origin`'s host is allowed at all.
    pub(crate) fn allows(&self, origin: &Origin) -> bool {
        is_loopback(origin) || self.is_configured(origin)
    }

    /// Checks a URL that a peer gave us in an answer from `from`: a redirect, an upload location, a token realm.
    pub(crate) fn check(&self, from: &Origin, url: &Url, what: &str) -> Result<Origin, Fault> {
        let refuse =
            |why: &str| Fault::new(ErrorKind::PermissionDenied, format!("its {what} was refused: {why}"));
        let origin = Origin::of(url).ok_or_else(|| refuse("it is neither http nor https"))?;
        if has_userinfo(url) {
            return Err(refuse("it carries a user name"));
        }
        if !origin.is_secure() {
            if from.is_secure() {
                return Err(refuse("it leads from https to http"));
            }
            if !self.allows(&origin) {
                return Err(refuse("it leads to plain http on another host")
                    .hint("list the host as insecure if that is intended"));
            }
        }
        Ok(origin)
    }
}

/// Returns whether `origin` is this machine by its name alone: `localhost` (which the transport resolves itself),
/// 127.0.0.0/8 or ::1.
pub(crate) fn is_loopback(origin: &Origin) -> bool {
    origin.host() == "localhost" || address_of(origin).is_some_and(|ip| ip.is_loopback())
}

fn address_of(origin: &Origin) -> Option<IpAddr> {
    origin.host().trim_start_matches('[').trim_end_matches(']').parse().ok()
}

fn contains((network, bits): &(IpAddr, u8), ip: IpAddr) -> bool {
    let shifted = |value: u128, width: u32| value.checked_shr(width - u32::from(*bits)).unwrap_or(0);
    match (network, ip) {
        (IpAddr::V4(net), IpAddr::V4(ip)) => {
            shifted(net.to_bits().into(), 32) == shifted(ip.to_bits().into(), 32)
        }
        (IpAddr::V6(net), IpAddr::V6(ip)) => shifted(net.to_bits(), 128) == shifted(ip.to_bits(), 128),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(text: &str) -> Origin {
        Origin::of(&Url::parse(text).unwrap()).unwrap()
    }

    #[test]
    fn d2_origins_differ_by_scheme_host_and_port() {
        assert_eq!(origin("https://A.example/x"), origin("https://a.example:443/y"));
        for other in ["http://a.example", "https://a.example:444", "https://b.example", "https://a.example."]
        {
            assert_ne!(origin("https://a.example"), origin(other));
        }
        assert_eq!(origin("http://[::1]:5000/").authority(), "[::1]:5000");
    }

    #[test]
    fn d3_plain_http_is_for_loopback_and_configured_hosts() {
        let mut rules = PlainRules::default();
        for entry in ["plain.example", "other.example:5000", "10.0.0.0/8", "fd00::/8"] {
            rules.add(entry).unwrap();
        }
        for yes in [
            "http://localhost",
            "http://127.1.2.3:99",
            "http://[::1]:5000",
            "http://plain.example",
            "http://other.example:5000",
            "http://10.9.8.7:1",
            "http://[fd12::1]",
        ] {
            assert!(rules.allows(&origin(yes)), "{yes}");
        }
        for no in [
            "http://other.example",
            "http://localhost.example",
            "http://11.0.0.1",
            "http://0.0.0.0",
            "http://127.0.0.1.example",
            "http://[fe80::1]",
        ] {
            assert!(!rules.allows(&origin(no)), "{no}");
        }
        assert!(
            rules.add("10.0.0.0/40").is_err() && rules.add("http://x").is_err() && rules.add("a@b").is_err()
        );
    }

    #[test]
    fn registries_are_hosts() {
        for wrong in ["", "https://a", "a/b", "u@a", "a?b", "a b", "a:99999", ":5000"] {
            assert!(registry_url(wrong, "https").is_err(), "{wrong:?}");
        }
        assert_eq!(registry_url("localhost:5000", "http").unwrap().as_str(), "http://localhost:5000/");
    }
}
