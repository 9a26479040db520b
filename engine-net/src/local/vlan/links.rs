//! Interfaces of macvlan and ipvlan networks: the parent where it has to be made, and one for each endpoint.
//!
//! An endpoint's interface is made inside the container's namespace, by one message: the host never has it. It carries an
//! alias there, too, by which it is found when its name was changed.

use std::os::fd::AsRawFd as _;

use engine_core::linux::netlink::packet::RouteNetlinkMessage as Message;
use engine_core::linux::netlink::packet::link::{
    InfoData, InfoKind, InfoVlan, LinkAttribute, LinkInfo, LinkMessage,
};
use engine_core::linux::netlink::{Route, flag, link_name};
use engine_core::network::{Endpoint, EndpointOptions, MacAddress, NetworkInfo};
use engine_core::{Error, ErrorKind, Result};

use super::VlanOptions;
use super::options::Mode;
use crate::local::links::{alias, alias_of, make_marked, patiently, remove};
use crate::local::place::Namespace;
use crate::local::sysctl;

pub(in crate::local) use crate::local::links::index_of;

/// The kind of an interface for one VLAN of another.
pub(super) const TAGGED: InfoKind = InfoKind::Vlan;

/// Checks that the kernel has this kind of interface: it looks that up before it misses the parent in the request.
pub(super) fn probe(route: &mut Route, kind: InfoKind) -> Result<()> {
    let mut link = LinkMessage::default();
    link.attributes.push(LinkAttribute::LinkInfo(vec![LinkInfo::Kind(kind.clone())]));
    match route.request(&Message::NewLink(link), flag::CREATE | flag::EXCL) {
        Err(error) if error.kind() == ErrorKind::Unsupported => Err(explain(error, &kind)),
        Err(error) if error.kind() == ErrorKind::PermissionDenied => Err(error),
        _ => Ok(()),
    }
}

/// Says what the kernel lacks.
fn explain(error: Error, kind: &InfoKind) -> Error {
    let (name, option, module) = match kind {
        InfoKind::IpVlan => ("ipvlan", "CONFIG_IPVLAN", "ipvlan"),
        InfoKind::MacVlan => ("macvlan", "CONFIG_MACVLAN", "macvlan"),
        _ => ("interfaces for VLANs", "CONFIG_VLAN_8021Q", "8021q"),
    };
    error
        .with_message(format!("the kernel has no {name}"))
        .with_hint(format!("it needs the kernel option {option} (module {module})"))
}

/// Finds the parent. `None` if it has to be made.
///
/// # Errors
/// `Conflict` if the interface of the network's own name is another's; `Unavailable` if the parent has gone.
pub(in crate::local) fn find(
    route: &mut Route,
    owner: &str,
    network: &NetworkInfo,
    options: &VlanOptions,
) -> Result<Option<u32>> {
    let fail = |kind| {
        Error::new(kind, "find parent interface")
            .with("network", &network.name)
            .with("interface", &options.parent)
    };
    let gone = |name: &str| {
        fail(ErrorKind::Unavailable)
            .with_message(format!("the requested parent interface {name} was not found on the host"))
            .with_hint("bring it back, or make the network anew with another parent")
    };
    if let Some(link) = index_of(route, &options.parent)? {
        let is_ours = alias_of(&link).is_some_and(|text| text == alias(owner, &network.id));
        if options.parent_is_own && !is_ours {
            return Err(fail(ErrorKind::Conflict).with_message("the host has another interface of this name"));
        }
        return Ok(Some(link.header.index));
    }
    match options.tag() {
        _ if options.parent_is_own => Ok(None),
        None => Err(gone(&options.parent)),
        Some((base, _)) if index_of(route, base)?.is_none() => Err(gone(base)),
        Some(_) => Ok(None),
    }
}

/// Makes the parent and returns its index: for a VLAN, or a bridge without ports, which leads nowhere.
pub(in crate::local) fn make(
    route: &mut Route,
    owner: &str,
    network: &NetworkInfo,
    options: &VlanOptions,
) -> Result<u32> {
    let mut link = LinkMessage::default();
    let kind = match options.tag().filter(|_| !options.parent_is_own) {
        Some((base, id)) => {
            link.attributes.push(LinkAttribute::Link(route.link(base)?.header.index));
            let id = u16::try_from(id).unwrap_or(u16::MAX);
            let data = LinkInfo::Data(InfoData::Vlan(vec![InfoVlan::Id(id)]));
            link.attributes.push(LinkAttribute::LinkInfo(vec![LinkInfo::Kind(TAGGED), data]));
            TAGGED
        }
        // Docker's is of the kind dummy, which fewer kernels have.
        None => {
            link.attributes.push(LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Bridge)]));
            InfoKind::Bridge
        }
    };
    // The host is not on this network: it has no address there, not even one of its own making.
    let prepare = |_: &mut Route, name: &str, _| sysctl::without_ipv6(name);
    make_marked(route, owner, network, &options.parent, link, prepare).map_err(|error| {
        let error = if error.kind() == ErrorKind::Unsupported { explain(error, &kind) } else { error };
        error.with("network", &network.name)
    })
}

