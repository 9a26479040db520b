//! The cache of steps for people: what is in it, and what may go.

use std::collections::HashSet;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::engine::{LocalEngine, blocking};
use crate::error::{Error, ErrorKind, Result};
use crate::platform::Platform;
use crate::time::parse_rfc3339;

use super::cache::empty_diff_id;
use super::digests;

/// A step that is kept.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct BuildCacheEntry {
    /// What it is known by: the digest of all that its result depends on.
    pub id: Digest,
    /// The step, as the history of an image would say it.
    pub description: String,
    /// When it was carried out.
    pub created_at: Option<SystemTime>,
    /// What its layer takes on disk, in bytes: as it is transferred, and unpacked.
    pub size: u64,
    /// Whether an image has the layer too, so that removing the step would free nothing.
    pub shared: bool,
}

/// Which steps go.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct PruneBuildCache {
    /// Only those that were carried out before.
    pub until: Option<SystemTime>,
    /// Only these: an id, or the hex digits that it begins with.
    pub ids: Vec<String>,
    /// Only as many, the oldest first, that what is left takes no more bytes than this. Layers that images have do not count.
    pub keep: Option<u64>,
}

impl PruneBuildCache {
    /// Leaves what was carried out since `until`.
    #[must_use]
    pub fn with_until(mut self, until: SystemTime) -> Self {
        self.until = Some(until);
        self
    }

    /// Leaves as many of the newest as take `bytes` together.
    #[must_use]
    pub fn with_keep(mut self, bytes: u64) -> Self {
        self.keep = Some(bytes);
        self
    }

    fn takes(&self, entry: &BuildCacheEntry) -> bool {
        let is = |id: &String| entry.id.hex().starts_with(digits(id));
        self.until.is_none_or(|until| entry.created_at.is_none_or(|created| created < until))
            && (self.ids.is_empty() || self.ids.iter().any(is))
    }

    /// Refuses what is no id, and would be one of no step or of all.
    fn check(&self) -> Result<()> {
        let is_id =
            |id: &&String| !digits(id).is_empty() && digits(id).bytes().all(|b| b.is_ascii_hexdigit());
        match self.ids.iter().find(|id| !is_id(id)) {
            None => Ok(()),
            Some(id) => Err(Error::new(ErrorKind::InvalidArgument, "prune build cache")
                .with("id", id)
                .with_message("it is no id of a step")
                .with_hint("give the hex digits that it begins with")),
        }
    }
}

fn digits(id: &str) -> &str {
    id.strip_prefix("sha256:").unwrap_or(id)
}

/// What a prune of the build cache removed.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct PrunedBuildCache {
    /// The steps.
    pub removed: Vec<Digest>,
    /// The bytes freed, as far as the store knows.
    pub bytes: u64,
}

impl LocalEngine {
    /// Returns the steps that are kept, the oldest first.
    pub(in crate::engine) async fn build_cache(&self) -> Result<Vec<BuildCacheEntry>> {
        let store = &self.inner.images;
        let _lease = store.lease().await?;
        let steps: Vec<_> =
            store.names().await?.into_iter().filter(|(name, _)| name.is_build_step()).collect();
        if steps.is_empty() {
            return Ok(Vec::new());
        }
        let (usage, used) = (store.usage().await?, self.layers_of_images().await?);
        let mut entries = Vec::with_capacity(steps.len());
        for (name, target) in steps {
            let Some(id) = name.digest().cloned() else { continue };
            let image = match self.load_image(&target, &Platform::host(), &[]).await {
                Ok(image) => image,
                Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Corrupt) => continue,
                Err(error) => return Err(error),
            };
            let diff_id = image.diff_ids().first().filter(|id| **id != empty_diff_id());
            let blob = image.contents.layers.first().and_then(|blob| usage.blobs.get(&blob.digest));
            let unpacked = diff_id.and_then(|id| usage.layers.get(id));
            entries.push(BuildCacheEntry {
                id,
                description: image
                    .config
                    .history
                    .first()
                    .and_then(|one| one.created_by.clone())
                    .unwrap_or_default(),
                created_at: parse_rfc3339(&image.config.created),
                size: [blob, unpacked].into_iter().flatten().sum(),
                shared: diff_id.is_some_and(|id| used.contains(id)),
            });
        }
        entries.sort_by(|a, b| (a.created_at, &a.id).cmp(&(b.created_at, &b.id)));
        Ok(entries)
    }

    pub(in crate::engine) async fn prune_build_cache(
        &self,
        options: &PruneBuildCache,
    ) -> Result<PrunedBuildCache> {
        options.check()?;
        let store = &self.inner.images;
        let entries = self.build_cache().await?;
        let own = |entry: &BuildCacheEntry| if entry.shared { 0 } else { entry.size };
        let mut left: u64 = entries.iter().map(own).sum();
        let going: HashSet<&Digest> = entries
            .iter()
            .filter(|entry| {
                let frees = |keep| left > keep && own(entry) > 0;
                let goes = options.takes(entry) && options.keep.is_none_or(frees);
                left -= if goes { own(entry) } else { 0 };
                goes
            })
            .map(|entry| &entry.id)
            .collect();
        // What cannot be read is in no list, and of no use.
        let all = options.keep.is_none() && options.until.is_none() && options.ids.is_empty();
        let mut pruned = PrunedBuildCache::default();
        for (name, _) in store.names().await? {
            let Some(id) = name.digest().filter(|_| name.is_build_step()) else { continue };
            if (all || going.contains(id)) && store.remove_name(&name).await? {
                pruned.removed.push(id.clone());
            }
        }
        if let Some(root) = self.inner.root.clone().filter(|_| all) {
            blocking(move || digests::forget(&root)).await?;
        }
        pruned.bytes = store.collect_garbage().await?.bytes;
        Ok(pruned)
    }

    /// The layers that images have.
    async fn layers_of_images(&self) -> Result<HashSet<Digest>> {
        let mut layers = HashSet::new();
        for (_, target) in self.image_names().await? {
            // One that is damaged or not here in full has what is here all the same.
            if let Ok(image) = self.load_image(&target, &Platform::host(), &[]).await {
                layers.extend(image.diff_ids().iter().cloned());
            }
        }
        Ok(layers)
    }
}
