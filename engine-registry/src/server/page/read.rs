//! What a page of a repository or a manifest shows, from the storage.

use std::collections::BTreeMap;

use engine_core::descriptor::Descriptor;
use engine_core::digest::Digest;
use engine_core::image_config::{History, ImageConfig};
use engine_core::manifest::{MAX_CONFIG_SIZE, Manifest};
use futures_util::TryStreamExt as _;

use super::{Answer, PAGE};
use crate::server::error::{ApiError, Code};
use crate::server::names::{RepositoryName, Tag, Target};
use crate::server::storage::{Page, PageRequest, Storage};

/// A manifest with what it names.
#[derive(Debug)]
pub(super) struct Shown {
    pub(super) descriptor: Descriptor,
    pub(super) artifact_type: Option<String>,
    pub(super) annotations: BTreeMap<String, String>,
    pub(super) subject: Option<Digest>,
    pub(super) content: Content,
    pub(super) referrers: Page<Descriptor>,
}

/// What is of the kind of a manifest alone.
#[derive(Debug)]
pub(super) enum Content {
    Image {
        layers: Vec<Layer>,
        config: Option<Box<ImageConfig>>,
    },
    /// Blobs that are no container's.
    Artifact(Vec<Descriptor>),
    Index(Vec<Descriptor>),
    /// Of a type that this registry does not know.
    Unknown,
}

/// A layer, with the step that made it.
#[derive(Debug)]
pub(super) struct Layer {
    pub(super) descriptor: Descriptor,
    pub(super) made_by: String,
}

/// Tags with what each stands for.
pub(super) async fn tags(
    storage: &dyn Storage,
    name: &RepositoryName,
    wanted: &PageRequest,
) -> Answer<Page<(Tag, Descriptor)>> {
    let found = storage.tags(name, wanted).await?;
    let found = found.ok_or_else(|| ApiError::new(Code::NameUnknown, "there is no such repository"))?;
    let mut entries = Vec::with_capacity(found.entries.len());
    for tag in found.entries {
        // One that has just gone is not shown.
        if let Some(descriptor) = storage.resolve(name, &Target::Tag(tag.clone())).await? {
            entries.push((tag, descriptor));
        }
    }
    Ok(Page { entries, more: found.more })
}

pub(super) async fn manifest(
    storage: &dyn Storage,
    name: &RepositoryName,
    target: &Target,
    wanted: &PageRequest,
) -> Answer<Shown> {
    let found = storage.manifest(name, target).await?;
    let (descriptor, bytes) =
        found.ok_or_else(|| ApiError::new(Code::ManifestUnknown, "the repository has no such manifest"))?;
    let referrers = PageRequest::new(wanted.after.as_deref(), PAGE);
    let referrers = storage.referrers(name, &descriptor.digest, None, &referrers).await?;
    let mut shown = Shown {
        descriptor,
        artifact_type: None,
        annotations: BTreeMap::new(),
        subject: None,
        content: Content::Unknown,
        referrers,
    };
    let Ok(parsed) = Manifest::parse(&bytes, &shown.descriptor.media_type) else { return Ok(shown) };
    shown.subject = parsed.subject().map(|subject| subject.digest.clone());
    match parsed {
        Manifest::Image(image) => {
            let is_image = image.artifact_type.is_none() && image.is_container_image();
            shown.artifact_type = image.artifact_type.or_else(|| {
                // As the specification has it for artifacts of before 1.1.
                (!is_image).then(|| image.config.media_type.clone())
            });
            shown.annotations = image.annotations;
            shown.content = if is_image {
                let config = config(storage, name, &image.config).await?.map(Box::new);
                let history = config.as_deref().map_or(&[][..], |config| &config.history);
                Content::Image { layers: with_history(image.layers, history), config }
            } else {
                Content::Artifact(image.layers)
            };
        }
        Manifest::Index(index) => {
            shown.artifact_type = index.artifact_type;
            shown.annotations = index.annotations;
            shown.content = Content::Index(index.manifests);
        }
        _ => {}
    }
    Ok(shown)
}

/// Reads an image's configuration; `None` if it is not there, not one, or too large for one.
async fn config(
    storage: &dyn Storage,
    name: &RepositoryName,
    descriptor: &Descriptor,
) -> Answer<Option<ImageConfig>> {
    let size = storage.blob_size(name, &descriptor.digest).await?;
    let Some(size) = size.filter(|size| *size <= MAX_CONFIG_SIZE) else { return Ok(None) };
    let stream = storage.read_blob(name, &descriptor.digest, 0..size).await?;
    let bytes = stream.try_fold(Vec::new(), |mut bytes, chunk| async move {
        bytes.extend_from_slice(&chunk);
        Ok(bytes)
    });
    Ok(serde_json::from_slice(&bytes.await?).ok())
}

/// Gives each layer the step that made it, where there are as many as layers.
fn with_history(layers: Vec<Descriptor>, history: &[History]) -> Vec<Layer> {
    let steps: Vec<_> = history.iter().filter(|step| !step.empty_layer).collect();
    let is_whole = steps.len() == layers.len();
    let made_by = |index: usize| {
        let step = steps.get(index).filter(|_| is_whole)?;
        step.created_by.clone()
    };
    let layers = layers.into_iter().enumerate();
    layers
        .map(|(index, descriptor)| Layer { descriptor, made_by: made_by(index).unwrap_or_default() })
        .collect()
}
