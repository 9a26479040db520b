//! Images from one engine to another, without a registry or an archive between them.
//!
//! Owns which blobs travel: those that the other engine lacks, byte for byte, checked and unpacked there as they arrive.

use bytes::{Bytes, BytesMut};
use futures_core::Stream;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use tokio::io::AsyncReadExt as _;

use crate::error::{Error, ErrorKind, Result};
use crate::events::Action;
use crate::image_config::ImageConfig;
use crate::manifest::{ImageManifest, MAX_CONFIG_SIZE};
use crate::platform::Platform;
use crate::reference::Reference;

use super::archive::LoadSource;
use super::events::of_image;
use super::hooks::ImageRequest;
use super::import::Incoming;
use super::layers::{self, Wanted};
use super::load::{LoadEvent, LoadOptions, LoadedImage};
use super::operation::{Operation, Progress};
use super::pull::wrap;
use super::save::{Outgoing, SaveOptions};
use super::{Engine, LocalEngine};

/// Bytes on the way from an archive to its load.
const PIECE: usize = 256 << 10;

/// How to copy an image to another engine.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct CopyImageOptions {
    /// The platform to take of an image that has several; all that are in the store without it.
    pub platform: Option<Platform>,
    /// The image's name there; the one it is copied by without it.
    pub name: Option<Reference>,
    /// How many layers are copied at once; 4 by default.
    pub parallel: usize,
}

impl Default for CopyImageOptions {
    fn default() -> Self {
        Self { platform: None, name: None, parallel: 4 }
    }
}

impl CopyImageOptions {
    /// Sets the platform to take.
    #[must_use]
    pub fn with_platform(mut self, platform: Platform) -> Self {
        self.platform = Some(platform);
        self
    }

    /// Sets the image's name there.
    #[must_use]
    pub fn with_name(mut self, name: Reference) -> Self {
        self.name = Some(name);
        self
    }
}

impl LocalEngine {
    pub(super) fn copy_image(
        &self,
        image: &str,
        to: &LocalEngine,
        options: CopyImageOptions,
    ) -> Operation<LoadEvent, LoadedImage> {
        let (from, to, image) = (self.clone(), to.clone(), image.to_owned());
        Operation::new(move |progress| async move {
            from.copy_to(&image, &to, &options, &progress).await.map_err(|e| wrap(e, "copy image", &image))
        })
    }

    #[tracing::instrument(skip_all, fields(image))]
    async fn copy_to(
        &self,
        image: &str,
        to: &LocalEngine,
        options: &CopyImageOptions,
        progress: &Progress<LoadEvent>,
    ) -> Result<LoadedImage> {
        let _lease = self.inner.images.lease().await?;
        let outgoing = self.outgoing(image, options.platform.as_ref()).await?;
        let incoming = Incoming::begin(to).await?;
        progress.report(LoadEvent::Opened { images: 1 });
        let name = options.name.clone().or_else(|| outgoing.name.clone());
        let shown = name.as_ref().map_or_else(|| image.to_owned(), Reference::familiar);
        let mut wanted = Vec::new();
        for (manifest, image) in &outgoing.closure.images {
            let config = self.config_of(image).await?;
            to.inner.hooks.admit_image(&ImageRequest {
                name: &shown,
                manifest: &manifest.digest,
                config: config.as_ref(),
                spec: None,
            })?;
            wanted.push((image.config.clone(), None));
            wanted.extend(wanted_of(image, config)?);
        }
        layers::once(&mut wanted);
        stream::iter(wanted.iter().map(Ok))
            .try_for_each_concurrent(options.parallel.max(1), |wanted| async move {
                let blob = &wanted.0;
                let report = |now| progress.report(LoadEvent::Layer { layer: blob.clone(), progress: now });
                let open = self.inner.images.open_blob(&blob.digest, 0);
                layers::take_in(to, wanted, open, report)
                    .await
                    .map_err(|e| wrap(e, "copy layer", &blob.digest))
            })
            .await?;
        // Children before parents, and the name last.
        let Outgoing { target, name: own, closure } = outgoing;
        for (document, bytes) in closure.documents {
            to.put_blob(&document, bytes).await?;
        }
        let id = match &closure.images[..] {
            [(only, image)] if only.digest == target.digest => Some(image.config.digest.clone()),
            _ => None,
        };
        let copied = LoadedImage { names: name.into_iter().collect(), target, id };
        to.name_loaded(&copied).await?;
        progress.report(LoadEvent::Loaded(copied.clone()));
        incoming.arrived();
        let id = self.id_of(&copied.target).await;
        let shown = own.as_ref().map_or_else(|| id.to_string(), Reference::familiar);
        self.emit(of_image(Action::Save, id, shown)).await;
        Ok(copied)
    }

