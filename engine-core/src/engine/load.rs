//! Loading images from archives: found first, then taken in blob by blob as a pull does.

use std::collections::HashSet;

use futures_util::{TryStreamExt as _, stream};
use serde::{Deserialize, Serialize};

use crate::descriptor::{Descriptor, media_type};
use crate::digest::Digest;
use crate::error::{Error, ErrorKind, Result};
use crate::events::Action;
use crate::image_config::ImageConfig;
use crate::manifest::{ImageManifest, MAX_CONFIG_SIZE, Manifest};
use crate::platform::Platform;
use crate::reference::Reference;

use super::LocalEngine;
use super::archive::{Archive, Contents, LoadSource, Planned};
use super::events::of_image;
use super::import::Incoming;
use super::layers::{self, LayerProgress, Wanted};
use super::operation::{Operation, Progress};
use super::pull::{no_platform, wrap};

/// How to load.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct LoadOptions {
    /// The platform to take from images that have several; all that are there without it.
    pub platform: Option<Platform>,
    /// The name of the image, if the archive holds one that has none.
    pub name: Option<Reference>,
    /// How many layers are taken in at once; 4 by default.
    pub parallel: usize,
    /// The most bytes an archive may have when decompressed; what the engine takes without it
    /// ([`EngineBuilder::max_bytes`](crate::EngineBuilder::max_bytes)).
    pub max_bytes: Option<u64>,
}

impl Default for LoadOptions {
    fn default() -> Self {
        Self { platform: None, name: None, parallel: 4, max_bytes: None }
    }
}

impl LoadOptions {
    /// Sets the platform to take.
    #[must_use]
    pub fn with_platform(mut self, platform: Platform) -> Self {
        self.platform = Some(platform);
        self
    }

    /// Sets the name of an image that has none.
    #[must_use]
    pub fn with_name(mut self, name: Reference) -> Self {
        self.name = Some(name);
        self
    }

    /// Sets the most bytes an archive may have when decompressed.
    #[must_use]
    pub fn with_max_bytes(mut self, bytes: u64) -> Self {
        self.max_bytes = Some(bytes);
        self
    }
}

/// What a load reports.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[non_exhaustive]
pub enum LoadEvent {
    /// The archive is open, and holds so many images.
    Opened {
        /// How many.
        images: usize,
    },
    /// A layer got on.
    Layer {
        /// The layer.
        layer: Descriptor,
        /// How far.
        progress: LayerProgress,
    },
    /// An image is in the store.
    Loaded(LoadedImage),
}

/// An image that came from an archive.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[non_exhaustive]
pub struct LoadedImage {
    /// Its names; none if the archive had none for it.
    pub names: Vec<Reference>,
    /// What they point at.
    pub target: Descriptor,
    /// Its id, the digest of its configuration, if there is one image and not several platforms.
    pub id: Option<Digest>,
}

impl LocalEngine {
    pub(super) fn load(
        &self,
        source: impl Into<LoadSource>,
        options: LoadOptions,
    ) -> Operation<LoadEvent, Vec<LoadedImage>> {
        let (engine, source) = (self.clone(), source.into());
        let subject = match &source {
            LoadSource::Path(path) => path.display().to_string(),
            LoadSource::Stream(_) => "-".to_owned(),
            LoadSource::Named(name, _) => name.clone(),
        };
        Operation::new(move |progress| async move {
            engine.load_archive(source, &options, &progress).await.map_err(|e| wrap(e, "load image", subject))
        })
    }

    #[tracing::instrument(skip_all)]
    async fn load_archive(
        &self,
        source: LoadSource,
        options: &LoadOptions,
        progress: &Progress<LoadEvent>,
    ) -> Result<Vec<LoadedImage>> {
        let incoming = Incoming::begin(self).await?;
        let max_bytes = options.max_bytes.unwrap_or(self.inner.max_bytes);
        let archive = Archive::open(source, self.inner.root.clone(), max_bytes).await?;
        let mut contents = Contents::read(&archive).await?;
        if let Some(name) = &options.name {
            match &mut contents.images[..] {
                [only] if only.names.is_empty() => only.names.push(name.clone()),
                _ => {
                    return Err(Error::new(ErrorKind::InvalidArgument, "name image")
                        .with("name", name)
                        .with_message("the archive does not hold one image without a name"));
                }
            }
        }
        progress.report(LoadEvent::Opened { images: contents.images.len() });
        let mut loaded = Vec::new();
        for planned in &contents.images {
            loaded.push(self.load_planned(&archive, &contents, planned, options, progress).await?);
        }
        // Names come last: an archive that is bad anywhere changes nothing.
        for image in &loaded {
            self.name_loaded(image).await?;
            progress.report(LoadEvent::Loaded(image.clone()));
        }
        incoming.arrived();
        Ok(loaded)
    }

    /// Gives an image that came in its names, or keeps it without.
    pub(super) async fn name_loaded(&self, image: &LoadedImage) -> Result<()> {
        let id = self.id_of(&image.target).await;
        for name in &image.names {
            let event = of_image(Action::Load, &id, name.familiar());
            self.name_image(event, name, &image.target).await?;
        }
        if image.names.is_empty() {
            self.keep_dangling(&image.target).await?;
            self.emit(of_image(Action::Load, &id, &id)).await;
        }
        Ok(())
    }

