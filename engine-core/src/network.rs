//! The [`Network`] contract: networks and the containers on them.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorKind, Result};
use crate::id::{ContainerId, Name};
use crate::runtime::Sandbox;

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
///
/// # Implementing
/// Check your type with [`testing::network`](crate::testing) (feature `testing`).
#[async_trait]
pub trait Network: fmt::Debug + Send + Sync + 'static {
    /// Creates a network.
    ///
    /// # Errors
    /// [`AlreadyExists`](ErrorKind::AlreadyExists) if the name is taken;
    /// [`Conflict`](ErrorKind::Conflict) if the subnet overlaps another;
    /// [`InvalidArgument`](ErrorKind::InvalidArgument) if it is no subnet.
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

    /// Creates an endpoint of `network` in `sandbox` and returns it.
    ///
    /// # Errors
    /// [`NotFound`](ErrorKind::NotFound) if there is no such network;
    /// [`AlreadyExists`](ErrorKind::AlreadyExists) if the sandbox is on it;
    /// [`Conflict`](ErrorKind::Conflict) if the address or a port of the host is taken;
    /// [`InvalidArgument`](ErrorKind::InvalidArgument) for an address outside the network's subnets.
    async fn attach(&self, network: &Name, sandbox: &Sandbox, options: &EndpointOptions) -> Result<Endpoint>;

    /// Removes the endpoint of container `id` on `network` and everything `attach` made for it. Idempotent.
    async fn detach(&self, network: &Name, id: &ContainerId) -> Result<()>;

    /// Removes what belongs to containers that are not in `alive`. Called after a crash.
    async fn sweep(&self, alive: &[ContainerId]) -> Result<()>;
}

/// What a network is made with.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct NetworkOptions {
    /// The driver; the implementation's default without it.
    pub driver: Option<String>,
    /// Subnets in CIDR notation; chosen by the implementation without them.
    pub subnets: Vec<String>,
    /// Whether the network has no way out.
    pub internal: bool,
    /// Whether it has IPv6.
    pub ipv6: bool,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Options of the driver.
    pub driver_options: BTreeMap<String, String>,
}

/// A network.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct NetworkInfo {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: Name,
    /// What it was made with.
    pub options: NetworkOptions,
    /// The containers on it.
    pub endpoints: Vec<Endpoint>,
}

impl NetworkInfo {
    /// Creates a network's description, with no endpoints.
    #[must_use]
    pub fn new(id: impl Into<String>, name: Name, options: NetworkOptions) -> Self {
        Self { id: id.into(), name, options, endpoints: Vec::new() }
    }
}

/// What an endpoint is made with.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct EndpointOptions {
    /// More names of the container on this network.
    pub aliases: Vec<String>,
    /// The address it asks for.
    pub ip: Option<IpAddr>,
    /// The hardware address it asks for.
    pub mac: Option<String>,
    /// Ports published on the host.
    pub ports: Vec<PortMapping>,
}

/// A published port.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct PortMapping {
    /// The host's address; all of them without it.
    pub host_ip: Option<IpAddr>,
    /// The host's port; any free one if 0.
    pub host_port: u16,
    /// The container's port.
    pub container_port: u16,
    /// `tcp`, `udp` or `sctp`.
    pub protocol: String,
}

impl PortMapping {
    /// Publishes TCP port `container_port` on any free port of every address of the host.
    #[must_use]
    pub fn new(container_port: u16) -> Self {
        Self { host_ip: None, host_port: 0, container_port, protocol: "tcp".to_owned() }
    }
}

/// A container's place on a network.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Endpoint {
    /// The container.
    pub container: ContainerId,
    /// The network.
    pub network: Name,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
    /// The ports as they were published.
    pub ports: Vec<PortMapping>,
}

impl Endpoint {
    /// Creates an endpoint's description.
    #[must_use]
    pub fn new(container: ContainerId, network: Name) -> Self {
        Self { container, network, addresses: Vec::new(), ports: Vec::new() }
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
    async fn attach(&self, network: &Name, _: &Sandbox, _: &EndpointOptions) -> Result<Endpoint> {
        none(network)
    }
    async fn detach(&self, _: &Name, _: &ContainerId) -> Result<()> {
        Ok(())
    }
    async fn sweep(&self, _: &[ContainerId]) -> Result<()> {
        Ok(())
    }
}
