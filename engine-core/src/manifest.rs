//! Manifests and indexes: a strict reading of bytes that stay as they were hashed.
//!
//! The bytes are kept by the store; these types are a view of them and are never written back.
//! Source: OCI image-spec, manifest.md and image-index.md; ambiguous documents are refused, since two
//! readers could take them for different images (SECURITY D1).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::descriptor::{Descriptor, media_type};
use crate::error::{Error, ErrorKind, Result};
use crate::platform::Platform;

/// The largest manifest or index that is read, in bytes, as other engines have it.
pub const MAX_MANIFEST_SIZE: u64 = 4 << 20;
/// The largest image configuration that is read, in bytes.
pub const MAX_CONFIG_SIZE: u64 = 8 << 20;
/// The most layers an image may have.
pub const MAX_LAYERS: usize = 500;

/// A parsed manifest document.
#[derive(Clone, Debug)]
#[non_exhaustive]
#[expect(clippy::large_enum_variant, reason = "one is parsed at a time, and taken apart at once")]
pub enum Manifest {
    /// One image (or artifact).
    Image(ImageManifest),
    /// A list of manifests, usually one for each platform.
    Index(ImageIndex),
}

/// One image: its configuration and its layers, lowest first. Its form in serde is no manifest: that is [`Manifest::parse`]'s to read.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ImageManifest {
    /// The media type the document has.
    pub media_type: String,
    /// The configuration blob.
    pub config: Descriptor,
    /// The layers, lowest first.
    pub layers: Vec<Descriptor>,
    /// The manifest this one is about (referrers).
    pub subject: Option<Descriptor>,
    /// The artifact's type, if it is one.
    pub artifact_type: Option<String>,
    /// Arbitrary metadata.
    pub annotations: BTreeMap<String, String>,
}

/// A list of manifests.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ImageIndex {
    /// The media type the document has.
    pub media_type: String,
    /// The manifests, in the document's order.
    pub manifests: Vec<Descriptor>,
    /// The manifest this one is about (referrers).
    pub subject: Option<Descriptor>,
    /// The artifact's type, if it is one.
    pub artifact_type: Option<String>,
    /// Arbitrary metadata.
    pub annotations: BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Raw {
    schema_version: u32,
    media_type: Option<String>,
    config: Option<Descriptor>,
    layers: Option<Vec<Descriptor>>,
    manifests: Option<Vec<Descriptor>>,
    subject: Option<Descriptor>,
    artifact_type: Option<String>,
    #[serde(default)]
    annotations: Option<BTreeMap<String, String>>,
    // Schema 1 fields: their presence beside schema 2 ones is an attempt to be read in two ways.
    fs_layers: Option<serde::de::IgnoredAny>,
    history: Option<serde::de::IgnoredAny>,
}