    async fn load_planned(
        &self,
        archive: &Archive,
        contents: &Contents,
        planned: &Planned,
        options: &LoadOptions,
        progress: &Progress<LoadEvent>,
    ) -> Result<LoadedImage> {
        let mut target = planned.target.clone();
        let mut documents = contents.documents(archive, &target).await?;
        if let Some(platform) = &options.platform
            && let Some((_, bytes)) = documents.all.iter().find(|(d, _)| d.digest == target.digest)
            && let Manifest::Index(index) = Manifest::parse(bytes, &target.media_type)?
        {
            target = index.select(platform).ok_or_else(|| no_platform(&index, platform))?.clone();
            documents = contents.documents(archive, &target).await?;
        }
        let direct = matches!(&documents.images[..], [(only, _)] if only.digest == target.digest);
        let mut id = None;
        let mut wanted = Vec::new();
        let mut left_out = HashSet::new();
        for (descriptor, image) in &documents.images {
            // An image of an index that is not all there is not there at all.
            if !direct && !self.is_complete(archive, contents, image).await? {
                left_out.insert(descriptor.digest.clone());
                continue;
            }
            let (blobs, platform) = self.wanted_of(archive, contents, image).await?;
            if let (true, Some(wish), Some(platform)) = (direct, &options.platform, &platform)
                && wish.rank(platform).is_none()
            {
                return Err(Error::new(ErrorKind::NotFound, "select platform")
                    .with("platform", wish)
                    .with_message(format!("the image is for {platform}")));
            }
            if direct {
                id = Some(image.config.digest.clone());
            }
            wanted.extend(blobs);
        }
        if left_out.len() == documents.images.len() && !documents.images.is_empty() {
            return Err(Error::new(ErrorKind::Corrupt, "read archive")
                .with("image", &target.digest)
                .with_message("it has not all layers of any platform"));
        }
        layers::once(&mut wanted);
        stream::iter(wanted.iter().map(Ok))
            .try_for_each_concurrent(options.parallel.max(1), |wanted| async move {
                self.load_blob(archive, contents, wanted, progress)
                    .await
                    .map_err(|e| wrap(e, "load layer", &wanted.0.digest))
            })
            .await?;
        for (descriptor, bytes) in documents.all {
            if !left_out.contains(&descriptor.digest) {
                self.put_blob(&descriptor, bytes).await?;
            }
        }
        Ok(LoadedImage { names: planned.names.clone(), target, id })
    }

    /// Returns whether every blob of an image is in the archive or in the store.
    async fn is_complete(
        &self,
        archive: &Archive,
        contents: &Contents,
        image: &ImageManifest,
    ) -> Result<bool> {
        for blob in image.layers.iter().chain([&image.config]) {
            if contents.find(archive, &blob.digest).await?.is_none()
                && self.inner.images.blob_size(&blob.digest).await? != Some(blob.size)
            {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Returns the blobs of an image, its layers with diff IDs if they are to be unpacked, and the platform it says.
    async fn wanted_of(
        &self,
        archive: &Archive,
        contents: &Contents,
        image: &ImageManifest,
    ) -> Result<(Vec<Wanted>, Option<Platform>)> {
        let mut wanted = vec![(image.config.clone(), None)];
        if let Some(foreign) = image.layers.iter().find(|layer| media_type::is_foreign(&layer.media_type))
            && contents.find(archive, &foreign.digest).await?.is_none()
        {
            return Err(layers::foreign(foreign));
        }
        if !image.is_container_image() {
            wanted.extend(layers::unpaired(image));
            return Ok((wanted, None));
        }
        let config = match contents.document(archive, &image.config, MAX_CONFIG_SIZE).await? {
            Some(bytes) => bytes,
            None if self.inner.images.blob_size(&image.config.digest).await?.is_some() => {
                self.read_blob(&image.config, MAX_CONFIG_SIZE).await?
            }
            None => return Err(lacking(&image.config)),
        };
        let config = ImageConfig::parse(&config)?;
        let platform = config.platform();
        let unpack = Platform::host().rank(&platform).is_some();
        wanted.extend(layers::paired(image, config.rootfs.diff_ids, unpack)?);
        Ok((wanted, Some(platform)))
    }

    async fn load_blob(
        &self,
        archive: &Archive,
        contents: &Contents,
        wanted: &Wanted,
        progress: &Progress<LoadEvent>,
    ) -> Result<()> {
        let blob = &wanted.0;
        let find = async {
            let member = contents.find(archive, &blob.digest).await?.ok_or_else(|| lacking(blob))?;
            if member.size != blob.size {
                return Err(Error::new(ErrorKind::Corrupt, "read archive")
                    .with_message(format!("it has {} bytes, and should have {}", member.size, blob.size)));
            }
            Ok(member.stream())
        };
        let report = |now| progress.report(LoadEvent::Layer { layer: blob.clone(), progress: now });
        layers::take_in(self, wanted, find, report).await
    }
}

fn lacking(blob: &Descriptor) -> Error {
    Error::new(ErrorKind::Corrupt, "read archive")
        .with("digest", &blob.digest)
        .with_message("it lacks this blob")
}
