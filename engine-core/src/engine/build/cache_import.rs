//! Steps of builds elsewhere: found by their keys, and their layers taken in when a step has that key.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::TryStreamExt as _;

use crate::descriptor::{Descriptor, media_type};
use crate::digest::Digest;
use crate::engine::LocalEngine;
use crate::engine::archive::{Archive, LoadSource, blob_path};
use crate::engine::layers::{self, LayerProgress};
use crate::engine::operation::Progress;
use crate::engine::pull::PullEvent;
use crate::error::{Error, ErrorKind, Result};
use crate::image_config::ImageConfig;
use crate::io::ByteStream;
use crate::manifest::{ImageManifest, MAX_CONFIG_SIZE, MAX_MANIFEST_SIZE, Manifest};
use crate::platform::Platform;
use crate::reference::Reference;
use crate::registry_client::RegistryClient;

use super::Build;
use super::cache::Layer;
use super::cache_manifest::{CACHE_CONFIG, INLINE, Steps, corrupt, read, read_inline};
use super::cache_spec::CacheSource;
use super::event::{BuildEvent, StepId};
use super::spec::BuildSpec;

/// A cache that was found.
#[derive(Debug)]
pub(super) struct ImportedCache {
    source: CacheSource,
    place: Place,
    steps: Steps,
}

/// Where its blobs are.
enum Place {
    Registry(Arc<dyn RegistryClient>, Reference),
    Layout(Archive),
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Registry(..) => "Registry",
            Self::Layout(_) => "Layout",
        })
    }
}

impl Place {
    async fn fetch(&self, blob: &Descriptor) -> Result<ByteStream> {
        match self {
            Self::Registry(registry, reference) => registry.fetch_blob(reference, blob, 0).await,
            Self::Layout(archive) => match archive.find(&blob_path(&blob.digest)).await? {
                Some(member) if member.size == blob.size => Ok(member.stream()),
                _ => Err(corrupt("its directory does not have this part").with("digest", &blob.digest)),
            },
        }
    }

    /// Reads a small blob whole, and checks it.
    async fn small(&self, blob: &Descriptor, limit: u64) -> Result<Bytes> {
        if blob.size > limit {
            return Err(corrupt("it is too large").with("digest", &blob.digest));
        }
        let all = self.fetch(blob).await?.try_fold(Vec::new(), |mut all, piece| async move {
            all.extend_from_slice(&piece);
            Ok(all)
        });
        let all = all.await?;
        if all.len() as u64 != blob.size || blob.digest.rehash(&all) != blob.digest {
            return Err(corrupt("its content does not match its digest").with("digest", &blob.digest));
        }
        Ok(all.into())
    }

    /// What is there: a manifest, or an index.
    async fn target(&self) -> Result<Manifest> {
        match self {
            Self::Registry(registry, reference) => {
                let (target, bytes) = registry.fetch_manifest(reference).await?;
                Manifest::parse(&bytes, &target.media_type)
            }
            Self::Layout(archive) => {
                let index = archive.read("index.json", MAX_MANIFEST_SIZE).await?;
                let index = index.ok_or_else(|| corrupt("its directory has no index.json"))?;
                Manifest::parse(&index, media_type::OCI_INDEX)
            }
        }
    }

    async fn manifest(&self, target: &Manifest, platform: &Platform) -> Result<ImageManifest> {
        let index = match target {
            Manifest::Image(image) => return Ok(image.clone()),
            Manifest::Index(index) => index,
        };
        let chosen = index.select(platform).ok_or_else(|| corrupt("it has nothing for the platform"))?;
        let bytes = match self {
            Self::Registry(registry, reference) => {
                registry.fetch_manifest(&reference.with_digest(chosen.digest.clone())).await?.1
            }
            Self::Layout(_) => self.small(chosen, MAX_MANIFEST_SIZE).await?,
        };
        match Manifest::parse(&bytes, &chosen.media_type)? {
            Manifest::Image(image) => Ok(image),
            Manifest::Index(_) => Err(corrupt("it is an index within an index")),
        }
    }

