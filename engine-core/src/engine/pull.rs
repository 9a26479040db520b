//! Pulling: from a registry into the store, layers in parallel, each in one pass.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use serde::{Deserialize, Serialize};

use crate::descriptor::{Descriptor, media_type};
use crate::error::{Error, ErrorKind, Result};
use crate::events::Action;
use crate::image_config::ImageConfig;
use crate::manifest::{ImageIndex, ImageManifest, MAX_CONFIG_SIZE, Manifest};
use crate::platform::Platform;
use crate::reference::Reference;
use crate::registry_client::{Credentials, RegistryClient};

use super::LocalEngine;
use super::closure::{MAX_DOCUMENTS, too_many};
use super::events::of_image;
use super::hooks::ImageRequest;
use super::image::Image;
use super::layers::{self, LayerProgress, Wanted};
use super::operation::{Operation, Progress};

/// How to pull.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct PullOptions {
    /// The platform to take from an index; the host's by default.
    pub platform: Platform,
    /// Whether to take all that an index lists. Only what is for `platform` is unpacked; what is for another is when a
    /// container is made of it.
    pub all_platforms: bool,
    /// How many layers are transferred at once; 4 by default.
    pub parallel: usize,
    /// What the registry gets from this pull alone; what the client has for it by default.
    #[serde(skip)]
    pub credentials: Option<Credentials>,
}

impl Default for PullOptions {
    fn default() -> Self {
        Self { platform: Platform::host(), all_platforms: false, parallel: 4, credentials: None }
    }
}

impl PullOptions {
    /// Sets the platform to take from an index.
    #[must_use]
    pub fn with_platform(mut self, platform: Platform) -> Self {
        self.platform = platform;
        self
    }

    /// Sets whether to take all that an index lists.
    #[must_use]
    pub fn with_all_platforms(mut self, all: bool) -> Self {
        self.all_platforms = all;
        self
    }

    /// Sets the credentials for this pull alone.
    #[must_use]
    pub fn with_credentials(mut self, credentials: Credentials) -> Self {
        self.credentials = Some(credentials);
        self
    }
}

/// Where a pull comes from.
struct Remote<'a> {
    registry: Arc<dyn RegistryClient>,
    reference: &'a Reference,
}

/// A manifest that came from the registry.
struct Pulled {
    manifest: Descriptor,
    bytes: Bytes,
    contents: ImageManifest,
}

/// What a pull reports.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[non_exhaustive]
pub enum PullEvent {
    /// The reference was resolved to this content.
    Resolved {
        /// What the reference points at.
        target: Descriptor,
    },
    /// A layer got on.
    Layer {
        /// The layer.
        layer: Descriptor,
        /// How far.
        progress: LayerProgress,
    },
    /// The image is in the store.
    Done {
        /// What the reference points at.
        target: Descriptor,
        /// Whether the name pointed there before.
        unchanged: bool,
    },
}

impl LocalEngine {
    pub(super) fn pull(&self, reference: &Reference, options: PullOptions) -> Operation<PullEvent, Image> {
        let (engine, reference) = (self.clone(), reference.clone());
        Operation::new(move |progress| async move {
            engine
                .pull_image(&reference, &options, &progress)
                .await
                .map_err(|e| wrap(e, "pull image", &reference))
        })
    }

