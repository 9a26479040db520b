//! Saving images to archives, byte for byte.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::{Deserialize, Serialize};
use tokio::io::AsyncWrite;

use crate::descriptor::{Descriptor, media_type};
use crate::digest::Digest;
use crate::error::{Error, ErrorKind, Result};
use crate::events::Action;
use crate::manifest::ImageManifest;
use crate::platform::Platform;
use crate::reference::Reference;

use super::LocalEngine;
use super::archive::{IMAGE_NAME, LAYOUT, REF_NAME, Sink, blob_path};
use super::closure::Closure;
use super::events::of_image;
use super::import::to_json;
use super::operation::{Operation, Progress};
use super::pull::wrap;

/// How to save.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct SaveOptions {
    /// The platform to save of images that have several; all that are in the store without it.
    pub platform: Option<Platform>,
    /// What kind of archive; [`ArchiveFormat::Docker`] by default.
    pub format: ArchiveFormat,
}

/// The kinds of archives.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum ArchiveFormat {
    /// What `docker save` makes: an OCI layout with `manifest.json` and `repositories` beside it, for old and new readers.
    #[default]
    Docker,
    /// An OCI layout.
    Oci,
}

impl SaveOptions {
    /// Sets the platform to save.
    #[must_use]
    pub fn with_platform(mut self, platform: Platform) -> Self {
        self.platform = Some(platform);
        self
    }

    /// Sets the kind of archive.
    #[must_use]
    pub fn with_format(mut self, format: ArchiveFormat) -> Self {
        self.format = format;
        self
    }
}

/// What a save reports.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[non_exhaustive]
pub enum SaveEvent {
    /// So many bytes of a blob are written.
    Writing {
        /// The blob.
        blob: Descriptor,
        /// Bytes so far.
        done: u64,
    },
}

/// An image on its way out.
pub(super) struct Outgoing {
    pub(super) target: Descriptor,
    pub(super) name: Option<Reference>,
    pub(super) closure: Closure,
}

impl LocalEngine {
    pub(super) fn save(
        &self,
        images: &[impl AsRef<str>],
        out: impl AsyncWrite + Send + 'static,
        options: SaveOptions,
    ) -> Operation<SaveEvent, ()> {
        self.save_to(images, async move { Ok(Sink::Tar(Box::pin(out))) }, options)
    }

    pub(super) fn save_layout(
        &self,
        images: &[impl AsRef<str>],
        dir: impl AsRef<Path>,
        options: SaveOptions,
    ) -> Operation<SaveEvent, ()> {
        let dir = dir.as_ref().to_owned();
        self.save_to(images, async move { Sink::directory_at(&dir).await }, options)
    }

    fn save_to(
        &self,
        images: &[impl AsRef<str>],
        sink: impl Future<Output = Result<Sink>> + Send + 'static,
        options: SaveOptions,
    ) -> Operation<SaveEvent, ()> {
        let engine = self.clone();
        let images: Vec<String> = images.iter().map(|name| name.as_ref().to_owned()).collect();
        Operation::new(move |progress| async move {
            let subject = images.join(" ");
            let work = engine.save_archive(images, sink, &options, &progress);
            work.await.map_err(|e| wrap(e, "save image", subject))
        })
    }

    #[tracing::instrument(skip_all)]
    async fn save_archive(
        &self,
        images: Vec<String>,
        sink: impl Future<Output = Result<Sink>>,
        options: &SaveOptions,
        progress: &Progress<SaveEvent>,
    ) -> Result<()> {
        let _lease = self.inner.images.lease().await?;
        let mut outgoing = Vec::with_capacity(images.len());
        for image in &images {
            outgoing.push(self.outgoing(image, options.platform.as_ref()).await?);
        }
        let index = to_json(&serde_json::json!({
            "schemaVersion": 2,
            "mediaType": media_type::OCI_INDEX,
            "manifests": outgoing.iter().map(entry).collect::<Vec<_>>(),
        }))?;
        // All that could be missing was looked for: now something is made.
        let mut sink = sink.await?;
        let mut written = BTreeSet::new();
        let blobs = || outgoing.iter().flat_map(|image| image.closure.blobs());
        let documents = || outgoing.iter().flat_map(|image| &image.closure.documents);
        sink.directory("blobs/").await?;
        let algorithms: BTreeSet<&str> = blobs()
            .map(|blob| &blob.digest)
            .chain(documents().map(|(document, _)| &document.digest))
            .map(|digest| digest.algorithm().as_str())
            .collect();
        for algorithm in algorithms {
            sink.directory(&format!("blobs/{algorithm}/")).await?;
        }
        for blob in blobs() {
            if written.insert(&blob.digest) {
                let pieces = self.inner.images.open_blob(&blob.digest, 0).await?;
                let report = |done| progress.report(SaveEvent::Writing { blob: blob.clone(), done });
                sink.stream(&blob_path(&blob.digest), blob.size, pieces, report).await?;
            }
        }
        for (document, bytes) in documents() {
            if written.insert(&document.digest) {
                sink.file(&blob_path(&document.digest), bytes.clone()).await?;
            }
        }
        if options.format == ArchiveFormat::Docker {
            let (manifest, repositories) = docker_documents(&outgoing)?;
            sink.file("manifest.json", manifest.into()).await?;
            sink.file("repositories", repositories.into()).await?;
        }
        sink.file("oci-layout", LAYOUT.into()).await?;
        // The index comes last: without it, a directory is no layout.
        sink.file("index.json", index.into()).await?;
        sink.finish().await?;
        for image in &outgoing {
            let id = self.id_of(&image.target).await;
            let name = image.name.as_ref().map_or_else(|| id.to_string(), Reference::familiar);
            self.emit(of_image(Action::Save, id, name)).await;
        }
        Ok(())
    }

