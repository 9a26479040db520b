//! Volumes.

use std::collections::BTreeMap;

use async_trait::async_trait;
use engine_core::Result;
use engine_core::engine::{PruneOptions, Pruned, VolumeOperations};
use engine_core::id::Name;
use engine_core::io::ByteStream;
use engine_core::volume_driver::{Volume, VolumeOptions};

use super::super::RemoteEngine;

#[async_trait]
impl VolumeOperations for RemoteEngine {
    async fn create_volume(&self, name: &Name, options: &VolumeOptions) -> Result<Volume> {
        self.call("create_volume", (name, options)).await
    }

    async fn volume(&self, name: &Name) -> Result<Volume> {
        self.call("volume", (name,)).await
    }

    async fn volumes(&self) -> Result<Vec<Volume>> {
        self.call("volumes", ()).await
    }

    async fn volume_users(&self) -> Result<BTreeMap<Name, usize>> {
        self.call("volume_users", ()).await
    }

    async fn volume_usage(&self, name: &Name) -> Result<Option<u64>> {
        self.call("volume_usage", (name,)).await
    }

    async fn export_volume(&self, name: &Name) -> Result<ByteStream> {
        self.bytes("export_volume", (name,)).await
    }

    async fn import_volume(&self, name: &Name, archive: ByteStream) -> Result<()> {
        self.call_with("import_volume", (name,), archive).await
    }

    async fn remove_volume(&self, name: &Name) -> Result<()> {
        self.call("remove_volume", (name,)).await
    }

    async fn rename_volume(&self, name: &Name, new: &Name) -> Result<Volume> {
        self.call("rename_volume", (name, new)).await
    }

    async fn prune_volumes(&self, options: &PruneOptions) -> Result<Pruned<Name>> {
        self.call("prune_volumes", (options,)).await
    }
}
