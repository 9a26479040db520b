//! Images of an engine.

use crate::engine::{
    Engine, HistoryEntry, Image, ImagePlatform, ImagePruneOptions, ImageSummary, ImagesUsage, PrunedImages,
    RemovedImage,
};
use crate::error::Result;
use crate::platform::Platform;
use crate::reference::Reference;

impl Engine {
    /// Returns the image a user means by `name`: a reference, an id, or the beginning of an id.
    ///
    /// # Errors
    /// [`NotFound`](crate::ErrorKind::NotFound); [`InvalidArgument`](crate::ErrorKind::InvalidArgument) if several ids
    /// begin so.
    pub async fn image(&self, name: &str) -> Result<Image> {
        self.image_for(name, &Platform::host()).await
    }

    /// Returns the image a user means by `name`, for `platform` if it has several.
    ///
    /// # Errors
    /// As [`image`](Self::image); [`NotFound`](crate::ErrorKind::NotFound) also if nothing for the platform is here.
    pub async fn image_for(&self, name: &str, platform: &Platform) -> Result<Image> {
        self.backend.image_for(name, platform).await
    }

    /// Returns all names in the store with the images they lead to, in order of their names.
    ///
    /// # Errors
    /// What the store says.
    pub async fn images(&self) -> Result<Vec<ImageSummary>> {
        self.backend.images().await
    }

    /// Gives the image `source` another name.
    ///
    /// # Errors
    /// [`NotFound`](crate::ErrorKind::NotFound) if there is no such image;
    /// [`InvalidArgument`](crate::ErrorKind::InvalidArgument) if `name` has a digest.
    pub async fn tag(&self, source: &str, name: &Reference) -> Result<()> {
        self.backend.tag_image(source, name).await
    }

    /// Removes the name `name`, or every name of the image with that id, and content nothing else needs.
    ///
    /// # Errors
    /// [`NotFound`](crate::ErrorKind::NotFound); [`Conflict`](crate::ErrorKind::Conflict) if a container uses the
    /// image and this is its last name, or if an id has several names: `force` removes the names all the same, and
    /// content that containers use stays until they go. By id, an image that a running container uses is not removed
    /// even so.
    pub async fn remove_image(&self, name: &str, force: bool) -> Result<RemovedImage> {
        self.backend.remove_image(name, force).await
    }

    /// Returns the platforms of an image, in its index's order; attestations are none.
    ///
    /// # Errors
    /// As [`image`](Self::image).
    pub async fn image_platforms(&self, name: &str) -> Result<Vec<ImagePlatform>> {
        self.backend.image_platforms(name).await
    }

    /// Removes what an image has for `platform` alone: manifest, configuration, layers and attestations, unless
    /// something else needs them. The index and its digest stay, and so do all names; a pull brings the platform back.
    /// Every name that leads to the same content has it no more.
    ///
    /// # Errors
    /// [`NotFound`](crate::ErrorKind::NotFound) if there is no such image, or nothing of it for this platform is here;
    /// [`InvalidArgument`](crate::ErrorKind::InvalidArgument) if it is of one platform only;
    /// [`Conflict`](crate::ErrorKind::Conflict) if a container uses it, or while content comes in.
    pub async fn remove_image_platform(&self, name: &str, platform: &Platform) -> Result<RemovedImage> {
        self.backend.remove_image_platform(name, platform).await
    }

    /// Returns how an image was made, the newest step first. Layers that its configuration says nothing about come as
    /// steps of their own.
    ///
    /// # Errors
    /// As [`image_for`](Self::image_for).
    pub async fn image_history(&self, name: &str, platform: &Platform) -> Result<Vec<HistoryEntry>> {
        self.backend.image_history(name, platform).await
    }

    /// Removes images that no container, running or not, uses, and all content that nothing needs.
    ///
    /// # Errors
    /// What the store says.
    pub async fn prune_images(&self, options: &ImagePruneOptions) -> Result<PrunedImages> {
        self.backend.prune_images(options).await
    }

    /// Measures the images in the store.
    ///
    /// # Errors
    /// What the store says.
    pub async fn image_usage(&self) -> Result<ImagesUsage> {
        self.backend.image_usage().await
    }

    /// Removes all content that no name and no container needs, and returns how many bytes that freed.
    ///
    /// # Errors
    /// What the store says.
    pub async fn collect_garbage(&self) -> Result<u64> {
        self.backend.collect_garbage().await
    }
}
