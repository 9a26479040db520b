//! How an image was made, step by step.

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::error::Result;
use crate::image_config::History;
use crate::platform::Platform;
use crate::reference::Reference;

use super::LocalEngine;

/// One step, the newest first.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[non_exhaustive]
pub struct HistoryEntry {
    /// The image's id, at its last step; the images between are nowhere.
    pub id: Option<Digest>,
    /// The names of the image, at its last step.
    pub names: Vec<Reference>,
    /// What its configuration says of the step.
    pub step: History,
    /// The layer of the step, by diff ID; none if it made none.
    pub layer: Option<Digest>,
    /// The size of the layer's files, in bytes; of its blob, if it is not unpacked.
    pub size: u64,
}

impl LocalEngine {
    pub(super) async fn image_history(&self, name: &str, platform: &Platform) -> Result<Vec<HistoryEntry>> {
        let image = self.image_for(name, platform).await?;
        let usage = self.inner.images.usage().await?;
        let mut layers = image.diff_ids().iter().zip(&image.contents.layers);
        let mut layer_of = |is_empty: bool| {
            let (diff_id, blob) = if is_empty { None } else { layers.next() }?;
            Some((diff_id.clone(), usage.layers.get(diff_id).copied().unwrap_or(blob.size)))
        };
        let mut entries = Vec::new();
        let mut add = |step: History, layer: Option<(Digest, u64)>| {
            let (layer, size) = layer.map_or((None, 0), |(diff_id, size)| (Some(diff_id), size));
            entries.push(HistoryEntry { id: None, names: Vec::new(), step, layer, size });
        };
        for step in &image.config.history {
            add(step.clone(), layer_of(step.empty_layer));
        }
        while let Some(layer) = layer_of(false) {
            add(History::default(), Some(layer));
        }
        entries.reverse();
        if let Some(top) = entries.first_mut() {
            (top.id, top.names) = (Some(image.id().clone()), image.names.clone());
        }
        Ok(entries)
    }
}
