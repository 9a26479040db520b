//! The cache of steps: which layer a step makes, by what the step is made of.
//!
//! An entry is an image of no more than the one layer, under a name that nobody can give. So the store keeps what is reached,
//! several programs share it, and it is whole or not there. A key covers everything that a result depends on (SECURITY C6): the
//! layers below by their digests, the platform, the instruction as it is carried out, and files by content.

use std::collections::BTreeMap;

use serde_json::json;

use crate::descriptor::{Descriptor, media_type};
use crate::digest::Digest;
use crate::engine::LocalEngine;
use crate::engine::import::to_json;
use crate::error::{ErrorKind, Result};
use crate::image_config::{History, ImageConfig, ProcessDefaults, RootFs};
use crate::platform::Platform;
use crate::reference::Reference;

/// A layer: its blob, and the digest of its archive.
pub(super) type Layer = (Descriptor, Digest);

/// The digest of an archive without entries: of a layer that changes nothing.
pub(super) fn empty_diff_id() -> Digest {
    Digest::sha256(&[0; 1024])
}

/// What the cache has for a key.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    /// The image that keeps the layer.
    pub(super) manifest: Digest,
    /// The layer; `None` if there was nothing to make one of.
    pub(super) layer: Option<Layer>,
    /// What else was to be known of it.
    pub(super) notes: BTreeMap<String, String>,
}

impl LocalEngine {
    /// Returns what the step `key` made; `None` if it is not known, or is not whole any more.
    pub(super) async fn cached_step(&self, key: &Digest) -> Result<Option<Entry>> {
        let Some(target) = self.inner.images.resolve_name(&Reference::build_step(key.clone())).await? else {
            return Ok(None);
        };
        let image = match self.load_image(&target, &Platform::host(), &[]).await {
            Ok(image) => image,
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Corrupt) => {
                tracing::warn!(%key, %error, "an entry of the build cache is not used");
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        let layer = match (image.contents.layers.first(), image.diff_ids().first()) {
            (Some(layer), Some(diff_id)) => {
                let whole = self.inner.images.has_layer(diff_id).await?
                    && self.inner.images.blob_size(&layer.digest).await? == Some(layer.size);
                if !whole {
                    return Ok(None);
                }
                Some((layer.clone(), diff_id.clone()))
            }
            _ => None,
        };
        let notes = image.config.config.labels.clone();
        Ok(Some(Entry { manifest: image.manifest.digest.clone(), layer, notes }))
    }

    /// Keeps what the step `key` made. `text` is for people who look at the cache.
    pub(super) async fn keep_step(
        &self,
        key: &Digest,
        layer: Option<&Layer>,
        text: &str,
        notes: BTreeMap<String, String>,
    ) -> Result<Entry> {
        let config = ImageConfig {
            architecture: Platform::host().architecture,
            os: Platform::host().os,
            // For whoever prunes; no image has anything of this.
            created: crate::time::rfc3339(std::time::SystemTime::now()),
            config: ProcessDefaults { labels: notes.clone(), ..ProcessDefaults::default() },
            rootfs: RootFs {
                kind: "layers".to_owned(),
                diff_ids: layer.map(|(_, id)| id.clone()).into_iter().collect(),
            },
            history: vec![History {
                created_by: Some(text.to_owned()),
                empty_layer: layer.is_none(),
                ..History::default()
            }],
            ..ImageConfig::default()
        };
        let layers: Vec<&Descriptor> = layer.map(|(blob, _)| blob).into_iter().collect();
        let manifest = self.put_image(&config, &layers, &BTreeMap::new()).await?;
        self.inner.images.set_name(&Reference::build_step(key.clone()), &manifest).await?;
        Ok(Entry { manifest: manifest.digest, layer: layer.cloned(), notes })
    }

    /// Writes the configuration and the manifest of an image of `layers`.
    pub(super) async fn put_image(
        &self,
        config: &ImageConfig,
        layers: &[&Descriptor],
        annotations: &BTreeMap<String, String>,
    ) -> Result<Descriptor> {
        let bytes = to_json(config)?;
        let config = Descriptor::of(media_type::OCI_CONFIG, &bytes);
        self.put_blob(&config, bytes).await?;
        let mut document = json!({
            "schemaVersion": 2,
            "mediaType": media_type::OCI_MANIFEST,
            "config": config,
            "layers": layers,
        });
        if !annotations.is_empty() {
            document["annotations"] = json!(annotations);
        }
        let bytes = to_json(&document)?;
        let manifest = Descriptor::of(media_type::OCI_MANIFEST, &bytes);
        self.put_blob(&manifest, bytes).await?;
        Ok(manifest)
    }
}
