//! Images in the store.

use async_trait::async_trait;

use crate::engine::{
    HistoryEntry, Image, ImageOperations, ImagePlatform, ImagePruneOptions, ImageSummary, ImagesUsage,
    LocalEngine, PrunedImages, RemovedImage,
};
use crate::error::Result;
use crate::id::ContainerId;
use crate::platform::Platform;
use crate::reference::Reference;

#[async_trait]
impl ImageOperations for LocalEngine {
    async fn container_image(&self, id: &ContainerId) -> Result<Image> {
        self.image_of(&self.handle(id).record().await?).await
    }

    async fn image_for(&self, name: &str, platform: &Platform) -> Result<Image> {
        Self::image_for(self, name, platform).await
    }

    async fn images(&self) -> Result<Vec<ImageSummary>> {
        Self::images(self).await
    }

    async fn tag_image(&self, source: &str, name: &Reference) -> Result<()> {
        self.tag(source, name).await
    }

    async fn remove_image(&self, name: &str, force: bool) -> Result<RemovedImage> {
        Self::remove_image(self, name, force).await
    }

    async fn image_platforms(&self, name: &str) -> Result<Vec<ImagePlatform>> {
        Self::image_platforms(self, name).await
    }

    async fn remove_image_platform(&self, name: &str, platform: &Platform) -> Result<RemovedImage> {
        Self::remove_image_platform(self, name, platform).await
    }

    async fn image_history(&self, name: &str, platform: &Platform) -> Result<Vec<HistoryEntry>> {
        Self::image_history(self, name, platform).await
    }

    async fn prune_images(&self, options: &ImagePruneOptions) -> Result<PrunedImages> {
        Self::prune_images(self, options).await
    }

    async fn image_usage(&self) -> Result<ImagesUsage> {
        Self::image_usage(self).await
    }

    async fn collect_garbage(&self) -> Result<u64> {
        Self::collect_garbage(self).await
    }
}
