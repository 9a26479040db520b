//! Which subnets and addresses are given out.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv6Addr};

use engine_core::linux::netlink::Route;
use engine_core::linux::netlink::packet::AddressFamily;
use engine_core::linux::netlink::packet::RouteNetlinkMessage;
use engine_core::linux::netlink::packet::route::{RouteAddress, RouteAttribute, RouteMessage};
use engine_core::network::{EndpointOptions, NetworkInfo, NetworkOptions, Subnet, SubnetOptions};
use engine_core::{Error, ErrorKind, Name, Result};

/// As Docker's, but for the first, which is that of Docker's own default network.
const POOLS: [(&str, u8); 3] = [("172.16.0.0/12", 16), ("10.192.0.0/11", 16), ("192.168.0.0/16", 20)];

/// Addresses of IPv4 that subnets of new networks are taken of.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct AddressPool {
    base: Subnet,
    prefix: u8,
}

impl AddressPool {
    /// Takes subnets with prefixes of this length of `base`.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidArgument`] if `base` is of IPv6, or has no such subnets.
    pub fn new(base: Subnet, prefix: u8) -> Result<Self> {
        let wrong = |why: String| {
            Error::new(ErrorKind::InvalidArgument, "set address pool").with("pool", base).with_message(why)
        };
        if base.is_ipv6() {
            return Err(wrong("pools are of IPv4; subnets of IPv6 are made at random".to_owned()));
        }
        if prefix < base.prefix() || prefix > 30 {
            return Err(wrong(format!("it has no subnets of size {prefix}: give {} to 30", base.prefix())));
        }
        Ok(Self { base, prefix })
    }

    /// The pools of who asks for none in particular.
    pub(super) fn defaults() -> Vec<Self> {
        let pool = |(base, prefix): (&str, u8)| Some(Self { base: base.parse().ok()?, prefix });
        POOLS.into_iter().filter_map(pool).collect()
    }

    fn subnets(self) -> impl Iterator<Item = Subnet> {
        let step = 1_u128 << (32 - self.prefix);
        let bases = (0..self.base.size() / step).filter_map(move |index| self.base.nth(index * step));
        bases.filter_map(move |base| Subnet::around(base, self.prefix))
    }
}

fn fail(kind: ErrorKind, name: &Name) -> Error {
    Error::new(kind, "create network").with("network", name)
}

/// The subnets that the host has routes to: what a new network must not take away.
pub(super) fn host_routes(route: &mut Route) -> Result<Vec<Subnet>> {
    let mut found = Vec::new();
    for family in [AddressFamily::Inet, AddressFamily::Inet6] {
        let mut wanted = RouteMessage::default();
        wanted.header.address_family = family;
        for message in route.dump(&RouteNetlinkMessage::GetRoute(wanted))? {
            let RouteNetlinkMessage::NewRoute(one) = message else { continue };
            let destination = one.attributes.iter().find_map(|attribute| match attribute {
                RouteAttribute::Destination(RouteAddress::Inet(v4)) => Some(IpAddr::from(*v4)),
                RouteAttribute::Destination(RouteAddress::Inet6(v6)) => Some(IpAddr::from(*v6)),
                _ => None,
            });
            let Some(destination) = destination else { continue };
            found.extend(Subnet::around(destination, one.header.destination_prefix_length));
        }
    }
    Ok(found)
}

