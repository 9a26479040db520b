//! The [`ImageStore`] contract: content, names, layers.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use async_trait::async_trait;
use bytes::Bytes;

use crate::descriptor::Descriptor;
use crate::digest::Digest;
use crate::error::Result;
use crate::files::Change;
use crate::id::{ContainerId, SnapshotId};
use crate::io::ByteStream;
use crate::mount::Mount;
use crate::reference::Reference;

/// Keeps blobs by digest, names for them, and layers ready to be mounted.
///
/// # Contract
/// - A blob, a layer or a name exists whole or not at all; what was acknowledged survives a crash.
/// - Content is checked against its digest when it is written, and again before a store first trusts what it
///   finds on disk. Wrong content is [`Corrupt`](crate::ErrorKind::Corrupt) and is never handed out.
/// - Several programs may use one store. Two that write the same blob or layer both succeed.
/// - `collect_garbage` removes nothing that a name, a rootfs or a [`Lease`] reaches, of any program.
/// - Removing what is gone is `Ok`.
///
/// # Implementing
/// Check your type with [`testing::image_store`](crate::testing) (feature `testing`).
#[async_trait]
pub trait ImageStore: fmt::Debug + Send + Sync + 'static {
    /// Returns what this store can do.
    fn capabilities(&self) -> ImageStoreCapabilities;

    /// Takes a lease: until it is dropped, no content that was in the store when it was taken, or came after,
    /// is collected. It ends with the program too.
    async fn lease(&self) -> Result<Lease>;

    /// Begins to write the content `descriptor` names. With `diff_id`, it is a layer, unpacked as it arrives, or only compared
    /// where that layer is unpacked already.
    ///
    /// Nothing is visible before [`Ingest::commit`]; dropping the ingest removes what it wrote.
    ///
    /// # Errors
    /// [`Unsupported`](crate::ErrorKind::Unsupported) if it is to be unpacked and is no layer we know.
    async fn ingest(&self, descriptor: &Descriptor, diff_id: Option<&Digest>) -> Result<Box<dyn Ingest>>;

    /// Begins to write a layer whose digests are known only at its end, such as one that is being made or imported.
    /// Its bytes are a tar archive, plain or compressed in a way the store knows, unpacked as they arrive and kept
    /// as they came.
    ///
    /// Nothing is visible before [`LayerWriter::commit`]; dropping the writer removes what it wrote.
    async fn create_layer(&self) -> Result<Box<dyn LayerWriter>>;

    /// Returns the size of a blob, or `None` if it is not there.
    async fn blob_size(&self, digest: &Digest) -> Result<Option<u64>>;

    /// Reads a blob from byte `offset` on.
    ///
    /// # Errors
    /// [`NotFound`](crate::ErrorKind::NotFound) if it is not there.
    async fn open_blob(&self, digest: &Digest, offset: u64) -> Result<ByteStream>;

    /// Returns whether the layer with this diff ID is unpacked.
    async fn has_layer(&self, diff_id: &Digest) -> Result<bool>;

    /// Returns whether the layer with this diff ID is unpacked, and `blob` is known to be one of its: it was unpacked under that
    /// diff ID, or compared with it. What an image says of the two is no knowledge. Costs no more than
    /// [`has_layer`](Self::has_layer).
    async fn has_layer_of(&self, blob: &Digest, diff_id: &Digest) -> Result<bool>;

    /// Unpacks a layer whose blob is in the store. Where the layer is unpacked already, the blob is compared with its diff ID
    /// instead, once.
    ///
    /// # Errors
    /// [`NotFound`](crate::ErrorKind::NotFound) if the blob is not there;
    /// [`Corrupt`](crate::ErrorKind::Corrupt) if the blob, its archive or its diff ID is wrong;
    /// [`Unsupported`](crate::ErrorKind::Unsupported) if it is no layer we know.
    async fn unpack(&self, layer: &Descriptor, diff_id: &Digest) -> Result<()>;

    /// Points `name` at `target`, replacing where it pointed before.
    ///
    /// # Errors
    /// [`NotFound`](crate::ErrorKind::NotFound) if the target's blob is not in the store.
    async fn set_name(&self, name: &Reference, target: &Descriptor) -> Result<()>;

    /// Returns where `name` points, or `None`.
    async fn resolve_name(&self, name: &Reference) -> Result<Option<Descriptor>>;

    /// Removes a name and returns whether it was there. Content is left to `collect_garbage`.
    async fn remove_name(&self, name: &Reference) -> Result<bool>;

    /// Returns all names, in order.
    async fn names(&self) -> Result<Vec<(Reference, Descriptor)>>;

    /// Removes a manifest that an index leads to, as if it had never been in the store. What only it reached is left to
    /// `collect_garbage`. Idempotent.
    ///
    /// # Errors
    /// [`Conflict`](crate::ErrorKind::Conflict) if a name points at it, if a root file system, a snapshot or a mounted image
    /// is made of it, or while a lease is held.
    async fn remove_manifest(&self, manifest: &Digest) -> Result<()>;

    /// Prepares the root file system of container `id` over `layers` (diff IDs, lowest first) and returns the
    /// mounts that make it. Called again for the same container, it returns the same mounts.
    ///
    /// `image` is the manifest the layers come from; a rootfs keeps it and all it names.
    ///
    /// # Errors
    /// [`NotFound`](crate::ErrorKind::NotFound) if a layer is not unpacked.
    async fn prepare_rootfs(&self, id: &ContainerId, image: &Digest, layers: &[Digest])
    -> Result<Vec<Mount>>;

    /// Describes the file system of `layers` (diff IDs, lowest first) as a read-only mount at `target`. Until
    /// `remove_rootfs(id)`, the image is kept as a root file system of container `id` would keep it.
    ///
    /// # Errors
    /// [`NotFound`](crate::ErrorKind::NotFound) if a layer is not unpacked;
    /// [`Unsupported`](crate::ErrorKind::Unsupported) if the store cannot show layers without copying them.
    async fn mount_image(
        &self,
        id: &ContainerId,
        image: &Digest,
        layers: &[Digest],
        target: &Path,
    ) -> Result<Mount>;

    /// Returns how many bytes container `id` has written to its root file system: 0 if it has none.
    async fn rootfs_usage(&self, id: &ContainerId) -> Result<u64>;

    /// Removes the root file system of container `id` with all that was written to it. Idempotent.
    async fn remove_rootfs(&self, id: &ContainerId) -> Result<()>;

    /// Returns the containers that have a root file system here.
    async fn rootfs_list(&self) -> Result<Vec<ContainerId>>;

    /// Returns what is in the store, object by object, whether something reaches it or not.
    async fn usage(&self) -> Result<StoreUsage>;

    /// Returns what container `id` changed in its root file system: since its image, or since a snapshot. Sorted so that
    /// a directory comes before what is in it; one in which something changed is [`Modified`](crate::files::ChangeKind).
    ///
    /// # Errors
    /// [`NotFound`](crate::ErrorKind::NotFound) if the container has no root file system here, or there is no such snapshot.
    async fn rootfs_changes(&self, id: &ContainerId, since: Option<&SnapshotId>) -> Result<Vec<Change>>;

    /// Makes a layer of what container `id` changed since its image, blob and files, and returns its descriptor and diff
    /// ID. The same changes give the same bytes. Take a lease first: nothing names the layer yet.
    ///
    /// # Errors
    /// As [`rootfs_changes`](Self::rootfs_changes).
    async fn commit_rootfs(&self, id: &ContainerId, options: &LayerOptions) -> Result<(Descriptor, Digest)>;

    /// Freezes the root file system of container `id` as `snapshot`, an id that was never used before. Costs the same
    /// whatever was written; with `in_use`, for a container whose processes are paused, it costs a copy of that.
    /// Does nothing if the snapshot is there. A snapshot stays until it is removed, also when the container goes.
    ///
    /// # Errors
    /// [`NotFound`](crate::ErrorKind::NotFound) if the container has no root file system here;
    /// [`ResourceExhausted`](crate::ErrorKind::ResourceExhausted) if it stands on too many others;
    /// [`Unsupported`](crate::ErrorKind::Unsupported) if the store cannot freeze.
    async fn freeze_rootfs(&self, id: &ContainerId, snapshot: &SnapshotId, in_use: bool) -> Result<()>;

    /// Gives container `id` a root file system as it was in `snapshot`; [`prepare_rootfs`](Self::prepare_rootfs) prepares
    /// that one from then on. Does nothing if it has one.
    ///
    /// # Errors
    /// [`NotFound`](crate::ErrorKind::NotFound) if there is no such snapshot.
    async fn fork_rootfs(&self, id: &ContainerId, snapshot: &SnapshotId) -> Result<()>;

    /// Takes the root file system of container `id`, which does not run, back to `snapshot`.
    ///
    /// # Errors
    /// [`NotFound`](crate::ErrorKind::NotFound) if there is no such snapshot, or no such root file system.
    async fn restore_rootfs(&self, id: &ContainerId, snapshot: &SnapshotId) -> Result<()>;

    /// Removes a snapshot. Root file systems made of it stay as they are. Idempotent.
    async fn remove_snapshot(&self, snapshot: &SnapshotId) -> Result<()>;

    /// Returns all snapshots.
    async fn snapshot_list(&self) -> Result<Vec<SnapshotId>>;

    /// Removes all content that nothing reaches.
    async fn collect_garbage(&self) -> Result<GarbageReport>;
}

