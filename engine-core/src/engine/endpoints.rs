//! Containers on networks: at a start, while they run, after their end.
//!
//! Invariant: a container's record names a network before the container is put on it, and no longer after it was taken off;
//! what is attached and in no record is taken off at the container's end.

use std::net::IpAddr;

use crate::container_spec::NetworkMode;
use crate::error::{Error, ErrorKind, Result};
use crate::events::Action;
use crate::id::Name;
use crate::network::names::{ResolverConfig, ResolverZone};
use crate::network::{Attachment, Endpoint, EndpointOptions, NetworkInfo};
use crate::runtime::Sandbox;
use crate::state::ContainerStatus;

use super::container::LocalContainer;
use super::events::{of_container_on, of_network};
use super::launch::{self, Naming};
use super::links;
use super::network_use::{names_of, networks_in};
use super::records::Record;
use super::{LocalEngine, task};

impl LocalEngine {
    /// What is known of a container's names before its start.
    pub(super) async fn naming(&self, record: &Record) -> Result<Naming> {
        // One that shares another's network shares its names.
        let mut owner = record.clone();
        for _ in 0..MAX_SHARING {
            match &owner.data.spec.network {
                NetworkMode::Container(other) => owner = self.inner.records.find(other)?,
                _ => break,
            }
        }
        let networks = self.networks_of(&owner);
        let files = self.name_files(&owner.id).filter(|files| {
            // Those of another are there, unless it was started by an engine without networks.
            self.has_networks(&owner)
                && (owner.id == record.id || files.hosts.exists() && files.resolv_conf.exists())
        });
        let spec = &record.data.spec;
        let asks_for_host =
            spec.extra_hosts.iter().any(|(_, address)| address == crate::container_spec::HOST_GATEWAY);
        Ok(Naming {
            files,
            embedded: networks.iter().any(|(name, _)| self.has_names(name)),
            host_gateways: if asks_for_host { self.host_gateways().await? } else { Vec::new() },
            links: self.linked(record).await?,
        })
    }

    /// What the resolver in a container's network namespace goes by. One without networks with names has it too: it may be put
    /// on one while it runs.
    pub(super) fn resolver<'a>(
        &self,
        record: &Record,
        networks: impl IntoIterator<Item = &'a NetworkInfo>,
    ) -> Option<ResolverConfig> {
        if !self.has_networks(record) {
            return None;
        }
        let mut config = ResolverConfig::default();
        (config.upstreams, config.forward_single_labels) = launch::upstreams(&record.data.spec);
        for network in networks {
            // Who has no way out asks nobody outside.
            config.forward |= !network.options.internal;
            let zone = network.names.clone().map(|path| ResolverZone::new(network.name.clone(), path));
            config.zones.extend(zone);
        }
        config.aliases =
            links::aliases(&record.data.spec, self.default_network(), |network| self.has_names(network));
        Some(config)
    }

    /// Makes the resolver of a running container know the networks that it is on now.
    async fn change_zones(&self, record: &Record) -> Result<()> {
        let used = self.network_use(record).await?;
        let config = self.resolver(record, used.iter().filter_map(|used| used.network.as_ref()));
        match config {
            Some(config) => self.inner.runtime.set_resolver(&record.id, &config).await,
            None => Ok(()),
        }
    }

    async fn host_gateways(&self) -> Result<Vec<IpAddr>> {
        let Some(name) = self.default_network() else { return Ok(Vec::new()) };
        let network = self.network_named(name).await?;
        let subnets = network.into_iter().flat_map(|network| network.options.subnets);
        Ok(subnets.filter_map(|subnet| subnet.gateway).collect())
    }

    /// Puts the sandbox of a container that is about to start on its networks, in their order.
    pub(super) async fn attach_all(
        &self,
        record: &Record,
        sandbox: &Sandbox,
        plan: &[(NetworkInfo, EndpointOptions)],
    ) -> Result<()> {
        for (network, options) in plan {
            let endpoint = self.attach(record, sandbox, &network.name, options).await?;
            self.add_host_lines(record, &endpoint).await?;
            self.tell_linked(record, &endpoint).await?;
        }
        Ok(())
    }

    async fn attach(
        &self,
        record: &Record,
        sandbox: &Sandbox,
        network: &Name,
        options: &EndpointOptions,
    ) -> Result<Endpoint> {
        let driver = &self.inner.network;
        let attachment = match driver.attach(network, sandbox, options).await {
            // What is in the way may be what nobody has noticed the end of: its own endpoint of an earlier run, or another
            // container's address or port.
            Err(error) if is_in_the_way(&error) => {
                if error.kind() == ErrorKind::AlreadyExists {
                    driver.detach(network, &record.id).await?;
                }
                self.sweep_networks().await?;
                driver.attach(network, sandbox, options).await?
            }
            attached => attached?,
        };
        self.keep(record, attachment).await
    }

    /// Leaves with the container what must outlive this program.
    async fn keep(&self, record: &Record, attachment: Attachment) -> Result<Endpoint> {
        let Attachment { endpoint, reserved, .. } = attachment;
        if !reserved.is_empty() {
            self.inner.runtime.keep(&record.id, endpoint.network.as_str(), reserved).await?;
        }
        Ok(endpoint)
    }

    /// Takes a container from its networks, if it has ended: its addresses and ports are free then.
    pub(super) async fn release_networks(&self, record: &Record) -> Result<()> {
        let mut endpoints = Vec::new();
        for used in self.network_use(record).await? {
            endpoints.extend(used.endpoint);
        }
        self.release(&endpoints).await.map(drop)
    }

    /// Tells the networks of a running container its names.
    async fn rename_on_networks(&self, record: &Record) -> Result<()> {
        for used in self.network_use(record).await? {
            if used.endpoint.is_none() {
                continue;
            }
            match self.inner.network.rename(&used.name, &record.id, &names_of(record)).await {
                // It has just been taken off.
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                renamed => renamed?,
            }
        }
        Ok(())
    }

    /// Finds the network a container is to be put on or taken from.
    async fn network_to_join(&self, operation: &'static str, network: &str) -> Result<NetworkInfo> {
        let info = self.find_network(network).await?;
        if matches!(info.name.as_str(), "host" | "none") {
            return Err(Error::new(ErrorKind::InvalidArgument, operation)
                .with("network", network)
                .with_message(format!(
                    "container cannot be disconnected from {0} network or connected to {0} network",
                    info.name
                )));
        }
        Ok(info)
    }
}

