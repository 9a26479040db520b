//! Building images.

use crate::engine::{
    BuildCacheEntry, BuildEvent, BuildSpec, BuildTexts, BuiltImage, Engine, Operation, PruneBuildCache,
    PrunedBuildCache,
};
use crate::error::Result;

impl Engine {
    /// Builds an image of a Dockerfile.
    ///
    /// The operation reports its steps. Dropped or failed, it leaves nothing but whole steps, which the next build takes up.
    ///
    /// A context that is a directory is one of this host: an engine elsewhere is sent what its ignore file leaves.
    ///
    /// # Errors
    /// [`InvalidArgument`](crate::ErrorKind::InvalidArgument) for what is wrong in the Dockerfile, with file and line;
    /// [`NotFound`](crate::ErrorKind::NotFound) for files, stages and images that are not there;
    /// [`Other`](crate::ErrorKind::Other) with the last output of a command that fails; as [`pull`](Self::pull).
    pub fn build(&self, spec: BuildSpec) -> Operation<BuildEvent, BuiltImage> {
        self.backend.build(spec)
    }

    /// Reads the Dockerfile and the ignore file of a build, and builds nothing. A context behind a URL is fetched, as for the build.
    ///
    /// [`Dockerfile`](crate::dockerfile::Dockerfile) tells what they say; for a context that is here, [`BuildTexts::read`] needs no
    /// engine.
    ///
    /// # Errors
    /// [`NotFound`](crate::ErrorKind::NotFound) for a context or a Dockerfile that is not there; what the fetcher and git say.
    pub async fn build_texts(&self, spec: BuildSpec) -> Result<BuildTexts> {
        self.backend.build_texts(spec).await
    }

    /// Lists the steps that builds keep, the oldest first.
    ///
    /// # Errors
    /// What the store says.
    pub async fn build_cache(&self) -> Result<Vec<BuildCacheEntry>> {
        self.backend.build_cache().await
    }

    /// Removes steps that builds keep. Images that were built stay as they are.
    ///
    /// # Errors
    /// What the store says.
    pub async fn prune_build_cache(&self, options: &PruneBuildCache) -> Result<PrunedBuildCache> {
        self.backend.prune_build_cache(options).await
    }
}
