//! What layers show, for whoever copies from them or onto them.

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;

use crate::digest::Digest;
use crate::engine::LocalEngine;
use crate::error::Result;
use crate::files::{ContainerFiles, FileList, FilesSpec, ListFiles, PackedFile, PathStat, UnpackFiles};
use crate::id::ContainerId;
use crate::io::ByteStream;
use crate::mount::Mount;

/// The files of layers. It holds them for itself until it is dropped.
#[derive(Debug)]
pub(in crate::engine) struct View {
    files: Box<dyn ContainerFiles>,
    _held: Held,
}

/// Keeps layers from being collected until it is dropped.
#[derive(Debug)]
pub(super) struct Held(LocalEngine, ContainerId);

impl Drop for Held {
    fn drop(&mut self) {
        // What is not removed now is by whoever opens the root next.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let (engine, id) = (self.0.clone(), self.1.clone());
            runtime.spawn(async move {
                if let Err(error) = engine.inner.images.remove_rootfs(&id).await {
                    tracing::warn!(%error, "letting layers go failed");
                }
            });
        }
    }
}

impl LocalEngine {
    /// Shows the files of `layers`, of which there are some. `manifest` is an image that keeps them.
    pub(in crate::engine) async fn view(&self, manifest: &Digest, layers: &[Digest]) -> Result<Arc<View>> {
        let (mount, held) = self.held_image(manifest, layers, Path::new("/")).await?;
        let spec = FilesSpec::new(vec![mount], Vec::new()).root_only();
        Ok(Arc::new(View { files: self.inner.runtime.files(&held.1, &spec), _held: held }))
    }

    /// Describes a mount of layers at `target`, and holds them.
    pub(super) async fn held_image(
        &self,
        manifest: &Digest,
        layers: &[Digest],
        target: &Path,
    ) -> Result<(Mount, Held)> {
        let id = ContainerId::random();
        let held = Held(self.clone(), id.clone());
        let mount = self.inner.images.mount_image(&id, manifest, layers, target).await?;
        Ok((mount, held))
    }
}

#[async_trait]
impl ContainerFiles for View {
    async fn stat(&self, path: &Path) -> Result<PathStat> {
        self.files.stat(path).await
    }

    async fn pack(&self, path: &Path) -> Result<(PathStat, ByteStream)> {
        self.files.pack(path).await
    }

    async fn unpack(&self, path: &Path, archive: ByteStream, options: &UnpackFiles) -> Result<()> {
        self.files.unpack(path, archive, options).await
    }

    async fn list(&self, path: &Path, options: &ListFiles) -> Result<FileList> {
        self.files.list(path, options).await
    }

    async fn owner(&self, user: &str) -> Result<(u32, u32)> {
        self.files.owner(user).await
    }

    async fn pack_files(&self, files: Vec<PackedFile>) -> Result<ByteStream> {
        self.files.pack_files(files).await
    }
}
