//! What an engine is made of, as data.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::image_store::ImageStoreCapabilities;
use crate::runtime::RuntimeCapabilities;

use super::LocalEngine;

/// What an engine is made of.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[non_exhaustive]
pub struct EngineInfo {
    /// Its directory, if it has one.
    pub root: Option<PathBuf>,
    /// What its image store can do.
    pub image_store: ImageStoreCapabilities,
    /// What its runtime can do.
    pub runtime: RuntimeCapabilities,
    /// The name of its volume driver.
    pub volume_driver: String,
}

impl LocalEngine {
    pub(super) fn info(&self) -> EngineInfo {
        EngineInfo {
            root: self.inner.root.clone(),
            image_store: self.inner.images.capabilities(),
            runtime: self.inner.runtime.capabilities(),
            volume_driver: self.inner.volumes.name().to_owned(),
        }
    }
}
