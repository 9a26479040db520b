//! What all repositories have together, and the quota of it.
//!
//! Repositories change apart from each other, so what they have together cannot be checked in the change of one. Whoever is
//! about to add something enters it into a *ledger* first, then counts what there is and what those before it in the ledger
//! are about to add, and leaves the ledger when its change is done. So two that do not fit together never both get in, and the
//! first of them does if it fits.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use engine_core::digest::Digest;
use engine_core::error::{Error, ErrorKind, Result};
use futures_util::TryStreamExt as _;
use object_store::UpdateVersion;
use serde::{Deserialize, Serialize};

use super::bucket::{Bucket, Read};
use super::repositories::Repositories;
use super::state::{VERSION, now};
use crate::server::names::UploadId;
use crate::server::quota::{Quota, Usage};

const KEY: &str = "quota";
/// How long an entry counts, should its program die.
const LASTS: Duration = Duration::from_secs(180);
/// How often, and how long apart, those before are waited for.
const TRIES: u32 = 100;
const WAIT: Duration = Duration::from_millis(200);

#[derive(Debug, Default, Deserialize, Serialize)]
struct Ledger {
    version: u32,
    /// In the order in which they came.
    entries: Vec<Entry>,
}

#[derive(Debug, Deserialize, Serialize)]
struct Entry {
    id: String,
    bytes: u64,
    until: u64,
}

/// An entry in the ledger, which is taken out when what it is for is done.
#[derive(Debug)]
pub(super) struct Admission {
    bucket: Arc<Bucket>,
    id: String,
}

impl Admission {
    pub(super) async fn leave(self) -> Result<()> {
        change(&self.bucket, |entries| entries.retain(|entry| entry.id != self.id)).await
    }
}

/// Reads the entries that count.
async fn read(bucket: &Bucket, operation: &'static str) -> Result<(Ledger, Option<UpdateVersion>)> {
    let (mut ledger, seen) = match bucket.read(operation, KEY, None).await? {
        Read::Found(bytes, version) => {
            let ledger: Ledger = serde_json::from_slice(&bytes)
                .map_err(|error| Error::new(ErrorKind::Corrupt, operation).with_source(error))?;
            (ledger, Some(version))
        }
        Read::Absent | Read::Same => (Ledger::default(), None),
    };
    ledger.entries.retain(|entry| entry.until > now());
    Ok((ledger, seen))
}

/// Changes the ledger.
async fn change(bucket: &Bucket, work: impl Fn(&mut Vec<Entry>)) -> Result<()> {
    let operation = "check quota";
    for attempt in 0..TRIES {
        let (mut ledger, seen) = read(bucket, operation).await?;
        ledger.version = VERSION;
        work(&mut ledger.entries);
        let bytes = serde_json::to_vec(&ledger)
            .map_err(|error| Error::new(ErrorKind::Other, operation).with_source(error))?;
        if bucket.swap(operation, KEY, Bytes::from(bytes), seen.as_ref()).await?.is_some() {
            return Ok(());
        }
        super::pause(attempt).await;
    }
    Err(Error::new(ErrorKind::Unavailable, operation).with_message("too many others are adding something"))
}

/// Waits until `bytes` may be added under the total of a quota. A blob that some repository has adds nothing.
pub(super) async fn admit(
    bucket: &Arc<Bucket>,
    repositories: &Repositories,
    quota: &Quota,
    blob: Option<&Digest>,
    bytes: u64,
) -> Result<Option<Admission>> {
    let Some(limit) = quota.total else { return Ok(None) };
    let id = UploadId::random().to_string();
    let until = now() + LASTS.as_secs();
    let mine = || Entry { id: id.clone(), bytes, until };
    change(bucket, |entries| {
        if !entries.iter().any(|entry| entry.id == id) {
            entries.push(mine());
        }
    })
    .await?;
    let admission = Admission { bucket: Arc::clone(bucket), id: id.clone() };
    let verdict = wait(bucket, repositories, limit, (&id, blob, bytes)).await;
    match verdict {
        Ok(()) => Ok(Some(admission)),
        Err(error) => {
            admission.leave().await?;
            Err(error)
        }
    }
}

async fn wait(
    bucket: &Bucket,
    repositories: &Repositories,
    limit: u64,
    (id, blob, bytes): (&str, Option<&Digest>, u64),
) -> Result<()> {
    let quota = Quota::default().with_total(Some(limit));
    for _ in 0..TRIES {
        // Before counting: what leaves the ledger in between is counted twice, and not forgotten.
        // Read alone: who waits is in nobody's way.
        let entries = read(bucket, "check quota").await?.0.entries;
        if !entries.iter().any(|entry| entry.id == id) {
            break;
        }
        let before: u64 = entries.iter().take_while(|entry| entry.id != id).map(|entry| entry.bytes).sum();
        let (usage, has) = count(repositories, blob).await?;
        let after = usage.bytes + if has { 0 } else { bytes };
        quota.check(0, after)?;
        if before == 0 || after + before <= limit {
            return Ok(());
        }
        tokio::time::sleep(WAIT).await;
    }
    Err(Error::new(ErrorKind::Unavailable, "check quota")
        .with_message("too many others are adding something"))
}

/// Counts what all repositories have, and tells whether one has `blob`.
pub(super) async fn count(repositories: &Repositories, blob: Option<&Digest>) -> Result<(Usage, bool)> {
    let (mut usage, mut blobs, mut live) = (Usage::default(), BTreeMap::new(), BTreeSet::new());
    let mut dropped = BTreeMap::new();
    let mut all = pin!(repositories.each("count usage"));
    while let Some((_, state)) = all.try_next().await? {
        usage.repositories += 1;
        usage.manifests += state.manifests.len() as u64;
        usage.bytes += state.manifest_bytes();
        blobs.extend(state.blobs.iter().map(|(digest, blob)| (digest.clone(), blob.size)));
        live.extend(state.blobs.values().map(|blob| blob.key.clone()));
        let own = state.dropped.iter().filter(|dropped| dropped.key.starts_with(super::BLOBS));
        dropped.extend(own.map(|dropped| (dropped.key.clone(), dropped.size)));
    }
    usage.blobs = blobs.len() as u64;
    usage.bytes += blobs.values().sum::<u64>();
    // It takes space until it is collected.
    usage.bytes += dropped.iter().filter(|(key, _)| !live.contains(*key)).map(|(_, size)| size).sum::<u64>();
    let has = blob.is_some_and(|digest| blobs.contains_key(digest));
    Ok((usage, has))
}
