//! A container's file system through the facade: look, copy in, copy out, export, compare.
//!
//! Everything is an archive here; `copy` has the host's file system at the other end.

use std::path::Path;

use crate::error::{ErrorKind, Result};
use crate::events::Action;
use crate::files::{Change, ContainerFiles, FilesSpec, PathStat, UnpackFiles};
use crate::io::ByteStream;
use crate::mount::Mount;

use super::LocalEngine;
use super::container::LocalContainer;
use super::events::of_container;
use super::records::Record;

impl LocalContainer {
    pub(super) async fn stat_path(&self, path: impl AsRef<Path>) -> Result<PathStat> {
        self.files().await?.stat(path.as_ref()).await
    }

    pub(super) async fn copy_out(&self, path: impl AsRef<Path>) -> Result<(PathStat, ByteStream)> {
        let found = self.files().await?.pack(path.as_ref()).await?;
        self.tell(Action::ArchivePath).await?;
        Ok(found)
    }

    pub(super) async fn copy_in(
        &self,
        path: impl AsRef<Path>,
        archive: ByteStream,
        options: &UnpackFiles,
    ) -> Result<()> {
        let max_bytes = options.max_bytes.unwrap_or(self.engine().inner.max_bytes);
        let options = options.clone().with_max_bytes(max_bytes);
        let path = path.as_ref();
        self.files().await?.unpack(path, archive, &options).await.map_err(|error| match error.kind() {
            ErrorKind::ResourceExhausted => {
                error.with("container", self.id().short()).with("path", path.display())
            }
            _ => error,
        })?;
        self.tell(Action::ExtractToDir).await
    }

    pub(super) async fn export(&self) -> Result<ByteStream> {
        let record = self.record().await?;
        let spec = FilesSpec::new(self.engine().rootfs(&record).await?, Vec::new()).root_only();
        let files = self.engine().inner.runtime.files(self.id(), &spec);
        let (_, archive) = files.pack(Path::new("/.")).await?;
        self.tell(Action::Export).await?;
        Ok(archive)
    }

    pub(super) async fn changes(&self) -> Result<Vec<Change>> {
        let record = self.record().await?;
        self.engine().rootfs(&record).await?;
        self.engine().inner.images.rootfs_changes(self.id(), None).await
    }

    pub(super) async fn tell(&self, action: Action) -> Result<()> {
        let event = of_container(action, &self.record().await?);
        self.engine().emit(event).await;
        Ok(())
    }

    pub(super) async fn rootfs(&self) -> Result<Vec<Mount>> {
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

impl LocalEngine {
    /// Prepares a container's root file system, a fork's as well, and returns its mounts.
    pub(super) async fn rootfs(&self, record: &Record) -> Result<Vec<Mount>> {
        self.complete_fork(record).await?;
        let data = &record.data;
        self.inner.images.prepare_rootfs(&record.id, &data.manifest, &data.layers).await
    }
}
