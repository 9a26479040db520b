//! [`LocalNetworks`]: networks of this host.
//!
//! `networks`, `attach` and `repair` own the order of things: records before what they describe, interfaces before rules,
//! everything undone where one step fails. `driver` says what differs between drivers, which are `bridge` and `vlan`; the
//! other files own what is the same for all: `records` the database, `addresses` who gets which, `links` interfaces, `place`
//! the container's namespace, `resolver` its way to names.
//!
//! Invariant: what is in the kernel is known to the records, except while an operation that holds the lock undoes it.

mod addresses;
mod attach;
mod bridge;
mod driver;
mod flows;
mod links;
mod networks;
mod obstacles;
mod place;
mod records;
mod repair;
mod resolver;
#[expect(unsafe_code, reason = "rustix has no options of the old iptables")]
mod sys;
mod sysctl;
mod vlan;
mod watch;

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use async_trait::async_trait;
use engine_core::engine::{Check, Verdict};
use engine_core::network::{Attachment, Endpoint, EndpointOptions, Network, NetworkInfo, NetworkOptions};
use engine_core::runtime::Sandbox;
use engine_core::{ContainerId, Error, ErrorKind, Name, Result};
use tokio::sync::oneshot;

pub use addresses::AddressPool;
use networks::Networks;

/// Name of the network that containers are on who ask for none.
pub const DEFAULT_NETWORK: &str = "bridge";

/// The [`Network`] of one host, with Docker's drivers `bridge`, `macvlan` and `ipvlan`.
///
/// - On a network of the driver `bridge`, which is the default, containers reach each other, the world by the host's address,
///   and are reached by published ports, with no program running beside them.
/// - With `macvlan` and `ipvlan`, containers are on the network of an interface of the host, the option `parent`, as machines
///   beside it. Published ports mean nothing there.
///
/// Several programs over the same root share their networks. Everything in the kernel belongs to the root: one table of the
/// packet filter, and interfaces with an alias that names it. Others' rules and interfaces are never touched; rules of ours
/// that somebody removes come back at once while a program has the networks open, else when the next opens them.
///
/// Needs `CAP_NET_ADMIN` over the host's network namespace and a kernel with nf_tables and what the driver makes: bridges and
/// veth, macvlan, or ipvlan.
#[derive(Clone, Debug)]
pub struct LocalNetworks {
    lazy: Arc<Lazy>,
}

/// The networks, once there is something to do.
#[derive(Debug)]
struct Lazy {
    root: PathBuf,
    run_root: PathBuf,
    pools: Vec<AddressPool>,
    networks: OnceLock<Arc<Networks>>,
}

impl Lazy {
    fn networks(&self) -> Result<Arc<Networks>> {
        if let Some(networks) = self.networks.get() {
            return Ok(Arc::clone(networks));
        }
        let networks = Arc::new(Networks::open(&self.root, &self.run_root, self.pools.clone())?);
        // One that another thread opened meanwhile is as good.
        Ok(Arc::clone(self.networks.get_or_init(|| networks)))
    }
}

impl LocalNetworks {
    /// The networks of the engine at `root`. Nothing is opened or made before they are needed, so an engine whose containers
    /// have no network pays nothing for having some.
    #[must_use]
    pub fn new(root: impl AsRef<Path>, run_root: impl AsRef<Path>) -> Self {
        Self::of(root.as_ref().to_owned(), run_root.as_ref().to_owned(), AddressPool::defaults())
    }

    /// Takes subnets of new networks of these pools, in their order, instead of Docker's. Networks that are there keep theirs.
    #[must_use]
    pub fn with_address_pools(self, pools: impl IntoIterator<Item = AddressPool>) -> Self {
        Self::of(self.lazy.root.clone(), self.lazy.run_root.clone(), pools.into_iter().collect())
    }

    fn of(root: PathBuf, run_root: PathBuf, pools: Vec<AddressPool>) -> Self {
        Self { lazy: Arc::new(Lazy { root, run_root, pools, networks: OnceLock::new() }) }
    }

    /// Looks whether rules of others on this host keep containers and other hosts from reaching each other: one more finding
    /// for [`Diagnosis::checks`](engine_core::engine::Diagnosis::checks).
    pub async fn look() -> Check {
        let looked = blocking(|| Ok(obstacles::check())).await;
        looked.unwrap_or_else(|error| Check::new("forwarding", Verdict::Missing, error.report()))
    }

    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Arc<Networks>) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let lazy = Arc::clone(&self.lazy);
        blocking(move || work(&lazy.networks()?)).await
    }
}

/// Runs blocking work to its end, also when the caller stops waiting for it.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Err(broken(error)))
}

fn broken(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::new(ErrorKind::Canceled, "run task").with_source(error)
}

#[async_trait]
impl Network for LocalNetworks {
    async fn create(&self, name: &Name, options: &NetworkOptions) -> Result<NetworkInfo> {
        let (name, options) = (name.clone(), options.clone());
        self.run(move |networks| networks.create(&name, options)).await
    }

    async fn inspect(&self, name: &Name) -> Result<Option<NetworkInfo>> {
        let name = name.clone();
        self.run(move |networks| networks.inspect(&name)).await
    }

    async fn list(&self) -> Result<Vec<NetworkInfo>> {
        self.run(|networks| networks.list()).await
    }

    async fn remove(&self, name: &Name) -> Result<()> {
        let name = name.clone();
        self.run(move |networks| networks.remove(&name)).await
    }

    async fn attach(
        &self,
        network: &Name,
        sandbox: &Sandbox,
        options: &EndpointOptions,
    ) -> Result<Attachment> {
        let (lazy, network) = (Arc::clone(&self.lazy), network.clone());
        let (sandbox, options) = (sandbox.clone(), options.clone());
        let (sender, receiver) = oneshot::channel();
        tokio::task::spawn_blocking(move || {
            let made = lazy.networks().and_then(|networks| {
                let made = networks.attach(&network, &sandbox, &options)?;
                networks.watch();
                Ok(made)
            });
            if let Err(Ok(unwanted)) = sender.send(made) {
                // Nobody waits for it any more.
                let endpoint = unwanted.endpoint;
                let undone =
                    lazy.networks().and_then(|networks| networks.detach(&network, &endpoint.container));
                if let Err(error) = undone {
                    tracing::warn!(%network, container = endpoint.container.short(), %error, "undoing an attach failed");
                }
            }
        });
        receiver.await.unwrap_or_else(|error| Err(broken(error)))
    }

    async fn detach(&self, network: &Name, id: &ContainerId) -> Result<()> {
        let (network, id) = (network.clone(), id.clone());
        self.run(move |networks| networks.detach(&network, &id)).await
    }

    async fn rename(&self, network: &Name, id: &ContainerId, names: &[String]) -> Result<()> {
        let (network, id, names) = (network.clone(), id.clone(), names.to_vec());
        self.run(move |networks| networks.rename(&network, &id, &names)).await
    }

    async fn sweep(&self, gone: &[Endpoint]) -> Result<()> {
        if gone.is_empty() && !networks::was_used(&self.lazy.run_root) {
            return Ok(());
        }
        let gone = gone.to_vec();
        self.run(move |networks| {
            networks.sweep(&gone)?;
            if networks.is_used()? {
                networks.watch();
            }
            Ok(())
        })
        .await
    }

    async fn diagnose(&self) -> Vec<Check> {
        vec![Self::look().await]
    }
}
