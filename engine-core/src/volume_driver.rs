//! The [`VolumeDriver`] contract: named storage that outlives containers.

use std::collections::BTreeMap;
use std::fmt;
use std::time::SystemTime;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::files::ContainerFiles;
use crate::id::Name;
use crate::mount::Mount;

/// Keeps named storage.
///
/// # Contract
/// - A volume exists whole or not at all, and survives a crash once acknowledged.
/// - `create` with the name of an existing volume returns that volume if its options are the same.
/// - `fill` puts into a volume only what was asked for, whatever is in it and whoever changes it meanwhile.
/// - `remove` is idempotent. `rename` leaves a volume whole at every moment. The *engine* knows which containers use a volume and protects it; a driver does not.
///
/// # Implementing
/// Check your type with [`testing::volume_driver`](crate::testing) (feature `testing`).
#[async_trait]
pub trait VolumeDriver: fmt::Debug + Send + Sync + 'static {
    /// Returns the driver's name, such as `local`.
    fn name(&self) -> &str;

    /// Creates a volume.
    ///
    /// # Errors
    /// [`Conflict`](crate::ErrorKind::Conflict) if one of that name has other options;
    /// [`InvalidArgument`](crate::ErrorKind::InvalidArgument) for options the driver does not know.
    async fn create(&self, name: &Name, options: &VolumeOptions) -> Result<Volume>;

    /// Returns a volume, or `None`.
    async fn inspect(&self, name: &Name) -> Result<Option<Volume>>;

    /// Returns all volumes, by name.
    async fn list(&self) -> Result<Vec<Volume>>;

    /// Removes a volume and its content. Idempotent.
    async fn remove(&self, name: &Name) -> Result<()>;

    /// Gives a volume another name, and makes one that nobody named ([`Volume::is_anonymous`]) a named one. Whenever that is
    /// cut short, it has one of the two names, and all of its content.
    ///
    /// # Errors
    /// [`NotFound`](crate::ErrorKind::NotFound) if there is no such volume;
    /// [`AlreadyExists`](crate::ErrorKind::AlreadyExists) if there is one called `new`.
    async fn rename(&self, name: &Name, new: &Name) -> Result<Volume>;

    /// Describes how the volume is mounted at `target` in a container.
    ///
    /// # Errors
    /// [`NotFound`](crate::ErrorKind::NotFound) if there is no such volume.
    async fn mount(&self, name: &Name, target: &std::path::Path) -> Result<Mount>;

    /// Copies what a root file system has at `path` into the volume, with owners, modes and extended attributes, and
    /// returns whether it did. Links in the root file system lead nowhere but into it.
    ///
    /// Nothing happens unless the volume is the driver's own storage and empty, and `path` is a directory there.
    /// A fill that a crash cut short goes on when it is asked for again with the same root file system and `path`.
    /// A driver whose volumes cannot be filled returns `false`.
    ///
    /// # Errors
    /// [`NotFound`](crate::ErrorKind::NotFound) if there is no such volume.
    async fn fill(&self, name: &Name, rootfs: &[Mount], path: &std::path::Path) -> Result<bool>;

    /// Returns the size of the volume's content in bytes, or `None` where the driver does not know.
    ///
    /// # Errors
    /// [`NotFound`](crate::ErrorKind::NotFound) if there is no such volume.
    async fn usage(&self, name: &Name) -> Result<Option<u64>>;

    /// Returns access to the volume's content as archives; its root is the volume.
    ///
    /// # Errors
    /// [`NotFound`](crate::ErrorKind::NotFound) if there is no such volume;
    /// [`Unsupported`](crate::ErrorKind::Unsupported) if its content is nowhere but in containers.
    async fn files(&self, name: &Name) -> Result<Box<dyn ContainerFiles>>;
}

/// What a volume is made with.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct VolumeOptions {
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Options of the driver.
    pub driver_options: BTreeMap<String, String>,
}

/// A volume.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Volume {
    /// Its name.
    pub name: Name,
    /// Its driver's name.
    pub driver: String,
    /// Where its content is on the host, if it is in one place.
    pub mountpoint: Option<std::path::PathBuf>,
    /// When it was made.
    pub created_at: SystemTime,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its driver's options.
    pub driver_options: BTreeMap<String, String>,
}

/// The label of volumes that nobody named, as Docker has it. Its value is empty.
pub const ANONYMOUS_LABEL: &str = "com.docker.volume.anonymous";

impl Volume {
    /// Returns whether nobody named it: such a volume goes with its container, and by pruning.
    #[must_use]
    pub fn is_anonymous(&self) -> bool {
        self.labels.contains_key(ANONYMOUS_LABEL)
    }

    /// Creates a volume's description.
    #[must_use]
    pub fn new(name: Name, driver: impl Into<String>, options: &VolumeOptions) -> Self {
        Self {
            name,
            driver: driver.into(),
            mountpoint: None,
            created_at: SystemTime::now(),
            labels: options.labels.clone(),
            driver_options: options.driver_options.clone(),
        }
    }
}
