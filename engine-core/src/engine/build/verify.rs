//! Building twice, to show that the same comes out.
//!
//! The second time nothing of the first's cache is used, nor is anything put where others' builds find it: keys of steps have a
//! secret in them, and what is kept under them is removed at the end.

use std::sync::{Arc, Mutex, PoisonError};

use crate::digest::Digest;
use crate::engine::LocalEngine;
use crate::engine::image::Image;
use crate::engine::operation::{Operation, Progress};
use crate::error::Result;
use crate::id::ContainerId;
use crate::reference::Reference;

use super::copy::Hasher;
use super::{BuildEvent, BuildSpec, BuiltImage};

/// What [`LocalEngine::verify_rebuild`] found.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Rebuild {
    /// What was built as it is asked for, with whatever the cache had.
    pub image: BuiltImage,
    /// What came out of building it again without that. It is kept by nothing.
    pub again: BuiltImage,
    /// The first instruction that made something else, as the history has it; the configurations differ if there is none.
    pub differs_at: Option<String>,
}

impl Rebuild {
    /// Whether the same came out.
    #[must_use]
    pub fn is_same(&self) -> bool {
        self.image.manifest.digest == self.again.manifest.digest
    }
}

/// A part of the cache that nobody else finds.
#[derive(Debug)]
pub(super) struct Apart {
    secret: String,
    kept: Mutex<Vec<Reference>>,
}

impl Apart {
    fn new() -> Self {
        Self { secret: ContainerId::random().to_string(), kept: Mutex::default() }
    }

    /// The key that stands for `key` here. It is kept under it from now on.
    pub(super) fn key(&self, key: &Digest) -> Digest {
        let mut hasher = Hasher::new("apart-1");
        hasher.texts([&self.secret, &key.to_string()]);
        let key = hasher.finish();
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).push(Reference::build_step(key.clone()));
        key
    }

    async fn remove(&self, engine: &LocalEngine) -> Result<()> {
        let kept = std::mem::take(&mut *self.kept.lock().unwrap_or_else(PoisonError::into_inner));
        for name in kept {
            engine.inner.images.remove_name(&name).await?;
        }
        Ok(())
    }
}

/// Removes what was kept when it is dropped: nobody else finds it.
struct Forget(Option<(LocalEngine, Arc<Apart>)>);

impl Forget {
    async fn now(mut self) -> Result<()> {
        match self.0.take() {
            Some((engine, apart)) => apart.remove(&engine).await,
            None => Ok(()),
        }
    }
}

impl Drop for Forget {
    fn drop(&mut self) {
        if let (Some((engine, apart)), Ok(handle)) = (self.0.take(), tokio::runtime::Handle::try_current()) {
            drop(handle.spawn(async move {
                if let Err(error) = apart.remove(&engine).await {
                    tracing::warn!(%error, "steps of a build that was compared stay until the cache is pruned");
                }
            }));
        }
    }
}

impl LocalEngine {
    /// Builds an image, and then once more without anything that was kept, and compares.
    ///
    /// The image is there afterwards as [`Engine::build`](crate::Engine::build) leaves it, whether or not the same came out. Caches of
    /// `RUN --mount=type=cache` are what they are for both, and so are repositories at a commit and files behind URLs: what an engine has
    /// of these it does not fetch again, nor make their layers anew.
    ///
    /// # Errors
    /// As [`Engine::build`](crate::Engine::build). That something else came out is no error.
    pub fn verify_rebuild(&self, spec: BuildSpec) -> Operation<BuildEvent, Rebuild> {
        let engine = self.clone();
        Operation::new(move |progress| async move {
            let rebuilt = engine.rebuild(spec, progress).await;
            engine.inner.removals.end().await;
            rebuilt
        })
    }

    async fn rebuild(&self, mut spec: BuildSpec, progress: Progress<BuildEvent>) -> Result<Rebuild> {
        let _lease = self.inner.images.lease().await?;
        // An archive is read once.
        let mut scratch = Vec::new();
        for context in std::iter::once(&mut spec.context).chain(spec.contexts.values_mut()) {
            scratch.extend(self.unpack_context(context).await?);
        }
        let image = self.build_image(spec.clone(), progress.clone(), None).await?;
        (spec.no_cache, spec.pull, spec.provenance) = (false, false, None);
        let platforms = super::platforms(&spec)?;
        let apart = Arc::new(Apart::new());
        let forget = Forget(Some((self.clone(), Arc::clone(&apart))));
        let again = self.build_image(spec, progress, Some(apart)).await;
        forget.now().await?;
        let mut found = Rebuild { image, again: again?, differs_at: None };
        if found.is_same() {
            return Ok(found);
        }
        for platform in &platforms {
            let load = async |built: &BuiltImage| self.load_image(&built.manifest, platform, &[]).await;
            found.differs_at = first_difference(&load(&found.image).await?, &load(&found.again).await?);
            if found.differs_at.is_some() {
                break;
            }
        }
        Ok(found)
    }
}

/// The first line of the history whose layer is another one in `again`.
fn first_difference(image: &Image, again: &Image) -> Option<String> {
    let at = image.diff_ids().iter().zip(again.diff_ids()).position(|(one, other)| one != other)?;
    let made = image.config.history.iter().filter(|line| !line.empty_layer).nth(at)?;
    made.created_by.clone()
}
