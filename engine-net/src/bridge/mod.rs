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

use std::path::Path;
use std::sync::Arc;

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
    driver: Arc<Driver>,
}

impl BridgeNetwork {
    /// Opens the networks of the engine at `root`, and makes the default one if it is not there.
    ///
    /// # Errors
    /// What the file system or the database says.
    pub async fn open(root: impl AsRef<Path>, run_root: impl AsRef<Path>) -> Result<Self> {
        let (root, run_root) = (root.as_ref().to_owned(), run_root.as_ref().to_owned());
        let driver = blocking(move || Driver::open(&root, &run_root)).await?;
        Ok(Self { driver: Arc::new(driver) })
    }

    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Driver) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let driver = Arc::clone(&self.driver);
        blocking(move || work(&driver)).await
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
        self.run(Driver::list).await
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
        let (driver, network) = (Arc::clone(&self.driver), network.clone());
        let (sandbox, options) = (sandbox.clone(), options.clone());
        let (sender, receiver) = oneshot::channel();
        tokio::task::spawn_blocking(move || {
            let made = driver.attach(&network, &sandbox, &options);
            if made.is_ok() {
                driver.watch();
            }
            if let Err(Ok(unwanted)) = sender.send(made) {
                // Nobody waits for it any more.
                let endpoint = unwanted.endpoint;
                if let Err(error) = driver.detach(&network, &endpoint.container) {
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
        let (driver, gone) = (Arc::clone(&self.driver), gone.to_vec());
        blocking(move || {
            driver.sweep(&gone)?;
            if driver.is_used()? {
                driver.watch();
            }
            Ok(())
        })
        .await
    }
}
