//! The [`Network`] contract: networks and the containers on them.

mod endpoint;
pub mod names;
mod ports;
mod subnet;

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::SystemTime;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::engine::Check;
use crate::error::{Error, ErrorKind, Result};
use crate::id::{ContainerId, Name};
use crate::runtime::Sandbox;

pub use endpoint::{Attachment, Endpoint, EndpointOptions, Link, MacAddress, PortMapping, Protocol};
pub use ports::parse_port;
pub use subnet::Subnet;

/// Makes networks and attaches sandboxes to them.
///
/// The modes `none`, `host` and `container:ID` are namespaces, not networks: the engine and the runtime do
/// them without a `Network`.
///
/// # Contract
/// - `attach` is atomic: when it fails or is dropped, no interface, address, route or rule stays.
/// - `detach` and `remove` are idempotent: what is already gone is `Ok`.
/// - Calls for different sandboxes may run at the same time.
/// - What a network made for a sandbox disappears with the sandbox's namespace or can be swept by `sweep`.
/// - Several programs use one implementation's networks at a time: whatever one of them does, an endpoint that another is
///   just making stays.
///
/// # Implementing
/// Check your type with [`testing::network`](crate::testing) (feature `testing`).
#[async_trait]
pub trait Network: fmt::Debug + Send + Sync + 'static {
    /// Creates a network.
    ///
    /// # Errors
    /// [`AlreadyExists`](ErrorKind::AlreadyExists) if the name is taken;
    /// [`Conflict`](ErrorKind::Conflict) if a subnet overlaps another;
    /// [`InvalidArgument`](ErrorKind::InvalidArgument) for a gateway, range or address outside its subnet;
    /// [`ResourceExhausted`](ErrorKind::ResourceExhausted) if no subnet is free.
    async fn create(&self, name: &Name, options: &NetworkOptions) -> Result<NetworkInfo>;

    /// Returns a network, or `None`.
    async fn inspect(&self, name: &Name) -> Result<Option<NetworkInfo>>;

    /// Returns all networks, by name.
    async fn list(&self) -> Result<Vec<NetworkInfo>>;

    /// Removes a network. Idempotent.
    ///
    /// # Errors
    /// [`Conflict`](ErrorKind::Conflict) while endpoints are on it.
    async fn remove(&self, name: &Name) -> Result<()>;

    /// Creates an endpoint of `network` in `sandbox` and returns it, with what must be kept for it.
    ///
    /// # Errors
    /// [`NotFound`](ErrorKind::NotFound) if there is no such network;
    /// [`AlreadyExists`](ErrorKind::AlreadyExists) if the sandbox is on it;
    /// [`Conflict`](ErrorKind::Conflict) if the address or a port of the host is taken;
    /// [`InvalidArgument`](ErrorKind::InvalidArgument) for an address outside the network's subnets;
    /// [`ResourceExhausted`](ErrorKind::ResourceExhausted) if no address is free.
    async fn attach(
        &self,
        network: &Name,
        sandbox: &Sandbox,
        options: &EndpointOptions,
    ) -> Result<Attachment>;

    /// Removes the endpoint of container `id` on `network` and everything `attach` made for it. Idempotent.
    async fn detach(&self, network: &Name, id: &ContainerId) -> Result<()>;

    /// Makes `names` the names of container `id` on `network`: those in [`EndpointOptions::names`]. Its aliases stay. The
    /// container's own resolver and those of the others answer by them at once.
    ///
    /// # Errors
    /// [`NotFound`](ErrorKind::NotFound) if the container is not on the network.
    async fn rename(&self, network: &Name, id: &ContainerId, names: &[String]) -> Result<()>;

    /// Removes the endpoints `gone`, whose containers do not run, and what a crash left that belongs to no endpoint. Idempotent.
    ///
    /// An endpoint is meant by its id: one that was made since for the same container stays. Called at each opening of an
    /// engine, mostly with none, by programs beside those that are attaching.
    async fn sweep(&self, gone: &[Endpoint]) -> Result<()>;

    /// Looks what of this host keeps networks from working: findings for [`Engine::diagnose`](crate::Engine::diagnose).
    async fn diagnose(&self) -> Vec<Check> {
        Vec::new()
    }
}

