//! The packet filter's table of an engine: what is translated, what is let through, what not.
//!
//! Networks, bridges and published ports are elements of sets and maps, so that a packet's way and a change cost the same
//! with one as with a thousand. The rules themselves never change.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

use engine_core::network::{Endpoint, PortMapping, Protocol};
use engine_core::{Error, ErrorKind, Result};

use super::options::BridgeOptions;
use crate::nft::{
    Chain, Direction, Element, Expression, Hook, Kind, Nft, Register, Set, Table, Transaction, Verdict,
    interface_name,
};

// Types of keys as nft(8) shows them, and lengths.
const INTERFACE: (u32, u32) = (41, 16);
const PROTOCOL: (u32, u32) = (12, 4);
const PORT: (u32, u32) = (13, 4);
const IPV4: (u32, u32) = (7, 4);
const IPV6: (u32, u32) = (8, 16);

/// All bridges of the engine.
const BRIDGES: &str = "bridges";
/// Those whose packets leave with the host's address.
const MASQUERADED: &str = "masqueraded";
/// Those of internal networks.
const INTERNAL: &str = "internal";
/// Each bridge with itself.
const SAME: &str = "same";
const PUBLISHED: &str = "published";

const ESTABLISHED_OR_RELATED: u32 = 2 | 4;

/// A map of published ports: for one family, on one address of the host or on all.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Map {
    name: &'static str,
    v6: bool,
    /// Whether the host's address is part of the key.
    at: bool,
}

