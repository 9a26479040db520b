//! Volumes of an engine: the driver's, protected while containers use them.

use crate::container_spec::MountSpec;
use crate::error::{Error, ErrorKind, Result};
use crate::id::Name;
use crate::volume_driver::{Volume, VolumeOptions};

use super::Engine;

impl Engine {
    /// Creates a volume, or returns the one of that name if its options are the same.
    ///
    /// # Errors
    /// As [`VolumeDriver::create`](crate::VolumeDriver::create).
    pub async fn create_volume(&self, name: &Name, options: &VolumeOptions) -> Result<Volume> {
        self.inner.volumes.create(name, options).await
    }

    /// Returns all volumes, by name.
    ///
    /// # Errors
    /// What the driver says.
    pub async fn volumes(&self) -> Result<Vec<Volume>> {
        self.inner.volumes.list().await
    }

    /// Removes a volume and its content. Removing one that is gone is `Ok`.
    ///
    /// # Errors
    /// [`ErrorKind::Conflict`] while a container, running or not, uses it.
    pub async fn remove_volume(&self, name: &Name) -> Result<()> {
        for record in self.inner.records.all().await? {
            let uses = record
                .data
                .spec
                .mounts
                .iter()
                .any(|mount| matches!(mount, MountSpec::Volume { name: Some(used), .. } if used == name));
            if uses {
                return Err(Error::new(ErrorKind::Conflict, "remove volume")
                    .with("volume", name)
                    .with_message(format!("container {} uses it", record.id.short()))
                    .with_hint("remove the container first"));
            }
        }
        self.inner.volumes.remove(name).await
    }
}
