//! [`MemoryNetwork`]: networks that are records: addresses and ports are given out, and carry nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;

use super::{Faults, lock};
use crate::error::{Error, ErrorKind, Result};
use crate::id::{ContainerId, Name};
use crate::network::{
    Attachment, Endpoint, EndpointOptions, Network, NetworkInfo, NetworkOptions, PortMapping, Protocol,
    Subnet, SubnetOptions,
};
use crate::runtime::Sandbox;

/// The first port given out where any will do.
const FIRST_FREE_PORT: u16 = 49_152;

/// A [`Network`] that does all the bookkeeping of one, and moves no packet.
///
/// Clones share their networks. Methods in [`Faults`]: `network.create`, `network.attach`, and so on.
#[derive(Clone, Debug, Default)]
pub struct MemoryNetwork {
    networks: Arc<Mutex<BTreeMap<Name, NetworkInfo>>>,
    faults: Faults,
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
        let taken: Vec<Subnet> = networks.values().flat_map(subnets).collect();
        let mut options = options.clone();
        options.driver = Some("memory".to_owned());
        let mut all = taken.clone();
        for wanted in &options.subnets {
            if all.iter().any(|other| wanted.subnet.overlaps(other)) {
                return Err(fail(ErrorKind::Conflict)
                    .with("subnet", wanted.subnet)
                    .with_message("it overlaps another"));
            }
            let inside = |address: &IpAddr| wanted.subnet.contains(*address);
            if !wanted.gateway.iter().chain(wanted.aux_addresses.values()).all(inside)
                || !wanted.ip_range.iter().all(|range| wanted.subnet.holds(range))
            {
                return Err(fail(ErrorKind::InvalidArgument)
                    .with("subnet", wanted.subnet)
                    .with_message("its gateway, range or an auxiliary address is not inside"));
            }
            all.push(wanted.subnet);
        }
        options.ipv6 |= options.subnets.iter().any(|wanted| wanted.subnet.is_ipv6());
        for (wanted, v6) in [(options.ipv4, false), (options.ipv6, true)] {
            if wanted && !options.subnets.iter().any(|one| one.subnet.is_ipv6() == v6) {
                let free = free_subnet(&all, v6).ok_or_else(|| fail(ErrorKind::ResourceExhausted))?;
                options.subnets.push(free.into());
            }
        }
        for subnet in &mut options.subnets {
            subnet.gateway = subnet.gateway.or_else(|| subnet.subnet.hosts().next());
        }
        let info = NetworkInfo::new(name.clone(), options);
        networks.insert(name.clone(), info.clone());
        Ok(info)
    }

    async fn inspect(&self, name: &Name) -> Result<Option<NetworkInfo>> {
        self.faults.check("network.inspect", name).await?;
        Ok(lock(&self.networks).get(name).cloned())
    }

    async fn list(&self) -> Result<Vec<NetworkInfo>> {
        self.faults.check("network.list", "").await?;
        Ok(lock(&self.networks).values().cloned().collect())
    }

    async fn remove(&self, name: &Name) -> Result<()> {
        self.faults.check("network.remove", name).await?;
        let mut networks = lock(&self.networks);
        if networks.get(name).is_some_and(|record| !record.endpoints.is_empty()) {
            return Err(Error::new(ErrorKind::Conflict, "remove network")
                .with("network", name)
                .with_message("containers are on it"));
        }
        networks.remove(name);
        Ok(())
    }

    async fn attach(
        &self,
        network: &Name,
        sandbox: &Sandbox,
        options: &EndpointOptions,
    ) -> Result<Attachment> {
        self.faults.check("network.attach", &sandbox.id).await?;
        let fail = |kind| {
            Error::new(kind, "attach to network").with("network", network).with("container", &sandbox.id)
        };
        let mut networks = lock(&self.networks);
        let mut ports: BTreeSet<(Protocol, u16)> = networks
            .values()
            .flat_map(|record| &record.endpoints)
            .flat_map(|endpoint| &endpoint.ports)
            .map(|port| (port.protocol, port.host_port))
            .collect();
        let record = networks.get_mut(network).ok_or_else(|| fail(ErrorKind::NotFound))?;
        if record.endpoints.iter().any(|endpoint| endpoint.container == sandbox.id) {
            return Err(fail(ErrorKind::AlreadyExists));
        }
        let mut endpoint = Endpoint::new(sandbox.id.clone(), network.clone(), options.clone());
        endpoint.addresses = addresses(record, options).map_err(&fail)?;
        endpoint.gateways = record.options.subnets.iter().filter_map(|subnet| subnet.gateway).collect();
        endpoint.mac = options.mac;
        for port in &options.ports {
            let published = publish(port, &ports).ok_or_else(|| {
                fail(ErrorKind::Conflict)
                    .with("port", port.host_port)
                    .with_message("the port is published already")
            })?;
            ports.insert((published.protocol, published.host_port));
            endpoint.ports.push(published);
        }
        record.endpoints.push(endpoint.clone());
        Ok(Attachment::new(endpoint))
    }

    async fn detach(&self, network: &Name, id: &ContainerId) -> Result<()> {
        self.faults.check("network.detach", id).await?;
        if let Some(record) = lock(&self.networks).get_mut(network) {
            record.endpoints.retain(|endpoint| endpoint.container != *id);
        }
        Ok(())
    }

    async fn rename(&self, network: &Name, id: &ContainerId, names: &[String]) -> Result<()> {
        self.faults.check("network.rename", id).await?;
        let mut networks = lock(&self.networks);
        let endpoint = networks
            .get_mut(network)
            .and_then(|record| record.endpoints.iter_mut().find(|endpoint| endpoint.container == *id))
            .ok_or_else(|| {
                Error::new(ErrorKind::NotFound, "rename container on network")
                    .with("network", network)
                    .with("container", id)
            })?;
        endpoint.options.names = names.to_vec();
        Ok(())
    }

    async fn sweep(&self, gone: &[Endpoint]) -> Result<()> {
        self.faults.check("network.sweep", gone.len()).await?;
        for record in lock(&self.networks).values_mut() {
            record.endpoints.retain(|endpoint| !gone.iter().any(|one| one.id == endpoint.id));
        }
        Ok(())
    }
}