impl Manifest {
    /// Returns the media type that the manifest of an image says it has; OCI's may leave it out.
    ///
    /// # Errors
    /// [`ErrorKind::Corrupt`] if it is malformed.
    pub(crate) fn media_type(bytes: &[u8]) -> Result<String> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Head {
            media_type: Option<String>,
        }
        let head: Head = serde_json::from_slice(bytes).map_err(|e| {
            Error::new(ErrorKind::Corrupt, "parse manifest").with_message("it is malformed").with_source(e)
        })?;
        Ok(head.media_type.unwrap_or_else(|| media_type::OCI_MANIFEST.to_owned()))
    }

    /// Parses `bytes`, which a descriptor or a Content-Type header calls `expected`.
    ///
    /// # Errors
    /// [`ErrorKind::Corrupt`] if the document is malformed, too large, ambiguous, or of another type;
    /// [`ErrorKind::Unsupported`] for Docker's schema 1.
    pub fn parse(bytes: &[u8], expected: &str) -> Result<Self> {
        let wrong = |why: String| {
            Error::new(ErrorKind::Corrupt, "parse manifest").with("media type", expected).with_message(why)
        };
        if bytes.len() as u64 > MAX_MANIFEST_SIZE {
            return Err(wrong(format!("it has {} bytes, more than {MAX_MANIFEST_SIZE}", bytes.len())));
        }
        let raw: Raw =
            serde_json::from_slice(bytes).map_err(|e| wrong("it is malformed".to_owned()).with_source(e))?;
        if raw.schema_version == 1 {
            return Err(Error::new(ErrorKind::Unsupported, "parse manifest")
                .with_message("it is Docker schema 1, which is obsolete")
                .with_hint("push the image again with a current tool"));
        }
        if raw.schema_version != 2 {
            return Err(wrong(format!("schemaVersion {} is unknown", raw.schema_version)));
        }
        if raw.fs_layers.is_some() || raw.history.is_some() {
            return Err(wrong("it mixes schema 1 and schema 2 fields".to_owned()));
        }
        // OCI documents may leave mediaType out; then the caller's word decides, and the fields must agree.
        let media_type = match raw.media_type.as_deref() {
            Some(own) if own != expected => return Err(wrong(format!("it calls itself {own:?}"))),
            None if !expected.starts_with("application/vnd.oci.") => {
                return Err(wrong("it has no mediaType".to_owned()));
            }
            _ => expected.to_owned(),
        };
        let annotations = raw.annotations.unwrap_or_default();
        let is_image = raw.config.is_some() || raw.layers.is_some();
        match (media_type::is_manifest(&media_type), media_type::is_index(&media_type)) {
            (true, _) if raw.manifests.is_some() => {
                Err(wrong("an image manifest lists manifests".to_owned()))
            }
            (true, _) => {
                let config = raw.config.ok_or_else(|| wrong("it has no config".to_owned()))?;
                let layers = raw.layers.ok_or_else(|| wrong("it has no layers".to_owned()))?;
                if layers.len() > MAX_LAYERS {
                    return Err(wrong(format!("it has {} layers, more than {MAX_LAYERS}", layers.len())));
                }
                Ok(Self::Image(ImageManifest {
                    media_type,
                    config,
                    layers,
                    subject: raw.subject,
                    artifact_type: raw.artifact_type,
                    annotations,
                }))
            }
            (_, true) if is_image => Err(wrong("an index has a config or layers".to_owned())),
            (_, true) => {
                let manifests = raw.manifests.ok_or_else(|| wrong("it lists no manifests".to_owned()))?;
                let (subject, artifact_type) = (raw.subject, raw.artifact_type);
                Ok(Self::Index(ImageIndex { media_type, manifests, subject, artifact_type, annotations }))
            }
            _ => Err(Error::new(ErrorKind::Unsupported, "parse manifest")
                .with("media type", media_type)
                .with_message("this type of manifest is unknown")),
        }
    }
}

impl Manifest {
    /// Returns the manifest this one is about.
    #[must_use]
    pub fn subject(&self) -> Option<&Descriptor> {
        match self {
            Self::Image(image) => image.subject.as_ref(),
            Self::Index(index) => index.subject.as_ref(),
        }
    }

    /// Returns how a list of referrers describes this document, whose own descriptor is `own`: with the artifact's type and
    /// the annotations.
    #[must_use]
    pub fn as_referrer(&self, own: &Descriptor) -> Descriptor {
        let mut entry = Descriptor::new(own.media_type.clone(), own.digest.clone(), own.size);
        (entry.artifact_type, entry.annotations) = match self {
            Self::Image(image) => {
                let kind = image.artifact_type.clone().filter(|kind| !kind.is_empty());
                (kind.or_else(|| Some(image.config.media_type.clone())), image.annotations.clone())
            }
            Self::Index(index) => (index.artifact_type.clone(), index.annotations.clone()),
        };
        entry
    }
}

impl ImageManifest {
    /// Returns whether it is an image that containers can be made of, and no artifact: whether its layers are layers of
    /// a file system.
    #[must_use]
    pub fn is_container_image(&self) -> bool {
        matches!(self.config.media_type.as_str(), media_type::OCI_CONFIG | media_type::DOCKER_CONFIG)
    }
}

