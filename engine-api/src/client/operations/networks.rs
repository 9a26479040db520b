//! Networks.

use async_trait::async_trait;
use engine_core::Result;
use engine_core::engine::{NetworkOperations, PruneOptions, Pruned};
use engine_core::id::Name;
use engine_core::network::{NetworkInfo, NetworkOptions};

use super::super::RemoteEngine;

#[async_trait]
impl NetworkOperations for RemoteEngine {
    async fn create_network(&self, name: &Name, options: &NetworkOptions) -> Result<NetworkInfo> {
        self.call("create_network", (name, options)).await
    }

    async fn network(&self, name: &str) -> Result<NetworkInfo> {
        self.call("network", (name,)).await
    }

    async fn networks(&self) -> Result<Vec<NetworkInfo>> {
        self.call("networks", ()).await
    }

    async fn remove_network(&self, name: &str) -> Result<()> {
        self.call("remove_network", (name,)).await
    }

    async fn prune_networks(&self, options: &PruneOptions) -> Result<Pruned<Name>> {
        self.call("prune_networks", (options,)).await
    }

    fn is_predefined(&self, name: &Name) -> bool {
        self.predefined().contains(name)
    }

    fn default_network(&self) -> Option<&Name> {
        self.default_network_name()
    }
}
