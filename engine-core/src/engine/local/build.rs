//! Building images.

use async_trait::async_trait;

use crate::engine::{
    BuildCacheEntry, BuildEvent, BuildOperations, BuildSpec, BuildTexts, BuiltImage, LocalEngine, Operation,
    PruneBuildCache, PrunedBuildCache,
};
use crate::error::Result;

#[async_trait]
impl BuildOperations for LocalEngine {
    fn build(&self, spec: BuildSpec) -> Operation<BuildEvent, BuiltImage> {
        Self::build(self, spec)
    }

    async fn build_texts(&self, spec: BuildSpec) -> Result<BuildTexts> {
        Self::build_texts(self, spec).await
    }

    async fn build_cache(&self) -> Result<Vec<BuildCacheEntry>> {
        Self::build_cache(self).await
    }

    async fn prune_build_cache(&self, options: &PruneBuildCache) -> Result<PrunedBuildCache> {
        Self::prune_build_cache(self, options).await
    }
}
