//! Disk usage of containers and volumes, and how much of it nobody uses.

use serde::{Deserialize, Serialize};

use crate::error::{ErrorKind, Result};
use crate::id::ContainerId;
use crate::volume_driver::Volume;

use super::{ContainerInfo, LocalEngine};

/// What containers and volumes take on disk.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[non_exhaustive]
pub struct DiskUsage {
    /// The containers, newest first.
    pub containers: Vec<ContainerUsage>,
    /// The volumes, by name.
    pub volumes: Vec<VolumeUsage>,
}

/// What one container takes beside its image.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ContainerUsage {
    /// The container.
    pub info: ContainerInfo,
    /// The bytes it has written to its root file system.
    pub written: u64,
}

/// What one volume takes.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[non_exhaustive]
pub struct VolumeUsage {
    /// The volume.
    pub volume: Volume,
    /// Its content in bytes, where the driver knows.
    pub size: Option<u64>,
    /// How many containers use it.
    pub containers: usize,
}

impl LocalEngine {
    pub(super) async fn disk_usage(&self) -> Result<DiskUsage> {
        let mut usage = DiskUsage::default();
        for info in self.containers().await? {
            let written = self.inner.images.rootfs_usage(&info.id).await?;
            usage.containers.push(ContainerUsage { info, written });
        }
        let users = self.volume_users().await?;
        for volume in self.volumes().await? {
            let size = match self.volume_usage(&volume.name).await {
                Ok(size) => size,
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            };
            let containers = users.get(&volume.name).copied().unwrap_or(0);
            usage.volumes.push(VolumeUsage { volume, size, containers });
        }
        Ok(usage)
    }

    pub(super) async fn container_usage(&self, id: &ContainerId) -> Result<u64> {
        self.inner.images.rootfs_usage(id).await
    }
}