    /// Finds an image and checks that all of it is here.
    pub(super) async fn outgoing(&self, image: &str, platform: Option<&Platform>) -> Result<Outgoing> {
        let mut target = self.find_image(image).await?;
        let name = match image.parse::<Reference>() {
            Ok(name) if name.tag().is_some() && name.digest().is_none() => {
                self.inner.images.resolve_name(&name).await?.map(|_| name)
            }
            _ => None,
        };
        if let Some(platform) = platform {
            let chosen = self.load_image(&target, platform, &[]).await?;
            if chosen.manifest.digest == target.digest && platform.rank(&chosen.platform()).is_none() {
                return Err(Error::new(ErrorKind::NotFound, "select platform")
                    .with("platform", platform)
                    .with_message(format!("the image is for {}", chosen.platform())));
            }
            target = chosen.manifest;
        }
        let closure = self.closure(&target).await?;
        if closure.images.is_empty() {
            return Err(Error::new(ErrorKind::NotFound, "read image")
                .with("digest", &target.digest)
                .with_message("nothing of it is in the store"));
        }
        for blob in closure.blobs() {
            if self.inner.images.blob_size(&blob.digest).await? != Some(blob.size) {
                return Err(Error::new(ErrorKind::NotFound, "read image")
                    .with("digest", &blob.digest)
                    .with_message("this part of it is not in the store")
                    .with_hint("pull the image again"));
            }
        }
        Ok(Outgoing { target, name, closure })
    }
}

/// Returns an image's entry in `index.json`.
fn entry(image: &Outgoing) -> Descriptor {
    let mut entry = image.target.clone();
    entry.annotations.remove(IMAGE_NAME);
    entry.annotations.remove(REF_NAME);
    if let Some(name) = &image.name {
        entry.annotations.insert(IMAGE_NAME.to_owned(), name.to_string());
        entry.annotations.extend(name.tag().map(|tag| (REF_NAME.to_owned(), tag.to_owned())));
    }
    entry
}

/// Returns `manifest.json` and `repositories`, which name one platform of each image: the host's, if it has that.
fn docker_documents(outgoing: &[Outgoing]) -> Result<(Vec<u8>, Vec<u8>)> {
    #[derive(serde::Serialize)]
    #[serde(rename_all = "PascalCase")]
    struct Saved {
        config: String,
        repo_tags: Option<Vec<String>>,
        layers: Vec<String>,
    }
    let mut saved: Vec<(Digest, Saved)> = Vec::new();
    let mut repositories: BTreeMap<String, BTreeMap<&str, &str>> = BTreeMap::new();
    for image in outgoing {
        let Some(chosen) = for_host(&image.closure) else { continue };
        let path = |blob: &Descriptor| blob_path(&blob.digest);
        let tag = image.name.as_ref().map(Reference::familiar);
        match saved.iter_mut().find(|(digest, _)| *digest == image.target.digest) {
            Some((_, known)) => known.repo_tags.get_or_insert_default().extend(tag),
            None => {
                let layers = chosen.layers.iter().map(path).collect();
                let entry =
                    Saved { config: path(&chosen.config), repo_tags: tag.map(|tag| vec![tag]), layers };
                saved.push((image.target.digest.clone(), entry));
            }
        }
        if let (Some(name), Some(top)) = (&image.name, chosen.layers.last())
            && let Some(tag) = name.tag()
        {
            repositories.entry(name.familiar_name()).or_default().insert(tag, top.digest.hex());
        }
    }
    let saved: Vec<Saved> = saved.into_iter().map(|(_, entry)| entry).collect();
    Ok((to_json(&saved)?, to_json(&repositories)?))
}

/// Returns the image for this host, else the first one that containers can be made of.
fn for_host(closure: &Closure) -> Option<&ImageManifest> {
    let images = || closure.images.iter().filter(|(_, image)| image.is_container_image());
    let host = Platform::host();
    let rank = |descriptor: &Descriptor| {
        descriptor.platform.as_ref().map_or(Some(u32::MAX), |platform| host.rank(platform))
    };
    images()
        .filter_map(|(descriptor, image)| Some((rank(descriptor)?, image)))
        .min_by_key(|(rank, _)| *rank)
        .map(|(_, image)| image)
        .or_else(|| images().map(|(_, image)| image).next())
}
