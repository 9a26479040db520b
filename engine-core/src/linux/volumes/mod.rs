//! [`LocalVolumes`]: volumes as directories beneath the engine's root.
//!
//! ```text
//! volumes/.lock                           held shared by who creates or removes, exclusively by who sweeps
//! volumes/<name>/{volume.json,_data/}     a volume
//! volumes/<name>/filling                  while it gets its first content, and after a crash meanwhile
//! volumes/.new/<random>/                  a volume on its way in
//! volumes/.trash/<random>/                a volume on its way out
//! ```
//! This module owns these directories; mounting is left to the runtime. Volume names begin with a letter or
//! digit, so none is one of ours.
//! Invariant: `volumes/<name>` came there by one rename with its content synced, and goes by one rename.

mod copy_up;
mod files;
mod options;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;

use crate::error::{Error, ErrorKind, Result};
use crate::files::ContainerFiles;
use crate::id::Name;
use crate::linux::files::LinuxFiles;
use crate::linux::files::view::Viewer;
use crate::mount::Mount;
use crate::volume_driver::{Volume, VolumeDriver, VolumeOptions};

use files::Files;
use options::Kind;

/// The [`VolumeDriver`] `local`.
///
/// It knows the driver options `type`, `device` and `o` with Docker's meaning: `tmpfs`, bind mounts, and the file systems
/// that the kernel can mount by itself, such as `nfs`, `cifs`, `ext4`. These are mounted inside each container's own mount
/// namespace and never in the host's: so each container gets a tmpfs of its own, and a network file system without the help
/// of programs such as mount.nfs(8). Everything lies in directories that only their owner may enter (SECURITY B9).
#[derive(Clone, Debug)]
pub struct LocalVolumes {
    files: Arc<Files>,
}

impl LocalVolumes {
    /// Opens the volumes beneath the engine's `root` and removes what a crash left half done.
    ///
    /// # Errors
    /// What the file system says.
    pub async fn open(root: &Path) -> Result<Self> {
        let dir = root.join("volumes");
        let files = blocking(move || Files::open(dir)).await?;
        Ok(Self { files: Arc::new(files) })
    }

    async fn with_files<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Files) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let files = Arc::clone(&self.files);
        blocking(move || work(&files)).await
    }

    /// Adds where the content is, which depends on where the root is now.
    fn locate(files: &Files, mut volume: Volume) -> Volume {
        volume.mountpoint = match Kind::parse(&volume.driver_options) {
            Ok(Kind::Directory) => Some(files.data(&volume.name)),
            Ok(Kind::Bind { source, .. }) => Some(source),
            _ => None,
        };
        volume
    }
}

#[async_trait]
impl VolumeDriver for LocalVolumes {
    fn name(&self) -> &str {
        "local"
    }

    async fn create(&self, name: &Name, options: &VolumeOptions) -> Result<Volume> {
        Kind::parse(&options.driver_options).map_err(|e| e.with("volume", name))?;
        let wanted = Volume::new(name.clone(), self.name(), options);
        self.with_files(move |files| {
            let there = files.create(&wanted)?;
            if there.labels != wanted.labels || there.driver_options != wanted.driver_options {
                return Err(Error::new(ErrorKind::Conflict, "create volume")
                    .with("volume", &wanted.name)
                    .with_message("it exists with other labels or options")
                    .with_hint("remove it first, or use it as it is"));
            }
            Ok(Self::locate(files, there))
        })
        .await
    }

    async fn inspect(&self, name: &Name) -> Result<Option<Volume>> {
        let name = name.clone();
        self.with_files(move |files| Ok(files.read(&name)?.map(|volume| Self::locate(files, volume)))).await
    }

    async fn list(&self) -> Result<Vec<Volume>> {
        self.with_files(|files| {
            let volumes = files.list()?;
            Ok(volumes.into_iter().map(|volume| Self::locate(files, volume)).collect())
        })
        .await
    }

    async fn remove(&self, name: &Name) -> Result<()> {
        let name = name.clone();
        self.with_files(move |files| files.remove(&name)).await
    }

    async fn rename(&self, name: &Name, new: &Name) -> Result<Volume> {
        let (name, new) = (name.clone(), new.clone());
        self.with_files(move |files| Ok(Self::locate(files, files.rename(&name, &new)?))).await
    }

    async fn mount(&self, name: &Name, target: &Path) -> Result<Mount> {
        let (name, target) = (name.clone(), PathBuf::from(target));
        self.with_files(move |files| {
            kind_of(files, &name, "mount volume")?
                .mount(&files.data(&name), &target)
                .map_err(|e| e.with("volume", &name))
        })
        .await
    }

    async fn fill(&self, name: &Name, rootfs: &[Mount], path: &Path) -> Result<bool> {
        let (name, rootfs, path) = (name.clone(), rootfs.to_vec(), PathBuf::from(path));
        self.with_files(move |files| match kind_of(files, &name, "fill volume")? {
            Kind::Directory => files.fill(&name, &rootfs, &path),
            _ => Ok(false),
        })
        .await
    }

    async fn usage(&self, name: &Name) -> Result<Option<u64>> {
        let name = name.clone();
        self.with_files(move |files| match kind_of(files, &name, "measure volume")? {
            Kind::Directory => files.usage(&name).map(Some),
            // What is the host's is not counted as the engine's.
            _ => Ok(None),
        })
        .await
    }

    async fn files(&self, name: &Name) -> Result<Box<dyn ContainerFiles>> {
        let name = name.clone();
        self.with_files(move |files| {
            let dir = match kind_of(files, &name, "open volume")? {
                Kind::Directory => files.data(&name),
                Kind::Bind { source, .. } => source,
                _ => {
                    return Err(Error::new(ErrorKind::Unsupported, "open volume")
                        .with("volume", &name)
                        .with_message("it is mounted in containers only")
                        .with_hint("copy from or to a container that uses it"));
                }
            };
            Ok(Box::new(LinuxFiles::new(Viewer::of_directory(dir))) as Box<dyn ContainerFiles>)
        })
        .await
    }
}

/// Returns what a volume is.
fn kind_of(files: &Files, name: &Name, operation: &'static str) -> Result<Kind> {
    let Some(volume) = files.read(name)? else {
        return Err(Error::new(ErrorKind::NotFound, operation).with("volume", name));
    };
    Kind::parse(&volume.driver_options).map_err(|e| e.with("volume", name))
}

/// Runs `work` off the async workers. Once begun it goes on to its end, also when nobody waits for it any more.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(Error::new(ErrorKind::Other, "work on volumes").with_source(error)),
    }
}

#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_fill;
