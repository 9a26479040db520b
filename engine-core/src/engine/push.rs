//! Pushing: what the registry lacks, blobs before the manifests that name them.

use async_trait::async_trait;
use futures_util::{TryStreamExt, stream};
use std::sync::Arc;

use crate::descriptor::Descriptor;
use crate::error::{Error, ErrorKind, Result};
use crate::image_store::ImageStore;
use crate::io::ByteStream;
use crate::manifest::{MAX_MANIFEST_SIZE, Manifest};
use crate::platform::Platform;
use crate::reference::Reference;
use crate::registry_client::{BlobSource, PushOutcome};

use super::Engine;
use super::operation::{Operation, Progress};
use super::pull::wrap;

/// How to push.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct PushOptions {
    /// How many blobs are transferred at once; 4 by default.
    pub parallel: usize,
}

impl Default for PushOptions {
    fn default() -> Self {
        Self { parallel: 4 }
    }
}

/// What a push reports.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum PushEvent {
    /// So many bytes of a blob were sent.
    Transferring {
        /// The blob.
        blob: Descriptor,
        /// Bytes so far.
        done: u64,
    },
    /// A blob is in the registry.
    Blob {
        /// The blob.
        blob: Descriptor,
        /// How it got there.
        outcome: PushOutcome,
    },
    /// The manifest is in the registry, under the name.
    Done {
        /// What the name points at now.
        target: Descriptor,
    },
}

impl Engine {
    /// Pushes the image that `reference` names in the store to the registry it names.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if there is no such image here; else as [`pull`](Engine::pull).
    pub fn push(&self, reference: &Reference, options: PushOptions) -> Operation<PushEvent, Descriptor> {
        let (engine, reference) = (self.clone(), reference.clone());
        Operation::new(move |progress| async move {
            engine
                .push_image(&reference, &options, &progress)
                .await
                .map_err(|e| wrap(e, "push image", &reference))
        })
    }

    #[tracing::instrument(skip_all, fields(%reference))]
    async fn push_image(
        &self,
        reference: &Reference,
        options: &PushOptions,
        progress: &Progress<PushEvent>,
    ) -> Result<Descriptor> {
        let _lease = self.inner.images.lease().await?;
        let target = self.inner.images.resolve_name(reference).await?.ok_or_else(|| {
            Error::new(ErrorKind::NotFound, "find image")
                .with("image", reference)
                .with_message("no such image in the store")
                .with_hint("tag an image with this name first")
        })?;
        let bytes = self.read_blob(&target, MAX_MANIFEST_SIZE).await?;
        let (target, bytes, manifests) = match Manifest::parse(&bytes, &target.media_type)? {
            Manifest::Image(_) => (target, bytes, Vec::new()),
            Manifest::Index(index) => {
                let mut missing = false;
                for child in &index.manifests {
                    missing |= self.inner.images.blob_size(&child.digest).await?.is_none();
                }
                if missing {
                    // Only one platform of it was pulled: what is here is pushed, under the same name.
                    let image = self.load_image(&target, &Platform::host(), &[]).await?;
                    let bytes = self.read_blob(&image.manifest, MAX_MANIFEST_SIZE).await?;
                    (image.manifest, bytes, Vec::new())
                } else {
                    (target, bytes, index.manifests)
                }
            }
        };
        let mut blobs = Vec::new();
        for manifest in if manifests.is_empty() { std::slice::from_ref(&target) } else { &manifests } {
            let bytes = self.read_blob(manifest, MAX_MANIFEST_SIZE).await?;
            if let Manifest::Image(image) = Manifest::parse(&bytes, &manifest.media_type)? {
                blobs.extend(image.layers);
                blobs.push(image.config);
            }
        }
        let mut seen = std::collections::HashSet::new();
        blobs.retain(|blob| seen.insert(blob.digest.clone()));
        stream::iter(blobs.iter().map(Ok))
            .try_for_each_concurrent(options.parallel.max(1), |blob| async move {
                let source = StoredBlob {
                    store: Arc::clone(&self.inner.images),
                    blob: blob.clone(),
                    progress: progress.clone(),
                };
                let outcome = self.inner.registry.push_blob(reference, blob, None, &source).await?;
                progress.report(PushEvent::Blob { blob: blob.clone(), outcome });
                Ok::<_, Error>(())
            })
            .await?;
        for manifest in &manifests {
            let bytes = self.read_blob(manifest, MAX_MANIFEST_SIZE).await?;
            let pinned = reference.with_digest(manifest.digest.clone());
            self.inner.registry.push_manifest(&pinned, manifest, bytes).await?;
        }
        self.inner.registry.push_manifest(reference, &target, bytes).await?;
        progress.report(PushEvent::Done { target: target.clone() });
        Ok(target)
    }
}

/// A blob of the store on its way out.
struct StoredBlob {
    store: Arc<dyn ImageStore>,
    blob: Descriptor,
    progress: Progress<PushEvent>,
}

impl std::fmt::Debug for StoredBlob {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StoredBlob").field("blob", &self.blob.digest).finish_non_exhaustive()
    }
}

#[async_trait]
impl BlobSource for StoredBlob {
    async fn open(&self, offset: u64) -> Result<ByteStream> {
        let (blob, progress) = (self.blob.clone(), self.progress.clone());
        let mut done = offset;
        let stream = self.store.open_blob(&self.blob.digest, offset).await?;
        Ok(Box::pin(stream.inspect_ok(move |chunk| {
            done += chunk.len() as u64;
            progress.report(PushEvent::Transferring { blob: blob.clone(), done });
        })))
    }
}
