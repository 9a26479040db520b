//! Garbage collection, in as many servers as like, beside everything else.
//!
//! An object may go when nobody can be about to use it:
//! - No repository has it, nor has dropped it within the grace time. Whoever gives it to another repository has seen it in one,
//!   and takes far less time than that.
//! - No upload is making it: its key begins with none's id.
//! - It is older than the grace time; a younger one may be about to get its entry.
//!
//! Objects are listed first, then uploads, then repositories are read: what becomes an upload's or a repository's after the list
//! is not on it, and what moves from an upload to a repository is seen in one of them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use engine_core::error::Result;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};

use super::repositories::Step;
use super::state::before;
use super::{BLOBS, HINTS, MANIFESTS, Parts};
use crate::server::garbage::{GcPolicy, GcReport};
use crate::server::names::RepositoryName;

const OPERATION: &str = "collect garbage";
/// Objects that are removed at the same time.
const AT_ONCE: usize = 16;

/// Objects that may go, with their sizes.
type Objects = BTreeMap<String, u64>;

impl Parts {
    pub(super) async fn collect(&self, policy: &GcPolicy) -> Result<GcReport> {
        let (started, old) = (Instant::now(), before(policy.grace));
        let mut blobs = self.old_objects(BLOBS, old).await?;
        let mut manifests = self.old_objects(MANIFESTS, old).await?;
        let mut hints = self.old_objects(HINTS, old).await?;
        let uploads = self.uploads.list(Duration::ZERO).await?;
        let uploads: BTreeSet<String> = uploads.into_iter().map(|(id, _)| id.to_string()).collect();
        blobs.retain(|key, _| {
            let id = key.strip_prefix(BLOBS).and_then(|rest| rest.get(1..33));
            id.is_none_or(|id| !uploads.contains(id))
        });

        let mut report = GcReport::default();
        for name in self.repositories.names(OPERATION).await? {
            let state = self.collect_repository(&name, policy, &mut report).await?;
            for key in state.keys() {
                blobs.remove(key);
                manifests.remove(key);
            }
            for digest in state.blobs.keys() {
                hints.remove(&super::hint(digest, &name));
            }
        }
        // What a look that took longer than the grace time saw may have changed places meanwhile.
        if !policy.grace.is_zero() && started.elapsed() >= policy.grace {
            tracing::warn!(
                "objects stay for now: looking through the bucket took longer than the grace time"
            );
            return Ok(report);
        }
        report.blobs = blobs.len() as u64;
        report.bytes = blobs.values().sum();
        if !policy.dry_run {
            self.remove(blobs.into_keys().chain(manifests.into_keys()).chain(hints.into_keys())).await?;
        }
        Ok(report)
    }

    async fn old_objects(&self, directory: &str, old: u64) -> Result<Objects> {
        let found = self.bucket.list(OPERATION, directory, None);
        found
            .try_filter_map(async |listed| Ok((listed.modified <= old).then_some((listed.key, listed.size))))
            .try_collect()
            .await
    }

    /// Drops what is garbage in a repository, or only says so, and returns what is left.
    async fn collect_repository(
        &self,
        name: &RepositoryName,
        policy: &GcPolicy,
        report: &mut GcReport,
    ) -> Result<super::state::State> {
        let (found, state) = if policy.dry_run {
            let mut found = GcReport::default();
            let mut state = self.repositories.read(name).await?.as_deref().cloned().unwrap_or_default();
            state.collect(name.as_str(), policy, &mut found);
            (found, state)
        } else {
            let collected = self.repositories.change(name, OPERATION, |state| {
                let mut found = GcReport::default();
                let is_there = state.version > 0;
                let changed = state.collect(name.as_str(), policy, &mut found);
                Ok(match state.is_empty() {
                    true if is_there => Step::Removed((found, state.clone())),
                    _ if changed => Step::Changed((found, state.clone())),
                    _ => Step::Unchanged((found, state.clone())),
                })
            });
            collected.await?
        };
        report.manifests += found.manifests;
        report.unlinked += found.unlinked;
        Ok(state)
    }

    async fn remove(&self, keys: impl Iterator<Item = String> + Send) -> Result<()> {
        let removed = stream::iter(keys).map(async |key| self.bucket.delete(OPERATION, &key).await);
        removed.buffer_unordered(AT_ONCE).try_collect().await
    }
}
