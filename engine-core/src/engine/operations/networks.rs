//! Networks.

use std::fmt;

use async_trait::async_trait;

use crate::engine::{PruneOptions, Pruned};
use crate::error::Result;
use crate::id::Name;
use crate::network::{NetworkInfo, NetworkOptions};

/// Networks.
#[async_trait]
pub trait NetworkOperations: fmt::Debug + Send + Sync {
    /// See [`Engine::create_network`](crate::engine::Engine::create_network).
    async fn create_network(&self, name: &Name, options: &NetworkOptions) -> Result<NetworkInfo>;
    /// See [`Engine::network`](crate::engine::Engine::network).
    async fn network(&self, name: &str) -> Result<NetworkInfo>;
    /// See [`Engine::networks`](crate::engine::Engine::networks).
    async fn networks(&self) -> Result<Vec<NetworkInfo>>;
    /// See [`Engine::remove_network`](crate::engine::Engine::remove_network).
    async fn remove_network(&self, name: &str) -> Result<()>;
    /// See [`Engine::prune_networks`](crate::engine::Engine::prune_networks).
    async fn prune_networks(&self, options: &PruneOptions) -> Result<Pruned<Name>>;
    /// See [`Engine::is_predefined`](crate::engine::Engine::is_predefined).
    fn is_predefined(&self, name: &Name) -> bool;
    /// See [`Engine::default_network`](crate::engine::Engine::default_network).
    fn default_network(&self) -> Option<&Name>;
}
