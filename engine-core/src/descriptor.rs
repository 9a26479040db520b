//! Content descriptors and the media types we know.
//!
//! Source: OCI image-spec, descriptor.md and media-types.md; Docker's schema 2 names beside them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::platform::Platform;

/// Points at content: what it is, its digest and its size.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Descriptor {
    /// The media type, such as [`media_type::OCI_MANIFEST`].
    pub media_type: String,
    /// The digest of the content.
    pub digest: Digest,
    /// The size of the content, in bytes.
    pub size: u64,
    /// Where else the content may be fetched. Ignored by default (SECURITY D2).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub urls: Vec<String>,
    /// Arbitrary metadata.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// The platform that the content is for, in an index.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
    /// The type of an artifact.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
}

impl Descriptor {
    /// Creates a descriptor with the three required fields.
    #[must_use]
    pub fn new(media_type: impl Into<String>, digest: Digest, size: u64) -> Self {
        Self {
            media_type: media_type.into(),
            digest,
            size,
            urls: Vec::new(),
            annotations: BTreeMap::new(),
            platform: None,
            artifact_type: None,
        }
    }

    /// Creates the descriptor of `bytes`.
    #[must_use]
    pub fn of(media_type: impl Into<String>, bytes: &[u8]) -> Self {
        Self::new(media_type, Digest::sha256(bytes), bytes.len() as u64)
    }

    /// Sets the platform.
    #[must_use]
    pub fn with_platform(mut self, platform: Platform) -> Self {
        self.platform = Some(platform);
        self
    }
}

/// The media types of manifests, configs and layers.
pub mod media_type {
    /// An OCI image manifest.
    pub const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
    /// An OCI image index.
    pub const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
    /// The empty configuration of an artifact, `{}`.
    pub const OCI_EMPTY: &str = "application/vnd.oci.empty.v1+json";
    /// An OCI image configuration.
    pub const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
    /// An uncompressed OCI layer.
    pub const OCI_LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
    /// A gzip OCI layer.
    pub const OCI_LAYER_GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
    /// A zstd OCI layer.
    pub const OCI_LAYER_ZSTD: &str = "application/vnd.oci.image.layer.v1.tar+zstd";
    /// The prefix of layers that are not to be distributed.
    pub const OCI_LAYER_NONDISTRIBUTABLE: &str = "application/vnd.oci.image.layer.nondistributable.v1.tar";
    /// A Docker image manifest, version 2, schema 2.
    pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
    /// A Docker manifest list.
    pub const DOCKER_INDEX: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
    /// A Docker image configuration.
    pub const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";
    /// A Docker layer, which is gzip by definition.
    pub const DOCKER_LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";
    /// A Docker layer without compression.
    pub const DOCKER_LAYER_PLAIN: &str = "application/vnd.docker.image.rootfs.diff.tar";
    /// A Docker layer that is not to be distributed.
    pub const DOCKER_LAYER_FOREIGN: &str = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip";

    /// Returns whether `media_type` is an image manifest, OCI or Docker.
    #[must_use]
    pub fn is_manifest(media_type: &str) -> bool {
        matches!(media_type, OCI_MANIFEST | DOCKER_MANIFEST)
    }

    /// Returns whether `media_type` is an index or manifest list.
    #[must_use]
    pub fn is_index(media_type: &str) -> bool {
        matches!(media_type, OCI_INDEX | DOCKER_INDEX)
    }

    /// Returns whether `media_type` is a file system layer.
    #[must_use]
    pub fn is_layer(media_type: &str) -> bool {
        compression(media_type).is_some()
    }

    /// Returns whether `media_type` is a layer that may not be distributed: its content is not in registries.
    #[must_use]
    pub fn is_foreign(media_type: &str) -> bool {
        media_type == DOCKER_LAYER_FOREIGN || media_type.starts_with(OCI_LAYER_NONDISTRIBUTABLE)
    }

    /// How a layer's bytes are compressed.
    #[derive(Clone, Copy, Debug, Eq, PartialEq)]
    #[non_exhaustive]
    pub enum Compression {
        /// Not at all.
        None,
        /// gzip (RFC 1952).
        Gzip,
        /// Zstandard (RFC 8878).
        Zstd,
    }

    /// Returns a layer media type's compression, or `None` if it is no layer.
    #[must_use]
    pub fn compression(media_type: &str) -> Option<Compression> {
        match media_type {
            OCI_LAYER | DOCKER_LAYER_PLAIN => Some(Compression::None),
            OCI_LAYER_GZIP | DOCKER_LAYER | DOCKER_LAYER_FOREIGN => Some(Compression::Gzip),
            OCI_LAYER_ZSTD => Some(Compression::Zstd),
            other => match other.strip_prefix(OCI_LAYER_NONDISTRIBUTABLE)? {
                "" => Some(Compression::None),
                "+gzip" => Some(Compression::Gzip),
                "+zstd" => Some(Compression::Zstd),
                _ => None,
            },
        }
    }
}