impl ImageIndex {
    /// Returns the entry that fits `platform` best, or `None` if none fits.
    ///
    /// Among equals the first wins. Entries without a platform, and attestations (`unknown/unknown`), fit
    /// only if nothing else is there.
    #[must_use]
    pub fn select(&self, platform: &Platform) -> Option<&Descriptor> {
        self.manifests
            .iter()
            .filter_map(|entry| Some((platform.rank(entry.platform.as_ref()?)?, entry)))
            .min_by_key(|(rank, _)| *rank)
            .map(|(_, entry)| entry)
            .or_else(|| match &self.manifests[..] {
                [only] if only.platform.is_none() => Some(only),
                _ => None,
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Digest;

    fn entry(media_type: &str) -> String {
        format!(r#"{{"mediaType":"{media_type}","digest":"{}","size":0}}"#, Digest::sha256(b""))
    }

    #[test]
    fn an_image_manifest_is_read() {
        let config = entry(media_type::OCI_CONFIG);
        let text = format!(r#"{{"schemaVersion":2,"config":{config},"layers":[]}}"#);
        let parsed = Manifest::parse(text.as_bytes(), media_type::OCI_MANIFEST).unwrap();
        assert!(matches!(parsed, Manifest::Image(image) if image.layers.is_empty()));
    }

    #[test]
    fn d1_ambiguous_documents_are_refused() {
        let config = entry(media_type::OCI_CONFIG);
        let fields = [
            ("config", config.clone()),
            ("layers", "[]".to_owned()),
            ("manifests", "[]".to_owned()),
            ("fsLayers", "[]".to_owned()),
        ];
        let types = [
            media_type::OCI_MANIFEST,
            media_type::OCI_INDEX,
            media_type::DOCKER_MANIFEST,
            media_type::DOCKER_INDEX,
        ];
        // Every subset of the fields, every own type (and none), every expected type.
        for mask in 0..16_usize {
            for own in [None, Some(types[0]), Some(types[1]), Some(types[2]), Some(types[3])] {
                for expected in types {
                    let mut text = r#"{"schemaVersion":2"#.to_owned();
                    if let Some(own) = own {
                        text.push_str(&format!(r#","mediaType":"{own}""#));
                    }
                    for (bit, (name, value)) in fields.iter().enumerate() {
                        if mask & (1 << bit) != 0 {
                            text.push_str(&format!(r#","{name}":{value}"#));
                        }
                    }
                    text.push('}');
                    let typed = own == Some(expected) || (own.is_none() && expected.contains(".oci."));
                    let shape = if media_type::is_index(expected) { 0b0100 } else { 0b0011 };
                    let accepted = Manifest::parse(text.as_bytes(), expected).is_ok();
                    assert_eq!(accepted, typed && mask == shape, "{text} as {expected}");
                }
            }
        }
    }

    #[test]
    fn index_selection_prefers_the_exact_variant_and_skips_attestations() {
        let with =
            |p: Platform| Descriptor::new(media_type::OCI_MANIFEST, Digest::sha256(b"x"), 1).with_platform(p);
        let index = ImageIndex {
            media_type: media_type::OCI_INDEX.to_owned(),
            manifests: vec![
                with(Platform::new("unknown", "unknown", None)),
                with(Platform::new("linux", "arm", Some("v6"))),
                with(Platform::new("linux", "arm", Some("v7"))),
                with(Platform::new("linux", "amd64", None)),
            ],
            subject: None,
            artifact_type: None,
            annotations: BTreeMap::new(),
        };
        let pick = |text: &str| {
            index.select(&text.parse().unwrap()).map(|d| d.platform.clone().unwrap().to_string())
        };
        assert_eq!(pick("linux/arm/v7").as_deref(), Some("linux/arm/v7"));
        assert_eq!(pick("linux/arm64").as_deref(), Some("linux/arm/v7"));
        assert_eq!(pick("linux/amd64").as_deref(), Some("linux/amd64"));
        assert_eq!(pick("linux/s390x"), None);
    }
}