    async fn steps(&self, target: &Manifest, platform: &Platform) -> Result<Steps> {
        let manifest = self.manifest(target, platform).await?;
        if manifest.config.media_type == CACHE_CONFIG {
            return read(&self.small(&manifest.config, MAX_CONFIG_SIZE).await?, &manifest);
        }
        let Some(text) = manifest.annotations.get(INLINE) else {
            return Err(corrupt(
                "it is no cache, and an image that was built without --cache-to type=inline",
            ));
        };
        let config = ImageConfig::parse(&self.small(&manifest.config, MAX_CONFIG_SIZE).await?)?;
        read_inline(text, &manifest, &config.rootfs.diff_ids)
    }
}

impl LocalEngine {
    /// Looks into the caches that a build is to use. One that cannot be read is told of, and is no reason not to build.
    pub(super) async fn imported_caches(
        &self,
        spec: &BuildSpec,
        platforms: &[Platform],
        progress: &Progress<BuildEvent>,
    ) -> Vec<ImportedCache> {
        let mut caches = Vec::new();
        for source in spec.cache_from.iter().filter(|_| !spec.no_cache) {
            let name = source.to_string();
            match self.import_cache(source, spec, platforms).await {
                Ok(cache) => {
                    progress.report(BuildEvent::CacheFound { source: name, steps: cache.steps.len() });
                    caches.push(cache);
                }
                Err(error) => {
                    progress.report(BuildEvent::CacheUnavailable { source: name, message: error.report() });
                }
            }
        }
        caches
    }

    async fn import_cache(
        &self,
        source: &CacheSource,
        spec: &BuildSpec,
        platforms: &[Platform],
    ) -> Result<ImportedCache> {
        let place = match source {
            CacheSource::Registry(reference) => {
                let credentials = spec.credentials.get(reference.registry());
                Place::Registry(self.registry_with(reference, credentials), reference.clone())
            }
            CacheSource::Directory(path) => {
                // A file is no directory, and would be copied.
                if !path.is_dir() {
                    return Err(Error::new(ErrorKind::NotFound, "open build cache")
                        .with("path", path.display())
                        .with_message("there is no such directory"));
                }
                Place::Layout(Archive::open(LoadSource::Path(path.clone()), None, 0).await?)
            }
        };
        // A step's key has its platform.
        let (mut steps, mut missing) = (Steps::new(), None);
        let index = place.target().await?;
        for platform in platforms {
            match place.steps(&index, platform).await {
                Ok(more) => steps.extend(more),
                Err(error) => missing = Some(error),
            }
            if matches!(index, Manifest::Image(_)) {
                break;
            }
        }
        // What one platform lacks, another may have.
        if let Some(error) = missing.filter(|_| steps.is_empty()) {
            return Err(error);
        }
        Ok(ImportedCache { source: source.clone(), place, steps })
    }
}

impl Build {
    /// Returns what a cache elsewhere has for `key`, with its layer in the store.
    pub(super) async fn imported(&self, key: &Digest, step: StepId) -> Option<Option<Layer>> {
        for cache in &self.imported {
            let Some(known) = cache.steps.get(key) else { continue };
            let Some((blob, diff_id)) = known else { return Some(None) };
            let wanted = (blob.clone(), Some(diff_id.clone()));
            let report = |progress: LayerProgress| {
                let event = Box::new(PullEvent::Layer { layer: blob.clone(), progress });
                self.progress.report(BuildEvent::Pull { step, event });
            };
            let taken = layers::take_in(&self.engine, &wanted, cache.place.fetch(blob), report).await;
            match taken {
                Ok(()) => return Some(Some((blob.clone(), diff_id.clone()))),
                // It is made then.
                Err(error) => self.progress.report(BuildEvent::CacheUnavailable {
                    source: cache.source.to_string(),
                    message: error.report(),
                }),
            }
        }
        None
    }
}
