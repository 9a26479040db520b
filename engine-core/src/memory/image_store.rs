//! [`MemoryImageStore`]: content in maps.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};

use super::registry::pieces;
use super::{Faults, archive, lock};
use crate::descriptor::{Descriptor, media_type};
use crate::digest::Digest;
use crate::error::{Error, ErrorKind, Result};
use crate::files::Change;
use crate::id::{ContainerId, SnapshotId};
use crate::image_config::ImageConfig;
use crate::image_store::{
    CreatedLayer, GarbageReport, ImageStore, ImageStoreCapabilities, Ingest, LayerOptions, LayerWriter,
    Lease, StoreUsage,
};
use crate::io::ByteStream;
use crate::manifest::Manifest;
use crate::mount::Mount;
use crate::reference::Reference;

/// An [`ImageStore`] that keeps everything in memory.
///
/// It decompresses nothing, whatever features are on: a compressed layer is kept as it came and its diff ID is
/// taken on trust; that of a plain layer is checked, and its archive too. A root file system is an empty
/// tmpfs. Clones share their content. Methods in [`Faults`]: `image_store.ingest`, `image_store.write`,
/// `image_store.commit`, and so on.
#[derive(Clone, Debug, Default)]
pub struct MemoryImageStore {
    content: Arc<Mutex<Content>>,
    faults: Faults,
}

#[derive(Debug, Default)]
struct Content {
    blobs: BTreeMap<Digest, Bytes>,
    /// The layers by diff ID, as tar archives, compressed where they came so.
    layers: BTreeMap<Digest, Bytes>,
    /// The blobs that were found to be one of these layers.
    pairs: BTreeSet<(Digest, Digest)>,
    names: BTreeMap<Reference, Descriptor>,
    rootfs: BTreeMap<ContainerId, RootFs>,
    snapshots: BTreeMap<SnapshotId, RootFs>,
    /// Images that containers mount beside their own.
    mounts: BTreeMap<ContainerId, Vec<RootFs>>,
    leases: usize,
}

#[derive(Clone, Debug)]
struct RootFs {
    image: Digest,
    layers: Vec<Digest>,
}

impl MemoryImageStore {
    /// Creates an empty store.
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

    /// Returns the handle for faults.
    #[must_use]
    pub fn faults(&self) -> &Faults {
        &self.faults
    }

    /// Returns the archive of a layer, compressed if it came so.
    #[must_use]
    pub fn layer(&self, diff_id: &Digest) -> Option<Bytes> {
        lock(&self.content).layers.get(diff_id).cloned()
    }
}

#[async_trait]
impl ImageStore for MemoryImageStore {
    fn capabilities(&self) -> ImageStoreCapabilities {
        ImageStoreCapabilities {
            driver: "memory".to_owned(),
            shares_layers: true,
            degraded: Some("nothing outlives the program, and containers see no image".to_owned()),
        }
    }

    async fn lease(&self) -> Result<Lease> {
        self.faults.check("image_store.lease", "").await?;
        lock(&self.content).leases += 1;
        Ok(Lease::new(LeaseGuard(Arc::clone(&self.content))))
    }

    async fn ingest(&self, descriptor: &Descriptor, diff_id: Option<&Digest>) -> Result<Box<dyn Ingest>> {
        self.faults.check("image_store.ingest", &descriptor.digest).await?;
        if diff_id.is_some() && !media_type::is_layer(&descriptor.media_type) {
            return Err(Error::new(ErrorKind::Unsupported, "unpack layer")
                .with("layer", &descriptor.digest)
                .with("media type", &descriptor.media_type)
                .with_message("it is no layer we know"));
        }
        Ok(Box::new(MemoryIngest {
            store: self.clone(),
            descriptor: descriptor.clone(),
            diff_id: diff_id.cloned(),
            bytes: BytesMut::new(),
        }))
    }

    async fn create_layer(&self) -> Result<Box<dyn LayerWriter>> {
        self.faults.check("image_store.create_layer", "").await?;
        Ok(Box::new(MemoryLayerWriter { store: self.clone(), bytes: BytesMut::new() }))
    }

