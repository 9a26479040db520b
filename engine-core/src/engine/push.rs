//! Pushing: what the registry lacks, blobs before the manifests that name them.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{TryStreamExt, stream};
use serde::{Deserialize, Serialize};

use crate::descriptor::{Descriptor, media_type};
use crate::digest::Digest;
use crate::error::{Error, ErrorKind, Result};
use crate::events::Action;
use crate::image_store::ImageStore;
use crate::io::ByteStream;
use crate::manifest::MAX_MANIFEST_SIZE;
use crate::platform::Platform;
use crate::reference::Reference;
use crate::registry_client::{BlobSource, Credentials, PushOutcome};

use super::LocalEngine;
use super::closure::Closure;
use super::events::of_image;
use super::operation::{Operation, Progress};
use super::pull::wrap;

/// How to push.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct PushOptions {
    /// The platform to push of an index; all of it without this, or what is here if only some is.
    pub platform: Option<Platform>,
    /// How many blobs are transferred at once; 4 by default.
    pub parallel: usize,
    /// What the registry gets from this push alone; what the client has for it by default.
    #[serde(skip)]
    pub credentials: Option<Credentials>,
}

impl PushOptions {
    /// Sets the platform to push of an index.
    #[must_use]
    pub fn with_platform(mut self, platform: Platform) -> Self {
        self.platform = Some(platform);
        self
    }

    /// Sets the credentials for this push alone.
    #[must_use]
    pub fn with_credentials(mut self, credentials: Credentials) -> Self {
        self.credentials = Some(credentials);
        self
    }
}

impl Default for PushOptions {
    fn default() -> Self {
        Self { platform: None, parallel: 4, credentials: None }
    }
}

/// What a push reports.
#[derive(Clone, Debug, Serialize, Deserialize)]
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
    /// A layer that may not be distributed was left out, as the manifest's author meant it.
    Skipped {
        /// The layer.
        blob: Descriptor,
    },
    /// The manifest is in the registry, under the name.
    Done {
        /// What the name points at now.
        target: Descriptor,
    },
}

impl LocalEngine {
    pub(super) fn push(
        &self,
        reference: &Reference,
        options: PushOptions,
    ) -> Operation<PushEvent, Descriptor> {
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
        self.push_target(reference, target, options, progress).await
    }

    /// Pushes what is in the store as `target` under `reference`.
    pub(super) async fn push_target(
        &self,
        reference: &Reference,
        target: Descriptor,
        options: &PushOptions,
        progress: &Progress<PushEvent>,
    ) -> Result<Descriptor> {
        let registry = &self.registry_with(reference, options.credentials.as_ref());
        let (target, closure) = self.to_push(target, options).await?;
        let mounts = self.repositories_beside(reference, &closure).await?;
        let (foreign, blobs): (Vec<_>, Vec<_>) =
            closure.blobs().into_iter().partition(|blob| media_type::is_foreign(&blob.media_type));
        for blob in foreign {
            progress.report(PushEvent::Skipped { blob: blob.clone() });
        }
        let parallel = options.parallel.max(1);
        stream::iter(blobs.into_iter().map(Ok))
            .try_for_each_concurrent(parallel, |blob| {
                let mount_from = mounts.get(&blob.digest).map(String::as_str);
                async move {
                    let source = StoredBlob {
                        store: Arc::clone(&self.inner.images),
                        blob: blob.clone(),
                        progress: progress.clone(),
                    };
                    let outcome = registry.push_blob(reference, blob, mount_from, &source).await?;
                    progress.report(PushEvent::Blob { blob: blob.clone(), outcome });
                    Ok::<_, Error>(())
                }
            })
            .await?;
        // Manifests in any order, then the indexes that name them, and the name at the very end.
        let (leaves, indexes): (Vec<_>, Vec<_>) = closure
            .documents
            .iter()
            .filter(|(document, _)| document.digest != target.digest)
            .partition(|(document, _)| media_type::is_manifest(&document.media_type));
        let push = |document: &Descriptor, bytes: &Bytes| {
            let (pinned, bytes) = (reference.with_digest(document.digest.clone()), bytes.clone());
            let document = document.clone();
            async move { registry.push_manifest(&pinned, &document, bytes).await }
        };
        stream::iter(leaves.into_iter().map(Ok))
            .try_for_each_concurrent(parallel, |(document, bytes)| push(document, bytes))
            .await?;
        for (document, bytes) in indexes {
            push(document, bytes).await?;
        }
        let bytes = self.read_blob(&target, MAX_MANIFEST_SIZE).await?;
        registry.push_manifest(reference, &target, bytes).await?;
        self.emit(of_image(Action::Push, reference.familiar(), reference.familiar_name())).await;
        progress.report(PushEvent::Done { target: target.clone() });
        Ok(target)
    }

    /// Returns what is pushed of `target`, and all it leads to.
    async fn to_push(&self, target: Descriptor, options: &PushOptions) -> Result<(Descriptor, Closure)> {
        if let Some(platform) = &options.platform {
            let image = self.load_image(&target, platform, &[]).await?;
            // What an index says of its entries was looked at already.
            if image.manifest.digest == target.digest && platform.rank(&image.platform()).is_none() {
                return Err(Error::new(ErrorKind::NotFound, "select platform")
                    .with("platform", platform)
                    .with_message(format!("the image is for {}", image.platform())));
            }
            let closure = self.closure(&image.manifest).await?;
            return Ok((image.manifest, closure));
        }
        let closure = self.closure(&target).await?;
        if closure.missing.is_empty() {
            return Ok((target, closure));
        }
        // Only some platforms of it were pulled: what is here is pushed, under the same name.
        let manifest = match &closure.images[..] {
            [(only, _)] => only.clone(),
            _ => self.load_image(&target, &Platform::host(), &[]).await?.manifest,
        };
        let closure = self.closure(&manifest).await?;
        Ok((manifest, closure))
    }

    /// Returns in which other repository of the same registry a blob may be, as names in the store tell.
    async fn repositories_beside(
        &self,
        reference: &Reference,
        closure: &Closure,
    ) -> Result<HashMap<Digest, String>> {
        let wanted: HashSet<&Digest> = closure.blobs().into_iter().map(|blob| &blob.digest).collect();
        let mut found = HashMap::new();
        for (name, target) in self.all_names().await? {
            if name.registry() != reference.registry() || name.repository() == reference.repository() {
                continue;
            }
            // One that cannot be read is no help and no reason not to push.
            let Ok(other) = self.closure(&target).await else { continue };
            for blob in other.blobs().into_iter().filter(|blob| wanted.contains(&blob.digest)) {
                found.entry(blob.digest.clone()).or_insert_with(|| name.repository().to_owned());
            }
        }
        Ok(found)
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
