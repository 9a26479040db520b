//! [`MemoryVolumes`]: volumes that are records only.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;

use super::{Faults, lock};
use crate::error::{Error, ErrorKind, Result};
use crate::files::ContainerFiles;
use crate::id::Name;
use crate::mount::Mount;
use crate::volume_driver::{ANONYMOUS_LABEL, Volume, VolumeDriver, VolumeOptions};

/// A [`VolumeDriver`] without storage: a volume is mounted as an empty tmpfs, and never filled from
/// an image.
///
/// Clones share their volumes. Methods in [`Faults`]: `volume.create`, `volume.inspect`, and so on.
#[derive(Clone, Debug, Default)]
pub struct MemoryVolumes {
    volumes: Arc<Mutex<BTreeMap<Name, Volume>>>,
    known_options: BTreeSet<String>,
    faults: Faults,
}

impl MemoryVolumes {
    /// Creates a driver without volumes that knows no options.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Shares `faults` with other parts.
    #[must_use]
    pub fn with_faults(mut self, faults: Faults) -> Self {
        self.faults = faults;
        self
    }

    /// Makes the driver accept these driver options, which it then ignores.
    #[must_use]
    pub fn with_known_options(mut self, names: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.known_options.extend(names.into_iter().map(Into::into));
        self
    }

    fn require(&self, operation: &'static str, name: &Name) -> Result<()> {
        if lock(&self.volumes).contains_key(name) {
            return Ok(());
        }
        Err(Error::new(ErrorKind::NotFound, operation).with("volume", name))
    }

    /// Returns the handle for faults.
    #[must_use]
    pub fn faults(&self) -> &Faults {
        &self.faults
    }
}

#[async_trait]
impl VolumeDriver for MemoryVolumes {
    fn name(&self) -> &str {
        "memory"
    }

    async fn create(&self, name: &Name, options: &VolumeOptions) -> Result<Volume> {
        self.faults.check("volume.create", name).await?;
        let fail = |kind| Error::new(kind, "create volume").with("volume", name);
        if let Some(unknown) = options.driver_options.keys().find(|key| !self.known_options.contains(*key)) {
            return Err(fail(ErrorKind::InvalidArgument)
                .with("option", unknown)
                .with_message("unknown option"));
        }
        let mut volumes = lock(&self.volumes);
        if let Some(there) = volumes.get(name) {
            if there.labels == options.labels && there.driver_options == options.driver_options {
                return Ok(there.clone());
            }
            return Err(fail(ErrorKind::Conflict).with_message("it exists with other options"));
        }
        let volume = Volume::new(name.clone(), self.name(), options);
        volumes.insert(name.clone(), volume.clone());
        Ok(volume)
    }

    async fn inspect(&self, name: &Name) -> Result<Option<Volume>> {
        self.faults.check("volume.inspect", name).await?;
        Ok(lock(&self.volumes).get(name).cloned())
    }

    async fn list(&self) -> Result<Vec<Volume>> {
        self.faults.check("volume.list", "").await?;
        Ok(lock(&self.volumes).values().cloned().collect())
    }

    async fn remove(&self, name: &Name) -> Result<()> {
        self.faults.check("volume.remove", name).await?;
        lock(&self.volumes).remove(name);
        Ok(())
    }

    async fn rename(&self, name: &Name, new: &Name) -> Result<Volume> {
        self.faults.check("volume.rename", name).await?;
        let mut volumes = lock(&self.volumes);
        if volumes.contains_key(new) {
            return Err(Error::new(ErrorKind::AlreadyExists, "rename volume").with("volume", new));
        }
        let mut volume = volumes
            .remove(name)
            .ok_or_else(|| Error::new(ErrorKind::NotFound, "rename volume").with("volume", name))?;
        volume.name = new.clone();
        volume.labels.remove(ANONYMOUS_LABEL);
        volumes.insert(new.clone(), volume.clone());
        Ok(volume)
    }

    async fn mount(&self, name: &Name, target: &Path) -> Result<Mount> {
        self.faults.check("volume.mount", name).await?;
        self.require("mount volume", name)?;
        Ok(Mount::tmpfs(target))
    }

    async fn fill(&self, name: &Name, _rootfs: &[Mount], _path: &Path) -> Result<bool> {
        self.faults.check("volume.fill", name).await?;
        self.require("fill volume", name)?;
        Ok(false)
    }

    async fn usage(&self, name: &Name) -> Result<Option<u64>> {
        self.faults.check("volume.usage", name).await?;
        self.require("measure volume", name)?;
        Ok(Some(0))
    }

    async fn files(&self, name: &Name) -> Result<Box<dyn ContainerFiles>> {
        self.faults.check("volume.files", name).await?;
        self.require("open volume", name)?;
        Err(Error::new(ErrorKind::Unsupported, "open volume")
            .with("volume", name)
            .with_message("volumes in memory keep nothing"))
    }
}