/// Completes the options of a new network: subnets that overlap none of `taken`, the networks of the engine, and if they are
/// chosen here none of `routes` either, and a gateway for each if they are to have one.
pub(super) fn complete(
    name: &Name,
    options: &mut NetworkOptions,
    taken: &[Subnet],
    routes: &[Subnet],
    pools: &[AddressPool],
    has_router: bool,
) -> Result<()> {
    let mut all = taken.to_vec();
    for wanted in &options.subnets {
        check(name, wanted)?;
        if let Some(other) = all.iter().find(|other| wanted.subnet.overlaps(other)) {
            return Err(fail(ErrorKind::Conflict, name)
                .with("subnet", wanted.subnet)
                .with_message(format!("it overlaps {other}, which another network has"))
                .with_hint("choose another subnet, or leave it to the engine"));
        }
        all.push(wanted.subnet);
    }
    options.ipv6 |= options.subnets.iter().any(|wanted| wanted.subnet.is_ipv6());
    if !options.ipv4 && options.subnets.iter().any(|wanted| !wanted.subnet.is_ipv6()) {
        return Err(fail(ErrorKind::InvalidArgument, name)
            .with_message("it has a subnet of IPv4 and is to have no IPv4"));
    }
    if !options.ipv4 && !options.ipv6 {
        return Err(
            fail(ErrorKind::InvalidArgument, name).with_message("it is to have neither IPv4 nor IPv6")
        );
    }
    for (is_wanted, v6) in [(options.ipv4, false), (options.ipv6, true)] {
        if is_wanted && !options.subnets.iter().any(|one| one.subnet.is_ipv6() == v6) {
            let free = |subnet: &Subnet| !all.iter().chain(routes).any(|other| overlaps(subnet, other));
            let subnet = candidates(v6, pools).find(free).ok_or_else(|| {
                fail(ErrorKind::ResourceExhausted, name)
                    .with_message("every subnet of the pools overlaps another network or a route of the host")
                    .with_hint("give a subnet, or remove networks that nothing needs (network prune)")
            })?;
            options.subnets.push(subnet.into());
        }
    }
    for subnet in options.subnets.iter_mut().filter(|_| has_router) {
        subnet.gateway = subnet.gateway.or_else(|| {
            let aux: BTreeSet<_> = subnet.aux_addresses.values().collect();
            subnet.ip_range.unwrap_or(subnet.subnet).hosts().find(|host| !aux.contains(host))
        });
    }
    Ok(())
}

/// Whether a subnet of ours would hide a route of the host's or be hidden by it. A default route hides nothing.
fn overlaps(subnet: &Subnet, other: &Subnet) -> bool {
    other.prefix() > 0 && subnet.overlaps(other)
}

/// The subnets to choose from, in their order.
fn candidates(v6: bool, pools: &[AddressPool]) -> Box<dyn Iterator<Item = Subnet> + '_> {
    if v6 {
        return Box::new(std::iter::repeat_with(local_subnet).take(16).flatten());
    }
    Box::new(pools.iter().flat_map(|pool| pool.subnets()))
}

/// A unique local subnet (RFC 4193): 40 random bits.
fn local_subnet() -> Option<Subnet> {
    let mut octets = [0_u8; 16];
    getrandom::fill(&mut octets[1..6]).ok()?;
    octets[0] = 0xfd;
    Subnet::around(Ipv6Addr::from(octets).into(), 64)
}

fn check(name: &Name, wanted: &SubnetOptions) -> Result<()> {
    let wrong = |what: &str, value: &dyn std::fmt::Display| {
        Err(fail(ErrorKind::InvalidArgument, name)
            .with("subnet", wanted.subnet)
            .with_message(format!("the {what} {value} is not inside")))
    };
    if wanted.subnet.prefix() == 0 || wanted.subnet.size() < 4 {
        return Err(fail(ErrorKind::InvalidArgument, name)
            .with("subnet", wanted.subnet)
            .with_message("it has no room for a gateway and containers, or is everything"));
    }
    if let Some(gateway) = wanted.gateway.filter(|gateway| !wanted.subnet.contains(*gateway)) {
        return wrong("gateway", &gateway);
    }
    if let Some(range) = wanted.ip_range.filter(|range| !wanted.subnet.holds(range)) {
        return wrong("range", &range);
    }
    match wanted.aux_addresses.values().find(|address| !wanted.subnet.contains(**address)) {
        Some(address) => wrong("auxiliary address", address),
        None => Ok(()),
    }
}

