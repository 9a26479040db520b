//! `RUN --mount=type=cache`: volumes that outlive a build.
//!
//! Whoever chooses a cache's id chooses no volume's name (SECURITY E1): that is a digest of all that tells caches apart. These are, as
//! with BuildKit, the id, what a new cache begins with, and its owner and mode.

use std::path::{Path, PathBuf};
use std::str::FromStr as _;

use crate::container_spec::MountSpec;
use crate::digest::Digest;
use crate::dockerfile::{CacheMount, CacheSharing};
use crate::engine::LocalEngine;
use crate::engine::turns::Turn;
use crate::error::{Error, ErrorKind, Result};
use crate::files::{PackedFile, PackedSource};
use crate::id::{ContainerId, Name};
use crate::volume_driver::VolumeOptions;

use super::copy::Hasher;
use super::empty::NoFiles;
use super::mounts::Mounted;
use super::stage::State;
use super::steps::layer_of;

/// The label of volumes that are caches of builds: its value is the cache's id.
pub const BUILD_CACHE_LABEL: &str = "engine.build.cache";
/// Commands that use a private cache at once.
const MAX_PRIVATE: u32 = 1000;
/// Where a layer has the directory that a new cache takes after.
const FIRST: &str = "cache";

/// A cache that a command uses.
#[derive(Debug)]
pub(super) struct Cache {
    id: String,
    /// What tells it from others.
    digest: Digest,
    sharing: CacheSharing,
    first: First,
    target: PathBuf,
    read_only: bool,
}

/// What a new cache begins as.
#[derive(Debug)]
enum First {
    Empty,
    Directory { mode: u32, owner: (u32, u32) },
    Files { from: Mounted, source: PathBuf },
}

impl Cache {
    pub(super) fn new(state: &State, cache: &CacheMount, from: Option<Mounted>) -> Result<Self> {
        let target = state.absolute(cache.target.as_deref().unwrap_or("."));
        let id = cache.id.clone().unwrap_or_else(|| target.display().to_string());
        let owned = cache.mode.is_some() || cache.uid.is_some() || cache.gid.is_some();
        let first = match from {
            Some(from) => {
                let inside = super::tree::inside(cache.source.as_deref().unwrap_or_default())?;
                First::Files { from, source: Path::new("/").join(inside.iter().collect::<PathBuf>()) }
            }
            None if cache.source.is_some() => {
                return Err(Error::new(ErrorKind::InvalidArgument, "mount cache")
                    .with("cache", id)
                    .with_message("its source is a path in what from says, and there is no from"));
            }
            None if owned => First::Directory {
                mode: cache.mode.unwrap_or(0o755),
                owner: (cache.uid.unwrap_or(0), cache.gid.unwrap_or(0)),
            },
            None => First::Empty,
        };
        let mut hasher = Hasher::new("cache-1");
        hasher.text(&id);
        match &first {
            First::Empty => {}
            First::Directory { mode, owner } => {
                hasher.text("directory");
                [*mode, owner.0, owner.1].into_iter().for_each(|number| hasher.number(number.into()));
            }
            First::Files { from, source } => {
                hasher.texts(["files", &from.digest.to_string()]);
                hasher.path(source);
            }
        }
        if cache.sharing == CacheSharing::Private {
            hasher.text("private");
        }
        Ok(Self {
            id,
            digest: hasher.finish(),
            sharing: cache.sharing,
            first,
            target,
            read_only: cache.read_only,
        })
    }

    /// What a step's key has of it: not what is in there.
    pub(super) fn describe(&self, key: &mut Hasher) {
        key.text("cache");
        key.path(&self.target);
        key.text(&self.digest.to_string());
        key.number(self.read_only.into());
    }

    /// The turn that a command waits for: always in one order, so that nobody waits for somebody who waits.
    fn turn(&self) -> Option<&Digest> {
        (self.sharing == CacheSharing::Locked).then_some(&self.digest)
    }
}

impl LocalEngine {
    /// Waits for caches that only one command uses at a time, makes those that are not there, and returns the mounts.
    pub(super) async fn open_caches(&self, caches: &[Cache]) -> Result<(Vec<Turn>, Vec<MountSpec>)> {
        let mut locked: Vec<&Digest> = caches.iter().filter_map(Cache::turn).collect();
        locked.sort();
        locked.dedup();
        let mut turns = Vec::with_capacity(locked.len());
        for digest in locked {
            turns.push(self.inner.turns.take(&ContainerId::from_str(digest.hex())?).await?);
        }
        let mut specs = Vec::with_capacity(caches.len());
        for cache in caches {
            let digest = match cache.sharing {
                CacheSharing::Private => {
                    let (turn, digest) = self.private_cache(cache).await?;
                    turns.push(turn);
                    digest
                }
                _ => cache.digest.clone(),
            };
            let name: Name = format!("build-cache-{}", digest.hex()).parse()?;
            let mut create = VolumeOptions::default();
            create.labels.insert(BUILD_CACHE_LABEL.to_owned(), cache.id.clone());
            self.ensure_volume(&name, &create).await?;
            self.fill_cache(&name, &cache.first).await?;
            let mut volume = MountSpec::volume(Some(name), &cache.target);
            if let MountSpec::Volume { options, no_copy, create: made, .. } = &mut volume {
                options.read_only = cache.read_only;
                (*no_copy, *made) = (true, create);
            }
            specs.push(volume);
        }
        Ok((turns, specs))
    }

    /// The first of a private cache's volumes that nobody uses.
    async fn private_cache(&self, cache: &Cache) -> Result<(Turn, Digest)> {
        for number in 0..MAX_PRIVATE {
            let mut hasher = Hasher::new("cache-private-1");
            hasher.text(&cache.digest.to_string());
            hasher.number(number.into());
            let digest = hasher.finish();
            if let Some(turn) = self.inner.turns.try_take(&ContainerId::from_str(digest.hex())?)? {
                return Ok((turn, digest));
            }
        }
        Err(Error::new(ErrorKind::ResourceExhausted, "mount cache")
            .with("cache", &cache.id)
            .with_message(format!("{MAX_PRIVATE} commands use it at once")))
    }

    /// Gives a volume that is empty what a new cache begins with.
    async fn fill_cache(&self, name: &Name, first: &First) -> Result<()> {
        let made;
        let (from, source) = match first {
            First::Empty => return Ok(()),
            First::Directory { mode, owner } => {
                let mut dir = PackedFile::new(PackedSource::Directory, FIRST, *mode);
                dir.owner = *owner;
                let layer = layer_of(self, &NoFiles, vec![dir]).await?;
                made = self.keep_layer(layer).await?;
                (&made, Path::new("/").join(FIRST))
            }
            First::Files { from, source } => (from, source.clone()),
        };
        let (mount, _held) = self.held_image(&from.manifest, &from.layers, Path::new("/")).await?;
        self.inner.volumes.fill(name, &[mount], &source).await.map(drop)
    }
}
