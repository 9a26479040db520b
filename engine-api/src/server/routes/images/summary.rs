//! What lists show of images: one document for each content that a name points at.

use std::collections::BTreeMap;

use engine_core::engine::{ImagePlatform, ImageSummary, ImageUsage};
use engine_core::{Digest, Reference};
use serde_json::{Value, json};

use crate::server::times;

/// An image with all names of it.
#[derive(Clone, Debug)]
pub(crate) struct Listed {
    pub(crate) image: ImageSummary,
    pub(crate) names: Vec<Reference>,
}

impl Listed {
    /// Brings the names together, newest image first, as Docker lists them.
    pub(crate) fn of(images: Vec<ImageSummary>) -> Vec<Self> {
        let mut all: BTreeMap<Digest, Self> = BTreeMap::new();
        for image in images {
            let name = Some(image.reference.clone()).filter(|_| !image.dangling);
            let listed =
                all.entry(image.target.digest.clone()).or_insert_with(|| Self { image, names: Vec::new() });
            listed.names.extend(name);
        }
        let mut list: Vec<_> = all.into_values().collect();
        list.sort_by_key(|listed| std::cmp::Reverse(times::created(&listed.image.created)));
        list
    }

    /// Returns the id that the list shows it by.
    pub(crate) fn id(&self) -> &Digest {
        self.image.id.as_ref().unwrap_or(&self.image.target.digest)
    }

    /// Returns the document; `usage` is what is known of its disk space.
    pub(crate) fn document(&self, usage: Option<&ImageUsage>, containers: Option<usize>) -> Value {
        let image = &self.image;
        let tags: Vec<String> =
            self.names.iter().filter(|name| name.tag().is_some()).map(Reference::familiar).collect();
        let mut digests: Vec<String> = self
            .names
            .iter()
            .map(|name| format!("{}@{}", name.familiar_name(), image.target.digest))
            .collect();
        digests.dedup();
        json!({
            "Id": self.id(),
            "ParentId": "",
            "RepoTags": tags,
            "RepoDigests": digests,
            "Created": times::unix(times::created(&image.created)),
            "Size": image.size,
            // -1 is "not measured".
            "SharedSize": usage.map_or(-1, |usage| i64::try_from(usage.shared).unwrap_or(i64::MAX)),
            "Labels": image.labels,
            "Containers": containers.map_or(-1, |count| i64::try_from(count).unwrap_or(i64::MAX)),
            "Descriptor": {
                "mediaType": image.target.media_type,
                "digest": image.target.digest,
                "size": image.target.size,
            },
        })
    }
}

/// Returns what is known of each platform of an image.
pub(crate) fn manifests(platforms: &[ImagePlatform]) -> Value {
    let list = platforms.iter().map(|one| {
        let size = one.size.unwrap_or(0);
        json!({
            "ID": one.manifest.digest,
            "Descriptor": {
                "mediaType": one.manifest.media_type,
                "digest": one.manifest.digest,
                "size": one.manifest.size,
                "platform": one.platform,
            },
            "Available": one.size.is_some(),
            "Size": { "Content": size, "Total": size },
            "Kind": "image",
            "ImageData": { "Platform": one.platform, "Containers": [], "Size": { "Unpacked": 0 } },
        })
    });
    list.collect()
}