    async fn blob_size(&self, digest: &Digest) -> Result<Option<u64>> {
        self.faults.check("image_store.blob_size", digest).await?;
        Ok(lock(&self.content).blobs.get(digest).map(|bytes| bytes.len() as u64))
    }

    async fn open_blob(&self, digest: &Digest, offset: u64) -> Result<ByteStream> {
        self.faults.check("image_store.open_blob", digest).await?;
        let bytes = lock(&self.content).blobs.get(digest).cloned();
        let bytes = bytes.ok_or_else(|| missing("open blob", "blob", digest))?;
        let begin = usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len());
        Ok(pieces(bytes.slice(begin..)))
    }

    async fn has_layer(&self, diff_id: &Digest) -> Result<bool> {
        self.faults.check("image_store.has_layer", diff_id).await?;
        Ok(lock(&self.content).layers.contains_key(diff_id))
    }

    async fn has_layer_of(&self, blob: &Digest, diff_id: &Digest) -> Result<bool> {
        self.faults.check("image_store.has_layer_of", diff_id).await?;
        Ok(lock(&self.content).has_layer_of(blob, diff_id))
    }

    async fn unpack(&self, layer: &Descriptor, diff_id: &Digest) -> Result<()> {
        self.faults.check("image_store.unpack", diff_id).await?;
        let bytes = {
            let content = lock(&self.content);
            if content.has_layer_of(&layer.digest, diff_id) {
                return Ok(());
            }
            content.blobs.get(&layer.digest).cloned()
        };
        let bytes = bytes.ok_or_else(|| missing("unpack layer", "layer", &layer.digest))?;
        check_layer(layer, diff_id, &bytes)?;
        lock(&self.content).add_layer(&layer.digest, diff_id, &bytes);
        Ok(())
    }

    async fn set_name(&self, name: &Reference, target: &Descriptor) -> Result<()> {
        self.faults.check("image_store.set_name", name).await?;
        let mut content = lock(&self.content);
        if !content.blobs.contains_key(&target.digest) {
            return Err(missing("name image", "image", &target.digest).with("name", name));
        }
        content.names.insert(name.clone(), target.clone());
        Ok(())
    }

    async fn resolve_name(&self, name: &Reference) -> Result<Option<Descriptor>> {
        self.faults.check("image_store.resolve_name", name).await?;
        Ok(lock(&self.content).names.get(name).cloned())
    }

    async fn remove_name(&self, name: &Reference) -> Result<bool> {
        self.faults.check("image_store.remove_name", name).await?;
        Ok(lock(&self.content).names.remove(name).is_some())
    }

    async fn names(&self) -> Result<Vec<(Reference, Descriptor)>> {
        self.faults.check("image_store.names", "").await?;
        Ok(lock(&self.content).names.iter().map(|(name, target)| (name.clone(), target.clone())).collect())
    }

    async fn remove_manifest(&self, manifest: &Digest) -> Result<()> {
        self.faults.check("image_store.remove_manifest", manifest).await?;
        let mut content = lock(&self.content);
        let held = content.rootfs.values().chain(content.snapshots.values());
        let held = held.chain(content.mounts.values().flatten()).any(|rootfs| rootfs.image == *manifest);
        if held || content.leases > 0 || content.names.values().any(|target| target.digest == *manifest) {
            return Err(Error::new(ErrorKind::Conflict, "remove manifest")
                .with("digest", manifest)
                .with_message("a name points at it, a container is made of it, or somebody holds a lease"));
        }
        content.blobs.remove(manifest);
        Ok(())
    }

    async fn prepare_rootfs(
        &self,
        id: &ContainerId,
        image: &Digest,
        layers: &[Digest],
    ) -> Result<Vec<Mount>> {
        self.faults.check("image_store.prepare_rootfs", id).await?;
        let mut content = lock(&self.content);
        if let Some(layer) = layers.iter().find(|layer| !content.layers.contains_key(*layer)) {
            return Err(missing("prepare root file system", "layer", layer).with("container", id));
        }
        content
            .rootfs
            .entry(id.clone())
            .or_insert_with(|| RootFs { image: image.clone(), layers: layers.to_vec() });
        Ok(vec![Mount::tmpfs("/")])
    }

    async fn mount_image(
        &self,
        id: &ContainerId,
        image: &Digest,
        layers: &[Digest],
        target: &Path,
    ) -> Result<Mount> {
        self.faults.check("image_store.mount_image", id).await?;
        let mut content = lock(&self.content);
        if let Some(layer) = layers.iter().find(|layer| !content.layers.contains_key(*layer)) {
            return Err(missing("mount image", "layer", layer).with("container", id));
        }
        let held = RootFs { image: image.clone(), layers: layers.to_vec() };
        content.mounts.entry(id.clone()).or_default().push(held);
        Ok(Mount::tmpfs(target).read_only())
    }

    async fn rootfs_usage(&self, id: &ContainerId) -> Result<u64> {
        self.faults.check("image_store.rootfs_usage", id).await?;
        Ok(0)
    }

    async fn remove_rootfs(&self, id: &ContainerId) -> Result<()> {
        self.faults.check("image_store.remove_rootfs", id).await?;
        let mut content = lock(&self.content);
        content.rootfs.remove(id);
        content.mounts.remove(id);
        Ok(())
    }

    async fn rootfs_list(&self) -> Result<Vec<ContainerId>> {
        self.faults.check("image_store.rootfs_list", "").await?;
        Ok(lock(&self.content).rootfs.keys().cloned().collect())
    }

    async fn usage(&self) -> Result<StoreUsage> {
        self.faults.check("image_store.usage", "").await?;
        let content = lock(&self.content);
        let sizes = |map: &BTreeMap<Digest, Bytes>| {
            map.iter().map(|(digest, bytes)| (digest.clone(), bytes.len() as u64)).collect()
        };
        Ok(StoreUsage { blobs: sizes(&content.blobs), layers: sizes(&content.layers) })
    }

    async fn rootfs_changes(&self, id: &ContainerId, since: Option<&SnapshotId>) -> Result<Vec<Change>> {
        self.faults.check("image_store.rootfs_changes", id).await?;
        let content = lock(&self.content);
        content.rootfs(id)?;
        since.map_or(Ok(()), |snapshot| content.snapshot(snapshot).map(drop))?;
        // Containers write nothing to their images here.
        Ok(Vec::new())
    }

    async fn commit_rootfs(&self, id: &ContainerId, _: &LayerOptions) -> Result<(Descriptor, Digest)> {
        self.faults.check("image_store.commit_rootfs", id).await?;
        let mut content = lock(&self.content);
        content.rootfs(id)?;
        let empty = Bytes::from(vec![0; 1024]);
        let layer = Descriptor::of(media_type::OCI_LAYER, &empty);
        content.add_layer(&layer.digest, &layer.digest, &empty);
        content.blobs.insert(layer.digest.clone(), empty);
        Ok((layer.clone(), layer.digest))
    }

    async fn freeze_rootfs(&self, id: &ContainerId, snapshot: &SnapshotId, _: bool) -> Result<()> {
        self.faults.check("image_store.freeze_rootfs", id).await?;
        let mut content = lock(&self.content);
        let state = content.rootfs(id)?.clone();
        content.snapshots.entry(snapshot.clone()).or_insert(state);
        Ok(())
    }

    async fn fork_rootfs(&self, id: &ContainerId, snapshot: &SnapshotId) -> Result<()> {
        self.faults.check("image_store.fork_rootfs", id).await?;
        let mut content = lock(&self.content);
        let state = content.snapshot(snapshot)?.clone();
        content.rootfs.entry(id.clone()).or_insert(state);
        Ok(())
    }

    async fn restore_rootfs(&self, id: &ContainerId, snapshot: &SnapshotId) -> Result<()> {
        self.faults.check("image_store.restore_rootfs", id).await?;
        let mut content = lock(&self.content);
        let state = content.snapshot(snapshot)?.clone();
        content.rootfs(id)?;
        content.rootfs.insert(id.clone(), state);
        Ok(())
    }

    async fn remove_snapshot(&self, snapshot: &SnapshotId) -> Result<()> {
        self.faults.check("image_store.remove_snapshot", snapshot).await?;
        lock(&self.content).snapshots.remove(snapshot);
        Ok(())
    }

    async fn snapshot_list(&self) -> Result<Vec<SnapshotId>> {
        self.faults.check("image_store.snapshot_list", "").await?;
        Ok(lock(&self.content).snapshots.keys().cloned().collect())
    }

    async fn collect_garbage(&self) -> Result<GarbageReport> {
        self.faults.check("image_store.collect_garbage", "").await?;
        Ok(lock(&self.content).collect_garbage())
    }
}