    #[tracing::instrument(skip_all, fields(%reference))]
    async fn pull_image(
        &self,
        reference: &Reference,
        options: &PullOptions,
        progress: &Progress<PullEvent>,
    ) -> Result<Image> {
        let store = &self.inner.images;
        let _lease = store.lease().await?;
        let registry = self.registry_with(reference, options.credentials.as_ref());
        let from = Remote { registry, reference };
        let (target, target_bytes) = from.registry.fetch_manifest(reference).await?;
        progress.report(PullEvent::Resolved { target: target.clone() });
        let found = self.pull_documents(&from, &target, &target_bytes, options).await?;
        let mut layers = Vec::new();
        let mut configs = Vec::new();
        for pulled in &found {
            let (config, wanted) = self.pull_config(&from, pulled, options).await?;
            configs.push((pulled.contents.config.clone(), config));
            layers.extend(wanted);
        }
        layers::once(&mut layers);
        for (layer, _) in &layers {
            progress.report(PullEvent::Layer { layer: layer.clone(), progress: LayerProgress::Waiting });
        }
        stream::iter(layers.iter().map(Ok))
            .try_for_each_concurrent(options.parallel.max(1), |wanted| {
                let work = self.pull_layer(&from, wanted, progress);
                async move { work.await.map_err(|e| wrap(e, "pull layer", &wanted.0.digest)) }
            })
            .await?;
        // Children before parents: a manifest in the store has all it names.
        for (config, bytes) in configs {
            self.put_blob(&config, bytes).await?;
        }
        let first = found.first().map(|pulled| pulled.manifest.clone());
        for Pulled { manifest, bytes, .. } in found {
            self.put_blob(&manifest, bytes).await?;
        }
        self.put_blob(&target, target_bytes).await?;
        let unchanged = store.resolve_name(reference).await?.is_some_and(|old| old.digest == target.digest);
        let event = of_image(Action::Pull, reference.familiar(), reference.familiar_name());
        if unchanged {
            self.emit(event).await;
        } else {
            self.name_image(event, reference, &target).await?;
        }
        progress.report(PullEvent::Done { target: target.clone(), unchanged });
        let names = self.all_names().await?;
        match self.load_image(&target, &options.platform, &names).await {
            // All platforms were wanted, and this host's is none of them.
            Err(error) if options.all_platforms && error.kind() == ErrorKind::NotFound => {
                let mut image =
                    self.load_image(&first.unwrap_or_else(|| target.clone()), &options.platform, &[]).await?;
                image.names =
                    names.into_iter().filter(|(_, t)| t.digest == target.digest).map(|(n, _)| n).collect();
                image.target = target;
                Ok(image)
            }
            image => image,
        }
    }

    /// Fetches the manifests that are wanted of what `target` is.
    async fn pull_documents(
        &self,
        from: &Remote<'_>,
        target: &Descriptor,
        bytes: &Bytes,
        options: &PullOptions,
    ) -> Result<Vec<Pulled>> {
        let index = match Manifest::parse(bytes, &target.media_type)? {
            Manifest::Image(contents) => {
                return Ok(vec![Pulled { manifest: target.clone(), bytes: bytes.clone(), contents }]);
            }
            Manifest::Index(index) => index,
        };
        let chosen: Vec<Descriptor> = match options.all_platforms {
            true if index.manifests.len() > MAX_DOCUMENTS => return Err(too_many(target)),
            true => index.manifests,
            false => {
                let chosen = index.select(&options.platform).cloned();
                vec![chosen.ok_or_else(|| no_platform(&index, &options.platform))?]
            }
        };
        stream::iter(chosen)
            .map(|chosen| self.pull_manifest(from, chosen))
            .buffered(options.parallel.max(1))
            .try_collect()
            .await
    }

    /// Fetches a manifest that an index lists.
    async fn pull_manifest(&self, from: &Remote<'_>, manifest: Descriptor) -> Result<Pulled> {
        let bytes = match self.blob_if_present(&manifest).await? {
            Some(bytes) => bytes,
            None => {
                let pinned = from.reference.with_digest(manifest.digest.clone());
                let (found, bytes) = from.registry.fetch_manifest(&pinned).await?;
                if found.size != manifest.size || found.media_type != manifest.media_type {
                    return Err(Error::new(ErrorKind::Corrupt, "fetch manifest")
                        .with("digest", &manifest.digest)
                        .with_message("its size or media type is not what the index says"));
                }
                bytes
            }
        };
        match Manifest::parse(&bytes, &manifest.media_type)? {
            Manifest::Image(contents) => Ok(Pulled { manifest, bytes, contents }),
            Manifest::Index(_) => Err(Error::new(ErrorKind::Unsupported, "read index")
                .with_message("it leads to another index and not to an image")),
        }
    }

