//! Networks of an engine.

use crate::engine::{Engine, PruneOptions, Pruned};
use crate::error::Result;
use crate::id::Name;
use crate::network::{NetworkInfo, NetworkOptions};

impl Engine {
    /// Creates a network.
    ///
    /// # Errors
    /// [`AlreadyExists`](crate::ErrorKind::AlreadyExists) if the name is taken;
    /// [`Conflict`](crate::ErrorKind::Conflict) if a subnet overlaps another's;
    /// [`InvalidArgument`](crate::ErrorKind::InvalidArgument) for a predefined name and as
    /// [`Network::create`](crate::Network::create).
    pub async fn create_network(&self, name: &Name, options: &NetworkOptions) -> Result<NetworkInfo> {
        self.backend.create_network(name, options).await
    }

    /// Finds a network by name, id, or the beginning of an id, with the containers that run on it.
    ///
    /// # Errors
    /// [`NotFound`](crate::ErrorKind::NotFound); [`InvalidArgument`](crate::ErrorKind::InvalidArgument) if several ids
    /// begin so.
    pub async fn network(&self, name: &str) -> Result<NetworkInfo> {
        self.backend.network(name).await
    }

    /// Returns all networks, by name. Of the predefined `host` and `none`, the containers are not listed.
    ///
    /// # Errors
    /// What the implementation says.
    pub async fn networks(&self) -> Result<Vec<NetworkInfo>> {
        self.backend.networks().await
    }

    /// Removes a network, found as by [`network`](Self::network).
    ///
    /// # Errors
    /// [`NotFound`](crate::ErrorKind::NotFound); [`InvalidArgument`](crate::ErrorKind::InvalidArgument) for a
    /// predefined one; [`Conflict`](crate::ErrorKind::Conflict) while containers run on it. Others that are to be on
    /// it cannot start from then on.
    pub async fn remove_network(&self, name: &str) -> Result<()> {
        self.backend.remove_network(name).await
    }

    /// Removes the networks that somebody made and no running container is on. Without filters, what the default
    /// network has on the host goes too if it is idle: there is no daemon to whom it would belong. The next container
    /// makes it anew.
    ///
    /// # Errors
    /// What the implementation says. What was removed before a failure is gone.
    pub async fn prune_networks(&self, options: &PruneOptions) -> Result<Pruned<Name>> {
        self.backend.prune_networks(options).await
    }

    /// Whether a network is there without anybody having made it.
    #[must_use]
    pub fn is_predefined(&self, name: &Name) -> bool {
        self.backend.is_predefined(name)
    }

    /// Returns the network of containers that name none, if there is one.
    #[must_use]
    pub fn default_network(&self) -> Option<&Name> {
        self.backend.default_network()
    }
}