impl Content {
    fn has_layer_of(&self, blob: &Digest, diff_id: &Digest) -> bool {
        self.layers.contains_key(diff_id) && self.pairs.contains(&(blob.clone(), diff_id.clone()))
    }

    /// Adds a layer that `blob` was found to be.
    fn add_layer(&mut self, blob: &Digest, diff_id: &Digest, bytes: &Bytes) {
        self.layers.entry(diff_id.clone()).or_insert_with(|| bytes.clone());
        self.pairs.insert((blob.clone(), diff_id.clone()));
    }

    fn rootfs(&self, id: &ContainerId) -> Result<&RootFs> {
        let found = self.rootfs.get(id);
        found.ok_or_else(|| Error::new(ErrorKind::NotFound, "find root file system").with("container", id))
    }

    fn snapshot(&self, id: &SnapshotId) -> Result<&RootFs> {
        let found = self.snapshots.get(id);
        found.ok_or_else(|| Error::new(ErrorKind::NotFound, "find snapshot").with("snapshot", id))
    }

    fn collect_garbage(&mut self) -> GarbageReport {
        let mut report = GarbageReport::default();
        // A lease keeps what was there and what came after: everything.
        if self.leases > 0 {
            return report;
        }
        let (mut blobs, mut layers) = (BTreeSet::new(), BTreeSet::new());
        for target in self.names.values() {
            self.mark(&target.digest, Some(&target.media_type), &mut blobs, &mut layers);
        }
        let mounted = self.mounts.values().flatten();
        for rootfs in self.rootfs.values().chain(self.snapshots.values()).chain(mounted) {
            self.mark(&rootfs.image, None, &mut blobs, &mut layers);
            layers.extend(rootfs.layers.iter().cloned());
        }
        self.blobs.retain(|digest, bytes| {
            let keep = blobs.contains(digest);
            if !keep {
                report.blobs.push(digest.clone());
                report.bytes += bytes.len() as u64;
            }
            keep
        });
        self.layers.retain(|diff_id, bytes| {
            let keep = layers.contains(diff_id);
            if !keep {
                report.layers.push(diff_id.clone());
                report.bytes += bytes.len() as u64;
            }
            keep
        });
        let layers = &self.layers;
        self.pairs.retain(|(_, diff_id)| layers.contains_key(diff_id));
        report
    }

