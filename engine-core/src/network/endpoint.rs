//! Endpoints: a container's places on networks, its addresses and its published ports.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorKind};
use crate::id::{ContainerId, Name};
use crate::runtime::Kept;

/// What an endpoint is made with.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct EndpointOptions {
    /// More names of the container on this network.
    pub aliases: Vec<String>,
    /// The container's own names, under which it is found beside the aliases. The engine fills them in: name and short id.
    pub names: Vec<String>,
    /// Other containers under names that only this one knows. On a network with names, the resolver answers to them; on the
    /// default network, they are lines of `/etc/hosts` and environment variables, and a start needs the others to run.
    pub links: Vec<Link>,
    /// The IPv4 address it asks for.
    pub ipv4: Option<Ipv4Addr>,
    /// The IPv6 address it asks for.
    pub ipv6: Option<Ipv6Addr>,
    /// The hardware address it asks for.
    pub mac: Option<MacAddress>,
    /// Ports published on the host.
    pub ports: Vec<PortMapping>,
    /// Name of the interface in the container; the next free `ethN` without it.
    pub interface: Option<String>,
    /// Of a container's endpoints, the one with the highest priority has the default route.
    pub gateway_priority: i32,
    /// Options of the driver.
    pub driver_options: BTreeMap<String, String>,
}

impl EndpointOptions {
    /// Publishes ports.
    #[must_use]
    pub fn with_ports(mut self, ports: impl IntoIterator<Item = PortMapping>) -> Self {
        self.ports.extend(ports);
        self
    }

    /// Asks for an IPv4 address.
    #[must_use]
    pub fn with_ipv4(mut self, address: Ipv4Addr) -> Self {
        self.ipv4 = Some(address);
        self
    }

    /// Asks for an IPv6 address.
    #[must_use]
    pub fn with_ipv6(mut self, address: Ipv6Addr) -> Self {
        self.ipv6 = Some(address);
        self
    }

    /// Adds names of the container on this network.
    #[must_use]
    pub fn with_aliases(mut self, aliases: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.aliases.extend(aliases.into_iter().map(Into::into));
        self
    }

    /// Adds other containers under names that only this one knows.
    #[must_use]
    pub fn with_links(mut self, links: impl IntoIterator<Item = Link>) -> Self {
        self.links.extend(links);
        self
    }

    /// Returns the addresses asked for.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> + use<> {
        self.ipv4.map(IpAddr::from).into_iter().chain(self.ipv6.map(IpAddr::from))
    }
}

/// Another container under a name that only the linking one knows.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Link {
    /// The other container: its name or id. On the default network, the engine makes it the id.
    pub container: String,
    /// The name for it.
    pub alias: String,
}

impl Link {
    /// Links `container` under the name `alias`.
    #[must_use]
    pub fn new(container: impl Into<String>, alias: impl Into<String>) -> Self {
        Self { container: container.into(), alias: alias.into() }
    }
}

impl fmt::Display for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.container, self.alias)
    }
}

impl FromStr for Link {
    type Err = Error;

    /// Reads Docker's `CONTAINER[:ALIAS]`. What `docker inspect` shows is understood, too: `/CONTAINER:/PARENT/ALIAS`.
    fn from_str(text: &str) -> Result<Self, Error> {
        let (container, alias) = text.split_once(':').unwrap_or((text, text));
        let alias = match container.strip_prefix('/') {
            Some(_) => alias.rsplit('/').next().unwrap_or_default(),
            None => alias,
        };
        let container = container.strip_prefix('/').unwrap_or(container);
        // It becomes a word of a file, a part of a variable's name, and a name to be asked for.
        let is_word = |text: &str| {
            let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
            (1..=253).contains(&text.len()) && text.bytes().all(plain)
        };
        if !is_word(container) || !is_word(alias) {
            return Err(Error::new(ErrorKind::InvalidArgument, "parse link")
                .with("link", text)
                .with_message(format!("bad format for links: {text}"))
                .with_hint("give CONTAINER or CONTAINER:ALIAS"));
        }
        Ok(Self::new(container, alias))
    }
}

/// The transport of a published port.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// TCP.
    #[default]
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

impl Protocol {
    /// Returns the name: `tcp`, `udp` or `sctp`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Protocol {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        [Self::Tcp, Self::Udp, Self::Sctp]
            .into_iter()
            .find(|protocol| text.eq_ignore_ascii_case(protocol.as_str()))
            .ok_or_else(|| {
                Error::new(ErrorKind::InvalidArgument, "parse protocol")
                    .with_message(format!("the protocol {text:?} is none of tcp, udp, sctp"))
            })
    }
}

/// A published port.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct PortMapping {
    /// The host's address; all of them without it.
    pub host_ip: Option<IpAddr>,
    /// The host's port; any free one if 0.
    pub host_port: u16,
    /// The container's port.
    pub container_port: u16,
    /// Its transport.
    pub protocol: Protocol,
}

