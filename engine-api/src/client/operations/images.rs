//! Images in the store.

use async_trait::async_trait;
use engine_core::engine::{
    HistoryEntry, Image, ImageOperations, ImagePlatform, ImagePruneOptions, ImageSummary, ImagesUsage,
    PrunedImages, RemovedImage,
};
use engine_core::platform::Platform;
use engine_core::reference::Reference;
use engine_core::{ContainerId, Result};

use super::super::RemoteEngine;

#[async_trait]
impl ImageOperations for RemoteEngine {
    async fn container_image(&self, id: &ContainerId) -> Result<Image> {
        self.call("container_image", (id,)).await
    }

    async fn image_for(&self, name: &str, platform: &Platform) -> Result<Image> {
        self.call("image_for", (name, platform)).await
    }

    async fn images(&self) -> Result<Vec<ImageSummary>> {
        self.call("images", ()).await
    }

    async fn tag_image(&self, source: &str, name: &Reference) -> Result<()> {
        self.call("tag_image", (source, name)).await
    }

    async fn remove_image(&self, name: &str, force: bool) -> Result<RemovedImage> {
        self.call("remove_image", (name, force)).await
    }

    async fn image_platforms(&self, name: &str) -> Result<Vec<ImagePlatform>> {
        self.call("image_platforms", (name,)).await
    }

    async fn remove_image_platform(&self, name: &str, platform: &Platform) -> Result<RemovedImage> {
        self.call("remove_image_platform", (name, platform)).await
    }

    async fn image_history(&self, name: &str, platform: &Platform) -> Result<Vec<HistoryEntry>> {
        self.call("image_history", (name, platform)).await
    }

    async fn prune_images(&self, options: &ImagePruneOptions) -> Result<PrunedImages> {
        self.call("prune_images", (options,)).await
    }

    async fn image_usage(&self) -> Result<ImagesUsage> {
        self.call("image_usage", ()).await
    }

    async fn collect_garbage(&self) -> Result<u64> {
        self.call("collect_garbage", ()).await
    }
}
