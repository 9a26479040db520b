//! Networks of an engine: the implementation's, with Docker's predefined `host` and `none` shown beside them.
//!
//! `endpoints` puts containers on them, `network_use` says which they are on.

use std::time::SystemTime;

use crate::container_spec::NetworkMode;
use crate::digest::Digest;
use crate::error::{Error, ErrorKind, Result};
use crate::events::Action;
use crate::id::{ContainerId, Name};
use crate::network::{Endpoint, EndpointOptions, NetworkInfo, NetworkOptions};
use crate::state::ContainerStatus;

use super::events::of_network;
use super::network_use::not_found;
use super::{LocalEngine, task};

/// Names of modes that Docker shows as networks, with their drivers.
const MODES: [(&str, &str); 2] = [("host", "host"), ("none", "null")];

impl LocalEngine {
    pub(super) async fn create_network(&self, name: &Name, options: &NetworkOptions) -> Result<NetworkInfo> {
        let fail = |kind| Error::new(kind, "create network").with("network", name);
        if self.is_predefined(name) || name.as_str() == "default" {
            return Err(fail(ErrorKind::InvalidArgument)
                .with_message(format!("operation is not permitted on predefined {name} network")));
        }
        for other in self.inner.network.list().await? {
            if other.name == *name {
                return Err(fail(ErrorKind::AlreadyExists)
                    .with_message(format!("network with name {name} already exists")));
            }
            let overlaps = |wanted: &&crate::network::SubnetOptions| {
                other.options.subnets.iter().any(|taken| taken.subnet.overlaps(&wanted.subnet))
            };
            if let Some(wanted) = options.subnets.iter().find(overlaps) {
                return Err(fail(ErrorKind::Conflict)
                    .with("subnet", wanted.subnet)
                    .with_message("Pool overlaps with other one on this address space")
                    .with_hint(format!("network {} has it", other.name)));
            }
        }
        let (engine, name, options) = (self.clone(), name.clone(), options.clone());
        task::to_the_end(async move {
            let made = engine.inner.network.create(&name, &options).await?;
            engine.emit(of_network(Action::Create, &made)).await;
            Ok(made)
        })
        .await
    }

    pub(super) async fn network(&self, name: &str) -> Result<NetworkInfo> {
        let mut info = self.find_network(name).await?;
        if MODES.iter().any(|(mode, _)| *mode == info.name.as_str()) {
            info.endpoints = self.in_mode(&info).await?;
        } else if self.release(&info.endpoints).await? {
            info = self.inner.network.inspect(&info.name).await?.ok_or_else(|| not_found(name))?;
        }
        Ok(info)
    }

    pub(super) async fn networks(&self) -> Result<Vec<NetworkInfo>> {
        if let Some(name) = self.default_network() {
            self.network_named(name).await?;
        }
        let mut list = self.inner.network.list().await?;
        for info in &list {
            if self.release(&info.endpoints).await? {
                list = self.inner.network.list().await?;
                break;
            }
        }
        for mode in MODES {
            list.push(predefined(mode)?);
        }
        list.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(list)
    }

    pub(super) async fn remove_network(&self, name: &str) -> Result<()> {
        let info = self.network(name).await?;
        let fail = |kind| Error::new(kind, "remove network").with("network", &info.name);
        if self.is_predefined(&info.name) {
            return Err(fail(ErrorKind::InvalidArgument)
                .with_message(format!("{} is a pre-defined network and cannot be removed", info.name)));
        }
        if !info.endpoints.is_empty() {
            let users = info.endpoints.iter().map(|endpoint| {
                let name = endpoint.options.names.first().map_or("", String::as_str);
                format!("name:{name:?} id:{:?}", endpoint.container.short())
            });
            let users = users.collect::<Vec<_>>().join(", ");
            return Err(fail(ErrorKind::Conflict)
                .with_message(format!("network {} id {} has active endpoints ({users})", info.name, info.id))
                .with_hint("disconnect or stop the containers first"));
        }
        let (network, name) = (std::sync::Arc::clone(&self.inner.network), info.name.clone());
        self.change(of_network(Action::Destroy, &info), async move { network.remove(&name).await }).await
    }

    pub(super) fn is_predefined(&self, name: &Name) -> bool {
        MODES.iter().any(|(mode, _)| *mode == name.as_str()) || self.default_network() == Some(name)
    }

    pub(super) fn default_network(&self) -> Option<&Name> {
        self.inner.default_network.as_ref()
    }

