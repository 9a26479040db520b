//! Names of containers on a network: the files that a container's resolver reads.
//!
//! A network's driver writes a [`Zone`] for each of its networks, anew whenever an endpoint comes or goes. A container's
//! resolver searches the zones that its [`ResolverConfig`] names, at each question, so a change holds at once. This module
//! owns both formats; the shim reads them (`shim/names`).
//! Invariant: a file appears whole, by a rename.
//!
//! A zone file has lines `KEY VALUE`, sorted by their bytes: a name and an address, or the reverse name of an address and
//! the name that is told for it. Sorted, because a search then reads little of a long file.

use std::collections::BTreeSet;
use std::fmt;
use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use super::Endpoint;
use crate::error::{Error, ErrorKind, Result};
use crate::id::Name;

/// Where a container's resolver is, inside the container: as Docker's.
pub const ADDRESS: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 11);
/// The port of [`ADDRESS`] that the resolver listens on, UDP and TCP. What is asked of port 53 there is to be redirected to
/// it, so that a server of the container's own can have port 53 of all addresses.
pub const PORT: u16 = 41153;

/// Longest name that can be asked for (RFC 1035, 2.3.4).
const MAX_NAME: usize = 253;
/// Longest path of a zone file.
const MAX_PATH: usize = 1000;
/// Largest configuration: what the shim has room for.
const MAX_CONFIG: usize = 16 * 1024;

/// The names of one network. `Display` and `FromStr` are its file's form.
///
/// ```
/// use engine_core::network::names::Zone;
///
/// let mut zone = Zone::new();
/// zone.add_host("web", ["172.18.0.2".parse().unwrap()]);
/// zone.add_alias("www", ["172.18.0.2".parse().unwrap()]);
/// assert_eq!(zone.to_string(), "2.0.18.172.in-addr.arpa web\nweb 172.18.0.2\nwww 172.18.0.2\n");
/// ```
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Zone {
    lines: BTreeSet<String>,
}

impl Zone {
    /// Creates a zone without names.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a container's name with its addresses, which are found by the name, and tell it. A name of more than 253 bytes or
    /// with something else than printable ASCII cannot be asked for and is left out.
    pub fn add_host(&mut self, name: &str, addresses: impl IntoIterator<Item = IpAddr>) {
        for address in addresses {
            if self.add(name, &address.to_string()) {
                self.lines.insert(format!("{} {name}", reverse(address)));
            }
        }
    }

    /// Adds another name for addresses. Others may have it, too.
    pub fn add_alias(&mut self, name: &str, addresses: impl IntoIterator<Item = IpAddr>) {
        for address in addresses {
            self.add(name, &address.to_string());
        }
    }

    /// Adds all names of an endpoint: the first of its own is what its addresses tell.
    pub fn add_endpoint(&mut self, endpoint: &Endpoint) {
        let options = &endpoint.options;
        let addresses = || endpoint.addresses.iter().copied();
        if let Some(name) = options.names.first() {
            self.add_host(name, addresses());
        }
        for name in options.names.iter().skip(1).chain(&options.aliases) {
            self.add_alias(name, addresses());
        }
    }

    fn add(&mut self, name: &str, value: &str) -> bool {
        let fits = is_name(name);
        if fits {
            self.lines.insert(format!("{} {value}", name.to_ascii_lowercase()));
        }
        fits
    }

    /// Returns the addresses of a name, whatever its case.
    pub fn addresses(&self, name: &str) -> impl Iterator<Item = IpAddr> + use<'_> {
        let name = name.to_ascii_lowercase();
        self.lines.iter().filter_map(move |line| line.strip_prefix(&name)?.strip_prefix(' ')?.parse().ok())
    }

    /// Puts the zone in place of the file at `path`. Nobody else writes that one meanwhile.
    ///
    /// # Errors
    /// As the file system says.
    pub fn write(&self, path: &Path) -> Result<()> {
        replace(path, &self.to_string())
    }
}

impl fmt::Display for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.lines.iter().try_for_each(|line| writeln!(f, "{line}"))
    }
}

impl FromStr for Zone {
    type Err = Error;

