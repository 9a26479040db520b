//! The end of a build: the image, or an index of several, its names, and what goes elsewhere.

use serde_json::json;

use crate::descriptor::{Descriptor, media_type};
use crate::engine::events::of_image;
use crate::engine::import::to_json;
use crate::error::Result;
use crate::events::Action;

use super::cache_manifest::{INLINE, inline};
use super::cache_spec::{CacheMode, CacheTarget};
use super::stage::State;
use super::{Build, BuiltImage};

impl Build {
    /// Writes the image of the last stages, one for each platform, and gives it its names.
    pub(super) async fn finish(&self, states: &[&State]) -> Result<BuiltImage> {
        let (engine, spec) = (&self.engine, &self.spec);
        self.verdict()?;
        let mut manifests = Vec::with_capacity(states.len());
        for state in states {
            manifests.push(self.manifest(state).await?);
        }
        let manifest = match &manifests[..] {
            [one] => one.clone(),
            several => self.index(several).await?,
        };
        let id = engine.id_of(&manifest).await;
        let mut image = BuiltImage { manifest, id, provenance: None };
        if self.apart.is_some() {
            return Ok(image);
        }
        for name in &spec.names {
            let event = of_image(Action::Tag, image.id.clone(), name.familiar());
            engine.name_image(event, name, &image.manifest).await?;
        }
        if spec.names.is_empty() {
            engine.keep_dangling(&image.manifest).await?;
        }
        if let Some(mode) = spec.provenance {
            image.provenance = Some(self.provenance(&image, mode)?);
        }
        self.export_cache(states).await?;
        Ok(image)
    }

    /// Writes the image of one platform.
    async fn manifest(&self, state: &State) -> Result<Descriptor> {
        let layers: Vec<_> = state.layers.iter().map(|(blob, _)| blob).collect();
        let mut annotations = self.spec.annotations.clone();
        if self.spec.cache_to.contains(&CacheTarget::Inline) {
            let steps = self.steps_of(&[state], CacheMode::Min);
            annotations.insert(INLINE.to_owned(), inline(&steps, &state.layers)?);
        }
        self.engine.put_image(&state.image_config(&self.spec.labels), &layers, &annotations).await
    }

    /// Writes the index of the images of all platforms, which are in the same order.
    async fn index(&self, manifests: &[Descriptor]) -> Result<Descriptor> {
        let entries = manifests
            .iter()
            .zip(&self.platforms)
            .map(|(manifest, platform)| Descriptor { platform: Some(platform.clone()), ..manifest.clone() });
        let bytes = to_json(&json!({
            "schemaVersion": 2,
            "mediaType": media_type::OCI_INDEX,
            "manifests": entries.collect::<Vec<_>>(),
        }))?;
        let index = Descriptor::of(media_type::OCI_INDEX, &bytes);
        self.engine.put_blob(&index, bytes).await?;
        Ok(index)
    }
}
