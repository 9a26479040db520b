//! Volumes of an engine: the driver's, protected while containers use them.

use crate::container_spec::MountSpec;
use crate::error::{Error, ErrorKind, Result};
use crate::events::Action;
use crate::id::Name;
use crate::volume_driver::{Volume, VolumeOptions};

use super::Engine;
use super::events::of_volume;

impl Engine {
    /// Creates a volume, or returns the one of that name if its options are the same.
    ///
    /// # Errors
    /// As [`VolumeDriver::create`](crate::VolumeDriver::create).
    pub async fn create_volume(&self, name: &Name, options: &VolumeOptions) -> Result<Volume> {
        let volumes = &self.inner.volumes;
        if volumes.inspect(name).await?.is_some() {
            return volumes.create(name, options).await;
        }
        let event = of_volume(Action::Create, name, volumes.name());
        let (volumes, name, options) = (std::sync::Arc::clone(volumes), name.clone(), options.clone());
        self.change(event, async move { volumes.create(&name, &options).await }).await
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
        self.destroy_volume(name).await
    }

    /// Removes a volume that nothing uses.
    pub(super) async fn destroy_volume(&self, name: &Name) -> Result<()> {
        let volumes = &self.inner.volumes;
        if volumes.inspect(name).await?.is_none() {
            return volumes.remove(name).await;
        }
        let event = of_volume(Action::Destroy, name, volumes.name());
        let (volumes, name) = (std::sync::Arc::clone(volumes), name.clone());
        self.change(event, async move { volumes.remove(&name).await }).await
    }
}