    /// Marks a blob and what it names. Without a media type, it is told from the content.
    fn mark(
        &self,
        digest: &Digest,
        kind: Option<&str>,
        blobs: &mut BTreeSet<Digest>,
        layers: &mut BTreeSet<Digest>,
    ) {
        let Some(bytes) = self.blobs.get(digest) else { return };
        if !blobs.insert(digest.clone()) {
            return;
        }
        let kinds = [
            media_type::OCI_MANIFEST,
            media_type::DOCKER_MANIFEST,
            media_type::OCI_INDEX,
            media_type::DOCKER_INDEX,
        ];
        let parsed = match kind {
            Some(kind) => Manifest::parse(bytes, kind).ok(),
            None => kinds.iter().find_map(|kind| Manifest::parse(bytes, kind).ok()),
        };
        match parsed {
            Some(Manifest::Index(index)) => {
                for entry in &index.manifests {
                    self.mark(&entry.digest, Some(&entry.media_type), blobs, layers);
                }
            }
            Some(Manifest::Image(image)) => {
                blobs.insert(image.config.digest.clone());
                blobs.extend(image.layers.iter().map(|layer| layer.digest.clone()));
                let config = self.blobs.get(&image.config.digest).map(|bytes| ImageConfig::parse(bytes));
                if let Some(Ok(config)) = config {
                    layers.extend(config.rootfs.diff_ids);
                }
            }
            None => {}
        }
    }
}

#[derive(Debug)]
struct LeaseGuard(Arc<Mutex<Content>>);

