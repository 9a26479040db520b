//! Images as the facade shows them.

use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use crate::descriptor::Descriptor;
use crate::digest::Digest;
use crate::image_config::{ImageConfig, ProcessDefaults};
use crate::manifest::ImageManifest;
use crate::platform::Platform;
use crate::reference::Reference;

/// One image for one platform, as it is in the store.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Image {
    /// What its name points at: a manifest, or an index that leads to one.
    pub target: Descriptor,
    /// Its manifest.
    pub manifest: Descriptor,
    /// What the manifest says.
    pub contents: ImageManifest,
    /// What its configuration says.
    pub config: ImageConfig,
    /// The names that lead to it.
    pub names: Vec<Reference>,
}

impl Image {
    /// Returns the image's id: the digest of its configuration, as Docker has it.
    #[must_use]
    pub fn id(&self) -> &Digest {
        &self.contents.config.digest
    }

    /// Returns the size of its blobs, in bytes as they are transferred.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.manifest.size
            + self.contents.config.size
            + self.contents.layers.iter().map(|layer| layer.size).sum::<u64>()
    }

    /// Returns the platform it is for.
    #[must_use]
    pub fn platform(&self) -> Platform {
        self.config.platform()
    }

    /// Returns the layers by diff ID, lowest first.
    #[must_use]
    pub fn diff_ids(&self) -> &[Digest] {
        &self.config.rootfs.diff_ids
    }
}

/// A name in the store and the image it leads to.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ImageSummary {
    /// The name; of an image that has none, [`Reference::dangling`].
    pub reference: Reference,
    /// Whether the image has no name.
    pub dangling: bool,
    /// What it points at.
    pub target: Descriptor,
    /// The image's id, if content for this host's platform is here.
    pub id: Option<Digest>,
    /// When it was made, RFC 3339, as its configuration says.
    pub created: String,
    /// The size of its blobs.
    pub size: u64,
    /// Labels of its configuration.
    pub labels: std::collections::BTreeMap<String, String>,
}

/// What removing an image did.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[non_exhaustive]
pub struct RemovedImage {
    /// The names removed.
    pub untagged: Vec<Reference>,
    /// The content removed with them.
    pub deleted: Vec<Digest>,
}

/// How a tar archive becomes an image.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct ImportOptions {
    /// Defaults of the process.
    pub config: ProcessDefaults,
    /// The platform; the host's without it.
    pub platform: Option<Platform>,
    /// A comment in the history.
    pub comment: Option<String>,
    /// The time it says it was made; none without it, so that the same input gives the same digest.
    pub created: Option<SystemTime>,
}

impl ImportOptions {
    /// Sets the defaults of the process.
    #[must_use]
    pub fn with_config(mut self, config: ProcessDefaults) -> Self {
        self.config = config;
        self
    }
}
