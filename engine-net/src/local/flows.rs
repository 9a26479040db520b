//! Connections of UDP to published ports: those from before a port was published, or to who had it before, and those to who
//! has it no longer. Without published ports of UDP, nothing is looked at.

use std::collections::BTreeSet;
use std::net::IpAddr;

use engine_core::Result;
use engine_core::linux::netlink::Route;
use engine_core::linux::netlink::packet::RouteNetlinkMessage;
use engine_core::linux::netlink::packet::address::{AddressAttribute, AddressMessage};
use engine_core::network::{Endpoint, PortMapping, Protocol, Subnet};

use crate::conntrack::{self, Flow};
use crate::nft::Nft;

const FAMILIES: [bool; 2] = [false, true];

fn published(endpoint: &Endpoint, v6: bool) -> Vec<&PortMapping> {
    let has_family = |mapping: &&PortMapping| mapping.host_ip.is_none_or(|address| address.is_ipv6() == v6);
    let ports = endpoint.ports.iter().filter(|mapping| mapping.protocol == Protocol::Udp);
    ports.filter(has_family).collect()
}

/// Whether a mapping has this address and port of the host.
fn is_of(mapping: &PortMapping, to: (IpAddr, u16)) -> bool {
    let any = |address: &IpAddr| address.is_unspecified() || *address == to.0;
    mapping.host_port == to.1 && mapping.host_ip.as_ref().is_none_or(any)
}

fn forget(endpoint: &Endpoint, is_stale: impl Fn(&[&PortMapping], &Flow) -> bool) -> Result<()> {
    for v6 in FAMILIES {
        let mappings = published(endpoint, v6);
        let ports: Vec<_> = mappings.iter().map(|mapping| mapping.host_port).collect();
        if !ports.is_empty() {
            conntrack::forget(&mut Nft::open()?, v6, &ports, |flow| is_stale(&mappings, flow))?;
        }
    }
    Ok(())
}

pub(super) fn has_any(endpoint: &Endpoint) -> bool {
    endpoint.ports.iter().any(|mapping| mapping.protocol == Protocol::Udp)
}

/// Forgets what leads to an endpoint by its published ports, which are no longer.
pub(super) fn forget_of(endpoint: &Endpoint) -> Result<()> {
    forget(endpoint, |mappings, flow| {
        mappings.iter().any(|mapping| {
            is_of(mapping, flow.to)
                && flow.answered_by.1 == mapping.container_port
                && flow.to != flow.answered_by
                && endpoint.addresses.contains(&flow.answered_by.0)
        })
    })
}

/// Forgets what was sent to the host at ports that are an endpoint's from now on, and led to the host itself or to another
/// container of ours. `subnets` are those of all networks.
pub(super) fn forget_before(endpoint: &Endpoint, subnets: &[Subnet]) -> Result<()> {
    if !has_any(endpoint) {
        return Ok(());
    }
    let local = local_addresses(&mut Route::open()?)?;
    let is_local = |address: &IpAddr| local.contains(address) || address.is_loopback();
    forget(endpoint, |mappings, flow| {
        let is_ours = || subnets.iter().any(|subnet| subnet.contains(flow.answered_by.0));
        let is_there = endpoint.addresses.contains(&flow.answered_by.0);
        is_local(&flow.to.0)
            && mappings.iter().any(|mapping| is_of(mapping, flow.to))
            && (flow.answered_by == flow.to || (is_ours() && !is_there))
    })
}

fn local_addresses(route: &mut Route) -> Result<BTreeSet<IpAddr>> {
    let all = route.dump(&RouteNetlinkMessage::GetAddress(AddressMessage::default()))?;
    let addresses = all.into_iter().flat_map(|message| match message {
        RouteNetlinkMessage::NewAddress(address) => address.attributes,
        _ => Vec::new(),
    });
    let address = |attribute| match attribute {
        AddressAttribute::Local(address) | AddressAttribute::Address(address) => Some(address),
        _ => None,
    };
    Ok(addresses.filter_map(address).collect())
}