/// Chooses the addresses of an endpoint: those it asks for, or the first that are free in each subnet. At most one of each
/// family.
pub(super) fn choose(
    network: &NetworkInfo,
    options: &EndpointOptions,
    taken: &BTreeSet<IpAddr>,
) -> Result<Vec<IpAddr>> {
    let fail = |kind| Error::new(kind, "attach to network").with("network", &network.name);
    let reserved: BTreeSet<IpAddr> = network.options.subnets.iter().flat_map(reserved).collect();
    for wanted in options.addresses() {
        let Some(subnet) = network.options.subnets.iter().find(|one| one.subnet.contains(wanted)) else {
            return Err(fail(ErrorKind::InvalidArgument)
                .with("address", wanted)
                .with_message("no subnet of the network has the address"));
        };
        if !subnet.subnet.hosts().any(|host| host == wanted) && subnet.subnet.size() < 1 << 20 {
            return Err(fail(ErrorKind::InvalidArgument)
                .with("address", wanted)
                .with_message("the address is not a host's"));
        }
        if taken.contains(&wanted) || reserved.contains(&wanted) {
            return Err(fail(ErrorKind::Conflict)
                .with("address", wanted)
                .with_message("the address is already in use"));
        }
    }
    let mut chosen = Vec::new();
    for v6 in [false, true] {
        let of_family: Vec<_> =
            network.options.subnets.iter().filter(|one| one.subnet.is_ipv6() == v6).collect();
        if of_family.is_empty() {
            continue;
        }
        let wanted = options.addresses().find(|wanted| wanted.is_ipv6() == v6);
        let free = || {
            of_family
                .iter()
                .flat_map(|one| one.ip_range.unwrap_or(one.subnet).hosts())
                .find(|host| !taken.contains(host) && !reserved.contains(host))
        };
        chosen.push(wanted.or_else(free).ok_or_else(|| {
            fail(ErrorKind::ResourceExhausted)
                .with_message("no address is free")
                .with_hint("make a network with a larger subnet")
        })?);
    }
    Ok(chosen)
}

/// Addresses of a subnet that are not for containers.
fn reserved(subnet: &SubnetOptions) -> impl Iterator<Item = IpAddr> {
    subnet.gateway.into_iter().chain(subnet.aux_addresses.values().copied())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pools_are_cut_into_subnets() {
        let pool = |base: &str, prefix| AddressPool::new(base.parse().unwrap(), prefix);
        let subnets: Vec<_> = pool("10.1.0.0/22", 24).unwrap().subnets().map(|one| one.to_string()).collect();
        assert_eq!(subnets, ["10.1.0.0/24", "10.1.1.0/24", "10.1.2.0/24", "10.1.3.0/24"]);
        for (base, prefix) in [("10.1.0.0/24", 16), ("10.1.0.0/24", 31), ("fd00::/48", 64)] {
            assert_eq!(pool(base, prefix).unwrap_err().kind(), ErrorKind::InvalidArgument, "{base} {prefix}");
        }
    }

    fn completed(options: NetworkOptions, taken: &[&str], routes: &[&str]) -> Result<NetworkOptions> {
        let parse = |list: &[&str]| list.iter().map(|text| text.parse().unwrap()).collect::<Vec<Subnet>>();
        let mut options = options;
        complete(
            &"net".parse().unwrap(),
            &mut options,
            &parse(taken),
            &parse(routes),
            &AddressPool::defaults(),
            true,
        )?;
        Ok(options)
    }

    #[test]
    fn subnets_avoid_networks_and_routes() {
        let first = completed(
            NetworkOptions::default(),
            &["172.16.0.0/16"],
            &["0.0.0.0/0", "172.17.0.0/16", "172.18.1.0/24"],
        );
        let subnet = &first.unwrap().subnets[0];
        assert_eq!(
            (subnet.subnet.to_string(), subnet.gateway.unwrap().to_string()),
            ("172.19.0.0/16".into(), "172.19.0.1".into())
        );
        let full =
            completed(NetworkOptions::default(), &[], &["172.0.0.0/8", "10.0.0.0/8", "192.168.0.0/16"]);
        assert_eq!(full.unwrap_err().kind(), ErrorKind::ResourceExhausted);
    }

    #[test]
    fn ipv6_is_a_random_local_subnet() {
        let both = completed(NetworkOptions::default().with_ipv6(true), &[], &[]).unwrap();
        assert_eq!(both.subnets.len(), 2);
        let v6 = both.subnets[1].subnet;
        assert!(v6.to_string().starts_with("fd") && v6.prefix() == 64, "{v6}");
        let other = completed(NetworkOptions::default().with_ipv6(true), &[], &[]).unwrap();
        assert_ne!(other.subnets[1].subnet, v6);
    }
}