fn is_in_the_way(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::AlreadyExists | ErrorKind::Conflict | ErrorKind::ResourceExhausted)
}

impl LocalContainer {
    pub(super) async fn connect(&self, network: &str, options: EndpointOptions) -> Result<()> {
        let info = self.engine.network_to_join(CONNECT, network).await?;
        self.engine.check_endpoint(&info, &options)?;
        if !options.links.is_empty() && !self.engine.has_names(&info.name) {
            return Err(Error::new(ErrorKind::InvalidArgument, CONNECT)
                .with("network", &info.name)
                .with_message("links on the default network are made with the container")
                .with_hint("make a network of your own: network create NAME"));
        }
        let container = self.clone();
        task::to_the_end(async move { container.connect_whole(&info, options).await }).await
    }

    async fn connect_whole(&self, info: &NetworkInfo, options: EndpointOptions) -> Result<()> {
        let engine = &self.engine;
        let sandbox = self.sandbox(CONNECT, &self.record().await?).await?;
        let (wish, default) = ((info.name.clone(), options.clone()), engine.default_network().cloned());
        let before = move |record: &mut Record| {
            let mut networks = own_networks(CONNECT, record, default.as_ref())?;
            let before: Vec<Name> = networks.iter().map(|(name, _)| name.clone()).collect();
            if before.contains(&wish.0) {
                return Err(Error::new(ErrorKind::AlreadyExists, CONNECT)
                    .with("container", record.id.short())
                    .with("network", &wish.0)
                    .with_message(format!(
                        "endpoint with name {} already exists in network {}",
                        record.name, wish.0
                    )));
            }
            networks.push(wish);
            record.data.spec.network = NetworkMode::Networks(networks);
            Ok(((record.clone(), before), None))
        };
        let (record, before) = engine.inner.records.revise(&self.id, before).await?;
        let Some(sandbox) = sandbox else { return Ok(()) };
        let options = EndpointOptions { names: names_of(&record), ..options };
        let attached: Result<()> = async {
            let endpoint = engine.attach(&record, &sandbox, &info.name, &options).await?;
            engine.add_host_lines(&record, &endpoint).await?;
            engine.tell_linked(&record, &endpoint).await?;
            if engine.has_names(&info.name) && !before.iter().any(|name| engine.has_names(name)) {
                engine.change_resolver(&record, true).await?;
            }
            engine.change_zones(&record).await
        }
        .await;
        match attached {
            Ok(()) => {
                engine.emit(of_container_on(of_network(Action::Connect, info), &record.id)).await;
                Ok(())
            }
            Err(mut error) => {
                let undone: Result<()> = async {
                    engine.inner.network.detach(&info.name, &record.id).await?;
                    self.forget_network(info).await.map(drop)
                }
                .await;
                if let Err(later) = undone {
                    error.suppress(later);
                }
                Err(error)
            }
        }
    }