/// What a network is made with.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct NetworkOptions {
    /// The driver; the implementation's default without it.
    pub driver: Option<String>,
    /// Subnets; of a family that is wanted and has none, the implementation chooses one.
    pub subnets: Vec<SubnetOptions>,
    /// Whether the network has no way out.
    pub internal: bool,
    /// Whether it has IPv4.
    pub ipv4: bool,
    /// Whether it has IPv6. A subnet of IPv6 means it, too.
    pub ipv6: bool,
    /// Whether containers are attached by hand, in Docker's words: shown, and without a meaning on one host.
    pub attachable: bool,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Options of the driver.
    pub driver_options: BTreeMap<String, String>,
    /// Who gives out addresses; `default`.
    pub ipam_driver: Option<String>,
    /// Options of that one.
    pub ipam_options: BTreeMap<String, String>,
}

impl Default for NetworkOptions {
    fn default() -> Self {
        Self {
            driver: None,
            subnets: Vec::new(),
            internal: false,
            ipv4: true,
            ipv6: false,
            attachable: false,
            labels: BTreeMap::new(),
            driver_options: BTreeMap::new(),
            ipam_driver: None,
            ipam_options: BTreeMap::new(),
        }
    }
}

impl NetworkOptions {
    /// Uses a subnet.
    #[must_use]
    pub fn with_subnet(mut self, subnet: impl Into<SubnetOptions>) -> Self {
        self.subnets.push(subnet.into());
        self
    }

    /// Gives the network IPv6, or not.
    #[must_use]
    pub fn with_ipv6(mut self, ipv6: bool) -> Self {
        self.ipv6 = ipv6;
        self
    }

    /// Gives the network no way out.
    #[must_use]
    pub fn with_internal(mut self, internal: bool) -> Self {
        self.internal = internal;
        self
    }

    /// Sets an option of the driver.
    #[must_use]
    pub fn with_driver_option(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.driver_options.insert(key.into(), value.into());
        self
    }
}

/// A subnet of a network, and which of its addresses are given out.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct SubnetOptions {
    /// The subnet.
    pub subnet: Subnet,
    /// The router's address; the first one without it.
    pub gateway: Option<IpAddr>,
    /// The part that containers are given addresses of; all of it without.
    pub ip_range: Option<Subnet>,
    /// Addresses that are others', by their names.
    pub aux_addresses: BTreeMap<String, IpAddr>,
}

impl From<Subnet> for SubnetOptions {
    fn from(subnet: Subnet) -> Self {
        Self { subnet, gateway: None, ip_range: None, aux_addresses: BTreeMap::new() }
    }
}

/// A network.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct NetworkInfo {
    /// Its id: 64 hex digits.
    pub id: String,
    /// Its name.
    pub name: Name,
    /// When it was made.
    pub created_at: SystemTime,
    /// What it was made with, with what the implementation chose: driver, subnets, gateways.
    pub options: NetworkOptions,
    /// The containers on it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub endpoints: Vec<Endpoint>,
    /// The [file](names::Zone) with the names of the containers on it, once there is one: their resolvers read it. `None` on a
    /// network without names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub names: Option<PathBuf>,
}

impl NetworkInfo {
    /// Creates the description of a network that is made now, with a random id and no endpoints.
    #[must_use]
    pub fn new(name: Name, options: NetworkOptions) -> Self {
        let id = ContainerId::random().as_str().to_owned();
        Self { id, name, created_at: SystemTime::now(), options, endpoints: Vec::new(), names: None }
    }
}

/// The network of an engine that was given none: there are no networks.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoNetwork;

fn none<T>(network: &Name) -> Result<T> {
    Err(Error::new(ErrorKind::Unsupported, "use network")
        .with("network", network)
        .with_message("no network implementation is configured")
        .with_hint(
            "use the network modes none, host or container:ID, or give one to Engine::builder(…).network(…)",
        ))
}

#[async_trait]
impl Network for NoNetwork {
    async fn create(&self, name: &Name, _: &NetworkOptions) -> Result<NetworkInfo> {
        none(name)
    }
    async fn inspect(&self, _: &Name) -> Result<Option<NetworkInfo>> {
        Ok(None)
    }
    async fn list(&self) -> Result<Vec<NetworkInfo>> {
        Ok(Vec::new())
    }
    async fn remove(&self, _: &Name) -> Result<()> {
        Ok(())
    }
    async fn attach(&self, network: &Name, _: &Sandbox, _: &EndpointOptions) -> Result<Attachment> {
        none(network)
    }
    async fn detach(&self, _: &Name, _: &ContainerId) -> Result<()> {
        Ok(())
    }
    async fn rename(&self, network: &Name, _: &ContainerId, _: &[String]) -> Result<()> {
        none(network)
    }
    async fn sweep(&self, _: &[Endpoint]) -> Result<()> {
        Ok(())
    }
}
