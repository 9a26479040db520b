//! What all drivers do with interfaces: marks of whose they are, addresses, default routes.
//!
//! Every interface of ours carries an alias that names its engine, so that what is left of a dead one can be told from others'.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use engine_core::linux::netlink::packet::AddressFamily;
use engine_core::linux::netlink::packet::RouteNetlinkMessage as Message;
use engine_core::linux::netlink::packet::address::{
    AddressAttribute, AddressFlags, AddressHeaderFlags, AddressMessage,
};
use engine_core::linux::netlink::packet::link::{LinkAttribute, LinkFlags, LinkMessage};
use engine_core::linux::netlink::packet::route::{
    RouteAddress, RouteAttribute, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use engine_core::linux::netlink::{Route, flag};
use engine_core::network::{Endpoint, MacAddress, NetworkInfo, Subnet};
use engine_core::{ErrorKind, Result};

use super::records::{EndpointRecord, Way};

/// The main routing table, see ip-rule(8).
const MAIN_TABLE: u8 = 254;

/// A locally administered hardware address out of a random id.
pub(super) fn local_address(id: &str) -> MacAddress {
    let digits = |at: usize| {
        id.get(at * 2..at * 2 + 2).and_then(|text| u8::from_str_radix(text, 16).ok()).unwrap_or(0)
    };
    MacAddress([0x02, 0x42, digits(0), digits(1), digits(2), digits(3)])
}

/// The alias of what the engine `owner` made.
pub(super) fn alias(owner: &str, what: &str) -> String {
    format!("engine {owner} {what}")
}

pub(super) fn alias_of(link: &LinkMessage) -> Option<&str> {
    link.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::IfAlias(alias) => Some(alias.as_str()),
        _ => None,
    })
}

/// Interfaces of the engine `owner`: index and alias's last word.
pub(super) fn owned(route: &mut Route, owner: &str) -> Result<Vec<(u32, String)>> {
    let prefix = alias(owner, "");
    let links = route.links()?;
    let ours = links.iter().filter_map(|link| {
        let what = alias_of(link)?.strip_prefix(&prefix)?;
        Some((link.header.index, what.to_owned()))
    });
    Ok(ours.collect())
}

pub(super) fn up(link: &mut LinkMessage) {
    (link.header.flags, link.header.change_mask) = (LinkFlags::Up, LinkFlags::Up);
}

pub(super) fn address(index: u32, ip: IpAddr, prefix: u8) -> Message {
    let mut message = AddressMessage::default();
    message.header.index = index;
    message.header.prefix_len = prefix;
    message.attributes.push(AddressAttribute::Local(ip));
    message.attributes.push(AddressAttribute::Address(ip));
    match ip {
        IpAddr::V4(v4) => {
            message.header.family = AddressFamily::Inet;
            let host_bits = u32::MAX.checked_shr(prefix.into()).unwrap_or(0);
            message.attributes.push(AddressAttribute::Broadcast((v4.to_bits() | host_bits).into()));
        }
        IpAddr::V6(_) => {
            message.header.family = AddressFamily::Inet6;
            // Nobody else gives out addresses here, so there is nothing to detect, and it is ready at once.
            message.header.flags = AddressHeaderFlags::Nodad;
            message.attributes.push(AddressAttribute::Flags(AddressFlags::Nodad));
        }
    }
    Message::NewAddress(message)
}

/// A default route for the family of `address`: by the router there, or by the interface alone.
fn default_route(index: u32, address: IpAddr, way: Way) -> Message {
    let mut message = RouteMessage::default();
    message.header.table = MAIN_TABLE;
    message.header.protocol = RouteProtocol::Boot;
    message.header.scope = match way {
        Way::Routers => RouteScope::Universe,
        Way::Interface => RouteScope::Link,
    };
    message.header.kind = RouteType::Unicast;
    message.header.address_family =
        if address.is_ipv6() { AddressFamily::Inet6 } else { AddressFamily::Inet };
    if way == Way::Routers {
        message.attributes.push(RouteAttribute::Gateway(match address {
            IpAddr::V4(v4) => RouteAddress::Inet(v4),
            IpAddr::V6(v6) => RouteAddress::Inet6(v6),
        }));
    }
    message.attributes.push(RouteAttribute::Oif(index));
    Message::NewRoute(message)
}

/// All default routes of an endpoint.
fn default_routes(index: u32, record: &EndpointRecord) -> impl Iterator<Item = (Message, u16)> + use<'_> {
    let (endpoint, way) = (&record.endpoint, record.way);
    let by = match way {
        Way::Routers => &endpoint.gateways,
        Way::Interface => &endpoint.addresses,
    };
    by.iter().map(move |address| (default_route(index, *address, way), flag::CREATE | flag::REPLACE))
}

/// Length of the prefix of the subnet that has `ip`.
fn prefix_of(network: &NetworkInfo, ip: IpAddr) -> u8 {
    let mut subnets = network.options.subnets.iter().map(|one| one.subnet);
    subnets
        .find(|subnet| subnet.contains(ip))
        .as_ref()
        .map_or(if ip.is_ipv6() { 128 } else { 32 }, Subnet::prefix)
}

