//! [`MemoryNetwork`]: networks that are records: addresses and ports are given out, and carry nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;

use super::{Faults, lock};
use crate::digest::Digest;
use crate::error::{Error, ErrorKind, Result};
use crate::id::{ContainerId, Name};
use crate::network::{Endpoint, EndpointOptions, Network, NetworkInfo, NetworkOptions, PortMapping};
use crate::runtime::Sandbox;

/// The first port given out where any will do.
const FIRST_FREE_PORT: u16 = 49_152;

/// A [`Network`] that does all the bookkeeping of one, and moves no packet.
///
/// Clones share their networks. Methods in [`Faults`]: `network.create`, `network.attach`, and so on.
#[derive(Clone, Debug, Default)]
pub struct MemoryNetwork {
    networks: Arc<Mutex<BTreeMap<Name, Record>>>,
    faults: Faults,
}

#[derive(Debug)]
struct Record {
    info: NetworkInfo,
    subnets: Vec<Subnet>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Subnet {
    base: u128,
    prefix: u32,
    v6: bool,
}

impl MemoryNetwork {
    /// Creates an implementation without networks.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Shares `faults` with other parts.
    #[must_use]
    pub fn with_faults(mut self, faults: Faults) -> Self {
        self.faults = faults;
        self
    }

    /// Returns the handle for faults.
    #[must_use]
    pub fn faults(&self) -> &Faults {
        &self.faults
    }
}

#[async_trait]
impl Network for MemoryNetwork {
    async fn create(&self, name: &Name, options: &NetworkOptions) -> Result<NetworkInfo> {
        self.faults.check("network.create", name).await?;
        let fail = |kind| Error::new(kind, "create network").with("network", name);
        if let Some(driver) = options.driver.as_deref().filter(|driver| *driver != "memory") {
            return Err(fail(ErrorKind::Unsupported).with("driver", driver).with_message("unknown driver"));
        }
        let mut networks = lock(&self.networks);
        if networks.contains_key(name) {
            return Err(fail(ErrorKind::AlreadyExists));
        }
        let taken: Vec<Subnet> = networks.values().flat_map(|record| &record.subnets).copied().collect();
        let mut subnets = Vec::new();
        for text in &options.subnets {
            let subnet = Subnet::parse(text).ok_or_else(|| {
                fail(ErrorKind::InvalidArgument).with("subnet", text).with_message("no subnet")
            })?;
            if taken.iter().chain(&subnets).any(|other| subnet.overlaps(*other)) {
                return Err(fail(ErrorKind::Conflict)
                    .with("subnet", text)
                    .with_message("it overlaps another"));
            }
            subnets.push(subnet);
        }
        if !subnets.iter().any(|subnet| !subnet.v6) {
            subnets.push(free_subnet(&taken, false).ok_or_else(|| fail(ErrorKind::ResourceExhausted))?);
        }
        if options.ipv6 && !subnets.iter().any(|subnet| subnet.v6) {
            subnets.push(free_subnet(&taken, true).ok_or_else(|| fail(ErrorKind::ResourceExhausted))?);
        }
        let mut options = options.clone();
        options.driver = Some("memory".to_owned());
        options.subnets = subnets.iter().map(ToString::to_string).collect();
        let id = Digest::sha256(format!("{name} {:?}", options.subnets).as_bytes()).hex().to_owned();
        let info = NetworkInfo::new(id, name.clone(), options);
        networks.insert(name.clone(), Record { info: info.clone(), subnets });
        Ok(info)
    }

    async fn inspect(&self, name: &Name) -> Result<Option<NetworkInfo>> {
        self.faults.check("network.inspect", name).await?;
        Ok(lock(&self.networks).get(name).map(|record| record.info.clone()))
    }

    async fn list(&self) -> Result<Vec<NetworkInfo>> {
        self.faults.check("network.list", "").await?;
        Ok(lock(&self.networks).values().map(|record| record.info.clone()).collect())
    }

    async fn remove(&self, name: &Name) -> Result<()> {
        self.faults.check("network.remove", name).await?;
        let mut networks = lock(&self.networks);
        if networks.get(name).is_some_and(|record| !record.info.endpoints.is_empty()) {
            return Err(Error::new(ErrorKind::Conflict, "remove network")
                .with("network", name)
                .with_message("containers are on it"));
        }
        networks.remove(name);
        Ok(())
    }

    async fn attach(&self, network: &Name, sandbox: &Sandbox, options: &EndpointOptions) -> Result<Endpoint> {
        self.faults.check("network.attach", &sandbox.id).await?;
        let fail = |kind| {
            Error::new(kind, "attach to network").with("network", network).with("container", &sandbox.id)
        };
        let mut networks = lock(&self.networks);
        let mut ports: BTreeSet<(String, u16)> = networks
            .values()
            .flat_map(|record| &record.info.endpoints)
            .flat_map(|endpoint| &endpoint.ports)
            .map(|port| (port.protocol.clone(), port.host_port))
            .collect();
        let record = networks.get_mut(network).ok_or_else(|| fail(ErrorKind::NotFound))?;
        if record.info.endpoints.iter().any(|endpoint| endpoint.container == sandbox.id) {
            return Err(fail(ErrorKind::AlreadyExists));
        }
        let mut endpoint = Endpoint::new(sandbox.id.clone(), network.clone());
        endpoint.addresses = record.addresses(options.ip).map_err(&fail)?;
        for port in &options.ports {
            let published = publish(port, &ports).ok_or_else(|| {
                fail(ErrorKind::Conflict)
                    .with("port", port.host_port)
                    .with_message("the port is published already")
            })?;
            ports.insert((published.protocol.clone(), published.host_port));
            endpoint.ports.push(published);
        }
        record.info.endpoints.push(endpoint.clone());
        Ok(endpoint)
    }

