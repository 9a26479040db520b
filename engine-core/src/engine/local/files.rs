//! Files of containers, and the states of them that are kept.

use std::path::Path;

use async_trait::async_trait;

use crate::digest::Digest;
use crate::engine::{CommitOptions, FileOperations, ForkOptions, LocalEngine, Snapshot};
use crate::error::Result;
use crate::files::{Change, PathStat, UnpackFiles};
use crate::id::{ContainerId, Name};
use crate::io::ByteStream;
use crate::mount::Mount;

#[async_trait]
impl FileOperations for LocalEngine {
    async fn stat_path(&self, id: &ContainerId, path: &Path) -> Result<PathStat> {
        self.handle(id).stat_path(path).await
    }

    async fn copy_out(&self, id: &ContainerId, path: &Path) -> Result<(PathStat, ByteStream)> {
        self.handle(id).copy_out(path).await
    }

    async fn copy_in(
        &self,
        id: &ContainerId,
        path: &Path,
        archive: ByteStream,
        options: &UnpackFiles,
    ) -> Result<()> {
        self.handle(id).copy_in(path, archive, options).await
    }

    async fn export_container(&self, id: &ContainerId) -> Result<ByteStream> {
        self.handle(id).export().await
    }

    async fn changes(&self, id: &ContainerId) -> Result<Vec<Change>> {
        self.handle(id).changes().await
    }

    async fn rootfs(&self, id: &ContainerId) -> Result<Vec<Mount>> {
        self.handle(id).rootfs().await
    }

    async fn commit_container(&self, id: &ContainerId, options: &CommitOptions) -> Result<Digest> {
        self.handle(id).commit(options).await
    }

    async fn fork_container(&self, id: &ContainerId, options: ForkOptions) -> Result<ContainerId> {
        Ok(self.handle(id).fork(options).await?.id)
    }

    async fn snapshot(&self, id: &ContainerId, name: Option<Name>) -> Result<Snapshot> {
        self.handle(id).snapshot(name).await
    }

    async fn snapshots(&self, id: &ContainerId) -> Result<Vec<Snapshot>> {
        self.handle(id).snapshots().await
    }

    async fn changes_since(&self, id: &ContainerId, name: &Name) -> Result<Vec<Change>> {
        self.handle(id).changes_since(name).await
    }

    async fn restore(&self, id: &ContainerId, name: &Name) -> Result<()> {
        self.handle(id).restore(name).await
    }

    async fn remove_snapshot(&self, id: &ContainerId, name: &Name) -> Result<()> {
        self.handle(id).remove_snapshot(name).await
    }
}