    /// Reads an image's configuration; `None` of an artifact, which has none of ours.
    async fn config_of(&self, image: &ImageManifest) -> Result<Option<ImageConfig>> {
        if !image.is_container_image() {
            return Ok(None);
        }
        ImageConfig::parse(&self.read_blob(&image.config, MAX_CONFIG_SIZE).await?).map(Some)
    }
}

/// Copies an image between engines of which one at least is elsewhere: it is saved as an archive and loaded meanwhile.
pub(super) fn copy_as_archive(
    from: &Engine,
    image: &str,
    to: &Engine,
    options: CopyImageOptions,
) -> Operation<LoadEvent, LoadedImage> {
    let (from, to, image) = (from.clone(), to.clone(), image.to_owned());
    Operation::new(move |progress| async move {
        let (reader, writer) = tokio::io::duplex(PIECE);
        // With another name there, the archive has none: what has the old name there is not to be touched.
        let saved = match &options.name {
            Some(_) => nameless(&from, &image).await?,
            None => image.clone(),
        };
        let save = SaveOptions { platform: options.platform.clone(), ..SaveOptions::default() };
        let saved = from.save(&[&saved], writer, save);
        let load = LoadOptions { parallel: options.parallel, name: options.name, ..LoadOptions::default() };
        let mut loaded = to.load(LoadSource::stream(pieces(reader)), load);
        let report = async {
            while let Some(event) = loaded.next().await {
                progress.report(event);
            }
            loaded.await
        };
        let (saved, loaded) = tokio::join!(async { saved.await }, report);
        // What stops the source stops the load, too.
        saved?;
        let nothing = || Error::new(ErrorKind::NotFound, "copy image").with("image", &image);
        loaded?.pop().ok_or_else(|| nothing().with_message("no image arrived"))
    })
}

/// What an image is called without using its name.
async fn nameless(engine: &Engine, image: &str) -> Result<String> {
    let reference = image.parse::<Reference>().ok();
    let named = engine.images().await?.into_iter().find(|known| Some(&known.reference) == reference.as_ref());
    Ok(named.map_or_else(|| image.to_owned(), |known| known.target.digest.to_string()))
}

fn pieces(reader: tokio::io::DuplexStream) -> impl Stream<Item = Result<Bytes>> + Send {
    stream::try_unfold(reader, |mut reader| async move {
        let mut piece = BytesMut::with_capacity(PIECE);
        let read = reader.read_buf(&mut piece).await.map_err(|e| Error::from_io("copy image", e))?;
        Ok((read > 0).then(|| (piece.freeze(), reader)))
    })
}

/// The layers of an image, with diff IDs if they are for this host and so to be unpacked.
fn wanted_of(image: &ImageManifest, config: Option<ImageConfig>) -> Result<Vec<Wanted>> {
    let Some(config) = config else { return Ok(layers::unpaired(image)) };
    let unpack = Platform::host().rank(&config.platform()).is_some();
    layers::paired(image, config.rootfs.diff_ids, unpack)
}
