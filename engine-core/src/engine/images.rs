//! Images in the store: find, list, tag.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::TryStreamExt;

use crate::descriptor::{Descriptor, media_type};
use crate::digest::Digest;
use crate::error::{Error, ErrorKind, Result};
use crate::events::{Action, Event};
use crate::image_config::ImageConfig;
use crate::image_store::GarbageReport;
use crate::manifest::{MAX_CONFIG_SIZE, MAX_MANIFEST_SIZE, Manifest};
use crate::platform::Platform;
use crate::reference::Reference;

use super::events::of_image;
use super::image::{Image, ImageSummary};
use super::records::Record;
use super::{LocalEngine, pull};

impl LocalEngine {
    pub(super) async fn image_for(&self, name: &str, platform: &Platform) -> Result<Image> {
        let names = self.all_names().await?;
        let target = self.find_image(name).await?;
        self.load_image(&target, platform, &names).await
    }

    pub(super) async fn images(&self) -> Result<Vec<ImageSummary>> {
        let names = self.image_names().await?;
        let mut list = Vec::with_capacity(names.len());
        for (reference, target) in &names {
            let image = match self.load_image(target, &Platform::host(), &[]).await {
                Ok(image) => Some(image),
                Err(error) if error.kind() == ErrorKind::NotFound => None,
                Err(error) => return Err(error),
            };
            list.push(ImageSummary {
                reference: reference.clone(),
                dangling: reference.is_dangling(),
                target: target.clone(),
                id: image.as_ref().map(|i| i.id().clone()),
                created: image.as_ref().map(|i| i.config.created.clone()).unwrap_or_default(),
                size: image.as_ref().map_or(target.size, Image::size),
                labels: image.map(|i| i.config.config.labels).unwrap_or_default(),
            });
        }
        Ok(list)
    }

    pub(super) async fn tag(&self, source: &str, name: &Reference) -> Result<()> {
        if name.digest().is_some() {
            return Err(Error::new(ErrorKind::InvalidArgument, "tag image")
                .with("name", name)
                .with_message("a name with a digest cannot be given"));
        }
        let _lease = self.inner.images.lease().await?;
        let target = self.find_image(source).await?;
        let id = self.id_of(&target).await;
        self.name_image(of_image(Action::Tag, id, name.familiar()), name, &target).await
    }

    /// Points `name` at `target`, of which `event` tells.
    pub(super) async fn name_image(&self, event: Event, name: &Reference, target: &Descriptor) -> Result<()> {
        let (engine, name, target) = (self.clone(), name.clone(), target.clone());
        self.change(event, async move { engine.set_image_name(&name, &target).await }).await
    }

    /// Removes a name of the image `id` and returns whether it was there.
    pub(super) async fn untag_image(&self, id: &Digest, name: &Reference) -> Result<bool> {
        let shown = if name.is_dangling() { id.to_string() } else { name.familiar() };
        let (store, name) = (Arc::clone(&self.inner.images), name.clone());
        let work = async move { store.remove_name(&name).await };
        self.change_when(of_image(Action::Untag, id, shown), work, |was_there| *was_there).await
    }

    /// Collects garbage after the image `id` lost names.
    pub(super) async fn collect_image(&self, id: &Digest) -> Result<GarbageReport> {
        let (store, own) = (Arc::clone(&self.inner.images), id.clone());
        let work = async move { store.collect_garbage().await };
        self.change_when(of_image(Action::Delete, id, id), work, move |report| report.blobs.contains(&own))
            .await
    }

    /// Returns the id of the image a name points at; the digest it points at if nothing for this host is here.
    pub(super) async fn id_of(&self, target: &Descriptor) -> Digest {
        match self.load_image(target, &Platform::host(), &[]).await {
            Ok(image) => image.id().clone(),
            Err(_) => target.digest.clone(),
        }
    }

    /// Finds what a user means by `name`.
    pub(super) async fn find_image(&self, name: &str) -> Result<Descriptor> {
        let reference = name.parse::<Reference>();
        if let Ok(reference) = &reference
            && let Some(target) = self.inner.images.resolve_name(reference).await?
        {
            return Ok(target);
        }
        let names = self.all_names().await?;
        if let Ok(reference) = &reference {
            // repo@digest, with or without a tag: any name of that repository pointing at the digest.
            if let Some(digest) = reference.digest() {
                let same = |known: &Reference| {
                    known.repository() == reference.repository() && known.registry() == reference.registry()
                };
                if let Some((_, target)) = names.iter().find(|(known, t)| same(known) && t.digest == *digest)
                {
                    return Ok(target.clone());
                }
            }
        }
        let hex = name.strip_prefix("sha256:").unwrap_or(name);
        if hex.len() >= 2 && hex.bytes().all(|b| b.is_ascii_hexdigit()) {
            let mut found: Option<(Digest, Descriptor)> = None;
            for (_, target) in &names {
                let own = self.id_of(target).await;
                let matches = own.hex().starts_with(hex) || target.digest.hex().starts_with(hex);
                match &found {
                    Some((id, _)) if matches && *id != own => {
                        return Err(Error::new(ErrorKind::InvalidArgument, "find image")
                            .with("image", name)
                            .with_message("several ids begin with it")
                            .with_hint("give more digits"));
                    }
                    None if matches => found = Some((own, target.clone())),
                    _ => {}
                }
            }
            if let Some((_, target)) = found {
                return Ok(target);
            }
        }
        // A malformed reference that is no id either deserves the parser's words.
        if let Err(error) = reference
            && hex.len() != 64
        {
            return Err(error);
        }
        Err(Error::new(ErrorKind::NotFound, "find image")
            .with("image", name)
            .with_message("no such image in the store")
            .with_hint("pull it first"))
    }

