//! [`BridgeNetwork`]: networks of Linux bridges.
//!
//! This module owns the order of things: records before what they describe, links before rules, everything undone where one
//! step fails. Its files own a part each: `records` the database, `addresses` who gets which, `links` interfaces, `rules` the
//! packet filter, `reserve` ports of the host.
//!
//! Invariant: what is in the kernel is known to the records, except while an operation that holds the lock undoes it.

mod addresses;
mod driver;
mod holder;
mod links;
mod options;
mod place;
mod records;
mod reserve;
mod resolver;
mod rules;
mod sysctl;
mod watch;

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use async_trait::async_trait;
use engine_core::network::{Attachment, Endpoint, EndpointOptions, Network, NetworkInfo, NetworkOptions};
use engine_core::runtime::Sandbox;
use engine_core::{ContainerId, Error, ErrorKind, Name, Result};
use tokio::sync::oneshot;

use driver::Driver;

/// Name of the network that containers are on who ask for none.
pub const DEFAULT_NETWORK: &str = "bridge";

/// A [`Network`] of Linux bridges: containers of a network reach each other, the world by the host's address, and are reached
/// by published ports, with no program running beside them.
///
/// Several programs over the same root share their networks. Everything in the kernel belongs to the root: one table of the
/// packet filter, and interfaces with an alias that names it. Others' rules and interfaces are never touched; rules of ours
/// that somebody removes come back at once while a program has the networks open, else when the next opens them.
///
/// Needs `CAP_NET_ADMIN` over the host's network namespace and a kernel with bridges, veth and nf_tables.
#[derive(Clone, Debug)]
pub struct BridgeNetwork {
    lazy: Arc<Lazy>,
}

/// The driver, once there is something to do.
#[derive(Debug)]
struct Lazy {
    root: PathBuf,
    run_root: PathBuf,
    driver: OnceLock<Arc<Driver>>,
}

impl Lazy {
    fn driver(&self) -> Result<Arc<Driver>> {
        if let Some(driver) = self.driver.get() {
            return Ok(Arc::clone(driver));
        }
        let driver = Arc::new(Driver::open(&self.root, &self.run_root)?);
        // One that another thread opened meanwhile is as good.
        Ok(Arc::clone(self.driver.get_or_init(|| driver)))
    }
}

impl BridgeNetwork {
    /// The networks of the engine at `root`. Nothing is opened or made before they are needed, so an engine whose containers
    /// have no network pays nothing for having some.
    #[must_use]
    pub fn new(root: impl AsRef<Path>, run_root: impl AsRef<Path>) -> Self {
        let (root, run_root) = (root.as_ref().to_owned(), run_root.as_ref().to_owned());
        Self { lazy: Arc::new(Lazy { root, run_root, driver: OnceLock::new() }) }
    }

    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Arc<Driver>) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let lazy = Arc::clone(&self.lazy);
        blocking(move || work(&lazy.driver()?)).await
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
impl Network for BridgeNetwork {
    async fn create(&self, name: &Name, options: &NetworkOptions) -> Result<NetworkInfo> {
        let (name, options) = (name.clone(), options.clone());
        self.run(move |driver| driver.create(&name, options)).await
    }

    async fn inspect(&self, name: &Name) -> Result<Option<NetworkInfo>> {
        let name = name.clone();
        self.run(move |driver| driver.inspect(&name)).await
    }

    async fn list(&self) -> Result<Vec<NetworkInfo>> {
        self.run(|driver| driver.list()).await
    }

    async fn remove(&self, name: &Name) -> Result<()> {
        let name = name.clone();
        self.run(move |driver| driver.remove(&name)).await
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
            let made = lazy.driver().and_then(|driver| {
                let made = driver.attach(&network, &sandbox, &options)?;
                driver.watch();
                Ok(made)
            });
            if let Err(Ok(unwanted)) = sender.send(made) {
                // Nobody waits for it any more.
                let endpoint = unwanted.endpoint;
                let undone = lazy.driver().and_then(|driver| driver.detach(&network, &endpoint.container));
                if let Err(error) = undone {
                    tracing::warn!(%network, container = endpoint.container.short(), %error, "undoing an attach failed");
                }
            }
        });
        receiver.await.unwrap_or_else(|error| Err(broken(error)))
    }

    async fn detach(&self, network: &Name, id: &ContainerId) -> Result<()> {
        let (network, id) = (network.clone(), id.clone());
        self.run(move |driver| driver.detach(&network, &id)).await
    }

    async fn rename(&self, network: &Name, id: &ContainerId, names: &[String]) -> Result<()> {
        let (network, id, names) = (network.clone(), id.clone(), names.to_vec());
        self.run(move |driver| driver.rename(&network, &id, &names)).await
    }

    async fn sweep(&self, gone: &[Endpoint]) -> Result<()> {
        if gone.is_empty() && !driver::was_used(&self.lazy.run_root) {
            return Ok(());
        }
        let gone = gone.to_vec();
        self.run(move |driver| {
            driver.sweep(&gone)?;
            if driver.is_used()? {
                driver.watch();
            }
            Ok(())
        })
        .await
    }
}
