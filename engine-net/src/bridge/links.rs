//! Interfaces: a network's bridge on the host, and a pair of interfaces for each endpoint, one end on the bridge and one in
//! the container.
//!
//! Every interface on the host carries an alias that names its engine, so that what is left of a dead one can be told from
//! others'.

use std::net::IpAddr;
use std::os::fd::{AsRawFd as _, BorrowedFd};

use engine_core::linux::netlink::packet::AddressFamily;
use engine_core::linux::netlink::packet::RouteNetlinkMessage as Message;
use engine_core::linux::netlink::packet::address::{
    AddressAttribute, AddressFlags, AddressHeaderFlags, AddressMessage,
};
use engine_core::linux::netlink::packet::link::{
    InfoBridgePort, InfoData, InfoKind, InfoPortData, InfoPortKind, InfoVeth, LinkAttribute, LinkFlags,
    LinkInfo, LinkMessage,
};
use engine_core::linux::netlink::packet::route::{
    RouteAddress, RouteAttribute, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use engine_core::linux::netlink::{Route, flag};
use engine_core::network::{Endpoint, MacAddress, NetworkInfo, Subnet};
use engine_core::{Error, ErrorKind, Result};

use super::options::BridgeOptions;
use super::sysctl;

/// The main routing table, see ip-rule(8).
const MAIN_TABLE: u8 = 254;

/// The host's end of an endpoint's pair.
pub(super) fn host_end(endpoint: &Endpoint) -> String {
    format!("veth{}", &endpoint.id[..endpoint.id.len().min(11)])
}

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

fn alias_of(link: &LinkMessage) -> Option<&str> {
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

fn up(link: &mut LinkMessage) {
    (link.header.flags, link.header.change_mask) = (LinkFlags::Up, LinkFlags::Up);
}

fn address(index: u32, ip: IpAddr, prefix: u8) -> Message {
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

fn default_route(index: u32, gateway: IpAddr) -> Message {
    let mut message = RouteMessage::default();
    message.header.table = MAIN_TABLE;
    message.header.protocol = RouteProtocol::Boot;
    message.header.scope = RouteScope::Universe;
    message.header.kind = RouteType::Unicast;
    message.header.address_family =
        if gateway.is_ipv6() { AddressFamily::Inet6 } else { AddressFamily::Inet };
    message.attributes.push(RouteAttribute::Gateway(match gateway {
        IpAddr::V4(v4) => RouteAddress::Inet(v4),
        IpAddr::V6(v6) => RouteAddress::Inet6(v6),
    }));
    message.attributes.push(RouteAttribute::Oif(index));
    Message::NewRoute(message)
}

/// Length of the prefix of the subnet that has `ip`.
fn prefix_of(network: &NetworkInfo, ip: IpAddr) -> u8 {
    let mut subnets = network.options.subnets.iter().map(|one| one.subnet);
    subnets
        .find(|subnet| subnet.contains(ip))
        .as_ref()
        .map_or(if ip.is_ipv6() { 128 } else { 32 }, Subnet::prefix)
}

fn index_of(route: &mut Route, name: &str) -> Result<Option<LinkMessage>> {
    match route.link(name) {
        Ok(link) => Ok(Some(link)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Finds the network's bridge.
///
/// # Errors
/// `Conflict` if the interface of that name is another's.
pub(super) fn bridge(
    route: &mut Route,
    owner: &str,
    network: &NetworkInfo,
    options: &BridgeOptions,
) -> Result<Option<u32>> {
    let Some(link) = index_of(route, &options.bridge)? else { return Ok(None) };
    if alias_of(&link).is_some_and(|text| text == alias(owner, &network.id)) {
        return Ok(Some(link.header.index));
    }
    Err(Error::new(ErrorKind::Conflict, "make bridge")
        .with("network", &network.name)
        .with("interface", &options.bridge)
        .with_message("the host has another interface of this name")
        .with_hint("give the bridge another name: option com.docker.network.bridge.name"))
}

/// Makes the network's bridge and returns its index.
pub(super) fn make_bridge(
    route: &mut Route,
    owner: &str,
    network: &NetworkInfo,
    options: &BridgeOptions,
) -> Result<u32> {
    let name = &options.bridge;
    let mut bridge = LinkMessage::default();
    bridge.attributes.push(LinkAttribute::IfName(name.clone()));
    bridge.attributes.push(LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Bridge)]));
    bridge.attributes.extend(options.mtu.map(LinkAttribute::Mtu));
    // Of its own: else it would have the least of its ports', and containers would ask for another one at each change.
    let MacAddress(octets) = local_address(&network.id);
    bridge.attributes.push(LinkAttribute::Address(octets.to_vec()));
    route.request(&Message::NewLink(bridge), flag::CREATE | flag::EXCL)?;
    let made = route.link(name)?.header.index;
    let finish = |route: &mut Route| -> Result<()> {
        // Before it is up, so that it never has an address of its own making.
        sysctl::prepare_bridge(name, network)?;
        let mut set = LinkMessage::default();
        set.header.index = made;
        set.attributes.push(LinkAttribute::IfAlias(alias(owner, &network.id)));
        up(&mut set);
        let gateways = network
            .options
            .subnets
            .iter()
            .filter_map(|subnet| Some((subnet.gateway?, subnet.subnet.prefix())));
        let mut batch: Vec<_> = gateways
            .map(|(gateway, prefix)| (address(made, gateway, prefix), flag::CREATE | flag::EXCL))
            .collect();
        batch.push((Message::SetLink(set), flag::NONE));
        Ok(route.batch(&batch)?)
    };
    finish(route).inspect_err(|_| {
        let _ = remove(route, made);
    })?;
    Ok(made)
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
        Some(link) if alias_of(&link).is_some_and(|text| text.starts_with(&alias(owner, ""))) => {
            remove(route, link.header.index)
        }
        _ => Ok(()),
    }
}

/// Makes the endpoint's pair: one end on the bridge, one in the container's network namespace, where it is not up yet.
pub(super) fn make_pair(
    route: &mut Route,
    owner: &str,
    bridge: u32,
    endpoint: &Endpoint,
    options: &BridgeOptions,
    namespace: BorrowedFd<'_>,
) -> Result<()> {
    let mut peer = LinkMessage::default();
    peer.attributes.push(LinkAttribute::IfName(endpoint.interface.clone()));
    peer.attributes.push(LinkAttribute::NetNsFd(namespace.as_raw_fd()));
    peer.attributes.extend(endpoint.mac.map(|MacAddress(octets)| LinkAttribute::Address(octets.to_vec())));
    peer.attributes.extend(options.mtu.map(LinkAttribute::Mtu));
    let mut pair = LinkMessage::default();
    up(&mut pair);
    pair.attributes.push(LinkAttribute::IfName(host_end(endpoint)));
    pair.attributes.push(LinkAttribute::Controller(bridge));
    pair.attributes.extend(options.mtu.map(LinkAttribute::Mtu));
    pair.attributes.push(LinkAttribute::LinkInfo(vec![
        LinkInfo::Kind(InfoKind::Veth),
        LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(peer))),
    ]));
    let mut mark = LinkMessage::default();
    mark.attributes.push(LinkAttribute::IfName(host_end(endpoint)));
    mark.attributes.push(LinkAttribute::IfAlias(alias(owner, &endpoint.id)));
    // Back out by the port that it came by: a container that asks its own published port, where the host filters bridged
    // packets. And isolated ports of a bridge exchange nothing.
    let mut port = vec![InfoBridgePort::HairpinMode(true)];
    port.extend((!options.icc).then_some(InfoBridgePort::Isolated(true)));
    mark.attributes.push(LinkAttribute::LinkInfo(vec![
        LinkInfo::PortKind(InfoPortKind::Bridge),
        LinkInfo::PortData(InfoPortData::BridgePort(port)),
    ]));
    let batch = [(Message::NewLink(pair), flag::CREATE | flag::EXCL), (Message::NewLink(mark), flag::NONE)];
    route.batch(&batch).map_err(|failure| {
        Error::from(failure).with("network", &endpoint.network).with("container", endpoint.container.short())
    })
}