/// The hardware address of an endpoint that shares its parent's.
///
/// # Errors
/// `InvalidArgument` if another one is asked for.
pub(in crate::local) fn shared_address(
    route: &mut Route,
    options: &VlanOptions,
    wanted: &EndpointOptions,
) -> Result<Option<MacAddress>> {
    let is_ipvlan = matches!(options.mode, Mode::IpVlan(..));
    if wanted.mac.is_some() {
        let why = if is_ipvlan {
            "ipvlan interfaces do not support custom mac address assignment"
        } else {
            "in mode passthru, a container has the hardware address of the parent interface"
        };
        return Err(Error::new(ErrorKind::InvalidArgument, "attach to network").with_message(why));
    }
    if is_ipvlan {
        return Ok(None);
    }
    let link = route.link(&options.parent)?;
    Ok(link.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::Address(octets) => octets.as_slice().try_into().ok().map(MacAddress),
        _ => None,
    }))
}

/// Makes the endpoint's interface over the interface `parent` of the host, in the container, where it is not up yet.
pub(in crate::local) fn make_interface(
    route: &mut Route,
    owner: &str,
    parent: u32,
    endpoint: &Endpoint,
    options: &VlanOptions,
    namespace: &Namespace,
) -> Result<()> {
    let mut link = LinkMessage::default();
    link.attributes.push(LinkAttribute::IfName(endpoint.interface.clone()));
    link.attributes.push(LinkAttribute::NetNsFd(namespace.as_fd().as_raw_fd()));
    link.attributes.push(LinkAttribute::Link(parent));
    if !options.shares_hardware_address() {
        link.attributes
            .extend(endpoint.mac.map(|MacAddress(octets)| LinkAttribute::Address(octets.to_vec())));
    }
    link.attributes.push(LinkAttribute::LinkInfo(vec![
        LinkInfo::Kind(options.mode.kind()),
        LinkInfo::Data(options.mode.data()),
    ]));
    let link = Message::NewLink(link);
    patiently(|| route.request(&link, flag::CREATE | flag::EXCL).map_err(|error| refused(error, options)))?;
    let mut inside = namespace.route()?;
    let mut mark = LinkMessage::default();
    mark.header.index = inside.link(&endpoint.interface)?.header.index;
    mark.attributes.push(LinkAttribute::IfAlias(alias(owner, &endpoint.id)));
    inside.request(&Message::SetLink(mark), flag::NONE)
}

/// Says what a refusal to make an endpoint's interface means.
fn refused(error: Error, options: &VlanOptions) -> Error {
    let error = error.with("parent", &options.parent);
    match (error.kind(), options.mode) {
        (ErrorKind::Unsupported, mode) => explain(error, &mode.kind()),
        (ErrorKind::InvalidArgument, mode)
            if options.shares_hardware_address() && mode.driver() == "macvlan" =>
        {
            error.with_kind(ErrorKind::Conflict).with_message(
                "in mode passthru, one container has the parent interface, and none has another mode",
            )
        }
        (ErrorKind::Conflict, _) => error
            .with_message("the parent interface is in use for something else")
            .with_hint("it cannot have macvlan and ipvlan at a time, nor be a port of a bridge or bond"),
        _ => error,
    }
}

/// Removes the endpoint's interface, if it is there. `route` speaks with the container's namespace.
pub(in crate::local) fn remove_interface(route: &mut Route, owner: &str, endpoint: &Endpoint) -> Result<()> {
    let own = alias(owner, &endpoint.id);
    let is_unmarked = |link: &LinkMessage| {
        // Of an attach that ended between the two messages.
        alias_of(link).is_none() && link_name(link) == Some(&endpoint.interface) && is_of_these(link)
    };
    for link in route.links()? {
        if alias_of(&link) == Some(&own) || is_unmarked(&link) {
            remove(route, link.header.index)?;
        }
    }
    Ok(())
}

/// Whether an interface is of a kind that is made here.
fn is_of_these(link: &LinkMessage) -> bool {
    let infos = link.attributes.iter().filter_map(|attribute| match attribute {
        LinkAttribute::LinkInfo(infos) => Some(infos),
        _ => None,
    });
    infos.flatten().any(|info| matches!(info, LinkInfo::Kind(InfoKind::MacVlan | InfoKind::IpVlan)))
}
