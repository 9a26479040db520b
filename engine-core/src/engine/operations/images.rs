//! Images in the store.

use std::fmt;

use async_trait::async_trait;

use crate::engine::{
    HistoryEntry, Image, ImagePlatform, ImagePruneOptions, ImageSummary, ImagesUsage, PrunedImages,
    RemovedImage,
};
use crate::error::Result;
use crate::id::ContainerId;
use crate::platform::Platform;
use crate::reference::Reference;

/// Images in the store.
#[async_trait]
pub trait ImageOperations: fmt::Debug + Send + Sync {
    /// See [`Engine::container_image`](crate::engine::Engine::container_image).
    async fn container_image(&self, id: &ContainerId) -> Result<Image>;
    /// See [`Engine::image_for`](crate::engine::Engine::image_for).
    async fn image_for(&self, name: &str, platform: &Platform) -> Result<Image>;
    /// See [`Engine::images`](crate::engine::Engine::images).
    async fn images(&self) -> Result<Vec<ImageSummary>>;
    /// See [`Engine::tag`](crate::engine::Engine::tag).
    async fn tag_image(&self, source: &str, name: &Reference) -> Result<()>;
    /// See [`Engine::remove_image`](crate::engine::Engine::remove_image).
    async fn remove_image(&self, name: &str, force: bool) -> Result<RemovedImage>;
    /// See [`Engine::image_platforms`](crate::engine::Engine::image_platforms).
    async fn image_platforms(&self, name: &str) -> Result<Vec<ImagePlatform>>;
    /// See [`Engine::remove_image_platform`](crate::engine::Engine::remove_image_platform).
    async fn remove_image_platform(&self, name: &str, platform: &Platform) -> Result<RemovedImage>;
    /// See [`Engine::image_history`](crate::engine::Engine::image_history).
    async fn image_history(&self, name: &str, platform: &Platform) -> Result<Vec<HistoryEntry>>;
    /// See [`Engine::prune_images`](crate::engine::Engine::prune_images).
    async fn prune_images(&self, options: &ImagePruneOptions) -> Result<PrunedImages>;
    /// See [`Engine::image_usage`](crate::engine::Engine::image_usage).
    async fn image_usage(&self) -> Result<ImagesUsage>;
    /// See [`Engine::collect_garbage`](crate::engine::Engine::collect_garbage).
    async fn collect_garbage(&self) -> Result<u64>;
}