impl PortMapping {
    /// Publishes TCP port `container_port` on any free port of every address of the host.
    #[must_use]
    pub fn new(container_port: u16) -> Self {
        Self { host_ip: None, host_port: 0, container_port, protocol: Protocol::Tcp }
    }

    /// Asks for a port of the host.
    #[must_use]
    pub fn with_host_port(mut self, port: u16) -> Self {
        self.host_port = port;
        self
    }

    /// Publishes on one address of the host.
    #[must_use]
    pub fn with_host_ip(mut self, address: IpAddr) -> Self {
        self.host_ip = Some(address);
        self
    }

    /// Uses another transport.
    #[must_use]
    pub fn with_protocol(mut self, protocol: Protocol) -> Self {
        self.protocol = protocol;
        self
    }
}

/// A hardware address.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct MacAddress(pub [u8; 6]);

impl fmt::Display for MacAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl FromStr for MacAddress {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let octet = |text: &str| {
            let plain = text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
            plain.then(|| u8::from_str_radix(text, 16).ok()).flatten()
        };
        let octets: Option<Vec<u8>> = text.split([':', '-']).map(octet).collect();
        let address = octets.and_then(|octets| <[u8; 6]>::try_from(octets).ok());
        // The lowest bit of the first octet marks a group.
        address.filter(|octets| octets[0] & 1 == 0).map(Self).ok_or_else(|| {
            Error::new(ErrorKind::InvalidArgument, "parse hardware address")
                .with("address", text)
                .with_message("it is no unicast MAC address")
                .with_hint("for example 02:42:ac:11:00:02")
        })
    }
}

impl TryFrom<String> for MacAddress {
    type Error = Error;

    fn try_from(text: String) -> Result<Self, Error> {
        text.parse()
    }
}

impl From<MacAddress> for String {
    fn from(address: MacAddress) -> Self {
        address.to_string()
    }
}

/// A container's place on a network.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Endpoint {
    /// Its id: 64 hex digits.
    pub id: String,
    /// The container.
    pub container: ContainerId,
    /// The network.
    pub network: Name,
    /// Its interface in the container, empty where it has none.
    pub interface: String,
    /// Its hardware address, if it has one.
    pub mac: Option<MacAddress>,
    /// Its addresses, at most one of each family.
    pub addresses: Vec<IpAddr>,
    /// The routers its packets leave by, at most one of each family.
    pub gateways: Vec<IpAddr>,
    /// The ports as they were published: no port is 0.
    pub ports: Vec<PortMapping>,
    /// What it was made with.
    pub options: EndpointOptions,
}

impl Endpoint {
    /// Creates an endpoint's description, with a random id.
    #[must_use]
    pub fn new(container: ContainerId, network: Name, options: EndpointOptions) -> Self {
        Self {
            id: ContainerId::random().as_str().to_owned(),
            container,
            network,
            interface: String::new(),
            mac: None,
            addresses: Vec::new(),
            gateways: Vec::new(),
            ports: Vec::new(),
            options,
        }
    }
}

/// What [`Network::attach`](super::Network::attach) made.
#[derive(Debug)]
#[non_exhaustive]
pub struct Attachment {
    /// The endpoint.
    pub endpoint: Endpoint,
    /// Sockets that keep its ports from everybody else on the host, some of them with a relay for clients that cannot reach
    /// the container otherwise. They are to stay open as long as the endpoint is there:
    /// the engine gives them to [`Runtime::keep`](crate::Runtime::keep), since it may end before the container.
    pub reserved: Vec<Kept>,
    /// The file with the names of the network, which the container's resolver reads. `None` on a network without names.
    pub names: Option<PathBuf>,
}

impl Attachment {
    /// Creates one without reservations and names.
    #[must_use]
    pub fn new(endpoint: Endpoint) -> Self {
        Self { endpoint, reserved: Vec::new(), names: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_read_as_docker_writes_them() {
        let link = |text: &str| text.parse::<Link>().map(|link| link.to_string());
        assert_eq!(link("db").unwrap(), "db:db");
        assert_eq!(link("my_db.1:d-b").unwrap(), "my_db.1:d-b");
        assert_eq!(link("/db:/web/alias").unwrap(), "db:alias");
        for text in ["", ":", "db:", ":db", "a:b:c", "a b", "db:a b", "db:a=b", "db:a/b", "a\nb"] {
            assert_eq!(link(text).unwrap_err().kind(), ErrorKind::InvalidArgument, "{text:?}");
        }
    }

    #[test]
    fn hardware_addresses_are_read_and_written() {
        let address: MacAddress = "02:42:AC-11:00:02".parse().unwrap();
        assert_eq!(address.to_string(), "02:42:ac:11:00:02");
        for text in [
            "",
            "02:42:ac:11:00",
            "02:42:ac:11:00:02:03",
            "01:00:5e:00:00:01",
            "2:42:ac:11:00:02",
            "+2:42:ac:11:00:02",
        ] {
            assert_eq!(text.parse::<MacAddress>().unwrap_err().kind(), ErrorKind::InvalidArgument, "{text}");
        }
    }
}
