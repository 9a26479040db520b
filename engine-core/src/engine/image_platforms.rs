//! Which platforms a name stands for, and which of them are here.

use serde::{Deserialize, Serialize};

use crate::descriptor::Descriptor;
use crate::error::{Error, ErrorKind, Result};
use crate::manifest::{MAX_MANIFEST_SIZE, Manifest};
use crate::platform::Platform;

use super::LocalEngine;
use super::image::RemovedImage;

/// The annotation by which an attestation, an entry of the same index, names the manifest it is about.
const SUBJECT: &str = "vnd.docker.reference.digest";

/// One platform of an image.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ImagePlatform {
    /// The platform.
    pub platform: Platform,
    /// Its manifest.
    pub manifest: Descriptor,
    /// The size of its blobs, if it is here.
    pub size: Option<u64>,
}

impl LocalEngine {
    pub(super) async fn image_platforms(&self, name: &str) -> Result<Vec<ImagePlatform>> {
        let target = self.find_image(name).await?;
        let bytes = self.read_blob(&target, MAX_MANIFEST_SIZE).await?;
        let entries = match Manifest::parse(&bytes, &target.media_type)? {
            Manifest::Image(_) => {
                let image = self.load_image(&target, &Platform::host(), &[]).await?;
                let (platform, size) = (image.platform(), Some(image.size()));
                return Ok(vec![ImagePlatform { platform, manifest: target, size }]);
            }
            Manifest::Index(index) => index.manifests,
        };
        let mut found = Vec::new();
        for manifest in entries {
            let Some(platform) = manifest.platform.clone().filter(|platform| platform.os != "unknown") else {
                continue;
            };
            let size = match self.inner.images.blob_size(&manifest.digest).await? {
                Some(size) => Some(
                    size + self.closure(&manifest).await?.blobs().iter().map(|blob| blob.size).sum::<u64>(),
                ),
                None => None,
            };
            found.push(ImagePlatform { platform, manifest, size });
        }
        Ok(found)
    }

    pub(super) async fn remove_image_platform(
        &self,
        name: &str,
        platform: &Platform,
    ) -> Result<RemovedImage> {
        let failed = |kind| Error::new(kind, "remove image").with("image", name).with("platform", platform);
        let target = self.find_image(name).await?;
        let bytes = self.read_blob(&target, MAX_MANIFEST_SIZE).await?;
        let Manifest::Index(index) = Manifest::parse(&bytes, &target.media_type)? else {
            return Err(failed(ErrorKind::InvalidArgument)
                .with_message("it is of one platform only")
                .with_hint("remove the image"));
        };
        // Exactly this one, not the one that would do for it.
        let same = |known: &Platform| {
            let normal = |p: &Platform| Platform::new(&p.os, &p.architecture, p.variant.as_deref());
            normal(known) == normal(platform)
        };
        let mut doomed = Vec::new();
        for entry in index.manifests.iter().filter(|entry| entry.platform.as_ref().is_some_and(same)) {
            if self.inner.images.blob_size(&entry.digest).await?.is_some() {
                doomed.push(entry);
            }
        }
        if doomed.is_empty() {
            return Err(failed(ErrorKind::NotFound)
                .with_message("the image has nothing here for this platform")
                .with_hint("see images --tree for what is here"));
        }
        let mut removed = RemovedImage::default();
        for entry in doomed {
            let records = self.inner.records.all().await?;
            if let Some(user) =
                records.iter().find(|record| record.manifests().any(|used| *used == entry.digest))
            {
                return Err(failed(ErrorKind::Conflict)
                    .with_message(format!("container {} uses it", user.id.short()))
                    .with_hint("remove the container first"));
            }
            let id = self.id_of(entry).await;
            let about = |other: &&Descriptor| {
                other.annotations.get(SUBJECT).is_some_and(|subject| *subject == entry.digest.to_string())
            };
            // Its attestations first: after a crash they would belong to nothing that is here.
            for manifest in index.manifests.iter().filter(about).chain([entry]) {
                if self.inner.images.blob_size(&manifest.digest).await?.is_some() {
                    self.inner.images.remove_manifest(&manifest.digest).await?;
                    removed.deleted.push(manifest.digest.clone());
                }
            }
            removed.deleted.extend(self.collect_image(&id).await?.blobs);
        }
        Ok(removed)
    }
}
