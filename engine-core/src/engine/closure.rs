//! What a name leads to: the documents, and the blobs they name.
//!
//! Owns walking from an index to manifests, over what is in the store. Children that are not there (an index of which
//! one platform was pulled) are told apart, not errors. Invariant: a walk ends, whatever the documents say.

use std::collections::HashSet;

use bytes::Bytes;

use crate::descriptor::Descriptor;
use crate::digest::Digest;
use crate::error::{Error, ErrorKind, Result};
use crate::image_config::ImageConfig;
use crate::manifest::{ImageManifest, MAX_CONFIG_SIZE, MAX_MANIFEST_SIZE, Manifest};

use super::LocalEngine;

/// The most documents that one name may lead to.
pub(super) const MAX_DOCUMENTS: usize = 1000;
/// How deep indexes may lie within indexes.
pub(super) const MAX_DEPTH: usize = 4;

/// All that a name leads to.
#[derive(Debug, Default)]
pub(super) struct Closure {
    /// Indexes and manifests that are in the store, children before parents.
    pub(super) documents: Vec<(Descriptor, Bytes)>,
    /// The manifests among them.
    pub(super) images: Vec<(Descriptor, ImageManifest)>,
    /// Entries of indexes that are not in the store.
    pub(super) missing: Vec<Descriptor>,
}

impl Closure {
    /// Returns the layers and configurations, each once, layers first.
    pub(super) fn blobs(&self) -> Vec<&Descriptor> {
        let mut seen = HashSet::new();
        let layers = self.images.iter().flat_map(|(_, image)| &image.layers);
        let configs = self.images.iter().map(|(_, image)| &image.config);
        layers.chain(configs).filter(|blob| seen.insert(&blob.digest)).collect()
    }

    /// Returns whether a container whose image is `manifest` uses it.
    pub(super) fn has_manifest(&self, manifest: &Digest) -> bool {
        self.images.iter().any(|(descriptor, _)| descriptor.digest == *manifest)
    }
}

impl LocalEngine {
    /// Walks from `target` over what is in the store.
    pub(super) async fn closure(&self, target: &Descriptor) -> Result<Closure> {
        let mut closure = Closure::default();
        // A document is visited, its children are, and then it is done.
        let mut pending = vec![(target.clone(), 0_usize, None::<Bytes>)];
        let mut seen = HashSet::new();
        while let Some((descriptor, depth, ready)) = pending.pop() {
            if let Some(bytes) = ready {
                closure.documents.push((descriptor, bytes));
                continue;
            }
            if !seen.insert(descriptor.digest.clone()) {
                continue;
            }
            if seen.len() > MAX_DOCUMENTS || depth > MAX_DEPTH {
                return Err(too_many(target));
            }
            if self.inner.images.blob_size(&descriptor.digest).await?.is_none() {
                closure.missing.push(descriptor);
                continue;
            }
            let bytes = self.read_blob(&descriptor, MAX_MANIFEST_SIZE).await?;
            match Manifest::parse(&bytes, &descriptor.media_type)? {
                Manifest::Image(image) => {
                    closure.images.push((descriptor.clone(), image));
                    closure.documents.push((descriptor, bytes));
                }
                Manifest::Index(index) => {
                    pending.push((descriptor, depth, Some(bytes)));
                    pending.extend(index.manifests.into_iter().rev().map(|child| (child, depth + 1, None)));
                }
            }
        }
        Ok(closure)
    }

    /// Returns the diff IDs of an image; none for an artifact, whose layers are no file systems.
    pub(super) async fn diff_ids_of(&self, image: &ImageManifest) -> Result<Vec<Digest>> {
        if !image.is_container_image() {
            return Ok(Vec::new());
        }
        let config = self.read_blob(&image.config, MAX_CONFIG_SIZE).await?;
        Ok(ImageConfig::parse(&config)?.rootfs.diff_ids)
    }
}

pub(super) fn too_many(target: &Descriptor) -> Error {
    Error::new(ErrorKind::Corrupt, "read index").with("digest", &target.digest).with_message(format!(
        "it leads to more than {MAX_DOCUMENTS} manifests, or lies more than {MAX_DEPTH} deep"
    ))
}
