//! Networks.

use async_trait::async_trait;

use crate::engine::{LocalEngine, NetworkOperations, PruneOptions, Pruned};
use crate::error::Result;
use crate::id::Name;
use crate::network::{NetworkInfo, NetworkOptions};

#[async_trait]
impl NetworkOperations for LocalEngine {
    async fn create_network(&self, name: &Name, options: &NetworkOptions) -> Result<NetworkInfo> {
        Self::create_network(self, name, options).await
    }

    async fn network(&self, name: &str) -> Result<NetworkInfo> {
        Self::network(self, name).await
    }

    async fn networks(&self) -> Result<Vec<NetworkInfo>> {
        Self::networks(self).await
    }

    async fn remove_network(&self, name: &str) -> Result<()> {
        Self::remove_network(self, name).await
    }

    async fn prune_networks(&self, options: &PruneOptions) -> Result<Pruned<Name>> {
        Self::prune_networks(self, options).await
    }

    fn is_predefined(&self, name: &Name) -> bool {
        Self::is_predefined(self, name)
    }

    fn default_network(&self) -> Option<&Name> {
        Self::default_network(self)
    }
}