    /// Fetches an image's configuration, and pairs its layers with diff IDs: those that are to be unpacked.
    async fn pull_config(
        &self,
        from: &Remote<'_>,
        pulled: &Pulled,
        options: &PullOptions,
    ) -> Result<(Bytes, Vec<Wanted>)> {
        let contents = &pulled.contents;
        let bytes = self.fetch_small(from, &contents.config).await?;
        // An artifact has layers that are no file systems, and a configuration that is none of ours.
        let config = if contents.is_container_image() { Some(ImageConfig::parse(&bytes)?) } else { None };
        self.inner.hooks.admit_image(&ImageRequest {
            name: &from.reference.familiar(),
            manifest: &pulled.manifest.digest,
            config: config.as_ref(),
            spec: None,
        })?;
        let Some(config) = config else {
            return Ok((bytes, layers::unpaired(contents)));
        };
        // Of all platforms, those that run here are unpacked; the one that was asked for is in any case.
        let unpack = !options.all_platforms || options.platform.rank(&config.platform()).is_some();
        Ok((bytes, layers::paired(contents, config.rootfs.diff_ids, unpack)?))
    }

    async fn pull_layer(
        &self,
        from: &Remote<'_>,
        wanted: &Wanted,
        progress: &Progress<PullEvent>,
    ) -> Result<()> {
        let layer = &wanted.0;
        let fetch = async {
            from.registry.fetch_blob(from.reference, layer, 0).await.map_err(|error| match error.kind() {
                ErrorKind::NotFound if media_type::is_foreign(&layer.media_type) => layers::foreign(layer),
                _ => error,
            })
        };
        let report = |now| progress.report(PullEvent::Layer { layer: layer.clone(), progress: now });
        layers::take_in(self, wanted, fetch, report).await
    }

    /// Returns a small blob from the store, else from the registry, checked.
    async fn fetch_small(&self, from: &Remote<'_>, blob: &Descriptor) -> Result<Bytes> {
        if let Some(bytes) = self.blob_if_present(blob).await? {
            return Ok(bytes);
        }
        let wrong = |why: String| {
            Error::new(ErrorKind::Corrupt, "fetch blob").with("digest", &blob.digest).with_message(why)
        };
        if blob.size > MAX_CONFIG_SIZE {
            return Err(wrong(format!("it has {} bytes, more than {MAX_CONFIG_SIZE}", blob.size)));
        }
        let chunks = from.registry.fetch_blob(from.reference, blob, 0).await?;
        let bytes = chunks
            .try_fold(Vec::new(), |mut all, chunk| async move {
                all.extend_from_slice(&chunk);
                Ok(all)
            })
            .await?;
        if bytes.len() as u64 != blob.size || blob.digest.rehash(&bytes) != blob.digest {
            return Err(wrong("its content does not match its digest".to_owned()));
        }
        Ok(bytes.into())
    }

    /// Returns the client to reach the reference's registry with: that of the engine, or one that has these credentials.
    pub(super) fn registry_with(
        &self,
        reference: &Reference,
        credentials: Option<&Credentials>,
    ) -> Arc<dyn RegistryClient> {
        let registry = &self.inner.registry;
        match credentials {
            Some(credentials) => registry.with_credentials(reference.registry(), credentials.clone()),
            None => Arc::clone(registry),
        }
    }

    async fn blob_if_present(&self, blob: &Descriptor) -> Result<Option<Bytes>> {
        if self.inner.images.blob_size(&blob.digest).await? != Some(blob.size) {
            return Ok(None);
        }
        self.read_blob(blob, MAX_CONFIG_SIZE).await.map(Some)
    }
}

/// Names the operation and the thing around an error of a lower level, keeping its kind and its hint.
pub(super) fn wrap(error: Error, operation: &'static str, subject: impl std::fmt::Display) -> Error {
    let key = if operation.ends_with(" layer") { "layer" } else { "image" };
    let mut outer =
        Error::new(error.kind(), operation).with(key, subject).with_retryable(error.is_retryable());
    if let Some(hint) = error.hint() {
        outer = outer.with_hint(hint.to_owned());
    }
    outer.with_source(error)
}

pub(super) fn no_platform(index: &ImageIndex, platform: &Platform) -> Error {
    let offered: Vec<String> =
        index.manifests.iter().filter_map(|m| m.platform.as_ref()).map(ToString::to_string).collect();
    Error::new(ErrorKind::NotFound, "select platform")
        .with("platform", platform)
        .with_message(format!("the image has only {}", offered.join(", ")))
}
