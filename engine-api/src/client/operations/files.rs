//! Files of containers, and the states of them that are kept.

use std::path::Path;

use async_trait::async_trait;
use engine_core::Result;
use engine_core::digest::Digest;
use engine_core::engine::{CommitOptions, FileOperations, ForkOptions, Snapshot};
use engine_core::files::{Change, PathStat, UnpackFiles};
use engine_core::id::{ContainerId, Name};
use engine_core::io::ByteStream;
use engine_core::mount::Mount;

use super::super::RemoteEngine;
use super::super::call::{line, misunderstood};
use super::super::frames::Next;
use crate::wire;

#[async_trait]
impl FileOperations for RemoteEngine {
    async fn stat_path(&self, id: &ContainerId, path: &Path) -> Result<PathStat> {
        self.call("stat_path", (id, wire::Path::from(path))).await
    }

    async fn copy_out(&self, id: &ContainerId, path: &Path) -> Result<(PathStat, ByteStream)> {
        let mut frames = self.frames("copy_out", line((id, wire::Path::from(path)))).await?;
        match frames.next().await? {
            Next::Item(stat) => Ok((wire::parsed(&stat)?, Box::pin(frames.items()))),
            _ => Err(misunderstood("a copy does not begin with what it is of")),
        }
    }

    async fn copy_in(
        &self,
        id: &ContainerId,
        path: &Path,
        archive: ByteStream,
        options: &UnpackFiles,
    ) -> Result<()> {
        self.call_with("copy_in", (id, wire::Path::from(path), options), archive).await
    }

    async fn export_container(&self, id: &ContainerId) -> Result<ByteStream> {
        self.bytes("export_container", (id,)).await
    }

    async fn changes(&self, id: &ContainerId) -> Result<Vec<Change>> {
        self.call("changes", (id,)).await
    }

    async fn rootfs(&self, id: &ContainerId) -> Result<Vec<Mount>> {
        self.call("rootfs", (id,)).await
    }

    async fn commit_container(&self, id: &ContainerId, options: &CommitOptions) -> Result<Digest> {
        self.call("commit_container", (id, options)).await
    }

    async fn fork_container(&self, id: &ContainerId, options: ForkOptions) -> Result<ContainerId> {
        self.call("fork_container", (id, options)).await
    }

    async fn snapshot(&self, id: &ContainerId, name: Option<Name>) -> Result<Snapshot> {
        self.call("snapshot", (id, name)).await
    }

    async fn snapshots(&self, id: &ContainerId) -> Result<Vec<Snapshot>> {
        self.call("snapshots", (id,)).await
    }

    async fn changes_since(&self, id: &ContainerId, name: &Name) -> Result<Vec<Change>> {
        self.call("changes_since", (id, name)).await
    }

    async fn restore(&self, id: &ContainerId, name: &Name) -> Result<()> {
        self.call("restore", (id, name)).await
    }

    async fn remove_snapshot(&self, id: &ContainerId, name: &Name) -> Result<()> {
        self.call("remove_snapshot", (id, name)).await
    }
}
