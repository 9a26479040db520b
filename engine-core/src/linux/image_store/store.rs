//! The store itself: its shared state, and the [`ImageStore`] contract as calls of the other files.

use std::collections::HashSet;
use std::fmt;
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use async_trait::async_trait;
use futures_util::stream;
use rustix::fs::FlockOperation;

use super::ingest::LocalIngest;
use super::layout::{Layout, Session};
use super::options::{LayerDriver, LocalImageStoreOptions};
use super::{names, probe};
use crate::database::Database;
use crate::descriptor::Descriptor;
use crate::digest::Digest;
use crate::error::{Error, ErrorKind, Result};
use crate::files::Change;
use crate::id::{ContainerId, SnapshotId};
use crate::image_store::{
    GarbageReport, ImageStore, ImageStoreCapabilities, Ingest, LayerOptions, LayerWriter, Lease, StoreUsage,
};
use crate::io::ByteStream;
use crate::mount::Mount;
use crate::reference::Reference;

/// Keeps images beneath a directory of the host. Clones share their state.
///
/// Layers are shared by containers through overlayfs. Where that cannot work, which a trial mount tells,
/// each container gets a full copy, and [`capabilities`](ImageStore::capabilities) says so.
#[derive(Clone)]
pub struct LocalImageStore {
    pub(super) shared: Arc<Shared>,
}

/// What all handles of one store share.
pub(super) struct Shared {
    pub(super) layout: Layout,
    pub(super) database: Arc<Database>,
    pub(super) options: LocalImageStoreOptions,
    session: Mutex<Option<Arc<Session>>>,
    /// Blobs that this process has read and found right.
    verified: Mutex<HashSet<Digest>>,
    /// How root file systems are made; decided when it is first needed.
    driver: OnceLock<Driver>,
    /// Whether something was renamed since the directories were last synced.
    pub(super) unsynced: std::sync::atomic::AtomicBool,
}

/// The way that root file systems are made.
#[derive(Clone, Debug)]
pub(super) enum Driver {
    Overlay,
    /// With the reason, if it was not asked for.
    Copy(Option<String>),
}

impl LocalImageStore {
    /// Opens the store beneath `root`, creating it, and removes what programs that died left half done.
    /// `database` is the engine's.
    ///
    /// Blocks for as long as the file system takes: call it off the async workers.
    ///
    /// # Errors
    /// What the file system or the database says.
    pub fn open(root: &Path, database: Arc<Database>, options: LocalImageStoreOptions) -> Result<Self> {
        let layout = Layout::open(root)?;
        names::migrate(&database)?;
        let shared = Shared {
            layout,
            database,
            options,
            session: Mutex::default(),
            verified: Mutex::default(),
            driver: OnceLock::new(),
            unsynced: false.into(),
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Runs `work` on a blocking thread.
    async fn blocking<T: Send + 'static>(
        &self,
        operation: &'static str,
        work: impl FnOnce(&Arc<Shared>) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let shared = Arc::clone(&self.shared);
        let span = tracing::Span::current();
        tokio::task::spawn_blocking(move || span.in_scope(|| work(&shared)))
            .await
            .unwrap_or_else(|e| Err(Error::new(ErrorKind::Other, operation).with_source(e)))
    }
}

impl Shared {
    /// The directory for what this store writes; made when it is first needed.
    pub(super) fn session(&self) -> Result<Arc<Session>> {
        let mut session = self.session.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(session) = &*session {
            return Ok(Arc::clone(session));
        }
        let new = Arc::new(Session::create(&self.layout)?);
        *session = Some(Arc::clone(&new));
        Ok(new)
    }

    pub(super) fn driver(&self) -> Result<&Driver> {
        if let Some(driver) = self.driver.get() {
            return Ok(driver);
        }
        let driver = match self.options.driver {
            LayerDriver::Copy => Driver::Copy(None),
            LayerDriver::Overlay => match probe::overlay(self)? {
                None => Driver::Overlay,
                Some(reason) => {
                    return Err(Error::new(ErrorKind::Unsupported, "open image store")
                        .with_message(format!("overlayfs does not work beneath its directory: {reason}"))
                        .with_hint("use a directory on ext4, xfs or btrfs, or the driver that copies"));
                }
            },
            LayerDriver::Auto => match probe::overlay(self)? {
                None => Driver::Overlay,
                Some(reason) => {
                    tracing::warn!(reason, "overlayfs does not work here: each container gets a full copy");
                    Driver::Copy(Some(reason))
                }
            },
        };
        Ok(self.driver.get_or_init(|| driver))
    }