const MAPS: [Map; 4] = [
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

    /// The rule that looks a packet up and translates its destination.
    fn rule(self) -> Vec<Expression> {
        let (first, words) = (Register::at(0), if self.v6 { 4 } else { 1 });
        let mut rule = vec![
            Expression::family(first),
            Expression::equals(first, &[if self.v6 { 10 } else { 2 }]),
            Expression::transport(first),
        ];
        if self.at {
            rule.push(Expression::address(Direction::Destination, self.v6, Register::at(1)));
            rule.push(Expression::destination_port(Register::at(1 + words)));
        } else {
            rule.push(Expression::destination_port(Register::at(1)));
        }
        rule.push(Expression::in_map(self.name, first, first));
        rule.push(Expression::destination_nat(self.v6, first, Register::at(words)));
        rule
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

fn of_endpoint(endpoint: &Endpoint) -> Vec<(&'static str, Element)> {
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
pub(super) struct Bridge {
    pub(super) options: BridgeOptions,
    pub(super) internal: bool,
}

fn of_bridge(bridge: &Bridge) -> Vec<(&'static str, Element)> {
    let name = interface_name(&bridge.options.bridge);
    let mut elements = vec![(BRIDGES, Element::key(name)), (SAME, Element::key([name, name].concat()))];
    if bridge.internal {
        elements.push((INTERNAL, Element::key(name)));
    } else if bridge.options.masquerade {
        elements.push((MASQUERADED, Element::key(name)));
    }
    elements
}

/// The engine's table.
#[derive(Debug)]
pub(super) struct Rules {
    table: String,
    /// A conversation to go on with. Its end would wait until what was removed is freed, which takes a grace period of RCU.
    spare: Mutex<Option<Nft>>,
}

impl Rules {
    pub(super) fn new(owner: &str) -> Self {
        Self { table: format!("engine-{owner}"), spare: Mutex::new(None) }
    }

    pub(super) fn table(&self) -> &str {
        &self.table
    }

    /// Does something in a conversation with the kernel. After a failure, the next one is another.
    fn with_nft<T>(&self, work: impl FnOnce(&mut Nft) -> Result<T>) -> Result<T> {
        let spare = || self.spare.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = spare().take();
        let mut nft = match taken {
            Some(nft) => nft,
            None => Nft::open()?,
        };
        let done = work(&mut nft);
        if done.as_ref().err().is_none_or(|error| error.kind() == ErrorKind::NotFound) {
            spare().replace(nft);
        }
        done
    }

    fn as_table(&self) -> Table<'_> {
        Table { name: &self.table }
    }

    /// Makes the table anew, whatever was there, with these networks and endpoints.
    pub(super) fn replace(&self, bridges: &[Bridge], endpoints: &[Endpoint]) -> Result<()> {
        let mut transaction = Transaction::new();
        let table = self.as_table();
        table.create(&mut transaction);
        table.delete(&mut transaction);
        table.create_new(&mut transaction);
        self.sets(&mut transaction);
        self.chains(&mut transaction);
        let elements = bridges.iter().flat_map(of_bridge).chain(endpoints.iter().flat_map(of_endpoint));
        self.change(&mut transaction, elements.collect(), Change::Add);
        self.with_nft(|nft| nft.commit(transaction))
    }

    /// Whether the table is there with all its rules.
    pub(super) fn are_there(&self) -> Result<bool> {
        let mut rules = Transaction::new();
        self.chains(&mut rules);
        let count = self.with_nft(|nft| self.as_table().count_rules(nft).or_else(none_if_missing))?;
        Ok(count == Some(rules.rules()))
    }

    /// Whether the table is there, with these networks and endpoints and nothing else.
    pub(super) fn are_of(&self, bridges: &[Bridge], endpoints: &[Endpoint]) -> Result<bool> {
        let mut wanted: BTreeMap<&str, Vec<Element>> = BTreeMap::new();
        for (set, element) in bridges.iter().flat_map(of_bridge).chain(endpoints.iter().flat_map(of_endpoint))
        {
            wanted.entry(set).or_default().push(element);
        }
        if !self.are_there()? {
            return Ok(false);
        }
        let table = self.as_table();
        for set in all_sets() {
            let found = self.with_nft(|nft| table.list_elements(nft, set.name).or_else(none_if_missing))?;
            let mut wanted = wanted.remove(set.name).unwrap_or_default();
            wanted.sort();
            let is_same = found.is_some_and(|mut found| {
                found.sort();
                found == wanted
            });
            if !is_same {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Removes the table, if it is there.
    pub(super) fn remove(&self) -> Result<()> {
        let mut transaction = Transaction::new();
        self.as_table().create(&mut transaction);
        self.as_table().delete(&mut transaction);
        self.with_nft(|nft| nft.commit(transaction))
    }

    /// Publishes the ports of an endpoint.
    ///
    /// # Errors
    /// `NotFound` if the table is not there.
    pub(super) fn publish(&self, endpoint: &Endpoint) -> Result<()> {
        self.commit_change(of_endpoint(endpoint), Change::Add).map_err(|error| match error.kind() {
            ErrorKind::AlreadyExists => Error::new(ErrorKind::Conflict, "publish port")
                .with("network", &endpoint.network)
                .with("container", endpoint.container.short())
                .with_source(error)
                .with_message("port is already allocated by another container")
                .with_hint("publish another port of the host, or stop the container that has it"),
            _ => error,
        })
    }

    /// Takes them back.
    ///
    /// # Errors
    /// `NotFound` if the table or one of them is not there.
    pub(super) fn withdraw(&self, endpoint: &Endpoint) -> Result<()> {
        self.commit_change(of_endpoint(endpoint), Change::Delete)
    }

    fn commit_change(&self, elements: Vec<(&'static str, Element)>, change: Change) -> Result<()> {
        if elements.is_empty() {
            return Ok(());
        }
        let mut transaction = Transaction::new();
        self.change(&mut transaction, elements, change);
        self.with_nft(|nft| nft.commit(transaction))
    }

    fn change(
        &self,
        transaction: &mut Transaction,
        mut elements: Vec<(&'static str, Element)>,
        change: Change,
    ) {
        elements.sort();
        for of_set in elements.chunk_by(|one, other| one.0 == other.0) {
            let set = of_set.first().map_or("", |(set, _)| set);
            let elements: Vec<Element> = of_set.iter().map(|(_, element)| element.clone()).collect();
            match change {
                Change::Add => self.as_table().add_elements(transaction, set, &elements),
                Change::Delete => self.as_table().delete_elements(transaction, set, &elements),
            }
        }
    }

    fn sets(&self, transaction: &mut Transaction) {
        for set in all_sets() {
            self.as_table().add_set(transaction, &set);
        }
    }

    fn chains(&self, transaction: &mut Transaction) {
        let table = self.as_table();
        let base = |name, kind, hook, priority| Chain { name, base: Some((kind, hook, priority)) };
        // Priorities raw, dstnat, filter and srcnat of nft(8).
        let guard = base("guard", Kind::Filter, Hook::Prerouting, -300);
        let prerouting = base("prerouting", Kind::Nat, Hook::Prerouting, -100);
        let output = base("output", Kind::Nat, Hook::Output, -100);
        let forward = base("forward", Kind::Filter, Hook::Forward, 0);
        let postrouting = base("postrouting", Kind::Nat, Hook::Postrouting, 100);
        let published = Chain { name: PUBLISHED, base: None };
        for chain in [published, guard, prerouting, output, forward, postrouting] {
            table.add_chain(transaction, &chain);
        }
        for map in MAPS {
            table.add_rule(transaction, PUBLISHED, &map.rule());
        }
        let mut add =
            |chain: &Chain<'_>, rule: Vec<Expression>| table.add_rule(transaction, chain.name, &rule);

        // With route_localnet, only this keeps containers from the host's loopback addresses (CVE-2020-8558).
        let mut rule = interface_in(Direction::Source, BRIDGES, true);
        rule.extend(loopback(Direction::Destination));
        add(&guard, with(rule, Expression::verdict(Verdict::Drop)));

        // Translated before it is routed, what another host sends to 127.0.0.1 would not be seen for what it is.
        let rule = loopback(Direction::Destination);
        add(&prerouting, with(rule, Expression::verdict(Verdict::Accept)));

        // Only what is for this host: what is forwarded to others' addresses is none of ours (CVE-2025-67499).
        for chain in [&prerouting, &output] {
            let rule = Expression::destination_is_local().to_vec();
            add(chain, with(rule, Expression::verdict(Verdict::Jump(PUBLISHED))));
        }

        let established = Expression::connection_state(ESTABLISHED_OR_RELATED).to_vec();
        add(&forward, with(established, Expression::verdict(Verdict::Accept)));
        // Bridged packets come along here, too, where the host filters them (bridge-nf-call-iptables).
        add(&forward, with(both_interfaces(), Expression::verdict(Verdict::Accept)));
        for direction in [Direction::Source, Direction::Destination] {
            let rule = interface_in(direction, INTERNAL, true);
            add(&forward, with(rule, Expression::verdict(Verdict::Drop)));
        }
        let mut rule = Expression::destination_translated().to_vec();
        rule.extend(interface_in(Direction::Destination, BRIDGES, true));
        add(&forward, with(rule, Expression::verdict(Verdict::Accept)));
        // Neither another network nor another host reaches what is not published.
        let rule = interface_in(Direction::Destination, BRIDGES, true);
        add(&forward, with(rule, Expression::verdict(Verdict::Drop)));

        let mut rule = interface_in(Direction::Source, MASQUERADED, true);
        rule.extend(interface_in(Direction::Destination, BRIDGES, false));
        add(&postrouting, with(rule, Expression::masquerade()));
        // A container that asks a published port of its own network: its peer has to answer by way of the host.
        // Itself it would not believe its own address to come from outside.
        for v6 in [false, true] {
            let mut rule = Expression::destination_translated().to_vec();
            rule.extend(to_itself(v6));
            add(&postrouting, with(rule, Expression::masquerade()));
        }
        let mut rule = Expression::destination_translated().to_vec();
        rule.extend(both_interfaces());
        add(&postrouting, with(rule, Expression::masquerade()));
        // An address of the loopback interface means nothing to a container.
        let mut rule = interface_in(Direction::Destination, BRIDGES, true);
        rule.extend(loopback(Direction::Source));
        add(&postrouting, with(rule, Expression::masquerade()));
    }
}

fn none_if_missing<T>(error: Error) -> Result<Option<T>> {
    if error.kind() == ErrorKind::NotFound { Ok(None) } else { Err(error) }
}

/// What becomes of elements.
#[derive(Clone, Copy, Debug)]
enum Change {
    Add,
    Delete,
}

fn with(mut rule: Vec<Expression>, last: Expression) -> Vec<Expression> {
    rule.push(last);
    rule
}

/// Goes on if the interface is one of the set's, or is not.
fn interface_in(direction: Direction, set: &str, wanted: bool) -> Vec<Expression> {
    let register = Register::at(0);
    vec![Expression::interface(direction, register), Expression::in_set(set, register, wanted)]
}

/// Goes on if the packet leaves by the bridge that it came by.
fn both_interfaces() -> Vec<Expression> {
    let first = Register::at(0);
    vec![
        Expression::interface(Direction::Source, first),
        Expression::interface(Direction::Destination, Register::at(4)),
        Expression::in_set(SAME, first, true),
    ]
}

fn all_sets() -> Vec<Set<'static>> {
    let interfaces = |name| Set { name, key: INTERFACE, data: None };
    let mut sets = [BRIDGES, MASQUERADED, INTERNAL].map(interfaces).to_vec();
    sets.push(Set { name: SAME, key: joined(&[INTERFACE, INTERFACE]), data: None });
    sets.extend(MAPS.map(Map::set));
    sets.extend([false, true].map(self_set));
    sets
}

fn self_set(v6: bool) -> Set<'static> {
    let (name, address) = if v6 { ("self6", IPV6) } else { ("self4", IPV4) };
    Set { name, key: joined(&[address, address]), data: None }
}

/// Goes on if the packet is from an endpoint with published ports to itself.
fn to_itself(v6: bool) -> Vec<Expression> {
    let (first, second) = (Register::at(0), Register::at(if v6 { 4 } else { 1 }));
    vec![
        Expression::family(first),
        Expression::equals(first, &[if v6 { 10 } else { 2 }]),
        Expression::address(Direction::Source, v6, first),
        Expression::address(Direction::Destination, v6, second),
        Expression::in_set(self_set(v6).name, first, true),
    ]
}

/// Goes on if the address is one of IPv4's loopback addresses.
fn loopback(direction: Direction) -> Vec<Expression> {
    let first = Register::at(0);
    let mut rule = vec![Expression::family(first), Expression::equals(first, &[2])];
    rule.extend(Expression::address_in(direction, [127, 0, 0, 0], [255, 0, 0, 0]));
    rule
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
    }
}
