//! Which platforms a name stands for, and which of them are here.

use crate::descriptor::Descriptor;
use crate::error::Result;
use crate::manifest::{MAX_MANIFEST_SIZE, Manifest};
use crate::platform::Platform;

use super::Engine;

/// One platform of an image.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ImagePlatform {
    /// The platform.
    pub platform: Platform,
    /// Its manifest.
    pub manifest: Descriptor,
    /// The size of its blobs, if it is here.
    pub size: Option<u64>,
}

impl Engine {
    /// Returns the platforms of an image, in its index's order; attestations are none.
    ///
    /// # Errors
    /// As [`image`](Self::image).
    pub async fn image_platforms(&self, name: &str) -> Result<Vec<ImagePlatform>> {
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
}
