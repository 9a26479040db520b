//! A container's file system through the facade: look, copy in, copy out, export, compare.
//!
//! Everything is an archive here; `copy` has the host's file system at the other end.

use std::path::Path;

use crate::error::Result;
use crate::events::Action;
use crate::files::{Change, ContainerFiles, FilesSpec, PathStat, UnpackFiles};
use crate::io::ByteStream;
use crate::mount::Mount;

use super::Engine;
use super::container::Container;
use super::events::of_container;
use super::records::Record;

impl Container {
    /// Returns what is at `path` in the container, running or not. A link in the last component is described itself, unless
    /// a slash follows it.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`](crate::ErrorKind::NotFound) if nothing is there.
    pub async fn stat_path(&self, path: impl AsRef<Path>) -> Result<PathStat> {
        self.files().await?.stat(path.as_ref()).await
    }

    /// Returns what is at `path` in the container, running or not, as a tar archive. Its first entry has the last component
    /// of the path as its name, and `.` where the path ends in `/.`.
    ///
    /// # Errors
    /// As [`stat_path`](Self::stat_path).
    pub async fn copy_out(&self, path: impl AsRef<Path>) -> Result<(PathStat, ByteStream)> {
        let found = self.files().await?.pack(path.as_ref()).await?;
        self.tell(Action::ArchivePath).await?;
        Ok(found)
    }

    /// Unpacks a tar archive into the directory `path` of the container, running or not. The names in it are resolved in
    /// the container's root, and nothing outside of it is touched, whatever the archive holds and the container does.
    ///
    /// # Errors
    /// As [`ContainerFiles::unpack`].
    pub async fn copy_in(
        &self,
        path: impl AsRef<Path>,
        archive: ByteStream,
        options: &UnpackFiles,
    ) -> Result<()> {
        self.files().await?.unpack(path.as_ref(), archive, options).await?;
        self.tell(Action::ExtractToDir).await
    }

    /// Returns the container's root file system as a tar archive, without what is mounted in it.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`](crate::ErrorKind::NotFound) if it was removed. What fails later comes in the stream.
    pub async fn export(&self) -> Result<ByteStream> {
        let record = self.record().await?;
        let spec = FilesSpec::new(self.engine().rootfs(&record).await?, Vec::new()).root_only();
        let files = self.engine().inner.runtime.files(self.id(), &spec);
        let (_, archive) = files.pack(Path::new("/.")).await?;
        self.tell(Action::Export).await?;
        Ok(archive)
    }

    /// Returns what the container changed in its root file system since its image.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`](crate::ErrorKind::NotFound) if it was removed.
    pub async fn changes(&self) -> Result<Vec<Change>> {
        let record = self.record().await?;
        self.engine().rootfs(&record).await?;
        self.engine().inner.images.rootfs_changes(self.id(), None).await
    }

    pub(super) async fn tell(&self, action: Action) -> Result<()> {
        let event = of_container(action, &self.record().await?);
        self.engine().emit(event).await;
        Ok(())
    }

    /// Returns the mounts that make the container's root file system, as its image store describes them.
    ///
    /// # Errors
    /// What the image store says.
    pub async fn rootfs(&self) -> Result<Vec<Mount>> {
        self.engine().rootfs(&self.record().await?).await
    }

    /// Opens the container's file system as its processes see it.
    pub(super) async fn files(&self) -> Result<Box<dyn ContainerFiles>> {
        let record = self.record().await?;
        let engine = self.engine();
        let rootfs = engine.rootfs(&record).await?;
        let mounts = engine.mounts(&record).await?;
        let spec = FilesSpec::new(rootfs, sorted(mounts)).read_only(record.data.spec.read_only_rootfs);
        Ok(engine.inner.runtime.files(self.id(), &spec))
    }
}

/// Parents first, as a start mounts them.
fn sorted(mut mounts: Vec<Mount>) -> Vec<Mount> {
    mounts.sort_by_key(|mount| mount.target.components().count());
    mounts
}

impl Engine {
    /// Prepares a container's root file system, a fork's as well, and returns its mounts.
    pub(super) async fn rootfs(&self, record: &Record) -> Result<Vec<Mount>> {
        self.complete_fork(record).await?;
        let data = &record.data;
        self.inner.images.prepare_rootfs(&record.id, &data.manifest, &data.layers).await
    }
}