/// How changes become a layer.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct LayerOptions {
    /// What was modified later than the first time is said to be modified at the second one: so a layer does not tell when it
    /// was made.
    pub clamp: Option<(SystemTime, SystemTime)>,
    /// Mount points that were made for a process alone, by their paths in the container. Where one is new and empty, it is not
    /// in the layer.
    pub mount_points: BTreeSet<PathBuf>,
}

/// Content on its way into a store.
#[async_trait]
pub trait Ingest: fmt::Debug + Send {
    /// Adds `chunk`. Waits while the store is busy with earlier ones.
    ///
    /// # Errors
    /// [`Corrupt`](crate::ErrorKind::Corrupt) as soon as the content cannot be right any more, such as more
    /// bytes than the descriptor says or a malformed archive.
    async fn write(&mut self, chunk: Bytes) -> Result<()>;

    /// Checks size, digest and diff ID, and makes the content visible: blob and unpacked layer, or neither.
    async fn commit(self: Box<Self>) -> Result<()>;
}

/// A layer on its way into a store, of which nothing is known yet.
#[async_trait]
pub trait LayerWriter: fmt::Debug + Send {
    /// Adds `chunk`. Waits while the store is busy with earlier ones.
    ///
    /// # Errors
    /// [`Corrupt`](crate::ErrorKind::Corrupt) as soon as the archive is malformed;
    /// [`ResourceExhausted`](crate::ErrorKind::ResourceExhausted) if it passes a limit of the store;
    /// [`Unsupported`](crate::ErrorKind::Unsupported) if it is compressed in a way the store does not know.
    async fn write(&mut self, chunk: Bytes) -> Result<()>;