    pub(super) fn is_verified(&self, digest: &Digest) -> bool {
        self.verified.lock().unwrap_or_else(PoisonError::into_inner).contains(digest)
    }

    pub(super) fn set_verified(&self, digest: &Digest, right: bool) {
        let mut verified = self.verified.lock().unwrap_or_else(PoisonError::into_inner);
        if right {
            verified.insert(digest.clone());
        } else {
            verified.remove(digest);
        }
    }
}

impl fmt::Debug for LocalImageStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalImageStore")
            .field("images", &self.shared.layout.images())
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl ImageStore for LocalImageStore {
    fn capabilities(&self) -> ImageStoreCapabilities {
        // The trial mount takes about a millisecond, once for each boot.
        let (driver, degraded) = match self.shared.driver() {
            Ok(Driver::Overlay) => ("overlay", None),
            Ok(Driver::Copy(reason)) => ("copy", reason.clone()),
            Err(error) => ("none", Some(error.report())),
        };
        ImageStoreCapabilities {
            driver: driver.to_owned(),
            shares_layers: driver == "overlay",
            degraded: degraded.map(|reason| {
                format!("overlayfs does not work, so each container gets a full copy: {reason}")
            }),
        }
    }

    async fn lease(&self) -> Result<Lease> {
        let lock =
            self.blocking("take lease", |shared| shared.layout.lock(FlockOperation::LockShared)).await?;
        Ok(Lease::new(lock))
    }

    async fn ingest(&self, descriptor: &Descriptor, diff_id: Option<&Digest>) -> Result<Box<dyn Ingest>> {
        Ok(Box::new(LocalIngest::start(Arc::clone(&self.shared), descriptor, diff_id)?))
    }

    async fn create_layer(&self) -> Result<Box<dyn LayerWriter>> {
        Ok(Box::new(LocalIngest::create(Arc::clone(&self.shared))))
    }

    async fn blob_size(&self, digest: &Digest) -> Result<Option<u64>> {
        self.shared.blob_size(digest)
    }

    async fn open_blob(&self, digest: &Digest, offset: u64) -> Result<ByteStream> {
        if let Some(bytes) = self.shared.small_blob(digest, offset)? {
            return Ok(Box::pin(stream::iter((!bytes.is_empty()).then_some(Ok(bytes)))));
        }
        let digest = digest.clone();
        self.blocking("open blob", move |shared| shared.stream_blob(&digest, offset)).await
    }

    async fn has_layer(&self, diff_id: &Digest) -> Result<bool> {
        Ok(self.shared.layer_info(diff_id)?.is_some())
    }

    async fn has_layer_of(&self, blob: &Digest, diff_id: &Digest) -> Result<bool> {
        let (blob, diff_id) = (blob.clone(), diff_id.clone());
        self.blocking("look up layer", move |shared| {
            Ok(shared.layer_info(&diff_id)?.is_some_and(|info| shared.is_blob_of(&blob, &diff_id, &info)))
        })
        .await
    }

    async fn unpack(&self, layer: &Descriptor, diff_id: &Digest) -> Result<()> {
        let (layer, diff_id) = (layer.clone(), diff_id.clone());
        self.blocking("unpack layer", move |shared| shared.unpack_stored(&layer, &diff_id)).await
    }

    async fn set_name(&self, name: &Reference, target: &Descriptor) -> Result<()> {
        let (name, target) = (name.clone(), target.clone());
        self.blocking("set image name", move |shared| shared.set_name(&name, &target)).await
    }

    async fn resolve_name(&self, name: &Reference) -> Result<Option<Descriptor>> {
        self.shared.resolve_name(name)
    }

    async fn remove_name(&self, name: &Reference) -> Result<bool> {
        let name = name.clone();
        self.blocking("remove image name", move |shared| shared.remove_name(&name)).await
    }

    async fn names(&self) -> Result<Vec<(Reference, Descriptor)>> {
        self.blocking("list images", |shared| shared.names()).await
    }

    async fn remove_manifest(&self, manifest: &Digest) -> Result<()> {
        let manifest = manifest.clone();
        self.blocking("remove manifest", move |shared| shared.remove_manifest(&manifest)).await
    }

    async fn prepare_rootfs(
        &self,
        id: &ContainerId,
        image: &Digest,
        layers: &[Digest],
    ) -> Result<Vec<Mount>> {
        let (id, image, layers) = (id.clone(), image.clone(), layers.to_vec());
        self.blocking("prepare root file system", move |shared| shared.prepare_rootfs(&id, &image, &layers))
            .await
    }

    async fn mount_image(
        &self,
        id: &ContainerId,
        image: &Digest,
        layers: &[Digest],
        target: &Path,
    ) -> Result<Mount> {
        let (id, image, layers, target) = (id.clone(), image.clone(), layers.to_vec(), target.to_owned());
        self.blocking("mount image", move |shared| shared.mount_image(&id, &image, &layers, &target)).await
    }

    async fn rootfs_usage(&self, id: &ContainerId) -> Result<u64> {
        let id = id.clone();
        self.blocking("measure root file system", move |shared| shared.rootfs_usage(&id)).await
    }

    async fn remove_rootfs(&self, id: &ContainerId) -> Result<()> {
        let id = id.clone();
        self.blocking("remove root file system", move |shared| shared.remove_rootfs(&id)).await
    }

    async fn rootfs_list(&self) -> Result<Vec<ContainerId>> {
        self.blocking("list root file systems", |shared| shared.rootfs_list()).await
    }

    async fn usage(&self) -> Result<StoreUsage> {
        self.blocking("measure image store", |shared| shared.usage()).await
    }

    async fn rootfs_changes(&self, id: &ContainerId, since: Option<&SnapshotId>) -> Result<Vec<Change>> {
        let (id, since) = (id.clone(), since.cloned());
        self.blocking("compare root file system", move |shared| shared.rootfs_changes(&id, since.as_ref()))
            .await
    }

    async fn commit_rootfs(&self, id: &ContainerId, options: &LayerOptions) -> Result<(Descriptor, Digest)> {
        let (id, options) = (id.clone(), options.clone());
        self.blocking("commit container", move |shared| shared.commit_rootfs(&id, &options)).await
    }

    async fn freeze_rootfs(&self, id: &ContainerId, snapshot: &SnapshotId, in_use: bool) -> Result<()> {
        let (id, snapshot) = (id.clone(), snapshot.clone());
        self.blocking("freeze root file system", move |shared| shared.freeze_rootfs(&id, &snapshot, in_use))
            .await
    }

    async fn fork_rootfs(&self, id: &ContainerId, snapshot: &SnapshotId) -> Result<()> {
        let (id, snapshot) = (id.clone(), snapshot.clone());
        self.blocking("fork root file system", move |shared| shared.fork_rootfs(&id, &snapshot)).await
    }

    async fn restore_rootfs(&self, id: &ContainerId, snapshot: &SnapshotId) -> Result<()> {
        let (id, snapshot) = (id.clone(), snapshot.clone());
        self.blocking("restore root file system", move |shared| shared.restore_rootfs(&id, &snapshot)).await
    }

    async fn remove_snapshot(&self, snapshot: &SnapshotId) -> Result<()> {
        let snapshot = snapshot.clone();
        self.blocking("remove snapshot", move |shared| shared.remove_snapshot(&snapshot)).await
    }

    async fn snapshot_list(&self) -> Result<Vec<SnapshotId>> {
        self.blocking("list snapshots", |shared| shared.snapshot_list()).await
    }

    async fn collect_garbage(&self) -> Result<GarbageReport> {
        self.blocking("collect garbage", |shared| shared.collect_garbage()).await
    }
}
