//! Repair at open: what a crash of any program left is found and removed.

use std::collections::HashSet;

use crate::error::Result;
use crate::id::{ContainerId, SnapshotId};
use crate::state::ContainerStatus;

use super::records::Record;
use super::{LocalEngine, blocking, build};

impl LocalEngine {
    /// Removes what no record reaches, and containers that were to remove themselves and have ended.
    ///
    /// Safe beside other programs: everything is listed *before* the records are read, and a record is
    /// committed before anything is made for it, so what has no record then is garbage.
    pub(super) async fn repair(&self) -> Result<()> {
        let sandboxes = self.inner.runtime.list().await?;
        let rootfs = self.inner.images.rootfs_list().await?;
        let snapshots = self.inner.images.snapshot_list().await?;
        let turns = self.inner.turns.list()?;
        let records = self.inner.records.all().await?;
        let known: HashSet<&ContainerId> = records.iter().map(|r| &r.id).collect();
        for id in sandboxes.iter().filter(|id| !known.contains(id)) {
            tracing::info!(container = %id, "removing a sandbox that has no record");
            self.remove_name_files(id).await?;
            self.inner.runtime.delete(id).await?;
        }
        for id in rootfs.iter().filter(|id| !known.contains(id)) {
            tracing::info!(container = %id, "removing a root file system that has no record");
            self.remove_name_files(id).await?;
            self.inner.images.remove_rootfs(id).await?;
        }
        let named: HashSet<&SnapshotId> = records
            .iter()
            .flat_map(|r| {
                r.data.snapshots.iter().map(|s| &s.id).chain(r.data.base.iter().map(|b| &b.snapshot))
            })
            .collect();
        for id in snapshots.iter().filter(|id| !named.contains(id)) {
            tracing::info!(snapshot = %id, "removing a snapshot that no record names");
            self.inner.images.remove_snapshot(id).await?;
        }
        for id in turns.iter().filter(|id| !known.contains(id)) {
            // A build's cache has turns and no record.
            self.inner.turns.forget_unused(id)?;
        }
        // A container is taken off its networks before its record goes. So without such records, none has left anything.
        if records.iter().any(|record| self.has_networks(record)) {
            self.sweep_networks().await?;
        }
        self.inner.secrets.repair().await?;
        if let Some(root) = self.inner.root.clone() {
            blocking(move || build::sweep(&root)).await?;
        }
        self.reap(&records).await
    }

    /// Removes containers among `records` whose time is over: scoped ones whose program is dead, and ended
    /// ones that were to remove themselves.
    pub(super) async fn reap(&self, records: &[Record]) -> Result<()> {
        for record in records {
            if self.is_over(record).await? {
                self.remove_record(record, true).await?;
            }
        }
        Ok(())
    }

    /// Returns whether the container of `record` should be gone by itself.
    pub(super) async fn is_over(&self, record: &Record) -> Result<bool> {
        if let Some(owner) = &record.data.owner {
            return Ok(!owner.is_alive());
        }
        if !record.data.spec.auto_remove {
            return Ok(false);
        }
        Ok(self.state_of(record).await?.status == ContainerStatus::Exited)
    }
}
