//! Building images.

use std::fmt;

use async_trait::async_trait;

use crate::engine::{
    BuildCacheEntry, BuildEvent, BuildSpec, BuildTexts, BuiltImage, Operation, PruneBuildCache,
    PrunedBuildCache,
};
use crate::error::Result;

/// Building images.
#[async_trait]
pub trait BuildOperations: fmt::Debug + Send + Sync {
    /// See [`Engine::build`](crate::engine::Engine::build).
    fn build(&self, spec: BuildSpec) -> Operation<BuildEvent, BuiltImage>;
    /// See [`Engine::build_texts`](crate::engine::Engine::build_texts).
    async fn build_texts(&self, spec: BuildSpec) -> Result<BuildTexts>;
    /// See [`Engine::build_cache`](crate::engine::Engine::build_cache).
    async fn build_cache(&self) -> Result<Vec<BuildCacheEntry>>;
    /// See [`Engine::prune_build_cache`](crate::engine::Engine::prune_build_cache).
    async fn prune_build_cache(&self, options: &PruneBuildCache) -> Result<PrunedBuildCache>;
}