    /// Makes the layer visible, blob and unpacked files, or neither, and tells what it is called.
    async fn commit(self: Box<Self>) -> Result<CreatedLayer>;
}

/// The names of a layer that was written by a [`LayerWriter`].
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct CreatedLayer {
    /// Its blob, with the media type that its bytes show.
    pub descriptor: Descriptor,
    /// The digest of its archive without compression.
    pub diff_id: Digest,
}

impl CreatedLayer {
    /// Creates it from its two parts.
    #[must_use]
    pub fn new(descriptor: Descriptor, diff_id: Digest) -> Self {
        Self { descriptor, diff_id }
    }
}

/// Keeps content from being collected, until it is dropped.
pub struct Lease(#[expect(dead_code, reason = "held for its Drop")] Box<dyn Send + Sync>);

impl Lease {
    /// Wraps a store's guard.
    pub fn new(guard: impl Send + Sync + 'static) -> Self {
        Self(Box::new(guard))
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Lease")
    }
}

/// The abilities of an image store, as data.
#[derive(Clone, Debug, Default, Eq, PartialEq, serde::Serialize, serde::Deserialize)]
#[non_exhaustive]
pub struct ImageStoreCapabilities {
    /// How a container's root file system is made, as shown to people: `overlay`, `copy`, `memory`.
    pub driver: String,
    /// Whether containers share layers, or each has a copy.
    pub shares_layers: bool,
    /// Why the store works in a slower way than it could, if so.
    pub degraded: Option<String>,
}

/// What a store holds, in bytes.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct StoreUsage {
    /// Each blob with its size.
    pub blobs: BTreeMap<Digest, u64>,
    /// Each unpacked layer by diff ID, with the size of its files' content.
    pub layers: BTreeMap<Digest, u64>,
}

/// What a garbage collection removed.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct GarbageReport {
    /// The blobs.
    pub blobs: Vec<Digest>,
    /// The unpacked layers, by diff ID.
    pub layers: Vec<Digest>,
    /// The bytes freed, as far as the store knows.
    pub bytes: u64,
}
