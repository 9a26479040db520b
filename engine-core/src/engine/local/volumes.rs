//! Volumes.

use std::collections::BTreeMap;

use async_trait::async_trait;

use crate::engine::{LocalEngine, PruneOptions, Pruned, VolumeOperations};
use crate::error::Result;
use crate::id::Name;
use crate::io::ByteStream;
use crate::volume_driver::{Volume, VolumeOptions};

#[async_trait]
impl VolumeOperations for LocalEngine {
    async fn create_volume(&self, name: &Name, options: &VolumeOptions) -> Result<Volume> {
        Self::create_volume(self, name, options).await
    }

    async fn volume(&self, name: &Name) -> Result<Volume> {
        Self::volume(self, name).await
    }

    async fn volumes(&self) -> Result<Vec<Volume>> {
        Self::volumes(self).await
    }

    async fn volume_users(&self) -> Result<BTreeMap<Name, usize>> {
        Self::volume_users(self).await
    }

    async fn volume_usage(&self, name: &Name) -> Result<Option<u64>> {
        Self::volume_usage(self, name).await
    }

    async fn export_volume(&self, name: &Name) -> Result<ByteStream> {
        Self::export_volume(self, name).await
    }

    async fn import_volume(&self, name: &Name, archive: ByteStream) -> Result<()> {
        Self::import_volume(self, name, archive).await
    }

    async fn remove_volume(&self, name: &Name) -> Result<()> {
        Self::remove_volume(self, name).await
    }

    async fn rename_volume(&self, name: &Name, new: &Name) -> Result<Volume> {
        Self::rename_volume(self, name, new).await
    }

    async fn prune_volumes(&self, options: &PruneOptions) -> Result<Pruned<Name>> {
        Self::prune_volumes(self, options).await
    }
}