    /// Reads what a zone file has.
    fn from_str(text: &str) -> Result<Self> {
        let sound = |line: &str| line.split(' ').count() == 2 && line.split(' ').all(|word| !word.is_empty());
        if let Some(line) = text.lines().find(|line| !sound(line)) {
            return Err(Error::new(ErrorKind::Corrupt, "read names of network").with("line", line));
        }
        Ok(Self { lines: text.lines().map(str::to_owned).collect() })
    }
}

/// Whether a name can be asked for.
fn is_name(name: &str) -> bool {
    (1..=MAX_NAME).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_graphic())
}

/// The name under which DNS knows an address (RFC 1035, 3.5; RFC 3596, 2.5).
fn reverse(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => {
            let [a, b, c, d] = address.octets();
            format!("{d}.{c}.{b}.{a}.in-addr.arpa")
        }
        IpAddr::V6(address) => {
            let digits: Vec<String> = address
                .octets()
                .iter()
                .rev()
                .map(|octet| format!("{:x}.{:x}.", octet & 15, octet >> 4))
                .collect();
            format!("{}ip6.arpa", digits.concat())
        }
    }
}

/// What a container's resolver goes by.
///
/// The default answers nothing: no zones, and nobody else to ask.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct ResolverConfig {
    /// The zones in the order in which they are searched.
    pub zones: Vec<ResolverZone>,
    /// Names that this container alone knows: they are looked up before the zones' own.
    pub aliases: Vec<ResolverAlias>,
    /// Who is asked for what no zone has, in this order. They are asked from the host's network.
    pub upstreams: Vec<SocketAddr>,
    /// Whether anybody is asked at all: not for a container that has no way out.
    pub forward: bool,
    /// Whether names of a single label that no zone has are asked for, too. Otherwise there are none: most likely they are
    /// containers that have gone, and nobody outside needs to hear of them.
    pub forward_single_labels: bool,
}

/// A zone of a resolver.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct ResolverZone {
    /// The network: its containers are also found as `NAME.NETWORK`.
    pub network: Name,
    /// The absolute path of the zone file.
    pub path: PathBuf,
}

impl ResolverZone {
    /// Names the zone of a network.
    #[must_use]
    pub fn new(network: Name, path: PathBuf) -> Self {
        Self { network, path }
    }
}

/// Another name for a container on a network.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct ResolverAlias {
    /// The network.
    pub network: Name,
    /// The name that is asked for.
    pub alias: String,
    /// The name in the network's zone whose addresses it has.
    pub target: String,
}

impl ResolverAlias {
    /// Makes `alias` another name for `target` on `network`.
    #[must_use]
    pub fn new(network: Name, alias: impl Into<String>, target: impl Into<String>) -> Self {
        Self { network, alias: alias.into(), target: target.into() }
    }
}

impl ResolverConfig {
    /// Returns the form in which the shim reads it.
    ///
    /// # Errors
    /// [`InvalidArgument`](ErrorKind::InvalidArgument) for paths that are relative, too long or no text of one line, for names
    /// that cannot be asked for, or more networks than fit.
    pub fn encode(&self) -> Result<String> {
        let invalid =
            |message| Error::new(ErrorKind::InvalidArgument, "configure resolver").with_message(message);
        let mut text = "version 1\n".to_owned();
        for zone in &self.zones {
            let path = zone.path.to_str().filter(|path| {
                zone.path.is_absolute() && path.len() <= MAX_PATH && !path.contains(['\n', '\0'])
            });
            let path = path.ok_or_else(|| {
                invalid("a zone file has no path that can be used").with("path", zone.path.display())
            })?;
            text += &format!("zone {} {path}\n", zone.network);
        }
        for ResolverAlias { network, alias, target } in &self.aliases {
            for word in [alias, target] {
                if !is_name(word) {
                    return Err(invalid("an alias is no name that can be asked for").with("alias", word));
                }
            }
            // Zones have small letters.
            let (alias, target) = (alias.to_ascii_lowercase(), target.to_ascii_lowercase());
            text += &format!("alias {network} {alias} {target}\n");
        }
        for upstream in &self.upstreams {
            text += &format!("upstream {upstream}\n");
        }
        for (key, on) in [("forward", self.forward), ("forward-single-labels", self.forward_single_labels)] {
            text += &format!("{key} {}\n", u8::from(on));
        }
        if text.len() > MAX_CONFIG {
            return Err(invalid("too many networks, aliases and servers"));
        }
        Ok(text)
    }

