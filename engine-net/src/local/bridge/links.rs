//! Interfaces of bridge networks: a bridge on the host, and a pair of interfaces for each endpoint, one end on the bridge and
//! one in the container.

use std::os::fd::{AsRawFd as _, BorrowedFd};

use engine_core::linux::netlink::packet::RouteNetlinkMessage as Message;
use engine_core::linux::netlink::packet::link::{
    InfoBridgePort, InfoData, InfoKind, InfoPortData, InfoPortKind, InfoVeth, LinkAttribute, LinkInfo,
    LinkMessage,
};
use engine_core::linux::netlink::{Route, flag};
use engine_core::network::{Endpoint, MacAddress, NetworkInfo};
use engine_core::{Error, ErrorKind, Result};

use super::BridgeOptions;
use crate::local::links::{address, alias, alias_of, index_of, is_owned, local_address, make_marked, up};
use crate::local::sysctl;

/// The host's end of an endpoint's pair.
pub(in crate::local) fn host_end(endpoint: &Endpoint) -> String {
    format!("veth{}", &endpoint.id[..endpoint.id.len().min(11)])
}

/// Finds the network's bridge.
///
/// # Errors
/// `Conflict` if the interface of that name is another's.
pub(in crate::local) fn find(
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
pub(in crate::local) fn make(
    route: &mut Route,
    owner: &str,
    network: &NetworkInfo,
    options: &BridgeOptions,
) -> Result<u32> {
    let mut bridge = LinkMessage::default();
    bridge.attributes.push(LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Bridge)]));
    bridge.attributes.extend(options.mtu.map(LinkAttribute::Mtu));
    // Of its own: else it would have the least of its ports', and containers would ask for another one at each change.
    let MacAddress(octets) = local_address(&network.id);
    bridge.attributes.push(LinkAttribute::Address(octets.to_vec()));
    make_marked(route, owner, network, &options.bridge, bridge, |route, name, index| {
        // Before it is up, so that it never has an address of its own making.
        sysctl::prepare_bridge(name, network)?;
        let subnets = network.options.subnets.iter();
        let gateways = subnets.filter_map(|one| Some((one.gateway?, one.subnet.prefix())));
        let batch: Vec<_> = gateways
            .map(|(gateway, prefix)| (address(index, gateway, prefix), flag::CREATE | flag::EXCL))
            .collect();
        Ok(route.batch(&batch)?)
    })
}

/// Makes the endpoint's pair: one end on the bridge, one in the container's network namespace, where it is not up yet.
pub(in crate::local) fn make_pair(
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
    Ok(route.batch(&batch)?)
}

/// Takes the endpoint's pair off the bridge, whose container has ended. The kernel removes it with the container's namespace; to
/// ask for that would be to wait for a grace period (some 20 ms), and somebody may hold the namespace still.
pub(in crate::local) fn cut_off(route: &mut Route, owner: &str, endpoint: &Endpoint) -> Result<()> {
    let Some(end) = index_of(route, &host_end(endpoint))?.filter(|link| is_owned(link, owner)) else {
        return Ok(());
    };
    let mut set = LinkMessage::default();
    set.header.index = end.header.index;
    // Nothing comes in by the port and nothing is sent out by it (a state "disabled" is not kept, while both ends are up).
    // Whoever has the address next has the hardware address, too: the bridge forgets where that was.
    let port = vec![
        InfoBridgePort::Locked(true),
        InfoBridgePort::Learning(false),
        InfoBridgePort::UnicastFlood(false),
        InfoBridgePort::MulticastFlood(false),
        InfoBridgePort::BroadcastFlood(false),
        InfoBridgePort::Flush,
    ];
    set.attributes.push(LinkAttribute::LinkInfo(vec![
        LinkInfo::PortKind(InfoPortKind::Bridge),
        LinkInfo::PortData(InfoPortData::BridgePort(port)),
    ]));
    match route.request(&Message::NewLink(set), flag::NONE) {
        // It went meanwhile, or its bridge did.
        Err(_) if index_of(route, &host_end(endpoint))?.is_none_or(|link| controller(&link).is_none()) => {
            Ok(())
        }
        done => done,
    }
}

fn controller(link: &LinkMessage) -> Option<u32> {
    link.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::Controller(index) => Some(*index),
        _ => None,
    })
}
