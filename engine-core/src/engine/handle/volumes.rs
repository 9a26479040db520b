//! Volumes of an engine.

use std::collections::BTreeMap;

use crate::engine::{Engine, PruneOptions, Pruned};
use crate::error::Result;
use crate::id::Name;
use crate::io::ByteStream;
use crate::volume_driver::{Volume, VolumeOptions};

impl Engine {
    /// Creates a volume, or returns the one of that name if its options are the same.
    ///
    /// # Errors
    /// As [`VolumeDriver::create`](crate::VolumeDriver::create).
    pub async fn create_volume(&self, name: &Name, options: &VolumeOptions) -> Result<Volume> {
        self.backend.create_volume(name, options).await
    }

    /// Returns the volume `name`.
    ///
    /// # Errors
    /// [`NotFound`](crate::ErrorKind::NotFound) if there is none.
    pub async fn volume(&self, name: &Name) -> Result<Volume> {
        self.backend.volume(name).await
    }

    /// Returns all volumes, by name.
    ///
    /// # Errors
    /// What the driver says.
    pub async fn volumes(&self) -> Result<Vec<Volume>> {
        self.backend.volumes().await
    }

    /// Returns how many containers, running or not, use each volume that is used.
    ///
    /// # Errors
    /// What the records say.
    pub async fn volume_users(&self) -> Result<BTreeMap<Name, usize>> {
        self.backend.volume_users().await
    }

    /// Returns the size of a volume's content in bytes, or `None` where the driver does not know.
    ///
    /// # Errors
    /// [`NotFound`](crate::ErrorKind::NotFound) if there is no such volume.
    pub async fn volume_usage(&self, name: &Name) -> Result<Option<u64>> {
        self.backend.volume_usage(name).await
    }

    /// Returns a volume's content as a tar archive, with owners, modes, times, links and extended attributes.
    /// Containers that write to it meanwhile are not stopped.
    ///
    /// # Errors
    /// As [`VolumeDriver::files`](crate::VolumeDriver::files). What fails later comes in the stream.
    pub async fn export_volume(&self, name: &Name) -> Result<ByteStream> {
        self.backend.export_volume(name).await
    }

    /// Unpacks a tar archive into a volume, over what is in it. Nothing outside of the volume is touched, whatever the
    /// archive holds; device nodes are refused. What was unpacked before a failure stays.
    ///
    /// # Errors
    /// As [`VolumeDriver::files`](crate::VolumeDriver::files) and [`ContainerFiles::unpack`].
    ///
    /// [`ContainerFiles::unpack`]: crate::files::ContainerFiles::unpack
    pub async fn import_volume(&self, name: &Name, archive: ByteStream) -> Result<()> {
        self.backend.import_volume(name, archive).await
    }

    /// Removes a volume and its content. Removing one that is gone is `Ok`.
    ///
    /// # Errors
    /// [`Conflict`](crate::ErrorKind::Conflict) while a container, running or not, uses it.
    pub async fn remove_volume(&self, name: &Name) -> Result<()> {
        self.backend.remove_volume(name).await
    }

    /// Gives a volume another name. One that nobody named is a named one from then on.
    ///
    /// # Errors
    /// [`Conflict`](crate::ErrorKind::Conflict) while a container, running or not, uses it;
    /// [`NotFound`](crate::ErrorKind::NotFound); [`AlreadyExists`](crate::ErrorKind::AlreadyExists) if there is a
    /// volume of the new name.
    pub async fn rename_volume(&self, name: &Name, new: &Name) -> Result<Volume> {
        self.backend.rename_volume(name, new).await
    }

    /// Removes the volumes that no container uses, running or not: anonymous ones, and named ones too with
    /// [`PruneOptions::all`].
    ///
    /// # Errors
    /// What the driver says. What was removed before a failure is gone.
    pub async fn prune_volumes(&self, options: &PruneOptions) -> Result<Pruned<Name>> {
        self.backend.prune_volumes(options).await
    }
}
