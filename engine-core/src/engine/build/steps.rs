//! The instructions that make layers: whether the cache has what they make, and keeping it. `copying` and `running` do them.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use futures_util::StreamExt as _;

use crate::digest::Digest;
use crate::engine::LocalEngine;
use crate::error::Result;
use crate::files::{ContainerFiles, PackedFile};

use super::Build;
use super::cache::Layer;
use super::cache_manifest::MadeStep;
use super::copy::{Below, Hasher, Plan, resolve};
use super::event::{BuildEvent, StepId};
use super::gzip::gzip;
use super::stage::State;

/// One step on its way.
pub(super) struct Step<'a> {
    pub(super) build: &'a Build,
    pub(super) id: StepId,
    /// What its line in the history says.
    pub(super) text: String,
    pub(super) use_cache: bool,
    /// Whether nothing is told of it, since it is a part of another.
    pub(super) quiet: bool,
}

impl Step<'_> {
    /// Returns what the cache has for `key`, or has `make` make it and keeps that. `make` is boxed by whoever calls: what
    /// polls a whole build has a stack as small as others.
    pub(super) async fn layer(
        &self,
        key: &Digest,
        make: impl Future<Output = Result<Option<Layer>>>,
    ) -> Result<Option<Layer>> {
        let engine = &self.build.engine;
        let own = &self.build.apart.as_ref().map_or_else(|| key.clone(), |apart| apart.key(key));
        let flight = self.build.flights.of(own);
        let mut landed = flight.lock().await;
        let known = match (&*landed, self.use_cache) {
            (Some(layer), _) => Some(layer.clone()),
            (None, true) => self.known(own).await?,
            (None, false) => None,
        };
        let layer = match known {
            Some(layer) => {
                if !self.quiet {
                    self.build.progress.report(BuildEvent::Cached { step: self.id });
                }
                layer
            }
            None => {
                let made = make.await?;
                engine.keep_step(own, made.as_ref(), &self.text, BTreeMap::new()).await?;
                made
            }
        };
        *landed = Some(layer.clone());
        // A part of another step is made of the context, and sooner made than fetched.
        if !self.quiet {
            self.build.made(MadeStep { key: key.clone(), layer: layer.clone() });
        }
        Ok(layer)
    }

    /// What the engine's cache has for `key`, or one elsewhere.
    async fn known(&self, key: &Digest) -> Result<Option<Option<Layer>>> {
        let engine = &self.build.engine;
        if let Some(known) = engine.cached_step(key).await? {
            return Ok(Some(known.layer));
        }
        let Some(layer) = self.build.imported(key, self.id).await else { return Ok(None) };
        engine.keep_step(key, layer.as_ref(), &self.text, BTreeMap::new()).await?;
        Ok(Some(layer))
    }

    /// The file system below.
    pub(super) async fn below(&self, state: &State) -> Result<Below> {
        match &state.image {
            Some(image) if !state.layers.is_empty() => {
                let view = self.build.engine.view(&image.manifest, &state.diff_ids()).await?;
                Ok(Some(view as Arc<dyn ContainerFiles>))
            }
            _ => Ok(None),
        }
    }

    /// Writes a layer of files of `tree`.
    pub(super) async fn write(
        &self,
        tree: &dyn ContainerFiles,
        files: Vec<PackedFile>,
    ) -> Result<Option<Layer>> {
        if files.is_empty() {
            return Ok(None);
        }
        layer_of(&self.build.engine, tree, files).await.map(Some)
    }

    /// `WORKDIR`: the directory, if it is not there. It belongs to who `USER` says.
    pub(super) async fn workdir(&self, state: &State, path: &Path) -> Result<Option<Layer>> {
        let user = Some(&state.config.user).filter(|user| !user.is_empty());
        let mut key = Hasher::new("workdir-3");
        key.time(state.time);
        key.text(&state.chain().to_string());
        key.path(path);
        key.texts(user);
        let make = async {
            let below = self.below(state).await?;
            let owner = match user {
                Some(user) => Some(self.owner(state, user).await?),
                None => None,
            };
            let path = resolve(&below, path).await?;
            let mut plan = Plan::default();
            if !plan.make_dirs(&below, &path, owner, state.time).await? {
                return Ok(None);
            }
            self.write(&**self.build.context.files(), plan.into_files()).await
        };
        self.layer(&key.finish(), Box::pin(make)).await
    }
}

/// Writes a layer of files of `tree`, of which there are some.
pub(super) async fn layer_of(
    engine: &LocalEngine,
    tree: &dyn ContainerFiles,
    files: Vec<PackedFile>,
) -> Result<Layer> {
    let mut archive = gzip(tree.pack_files(files).await?);
    let mut writer = engine.inner.images.create_layer().await?;
    while let Some(piece) = archive.next().await {
        writer.write(piece?).await?;
    }
    let layer = writer.commit().await?;
    Ok((layer.descriptor, layer.diff_id))
}

/// Reports that a step took from `begun` until now.
pub(super) fn finished(build: &Build, step: StepId, begun: Instant, layer: Option<&Layer>) {
    let layer = layer.map(|(blob, _)| blob.size);
    build.progress.report(BuildEvent::Finished { step, took: begun.elapsed(), layer });
}