    pub(super) async fn disconnect(&self, network: &str, force: bool) -> Result<()> {
        let info = self.engine.network_to_join(DISCONNECT, network).await?;
        let container = self.clone();
        task::to_the_end(async move { container.disconnect_whole(&info, force).await }).await
    }

    async fn disconnect_whole(&self, info: &NetworkInfo, force: bool) -> Result<()> {
        let engine = &self.engine;
        let record = self.record().await?;
        let endpoint = info.endpoints.iter().find(|endpoint| endpoint.container == record.id);
        let networks = own_networks(DISCONNECT, &record, engine.default_network())?;
        let is_on_it = networks.iter().any(|(name, _)| *name == info.name);
        if !is_on_it && (!force || endpoint.is_none()) {
            return Err(Error::new(ErrorKind::Conflict, DISCONNECT)
                .with("container", self.id.short())
                .with("network", &info.name)
                .with_message(format!("container {} is not connected to network {}", self.id, info.name)));
        }
        engine.inner.network.detach(&info.name, &record.id).await?;
        let running = endpoint.is_some() && engine.has_sandbox(&record.id).await?;
        if let Some(endpoint) = endpoint.filter(|_| running) {
            engine.inner.runtime.keep(&record.id, info.name.as_str(), Vec::new()).await?;
            engine.remove_host_lines(&record, endpoint).await?;
            engine.emit(of_container_on(of_network(Action::Disconnect, info), &record.id)).await;
        }
        self.forget_network(info).await?;
        match running {
            true => engine.change_zones(&self.record().await?).await,
            false => Ok(()),
        }
    }

    /// Removes a network from the container's record.
    async fn forget_network(&self, info: &NetworkInfo) -> Result<()> {
        let (name, default) = (info.name.clone(), self.engine.default_network().cloned());
        let forget = move |record: &mut Record| {
            let mut networks = own_networks(DISCONNECT, record, default.as_ref())?;
            networks.retain(|(known, _)| *known != name);
            record.data.spec.network = NetworkMode::Networks(networks);
            Ok(((), None))
        };
        self.engine.inner.records.revise(&self.id, forget).await
    }

    /// Gives its networks the container's new name.
    pub(super) async fn renamed(&self) -> Result<()> {
        self.engine.rename_on_networks(&self.record().await?).await
    }

    /// Returns the sandbox of the container, if it runs.
    async fn sandbox(&self, operation: &'static str, record: &Record) -> Result<Option<Sandbox>> {
        let state = self.engine.state_of(record).await?;
        if state.status == ContainerStatus::Restarting {
            return Err(self.conflict(operation, "it is restarting", "wait until it is running"));
        }
        let pid = state.pid.filter(|_| state.status.is_running());
        Ok(pid.map(|pid| Sandbox::new(self.id.clone(), pid, Some(format!("/proc/{pid}/ns/net").into()))))
    }
}

/// Returns the networks that the container may be put on others beside.
fn own_networks(
    operation: &'static str,
    record: &Record,
    default: Option<&Name>,
) -> Result<Vec<(Name, EndpointOptions)>> {
    let why = match &record.data.spec.network {
        NetworkMode::Host => {
            "container cannot be disconnected from host network or connected to host network"
        }
        NetworkMode::Container(_) => {
            "container sharing network namespace with another container or host cannot be connected to any other network"
        }
        NetworkMode::None => {
            "container cannot be connected to multiple networks with one of the networks in private (none) mode"
        }
        _ => return Ok(networks_in(&record.data.spec, default)),
    };
    Err(Error::new(ErrorKind::InvalidArgument, operation)
        .with("container", record.id.short())
        .with_message(why))
}

/// A chain of containers that share a network is as long as somebody made it.
pub(super) const MAX_SHARING: usize = 100;
const CONNECT: &str = "connect container";
const DISCONNECT: &str = "disconnect container";
