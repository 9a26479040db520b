//! Files of containers, and the states of them that are kept.

use std::fmt;
use std::path::Path;

use async_trait::async_trait;

use crate::digest::Digest;
use crate::engine::{CommitOptions, ForkOptions, Snapshot};
use crate::error::Result;
use crate::files::{Change, PathStat, UnpackFiles};
use crate::id::{ContainerId, Name};
use crate::io::ByteStream;
use crate::mount::Mount;

/// Files of containers, and the states of them that are kept.
#[async_trait]
pub trait FileOperations: fmt::Debug + Send + Sync {
    /// See [`Container::stat_path`](crate::engine::Container::stat_path).
    async fn stat_path(&self, id: &ContainerId, path: &Path) -> Result<PathStat>;
    /// See [`Container::copy_out`](crate::engine::Container::copy_out).
    async fn copy_out(&self, id: &ContainerId, path: &Path) -> Result<(PathStat, ByteStream)>;
    /// See [`Container::copy_in`](crate::engine::Container::copy_in).
    async fn copy_in(
        &self,
        id: &ContainerId,
        path: &Path,
        archive: ByteStream,
        options: &UnpackFiles,
    ) -> Result<()>;
    /// See [`Container::export`](crate::engine::Container::export).
    async fn export_container(&self, id: &ContainerId) -> Result<ByteStream>;
    /// See [`Container::changes`](crate::engine::Container::changes).
    async fn changes(&self, id: &ContainerId) -> Result<Vec<Change>>;
    /// See [`Container::rootfs`](crate::engine::Container::rootfs).
    async fn rootfs(&self, id: &ContainerId) -> Result<Vec<Mount>>;
    /// See [`Container::commit`](crate::engine::Container::commit).
    async fn commit_container(&self, id: &ContainerId, options: &CommitOptions) -> Result<Digest>;
    /// See [`Container::fork`](crate::engine::Container::fork).
    async fn fork_container(&self, id: &ContainerId, options: ForkOptions) -> Result<ContainerId>;
    /// See [`Container::snapshot`](crate::engine::Container::snapshot).
    async fn snapshot(&self, id: &ContainerId, name: Option<Name>) -> Result<Snapshot>;
    /// See [`Container::snapshots`](crate::engine::Container::snapshots).
    async fn snapshots(&self, id: &ContainerId) -> Result<Vec<Snapshot>>;
    /// See [`Container::changes_since`](crate::engine::Container::changes_since).
    async fn changes_since(&self, id: &ContainerId, name: &Name) -> Result<Vec<Change>>;
    /// See [`Container::restore`](crate::engine::Container::restore).
    async fn restore(&self, id: &ContainerId, name: &Name) -> Result<()>;
    /// See [`Container::remove_snapshot`](crate::engine::Container::remove_snapshot).
    async fn remove_snapshot(&self, id: &ContainerId, name: &Name) -> Result<()>;
}