    async fn detach(&self, network: &Name, id: &ContainerId) -> Result<()> {
        self.faults.check("network.detach", id).await?;
        if let Some(record) = lock(&self.networks).get_mut(network) {
            record.info.endpoints.retain(|endpoint| endpoint.container != *id);
        }
        Ok(())
    }

    async fn sweep(&self, alive: &[ContainerId]) -> Result<()> {
        self.faults.check("network.sweep", alive.len()).await?;
        for record in lock(&self.networks).values_mut() {
            record.info.endpoints.retain(|endpoint| alive.contains(&endpoint.container));
        }
        Ok(())
    }
}

impl Record {
    /// Chooses an address of each subnet; of that of `wanted`, that one.
    fn addresses(&self, wanted: Option<IpAddr>) -> Result<Vec<IpAddr>, ErrorKind> {
        let taken: BTreeSet<IpAddr> =
            self.info.endpoints.iter().flat_map(|endpoint| &endpoint.addresses).copied().collect();
        if let Some(wanted) = wanted {
            if !self.subnets.iter().any(|subnet| subnet.contains(wanted)) {
                return Err(ErrorKind::InvalidArgument);
            }
            if taken.contains(&wanted) {
                return Err(ErrorKind::Conflict);
            }
        }
        self.subnets
            .iter()
            .map(|subnet| match wanted.filter(|wanted| subnet.contains(*wanted)) {
                Some(wanted) => Ok(wanted),
                // .1 is the gateway's.
                None => (2..subnet.size().saturating_sub(1))
                    .map(|host| subnet.address(host))
                    .find(|address| !taken.contains(address))
                    .ok_or(ErrorKind::ResourceExhausted),
            })
            .collect()
    }
}

/// Gives the port a number on the host, unless that is taken.
fn publish(port: &PortMapping, taken: &BTreeSet<(String, u16)>) -> Option<PortMapping> {
    let free = |number: &u16| !taken.contains(&(port.protocol.clone(), *number));
    let host_port = match port.host_port {
        0 => (FIRST_FREE_PORT..=u16::MAX).find(free)?,
        number => Some(number).filter(free)?,
    };
    Some(PortMapping { host_port, ..port.clone() })
}

fn free_subnet(taken: &[Subnet], v6: bool) -> Option<Subnet> {
    let candidate = |n: u8| match v6 {
        false => format!("10.213.{n}.0/24"),
        true => format!("fd00:213:{n:x}::/64"),
    };
    (0..=u8::MAX)
        .filter_map(|n| Subnet::parse(&candidate(n)))
        .find(|subnet| !taken.iter().any(|other| subnet.overlaps(*other)))
}

impl Subnet {
    fn parse(text: &str) -> Option<Self> {
        let (address, prefix) = text.split_once('/')?;
        let (address, prefix): (IpAddr, u32) = (address.parse().ok()?, prefix.parse().ok()?);
        let (base, v6) = number(address);
        if prefix > if v6 { 128 } else { 32 } {
            return None;
        }
        let subnet = Self { base, prefix, v6 };
        // An address with bits beneath the prefix is a host of a subnet, not a subnet.
        (base & subnet.mask() == base).then_some(subnet)
    }

    fn bits(self) -> u32 {
        if self.v6 { 128 } else { 32 }
    }

    fn mask(self) -> u128 {
        u128::MAX.checked_shl(self.bits() - self.prefix).unwrap_or(0)
    }

    fn size(self) -> u128 {
        1_u128.checked_shl(self.bits() - self.prefix).unwrap_or(u128::MAX)
    }

    fn contains(self, address: IpAddr) -> bool {
        let (number, v6) = number(address);
        v6 == self.v6 && number & self.mask() == self.base
    }

    fn overlaps(self, other: Self) -> bool {
        let mask = self.mask() & other.mask();
        self.v6 == other.v6 && self.base & mask == other.base & mask
    }

    fn address(self, host: u128) -> IpAddr {
        let number = self.base | host;
        if self.v6 {
            return Ipv6Addr::from_bits(number).into();
        }
        Ipv4Addr::from_bits(u32::try_from(number).unwrap_or(u32::MAX)).into()
    }
}

impl fmt::Display for Subnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address(0), self.prefix)
    }
}

fn number(address: IpAddr) -> (u128, bool) {
    match address {
        IpAddr::V4(v4) => (v4.to_bits().into(), false),
        IpAddr::V6(v6) => (v6.to_bits(), true),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subnets_overlap_when_one_holds_the_other() {
        let subnet = |text| Subnet::parse(text).unwrap();
        assert!(subnet("10.0.0.0/8").overlaps(subnet("10.1.0.0/16")));
        assert!(subnet("0.0.0.0/0").overlaps(subnet("10.1.0.0/16")));
        assert!(!subnet("10.0.0.0/16").overlaps(subnet("10.1.0.0/16")));
        assert!(!subnet("::/0").overlaps(subnet("0.0.0.0/0")));
        assert!(Subnet::parse("10.0.0.1/8").is_none() && Subnet::parse("10.0.0.0/33").is_none());
        assert_eq!(subnet("fd00::/64").address(5).to_string(), "fd00::5");
    }
}