/// Configures the container's end: addresses, up, default routes. `route` speaks with the container's namespace.
pub(super) fn configure(
    route: &mut Route,
    network: &NetworkInfo,
    endpoint: &Endpoint,
    gateways: bool,
) -> Result<()> {
    let index = route.link(&endpoint.interface)?.header.index;
    let mut set = LinkMessage::default();
    set.header.index = index;
    up(&mut set);
    let mut batch: Vec<_> = endpoint
        .addresses
        .iter()
        .map(|ip| (address(index, *ip, prefix_of(network, *ip)), flag::CREATE | flag::EXCL))
        .collect();
    batch.push((Message::SetLink(set), flag::NONE));
    if gateways {
        let routes = endpoint.gateways.iter().map(|gateway| default_route(index, *gateway));
        batch.extend(routes.map(|message| (message, flag::CREATE | flag::REPLACE)));
    }
    Ok(route.batch(&batch)?)
}

/// Leads the container's packets by this endpoint.
pub(super) fn set_default_route(route: &mut Route, endpoint: &Endpoint) -> Result<()> {
    let index = route.link(&endpoint.interface)?.header.index;
    let routes = endpoint.gateways.iter().map(|gateway| default_route(index, *gateway));
    let batch: Vec<_> = routes.map(|message| (message, flag::CREATE | flag::REPLACE)).collect();
    Ok(route.batch(&batch)?)
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
