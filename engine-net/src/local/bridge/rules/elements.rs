//! What is in the sets and maps: networks, bridges, published ports.

use std::net::IpAddr;

use engine_core::network::{Endpoint, PortMapping, Protocol};

use crate::local::bridge::BridgeOptions;
use crate::nft::{Element, Set, interface_name};

// Types of keys as nft(8) shows them, and lengths.
const INTERFACE: (u32, u32) = (41, 16);
const PROTOCOL: (u32, u32) = (12, 4);
const PORT: (u32, u32) = (13, 4);
const IPV4: (u32, u32) = (7, 4);
const IPV6: (u32, u32) = (8, 16);

/// All bridges of the engine.
pub(super) const BRIDGES: &str = "bridges";
/// Those whose packets leave with the host's address.
pub(super) const MASQUERADED: &str = "masqueraded";
/// Those of internal networks.
pub(super) const INTERNAL: &str = "internal";
/// Each bridge with itself.
pub(super) const SAME: &str = "same";

/// A map of published ports: for one family, on one address of the host or on all.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Map {
    pub(super) name: &'static str,
    pub(super) v6: bool,
    /// Whether the host's address is part of the key.
    pub(super) at: bool,
}

pub(super) const MAPS: [Map; 4] = [
    Map { name: "ports4_at", v6: false, at: true },
    Map { name: "ports4", v6: false, at: false },
    Map { name: "ports6_at", v6: true, at: true },
    Map { name: "ports6", v6: true, at: false },
];

/// Several types as one: six bits for each.
fn joined(parts: &[(u32, u32)]) -> (u32, u32) {
    parts.iter().fold((0, 0), |(kind, length), part| (kind << 6 | part.0, length + part.1))
}

impl Map {
    fn set(self) -> Set<'static> {
        let address = if self.v6 { IPV6 } else { IPV4 };
        let key = if self.at { joined(&[PROTOCOL, address, PORT]) } else { joined(&[PROTOCOL, PORT]) };
        Set { name: self.name, key, data: Some(joined(&[address, PORT])) }
    }
}

fn number(protocol: Protocol) -> u8 {
    match protocol {
        Protocol::Tcp => 6,
        Protocol::Udp => 17,
        Protocol::Sctp => 132,
    }
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}

fn port(number: u16) -> [u8; 4] {
    let [high, low] = number.to_be_bytes();
    [high, low, 0, 0]
}

/// Where a published port leads: one element for each family that it is published on and the container has.
fn leads(mapping: &PortMapping, addresses: &[IpAddr]) -> Vec<(&'static str, Element)> {
    let mut elements = Vec::new();
    for address in addresses {
        let host = mapping.host_ip.filter(|host| !host.is_unspecified());
        if mapping.host_ip.is_some_and(|host| host.is_ipv6() != address.is_ipv6()) {
            continue;
        }
        let Some(map) = MAPS.iter().find(|map| map.v6 == address.is_ipv6() && map.at == host.is_some())
        else {
            continue;
        };
        let mut key = vec![number(mapping.protocol), 0, 0, 0];
        key.extend(host.map(octets).unwrap_or_default());
        key.extend(port(mapping.host_port));
        let data = [octets(*address), port(mapping.container_port).to_vec()].concat();
        elements.push((map.name, Element { key, data: Some(data) }));
    }
    elements
}

pub(super) fn of_endpoint(endpoint: &Endpoint) -> Vec<(&'static str, Element)> {
    let mut elements: Vec<_> =
        endpoint.ports.iter().flat_map(|mapping| leads(mapping, &endpoint.addresses)).collect();
    if !elements.is_empty() {
        let itself = |address: &IpAddr| {
            let octets = octets(*address);
            (self_set(address.is_ipv6()).name, Element::key([&octets[..], &octets].concat()))
        };
        elements.extend(endpoint.addresses.iter().map(itself));
    }
    elements
}

/// A network as the rules see it.
#[derive(Clone, Debug)]
pub(in crate::local) struct Bridge {
    pub(in crate::local) options: BridgeOptions,
    pub(in crate::local) internal: bool,
}

pub(super) fn of_bridge(bridge: &Bridge) -> Vec<(&'static str, Element)> {
    let name = interface_name(&bridge.options.bridge);
    let mut elements = vec![(BRIDGES, Element::key(name)), (SAME, Element::key([name, name].concat()))];
    if bridge.internal {
        elements.push((INTERNAL, Element::key(name)));
    } else if bridge.options.masquerade {
        elements.push((MASQUERADED, Element::key(name)));
    }
    elements
}

pub(super) fn all_sets() -> Vec<Set<'static>> {
    let interfaces = |name| Set { name, key: INTERFACE, data: None };
    let mut sets = [BRIDGES, MASQUERADED, INTERNAL].map(interfaces).to_vec();
    sets.push(Set { name: SAME, key: joined(&[INTERFACE, INTERFACE]), data: None });
    sets.extend(MAPS.map(Map::set));
    sets.extend([false, true].map(self_set));
    sets
}

pub(super) fn self_set(v6: bool) -> Set<'static> {
    let (name, address) = if v6 { ("self6", IPV6) } else { ("self4", IPV4) };
    Set { name, key: joined(&[address, address]), data: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_leads_to_each_address_of_its_families() {
        let addresses: Vec<IpAddr> = vec!["10.0.0.2".parse().unwrap(), "fd00::2".parse().unwrap()];
        let names = |mapping: PortMapping| {
            leads(&mapping.with_host_port(8080), &addresses)
                .into_iter()
                .map(|(name, _)| name)
                .collect::<Vec<_>>()
        };
        assert_eq!(names(PortMapping::new(80)), ["ports4", "ports6"]);
        assert_eq!(names(PortMapping::new(80).with_host_ip("127.0.0.1".parse().unwrap())), ["ports4_at"]);
        assert_eq!(names(PortMapping::new(80).with_host_ip("::1".parse().unwrap())), ["ports6_at"]);
        assert_eq!(names(PortMapping::new(80).with_host_ip("::".parse().unwrap())), ["ports6"]);
        let (_, element) = leads(&PortMapping::new(80).with_host_port(8080), &addresses).remove(0);
        assert_eq!(element.key, [6, 0, 0, 0, 0x1f, 0x90, 0, 0]);
        assert_eq!(element.data.unwrap(), [10, 0, 0, 2, 0, 80, 0, 0]);
        let sctp = PortMapping::new(80).with_host_port(8080).with_protocol(Protocol::Sctp);
        assert_eq!(leads(&sctp, &addresses)[0].1.key, [132, 0, 0, 0, 0x1f, 0x90, 0, 0]);
    }
}
