//! The drivers macvlan and ipvlan: each endpoint is an interface of its own over an interface of the host, the parent, and a
//! neighbour of whoever is on the parent's network. The host is not between, so there are no rules and no published ports.

pub(super) mod links;
mod options;

use engine_core::linux::netlink::Route;
use engine_core::linux::netlink::packet::link::LinkFlags;
use engine_core::network::NetworkInfo;
use engine_core::{Error, ErrorKind, Result};

pub(super) use options::VlanOptions;

/// Checks that the kernel has the driver, and that the parent is there or can be made.
pub(super) fn check(route: &mut Route, network: &NetworkInfo, options: &VlanOptions) -> Result<()> {
    let name = &network.name;
    let fail =
        |kind| Error::new(kind, "create network").with("network", name).with("interface", &options.parent);
    links::probe(route, options.mode.kind()).map_err(|error| error.with("network", name))?;
    if options.parent_is_own {
        return Ok(());
    }
    let driver = options.mode.driver();
    if let Some(link) = links::index_of(route, &options.parent)? {
        if link.header.flags.contains(LinkFlags::Loopback) {
            return Err(fail(ErrorKind::InvalidArgument)
                .with_message(format!("loopback interface is not a valid {driver} parent link")));
        }
        return Ok(());
    }
    let Some((base, id)) = options.tag() else {
        return Err(fail(ErrorKind::InvalidArgument)
            .with_message("the host has no such interface")
            .with_hint("give one that \"ip link\" lists; eth0.10 is made over eth0, for VLAN 10"));
    };
    if !(1..=4094).contains(&id) {
        return Err(fail(ErrorKind::InvalidArgument)
            .with_message(format!("vlan id must be between 1-4094, received: {id}")));
    }
    if links::index_of(route, base)?.is_none() {
        return Err(fail(ErrorKind::InvalidArgument)
            .with_message(format!("the host has no interface {base} to make it over")));
    }
    links::probe(route, links::TAGGED).map_err(|error| error.with("network", name))
}