    /// Puts the configuration in place of the file at `path`. Nobody else writes that one meanwhile.
    ///
    /// # Errors
    /// As [`encode`](Self::encode), and as the file system says.
    pub fn write(&self, path: &Path) -> Result<()> {
        replace(path, &self.encode()?)
    }
}

/// Puts a file of its owner only in place whole.
fn replace(path: &Path, content: &str) -> Result<()> {
    let failed = |error| Error::from_io("write names", error).with("path", path.display());
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    let mut file =
        OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new).map_err(failed)?;
    // Not synced: names of containers that run do not outlive a power loss, either.
    file.write_all(content.as_bytes()).and_then(|()| fs::rename(&new, path)).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::ContainerId;
    use crate::network::EndpointOptions;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn zones_read_back_as_written() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("zone");
        let mut options = EndpointOptions::default().with_aliases(["DB", "db-1"]);
        options.names = vec!["Data".to_owned(), "0123456789ab".to_owned()];
        let mut endpoint = Endpoint::new(ContainerId::random(), "net".parse().unwrap(), options);
        endpoint.addresses = vec![ip("172.18.0.2"), ip("fd00::2")];
        let mut zone = Zone::new();
        zone.add_endpoint(&endpoint);
        zone.add_alias("db", [ip("172.18.0.3")]);
        zone.write(&path).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        assert_eq!(text.parse::<Zone>().unwrap(), zone);
        assert_eq!(text.lines().count(), 11, "{text}");
        assert!(text.contains("\ndata 172.18.0.2\n"), "{text}");
        assert!(text.contains("2.0.18.172.in-addr.arpa Data\n"), "{text}");
        let digits = "2.0.0.0.".to_owned() + &"0.".repeat(24) + "0.0.d.f";
        assert!(text.contains(&format!("{digits}.ip6.arpa Data\n")), "{text}");
        let found: Vec<IpAddr> = zone.addresses("dB").collect();
        assert_eq!(found, [ip("172.18.0.2"), ip("172.18.0.3"), ip("fd00::2")]);
        Zone::new().write(&path).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_cannot_be_asked_for_is_left_out() {
        let mut zone = Zone::new();
        for name in ["", "a b", "a\nb 1.2.3.4", "ö", &"a".repeat(254)] {
            zone.add_host(name, [ip("10.0.0.1")]);
        }
        assert_eq!(zone, Zone::new());
        for text in ["a\n", "a b c\n", " a\n", "\n"] {
            assert_eq!(text.parse::<Zone>().unwrap_err().kind(), ErrorKind::Corrupt, "{text:?}");
        }
    }

    #[test]
    fn configurations_with_bad_paths_are_refused() {
        let zone = |path: &str| ResolverZone { network: "net".parse().unwrap(), path: path.into() };
        let mut config = ResolverConfig {
            zones: vec![zone("/run/a zone")],
            upstreams: vec!["127.0.0.1:53".parse().unwrap(), "[fe80::1%2]:53".parse().unwrap()],
            forward: true,
            ..ResolverConfig::default()
        };
        assert_eq!(
            config.encode().unwrap(),
            "version 1\nzone net /run/a zone\nupstream 127.0.0.1:53\nupstream [fe80::1%2]:53\nforward 1\nforward-single-labels 0\n"
        );
        for path in ["zone", "/a\nforward 1", &format!("/{}", "a".repeat(1000))] {
            config.zones = vec![zone(path)];
            assert_eq!(config.encode().unwrap_err().kind(), ErrorKind::InvalidArgument, "{path:?}");
        }
        config.zones = vec![zone("/zone")];
        config.aliases = vec![ResolverAlias::new("net".parse().unwrap(), "DB", "Data")];
        assert!(config.encode().unwrap().contains("\nalias net db data\n"));
        for alias in ["", "a b", "a\nforward 1"] {
            config.aliases[0].alias = alias.to_owned();
            assert_eq!(config.encode().unwrap_err().kind(), ErrorKind::InvalidArgument, "{alias:?}");
        }
        config.aliases.clear();
        config.zones = vec![zone(&format!("/{}", "a".repeat(900))); 20];
        assert_eq!(config.encode().unwrap_err().kind(), ErrorKind::InvalidArgument);
    }
}