    /// Reads the image that `target` leads to on `platform`.
    pub(super) async fn load_image(
        &self,
        target: &Descriptor,
        platform: &Platform,
        names: &[(Reference, Descriptor)],
    ) -> Result<Image> {
        let mut manifest = target.clone();
        let mut bytes = self.read_blob(&manifest, MAX_MANIFEST_SIZE).await?;
        let mut parsed = Manifest::parse(&bytes, &manifest.media_type)?;
        if let Manifest::Index(index) = &parsed {
            let chosen = index.select(platform).ok_or_else(|| pull::no_platform(index, platform))?;
            manifest = chosen.clone();
            bytes = self.read_blob(&manifest, MAX_MANIFEST_SIZE).await?;
            parsed = Manifest::parse(&bytes, &manifest.media_type)?;
        }
        let names = names
            .iter()
            .filter(|(name, known)| known.digest == target.digest && !name.is_dangling())
            .map(|(name, _)| name.clone())
            .collect();
        self.image(target.clone(), manifest, parsed, names).await
    }

    async fn image(
        &self,
        target: Descriptor,
        manifest: Descriptor,
        parsed: Manifest,
        names: Vec<Reference>,
    ) -> Result<Image> {
        let Manifest::Image(contents) = parsed else {
            return Err(Error::new(ErrorKind::Unsupported, "read image")
                .with("digest", &manifest.digest)
                .with_message("an index within an index leads to no image"));
        };
        // An artifact's configuration is anything.
        let config = if contents.is_container_image() {
            ImageConfig::parse(&self.read_blob(&contents.config, MAX_CONFIG_SIZE).await?)?
        } else {
            ImageConfig::default()
        };
        Ok(Image { target, manifest, contents, config, names })
    }

    /// Reads the image of a container, which keeps it.
    pub(super) async fn image_of(&self, record: &Record) -> Result<Image> {
        let digest = &record.data.manifest;
        let missing = || {
            Error::new(ErrorKind::NotFound, "find image")
                .with("image", digest)
                .with_message(format!("the image of container {} is not in the store", record.id.short()))
        };
        let size = self.inner.images.blob_size(digest).await?.ok_or_else(missing)?;
        let mut manifest = Descriptor::new(media_type::OCI_MANIFEST, digest.clone(), size);
        let bytes = self.read_blob(&manifest, MAX_MANIFEST_SIZE).await?;
        manifest.media_type = Manifest::media_type(&bytes)?;
        let parsed = Manifest::parse(&bytes, &manifest.media_type)?;
        self.image(manifest.clone(), manifest, parsed, Vec::new()).await
    }

    /// Unpacks the layers of an image that are here as blobs alone: those of another platform, when somebody wants it.
    pub(super) async fn unpack_missing(&self, image: &Image) -> Result<()> {
        let store = &self.inner.images;
        for (layer, diff_id) in image.contents.layers.iter().zip(image.diff_ids()) {
            if !store.has_layer(diff_id).await? {
                store.unpack(layer, diff_id).await?;
            }
        }
        Ok(())
    }

    /// Reads a small blob whole and checks it against its descriptor.
    pub(super) async fn read_blob(&self, descriptor: &Descriptor, limit: u64) -> Result<Bytes> {
        let failed = |kind, why: String| {
            Error::new(kind, "read blob").with("digest", &descriptor.digest).with_message(why)
        };
        if descriptor.size > limit {
            return Err(failed(ErrorKind::Corrupt, format!("it has more than {limit} bytes")));
        }
        let stream = self.inner.images.open_blob(&descriptor.digest, 0).await?;
        let bytes = stream
            .try_fold(Vec::new(), |mut all, chunk| async move {
                all.extend_from_slice(&chunk);
                Ok(all)
            })
            .await?;
        if bytes.len() as u64 != descriptor.size || descriptor.digest.rehash(&bytes) != descriptor.digest {
            return Err(failed(ErrorKind::Corrupt, "its content does not match its digest".to_owned()));
        }
        Ok(bytes.into())
    }

    /// Writes a small blob, unless it is there.
    pub(super) async fn put_blob(&self, descriptor: &Descriptor, bytes: impl Into<Bytes>) -> Result<()> {
        if self.inner.images.blob_size(&descriptor.digest).await? == Some(descriptor.size) {
            return Ok(());
        }
        let mut ingest = self.inner.images.ingest(descriptor, None).await?;
        ingest.write(bytes.into()).await?;
        ingest.commit().await
    }
}