/// Finds an interface by its name.
pub(super) fn index_of(route: &mut Route, name: &str) -> Result<Option<LinkMessage>> {
    match route.link(name) {
        Ok(link) => Ok(Some(link)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Name of a network's interface of the host until it has its mark.
fn unfinished(network: &NetworkInfo) -> String {
    format!("new-{}", &network.id[..network.id.len().min(11)])
}

/// Makes an interface of the host for a network, up, and returns its index. It gets its name with its mark, so that one of that
/// name is whole: what a program leaves that is killed before has another name, which tells the network. `prepare` gets the name
/// and the index that it has before.
pub(super) fn make_marked(
    route: &mut Route,
    owner: &str,
    network: &NetworkInfo,
    name: &str,
    mut link: LinkMessage,
    prepare: impl FnOnce(&mut Route, &str, u32) -> Result<()>,
) -> Result<u32> {
    remove_unfinished(route, network)?;
    let unfinished = unfinished(network);
    link.attributes.push(LinkAttribute::IfName(unfinished.clone()));
    route.request(&Message::NewLink(link), flag::CREATE | flag::EXCL)?;
    let made = route.link(&unfinished)?.header.index;
    let finish = |route: &mut Route| -> Result<()> {
        prepare(route, &unfinished, made)?;
        let mut set = LinkMessage::default();
        set.header.index = made;
        set.attributes.push(LinkAttribute::IfName(name.to_owned()));
        set.attributes.push(LinkAttribute::IfAlias(alias(owner, &network.id)));
        up(&mut set);
        route.request(&Message::SetLink(set), flag::NONE)
    };
    finish(route).inspect_err(|_| {
        let _ = remove(route, made);
    })?;
    Ok(made)
}

/// Removes what a program left that was killed while it made the network's interface.
pub(super) fn remove_unfinished(route: &mut Route, network: &NetworkInfo) -> Result<()> {
    match index_of(route, &unfinished(network))? {
        Some(link) => remove(route, link.header.index),
        None => Ok(()),
    }
}

/// Removes an interface, if it is there.
pub(super) fn remove(route: &mut Route, index: u32) -> Result<()> {
    let mut link = LinkMessage::default();
    link.header.index = index;
    match route.request(&Message::DelLink(link), flag::NONE) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Removes an interface by its name, if it is there and the engine's.
pub(super) fn remove_named(route: &mut Route, owner: &str, name: &str) -> Result<()> {
    match index_of(route, name)? {
        Some(link) if is_owned(&link, owner) => remove(route, link.header.index),
        _ => Ok(()),
    }
}

pub(super) fn is_owned(link: &LinkMessage, owner: &str) -> bool {
    alias_of(link).is_some_and(|text| text.starts_with(&alias(owner, "")))
}

/// Gives an interface of the engine's to the network with the id `what`.
pub(super) fn pass_on(route: &mut Route, owner: &str, name: &str, what: &str) -> Result<()> {
    let Some(link) = index_of(route, name)?.filter(|link| is_owned(link, owner)) else { return Ok(()) };
    let mut set = LinkMessage::default();
    set.header.index = link.header.index;
    set.attributes.push(LinkAttribute::IfAlias(alias(owner, what)));
    route.request(&Message::SetLink(set), flag::NONE)
}

/// Configures the container's interface: addresses, up, default routes. `route` speaks with the container's namespace.
pub(super) fn configure(
    route: &mut Route,
    network: &NetworkInfo,
    record: &EndpointRecord,
    leads_out: bool,
) -> Result<()> {
    let endpoint = &record.endpoint;
    let index = route.link(&endpoint.interface)?.header.index;
    let mut set = LinkMessage::default();
    set.header.index = index;
    up(&mut set);
    let mut batch: Vec<_> = endpoint
        .addresses
        .iter()
        .map(|ip| (address(index, *ip, prefix_of(network, *ip)), flag::CREATE | flag::REPLACE))
        .collect();
    batch.push((Message::SetLink(set), flag::NONE));
    batch.extend(default_routes(index, record).filter(|_| leads_out));
    patiently(|| Ok(route.batch(&batch)?))
}

/// How long the interface of a container that has ended may still be in the way.
const PATIENCE: Duration = Duration::from_secs(2);

/// Does something again that is in conflict with what may be going: the kernel takes a namespace's interfaces apart some time
/// after the namespace has ended, and their addresses are taken as long.
pub(super) fn patiently(mut work: impl FnMut() -> Result<()>) -> Result<()> {
    let end = Instant::now() + PATIENCE;
    loop {
        match work() {
            Err(error) if error.kind() == ErrorKind::Conflict && Instant::now() < end => {
                std::thread::sleep(Duration::from_millis(10));
            }
            done => return done,
        }
    }
}

/// Leads the container's packets by this endpoint.
pub(super) fn set_default_route(route: &mut Route, record: &EndpointRecord) -> Result<()> {
    let index = route.link(&record.endpoint.interface)?.header.index;
    let batch: Vec<_> = default_routes(index, record).collect();
    Ok(route.batch(&batch)?)
}

/// A locally administered hardware address from the IPv4 address, as Docker's bridges have it, so that a reused address keeps
/// it and neighbours need not ask again; else from the endpoint's id.
pub(super) fn hardware_address(endpoint: &Endpoint) -> MacAddress {
    let v4 = endpoint.addresses.iter().find_map(|address| match address {
        IpAddr::V4(v4) => Some(v4.octets()),
        IpAddr::V6(_) => None,
    });
    match v4 {
        Some([a, b, c, d]) => MacAddress([0x02, 0x42, a, b, c, d]),
        None => local_address(&endpoint.id),
    }
}

/// The first name `ethN` that no interface of the namespace has.
pub(super) fn free_name(route: &mut Route) -> Result<String> {
    let links = route.links()?;
    let names: Vec<_> = links.iter().filter_map(engine_core::linux::netlink::link_name).collect();
    let free =
        (0..=names.len()).map(|number| format!("eth{number}")).find(|name| !names.contains(&name.as_str()));
    // There are more numbers than names.
    Ok(free.unwrap_or_else(|| "eth0".to_owned()))
}
