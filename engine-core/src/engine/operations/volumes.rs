//! Volumes.

use std::collections::BTreeMap;
use std::fmt;

use async_trait::async_trait;

use crate::engine::{PruneOptions, Pruned};
use crate::error::Result;
use crate::id::Name;
use crate::io::ByteStream;
use crate::volume_driver::{Volume, VolumeOptions};

/// Volumes.
#[async_trait]
pub trait VolumeOperations: fmt::Debug + Send + Sync {
    /// See [`Engine::create_volume`](crate::engine::Engine::create_volume).
    async fn create_volume(&self, name: &Name, options: &VolumeOptions) -> Result<Volume>;
    /// See [`Engine::volume`](crate::engine::Engine::volume).
    async fn volume(&self, name: &Name) -> Result<Volume>;
    /// See [`Engine::volumes`](crate::engine::Engine::volumes).
    async fn volumes(&self) -> Result<Vec<Volume>>;
    /// See [`Engine::volume_users`](crate::engine::Engine::volume_users).
    async fn volume_users(&self) -> Result<BTreeMap<Name, usize>>;
    /// See [`Engine::volume_usage`](crate::engine::Engine::volume_usage).
    async fn volume_usage(&self, name: &Name) -> Result<Option<u64>>;
    /// See [`Engine::export_volume`](crate::engine::Engine::export_volume).
    async fn export_volume(&self, name: &Name) -> Result<ByteStream>;
    /// See [`Engine::import_volume`](crate::engine::Engine::import_volume).
    async fn import_volume(&self, name: &Name, archive: ByteStream) -> Result<()>;
    /// See [`Engine::remove_volume`](crate::engine::Engine::remove_volume).
    async fn remove_volume(&self, name: &Name) -> Result<()>;
    /// See [`Engine::rename_volume`](crate::engine::Engine::rename_volume).
    async fn rename_volume(&self, name: &Name, new: &Name) -> Result<Volume>;
    /// See [`Engine::prune_volumes`](crate::engine::Engine::prune_volumes).
    async fn prune_volumes(&self, options: &PruneOptions) -> Result<Pruned<Name>>;
}