    /// Returns the implementation's network of this name; the default one is made if it is not there.
    pub(super) async fn network_named(&self, name: &Name) -> Result<Option<NetworkInfo>> {
        let network = &self.inner.network;
        let found = network.inspect(name).await?;
        if found.is_some() || self.default_network() != Some(name) {
            return Ok(found);
        }
        match network.create(name, &NetworkOptions::default()).await {
            // Another program was faster.
            Err(error) if error.kind() == ErrorKind::AlreadyExists => network.inspect(name).await,
            made => made.map(Some),
        }
    }

    /// As [`network`](Self::network), with all endpoints that are still there.
    pub(super) async fn find_network(&self, text: &str) -> Result<NetworkInfo> {
        if let Some(mode) = MODES.iter().find(|(mode, _)| *mode == text) {
            return predefined(*mode);
        }
        if let Ok(name) = text.parse::<Name>()
            && let Some(info) = self.network_named(&name).await?
        {
            return Ok(info);
        }
        let mut all = self.inner.network.list().await?;
        for mode in MODES {
            all.push(predefined(mode)?);
        }
        all.retain(|info| !text.is_empty() && info.id.starts_with(text));
        match (all.pop(), all.len()) {
            (Some(info), 0) => Ok(info),
            (None, _) => Err(not_found(text)),
            (Some(_), others) => Err(Error::new(ErrorKind::InvalidArgument, "find network")
                .with("network", text)
                .with_message(format!(
                    "network {text} is ambiguous ({} matches found on ID prefix)",
                    others + 1
                ))
                .with_hint("give more digits")),
        }
    }

    /// Takes containers that have ended from their networks, and lets the network remove what a crash left.
    ///
    /// No program of ours need be alive when a container ends, so its addresses and ports are free when the next one looks.
    pub(super) async fn sweep_networks(&self) -> Result<()> {
        let endpoints = self.inner.network.list().await?.into_iter().flat_map(|info| info.endpoints);
        let gone = self.ended(endpoints.collect()).await?;
        self.inner.network.sweep(&gone).await
    }

    /// Removes those of `endpoints` whose containers have ended; returns whether there were any.
    pub(super) async fn release(&self, endpoints: &[Endpoint]) -> Result<bool> {
        let gone = self.ended(endpoints.to_vec()).await?;
        if gone.is_empty() {
            return Ok(false);
        }
        self.inner.network.sweep(&gone).await?;
        Ok(true)
    }

    /// Keeps those of `endpoints` whose containers have ended. They were listed before the states are read: the endpoint of
    /// a container that is started meanwhile is none of them.
    async fn ended(&self, mut endpoints: Vec<Endpoint>) -> Result<Vec<Endpoint>> {
        let mut kept = Vec::new();
        for endpoint in endpoints.drain(..) {
            if !self.has_sandbox(&endpoint.container).await? {
                kept.push(endpoint);
            }
        }
        Ok(kept)
    }

    /// Whether a container runs, is about to, or will again by its restart policy.
    pub(super) async fn has_sandbox(&self, id: &ContainerId) -> Result<bool> {
        match self.inner.runtime.state(id).await {
            Ok(state) => Ok(!matches!(state.status, ContainerStatus::Exited | ContainerStatus::Dead)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The running containers of a mode, as Docker shows them on its predefined network.
    async fn in_mode(&self, info: &NetworkInfo) -> Result<Vec<Endpoint>> {
        let mode = if info.name.as_str() == "host" { NetworkMode::Host } else { NetworkMode::None };
        let mut endpoints = Vec::new();
        for record in self.inner.records.all().await? {
            if record.data.spec.network == mode && self.has_sandbox(&record.id).await? {
                let mut options = EndpointOptions::default();
                options.names.push(record.name.to_string());
                let mut endpoint = Endpoint::new(record.id.clone(), info.name.clone(), options);
                endpoint.id = id_of(&format!("{}/{}", info.name, record.id));
                endpoints.push(endpoint);
            }
        }
        Ok(endpoints)
    }
}

/// A mode as a network. Its id is the same everywhere.
fn predefined((name, driver): (&str, &str)) -> Result<NetworkInfo> {
    let options = NetworkOptions { driver: Some(driver.to_owned()), ..NetworkOptions::default() };
    let mut info = NetworkInfo::new(name.parse()?, options);
    (info.id, info.created_at) = (id_of(name), SystemTime::UNIX_EPOCH);
    Ok(info)
}

fn id_of(text: &str) -> String {
    Digest::sha256(text.as_bytes()).hex().to_owned()
}