impl Drop for LeaseGuard {
    fn drop(&mut self) {
        lock(&self.0).leases -= 1;
    }
}

#[derive(Debug)]
struct MemoryIngest {
    store: MemoryImageStore,
    descriptor: Descriptor,
    diff_id: Option<Digest>,
    bytes: BytesMut,
}

#[async_trait]
impl Ingest for MemoryIngest {
    async fn write(&mut self, chunk: Bytes) -> Result<()> {
        self.store.faults.check("image_store.write", &self.descriptor.digest).await?;
        if (self.bytes.len() + chunk.len()) as u64 > self.descriptor.size {
            return Err(corrupt(&self.descriptor.digest, "it has more bytes than its descriptor says"));
        }
        self.bytes.extend_from_slice(&chunk);
        Ok(())
    }

    async fn commit(self: Box<Self>) -> Result<()> {
        let Self { store, descriptor, diff_id, bytes } = *self;
        store.faults.check("image_store.commit", &descriptor.digest).await?;
        if bytes.len() as u64 != descriptor.size {
            return Err(corrupt(&descriptor.digest, "it has fewer bytes than its descriptor says"));
        }
        if descriptor.digest.rehash(&bytes) != descriptor.digest {
            return Err(corrupt(&descriptor.digest, "its content has another digest"));
        }
        if let Some(diff_id) = &diff_id {
            check_layer(&descriptor, diff_id, &bytes)?;
        }
        let bytes = bytes.freeze();
        let mut content = lock(&store.content);
        if let Some(diff_id) = diff_id {
            content.add_layer(&descriptor.digest, &diff_id, &bytes);
        }
        content.blobs.entry(descriptor.digest).or_insert(bytes);
        Ok(())
    }
}

#[derive(Debug)]
struct MemoryLayerWriter {
    store: MemoryImageStore,
    bytes: BytesMut,
}

#[async_trait]
impl LayerWriter for MemoryLayerWriter {
    async fn write(&mut self, chunk: Bytes) -> Result<()> {
        self.store.faults.check("image_store.write", "").await?;
        self.bytes.extend_from_slice(&chunk);
        Ok(())
    }

    async fn commit(self: Box<Self>) -> Result<CreatedLayer> {
        let Self { store, bytes } = *self;
        store.faults.check("image_store.commit", "").await?;
        if matches!(bytes[..], [0x1f, 0x8b, ..] | [0x28, 0xb5, 0x2f, 0xfd, ..]) {
            return Err(Error::new(ErrorKind::Unsupported, "store layer")
                .with_message("this store decompresses nothing"));
        }
        let descriptor = Descriptor::of(media_type::OCI_LAYER, &bytes);
        let diff_id = descriptor.digest.clone();
        check_layer(&descriptor, &diff_id, &bytes)?;
        let bytes = bytes.freeze();
        let mut content = lock(&store.content);
        content.add_layer(&diff_id, &diff_id, &bytes);
        content.blobs.entry(diff_id.clone()).or_insert(bytes);
        Ok(CreatedLayer::new(descriptor, diff_id))
    }
}

/// Checks what can be checked of a layer without decompressing it.
fn check_layer(layer: &Descriptor, diff_id: &Digest, bytes: &[u8]) -> Result<()> {
    match media_type::compression(&layer.media_type) {
        Some(media_type::Compression::None) => {}
        Some(_) => return Ok(()),
        None => {
            return Err(Error::new(ErrorKind::Unsupported, "unpack layer")
                .with("layer", &layer.digest)
                .with("media type", &layer.media_type)
                .with_message("it is no layer we know"));
        }
    }
    if diff_id.rehash(bytes) != *diff_id {
        return Err(corrupt(&layer.digest, "its archive has another diff ID").with("diff ID", diff_id));
    }
    archive::check(bytes).map_err(|why| corrupt(&layer.digest, "its archive is malformed").with_source(why))
}

fn corrupt(digest: &Digest, message: &str) -> Error {
    Error::new(ErrorKind::Corrupt, "store content").with("digest", digest).with_message(message)
}

fn missing(operation: &'static str, key: &'static str, digest: &Digest) -> Error {
    Error::new(ErrorKind::NotFound, operation).with(key, digest)
}