fn subnets(network: &NetworkInfo) -> impl Iterator<Item = Subnet> {
    network.options.subnets.iter().map(|subnet| subnet.subnet)
}

/// Chooses an address of each subnet: the one that is asked for, or the first that is free.
fn addresses(network: &NetworkInfo, options: &EndpointOptions) -> Result<Vec<IpAddr>, ErrorKind> {
    let given = network.endpoints.iter().flat_map(|endpoint| &endpoint.addresses).copied();
    let taken: BTreeSet<IpAddr> = given.chain(network.options.subnets.iter().flat_map(not_given)).collect();
    for wanted in options.addresses() {
        if !subnets(network).any(|subnet| subnet.contains(wanted)) {
            return Err(ErrorKind::InvalidArgument);
        }
        if taken.contains(&wanted) {
            return Err(ErrorKind::Conflict);
        }
    }
    let choose = |subnet: &SubnetOptions| {
        let wanted = options.addresses().find(|wanted| subnet.subnet.contains(*wanted));
        let range = subnet.ip_range.unwrap_or(subnet.subnet);
        wanted
            .or_else(|| range.hosts().find(|address| !taken.contains(address)))
            .ok_or(ErrorKind::ResourceExhausted)
    };
    network.options.subnets.iter().map(choose).collect()
}

/// Addresses of a subnet that are not for containers.
fn not_given(subnet: &SubnetOptions) -> impl Iterator<Item = IpAddr> {
    subnet.gateway.into_iter().chain(subnet.aux_addresses.values().copied())
}

/// Gives the port a number on the host, unless that is taken.
fn publish(port: &PortMapping, taken: &BTreeSet<(Protocol, u16)>) -> Option<PortMapping> {
    let free = |number: &u16| !taken.contains(&(port.protocol, *number));
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
        .filter_map(|n| candidate(n).parse().ok())
        .find(|subnet: &Subnet| !taken.iter().any(|other| subnet.overlaps(other)))
}
