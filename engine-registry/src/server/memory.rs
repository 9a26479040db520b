//! A registry's content in memory, for tests and for what needs to last no longer than the program.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::File;
use std::ops::{Bound, Range};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use engine_core::descriptor::Descriptor;
use engine_core::digest::Digest;
use engine_core::error::{Error, ErrorKind, Result};
use engine_core::io::ByteStream;
use futures_util::{StreamExt as _, stream};

use super::garbage::{GcPolicy, GcReport};
use super::names::{RepositoryName, Tag, Target, UploadId};
use super::quota::{Quota, Usage};
use super::storage::{Incoming, NewManifest, Page, PageRequest, PutManifest, Storage};

/// Content in memory. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct MemoryStorage(Arc<Mutex<State>>);

#[derive(Clone, Debug, Default)]
struct State {
    blobs: HashMap<Digest, Bytes>,
    repositories: BTreeMap<RepositoryName, Repository>,
    uploads: HashMap<UploadId, Upload>,
}

#[derive(Clone, Debug, Default)]
struct Repository {
    /// With the time of the last use.
    blobs: BTreeMap<Digest, Instant>,
    manifests: BTreeMap<Digest, Kept>,
    tags: BTreeMap<String, Digest>,
}

#[derive(Clone, Debug)]
struct Kept {
    manifest: NewManifest,
    used: Instant,
}

#[derive(Clone, Debug)]
struct Upload {
    repository: RepositoryName,
    bytes: BytesMut,
    touched: Instant,
    /// Whether a request is appending.
    busy: bool,
}

/// Marks an upload as not busy, however the request that appended to it ended.
struct Turn<'a>(&'a MemoryStorage, &'a UploadId);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        if let Some(upload) = self.0.state().uploads.get_mut(self.1) {
            upload.busy = false;
        }
    }
}

impl MemoryStorage {
    /// Creates a storage with nothing in it.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn with_upload<T>(
        &self,
        repository: &RepositoryName,
        id: &UploadId,
        work: impl FnOnce(&mut Upload) -> Result<T>,
    ) -> Result<T> {
        let mut state = self.state();
        let upload = state.uploads.get_mut(id).filter(|upload| upload.repository == *repository);
        work(upload.ok_or_else(|| {
            Error::new(ErrorKind::NotFound, "find upload").with("upload", id).with("repository", repository)
        })?)
    }
}

impl State {
    /// Finds a manifest, and notes that somebody has heard of it.
    fn manifest(&mut self, repository: &RepositoryName, target: &Target) -> Option<&NewManifest> {
        let repository = self.repositories.get_mut(repository)?;
        let digest = match target {
            Target::Digest(digest) => digest,
            Target::Tag(tag) => repository.tags.get(tag.as_str())?,
        };
        let found = repository.manifests.get_mut(digest)?;
        found.used = Instant::now();
        Some(&found.manifest)
    }

    fn bytes_of(&self, repository: &Repository) -> u64 {
        let blobs = repository.blobs.keys().filter_map(|digest| self.blobs.get(digest));
        blobs.map(|bytes| bytes.len() as u64).sum::<u64>() + repository.manifest_bytes()
    }

    fn bytes(&self) -> u64 {
        let blobs: u64 = self.blobs.values().map(|bytes| bytes.len() as u64).sum();
        blobs + self.repositories.values().map(Repository::manifest_bytes).sum::<u64>()
    }

    /// Checks a quota for what a repository, and the registry, is about to get.
    fn check(&self, quota: &Quota, repository: &RepositoryName, more: u64, more_in_all: u64) -> Result<()> {
        if !quota.is_limited() {
            return Ok(());
        }
        let own = self.repositories.get(repository).map_or(0, |found| self.bytes_of(found));
        quota.check(own + more, self.bytes() + more_in_all)
    }

    /// Gives a repository a blob, whose bytes are new if the registry does not have them.
    fn link(
        &mut self,
        repository: &RepositoryName,
        digest: &Digest,
        new: Option<Bytes>,
        quota: &Quota,
    ) -> Result<()> {
        let known = self.blobs.get(digest);
        let size = known.or(new.as_ref()).map_or(0, |bytes| bytes.len() as u64);
        let has = |found: &Repository| found.blobs.contains_key(digest);
        if !self.repositories.get(repository).is_some_and(has) {
            self.check(quota, repository, size, if known.is_some() { 0 } else { size })?;
        }
        if let Some(bytes) = new {
            self.blobs.entry(digest.clone()).or_insert(bytes);
        }
        let found = self.repositories.entry(repository.clone()).or_default();
        found.blobs.insert(digest.clone(), Instant::now());
        Ok(())
    }

    /// Notes that somebody has heard of a blob, and returns its bytes.
    fn blob(&mut self, repository: &RepositoryName, digest: &Digest) -> Option<&Bytes> {
        *self.repositories.get_mut(repository)?.blobs.get_mut(digest)? = Instant::now();
        self.blobs.get(digest)
    }

    fn drop_unlinked(&mut self, report: &mut GcReport) {
        let Self { blobs, repositories, .. } = self;
        blobs.retain(|digest, bytes| {
            let linked = repositories.values().any(|found| found.blobs.contains_key(digest));
            if !linked {
                report.blobs += 1;
                report.bytes += bytes.len() as u64;
            }
            linked
        });
    }

    fn collect(&mut self, policy: &GcPolicy) -> GcReport {
        let mut report = GcReport::default();
        let old = |used: Instant, time: Duration| used.elapsed() >= time;
        for (name, found) in &mut self.repositories {
            let before = found.manifests.len();
            for eviction in policy.evictions.iter().filter(|eviction| eviction.covers(name.as_str())) {
                found.manifests.retain(|_, kept| !old(kept.used, eviction.unused));
            }
            if policy.untagged {
                found.drop_untagged(|used| old(used, policy.grace));
            }
            let Repository { blobs, manifests, tags } = found;
            tags.retain(|_, digest| manifests.contains_key(digest));
            report.manifests += (before - manifests.len()) as u64;
            let before = blobs.len();
            let named = |digest: &Digest| manifests.values().any(|kept| kept.manifest.blobs.contains(digest));
            blobs.retain(|digest, used| !old(*used, policy.grace) || named(digest));
            report.unlinked += (before - blobs.len()) as u64;
        }
        self.drop_unlinked(&mut report);
        self.repositories.retain(|_, found| !(found.blobs.is_empty() && found.manifests.is_empty()));
        report
    }
}

impl Repository {
    fn manifest_bytes(&self) -> u64 {
        self.manifests.values().map(|kept| kept.manifest.descriptor.size).sum()
    }

    /// Drops manifests that neither a tag nor a young one leads to.
    fn drop_untagged(&mut self, old: impl Fn(Instant) -> bool) {
        let young = self.manifests.iter().filter(|(_, kept)| !old(kept.used)).map(|(digest, _)| digest);
        let mut wanted: Vec<Digest> = young.chain(self.tags.values()).cloned().collect();
        let mut reached = BTreeSet::new();
        while let Some(digest) = wanted.pop() {
            let Some(kept) = self.manifests.get(&digest) else { continue };
            if !reached.insert(digest.clone()) {
                continue;
            }
            wanted.extend(kept.manifest.manifests.iter().cloned());
            let about = |kept: &&Kept| kept.manifest.referrer.as_ref().is_some_and(|(of, _)| *of == digest);
            let referrers = self.manifests.values().filter(about);
            wanted.extend(referrers.map(|kept| kept.manifest.descriptor.digest.clone()));
        }
        self.manifests.retain(|digest, _| reached.contains(digest));
    }
}

fn busy(id: &UploadId) -> Error {
    Error::new(ErrorKind::Unavailable, "append to upload")
        .with("upload", id)
        .with_message("it is being written to")
}

/// Takes a page out of what comes in order.
fn page<T>(entries: impl Iterator<Item = T>, limit: usize) -> Page<T> {
    let mut entries: Vec<T> = entries.take(limit.saturating_add(1)).collect();
    let more = entries.len() > limit && limit > 0;
    entries.truncate(limit);
    Page { entries, more }
}

fn after<T: ?Sized>(last: Option<&T>) -> (Bound<&T>, Bound<&T>) {
    (last.map_or(Bound::Unbounded, Bound::Excluded), Bound::Unbounded)
}

fn no_blob(repository: &RepositoryName, digest: &Digest) -> Error {
    Error::new(ErrorKind::NotFound, "read blob").with("blob", digest).with("repository", repository)
}

#[async_trait]
impl Storage for MemoryStorage {
    async fn blob_size(&self, repository: &RepositoryName, digest: &Digest) -> Result<Option<u64>> {
        Ok(self.state().blob(repository, digest).map(|bytes| bytes.len() as u64))
    }

    async fn read_blob(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
        range: Range<u64>,
    ) -> Result<ByteStream> {
        let mut state = self.state();
        let bytes = state.blob(repository, digest).ok_or_else(|| no_blob(repository, digest))?;
        let place = |at: u64| usize::try_from(at).unwrap_or(usize::MAX).min(bytes.len());
        let part = bytes.slice(place(range.start)..place(range.end));
        Ok(Box::pin(stream::iter([Ok(part)])))
    }

    async fn open_blob(&self, repository: &RepositoryName, digest: &Digest) -> Result<Option<File>> {
        self.state().blob(repository, digest).map(|_| None).ok_or_else(|| no_blob(repository, digest))
    }

    async fn mount_blob(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
        from: Option<&RepositoryName>,
        quota: &Quota,
    ) -> Result<bool> {
        let mut state = self.state();
        let has = |found: &Repository| found.blobs.contains_key(digest);
        let there = match from {
            Some(from) => state.repositories.get(from).is_some_and(has),
            None => state.repositories.values().any(has),
        };
        if there {
            state.link(repository, digest, None, quota)?;
        }
        Ok(there)
    }

    async fn delete_blob(&self, repository: &RepositoryName, digest: &Digest) -> Result<bool> {
        let mut state = self.state();
        let there =
            state.repositories.get_mut(repository).is_some_and(|found| found.blobs.remove(digest).is_some());
        if !state.repositories.values().any(|found| found.blobs.contains_key(digest)) {
            state.blobs.remove(digest);
        }
        Ok(there)
    }

    async fn begin_upload(&self, repository: &RepositoryName) -> Result<UploadId> {
        let id = UploadId::random();
        let (repository, touched) = (repository.clone(), Instant::now());
        let upload = Upload { repository, bytes: BytesMut::new(), touched, busy: false };
        self.state().uploads.insert(id.clone(), upload);
        Ok(id)
    }

    async fn upload_size(&self, repository: &RepositoryName, upload: &UploadId) -> Result<Option<u64>> {
        Ok(self.with_upload(repository, upload, |upload| Ok(upload.bytes.len() as u64)).ok())
    }

    async fn append(
        &self,
        repository: &RepositoryName,
        id: &UploadId,
        offset: Option<u64>,
        body: &mut Incoming<'_>,
    ) -> Result<u64> {
        self.with_upload(repository, id, |upload| {
            let size = upload.bytes.len() as u64;
            if upload.busy {
                return Err(busy(id));
            }
            if offset.is_some_and(|offset| offset != size) {
                return Err(Error::new(ErrorKind::Conflict, "append to upload")
                    .with("upload", id)
                    .with_message(format!("it has {size} bytes")));
            }
            upload.busy = true;
            Ok(())
        })?;
        let _turn = Turn(self, id);
        while let Some(piece) = body.next().await {
            let piece = piece?;
            self.with_upload(repository, id, |upload| {
                upload.bytes.extend_from_slice(&piece);
                upload.touched = Instant::now();
                Ok(())
            })?;
        }
        self.with_upload(repository, id, |upload| Ok(upload.bytes.len() as u64))
    }

    async fn commit_upload(
        &self,
        repository: &RepositoryName,
        id: &UploadId,
        digest: &Digest,
        quota: &Quota,
    ) -> Result<()> {
        self.with_upload(repository, id, |upload| if upload.busy { Err(busy(id)) } else { Ok(()) })?;
        let mut state = self.state();
        let Some(upload) = state.uploads.remove(id) else {
            return Err(Error::new(ErrorKind::NotFound, "find upload").with("upload", id));
        };
        let bytes = upload.bytes.freeze();
        let actual = digest.rehash(&bytes);
        if actual != *digest {
            return Err(Error::new(ErrorKind::Corrupt, "store blob")
                .with("blob", digest)
                .with_message(format!("the bytes have the digest {actual}")));
        }
        state.link(repository, digest, Some(bytes), quota)
    }

    async fn cancel_upload(&self, repository: &RepositoryName, id: &UploadId) -> Result<bool> {
        let mut state = self.state();
        let there = state.uploads.get(id).is_some_and(|upload| upload.repository == *repository);
        Ok(there && state.uploads.remove(id).is_some())
    }

    async fn sweep_uploads(&self, idle: Duration) -> Result<u64> {
        let uploads = &mut self.state().uploads;
        let before = uploads.len();
        uploads.retain(|_, upload| upload.busy || upload.touched.elapsed() < idle);
        Ok((before - uploads.len()) as u64)
    }

    async fn resolve(&self, repository: &RepositoryName, target: &Target) -> Result<Option<Descriptor>> {
        Ok(self.state().manifest(repository, target).map(|found| found.descriptor.clone()))
    }

    async fn manifest(
        &self,
        repository: &RepositoryName,
        target: &Target,
    ) -> Result<Option<(Descriptor, Bytes)>> {
        let mut state = self.state();
        Ok(state.manifest(repository, target).map(|found| (found.descriptor.clone(), found.bytes.clone())))
    }

    async fn put_manifest(
        &self,
        repository: &RepositoryName,
        manifest: &NewManifest,
        tag: Option<&Tag>,
        quota: &Quota,
    ) -> Result<PutManifest> {
        let mut state = self.state();
        let known = state.repositories.get(repository);
        let lacks_blob = |digest: &&Digest| known.is_none_or(|found| !found.blobs.contains_key(*digest));
        let lacks_manifest =
            |digest: &&Digest| known.is_none_or(|found| !found.manifests.contains_key(*digest));
        let missing: Vec<Digest> = manifest
            .blobs
            .iter()
            .filter(lacks_blob)
            .chain(manifest.manifests.iter().filter(lacks_manifest))
            .cloned()
            .collect();
        if !missing.is_empty() && !manifest.lazy {
            return Ok(PutManifest::Missing(missing));
        }
        let digest = manifest.descriptor.digest.clone();
        if known.is_none_or(|found| !found.manifests.contains_key(&digest)) {
            let size = manifest.descriptor.size;
            state.check(quota, repository, size, size)?;
        }
        let found = state.repositories.entry(repository.clone()).or_default();
        let used = Instant::now();
        found.manifests.insert(digest.clone(), Kept { manifest: manifest.clone(), used });
        if let Some(tag) = tag
            && let Some(old) = found.tags.insert(tag.as_str().to_owned(), digest)
            && let Some(old) = found.manifests.get_mut(&old)
        {
            old.used = used;
        }
        Ok(PutManifest::Stored)
    }

    async fn delete_manifest(&self, repository: &RepositoryName, digest: &Digest) -> Result<bool> {
        let mut state = self.state();
        let Some(found) = state.repositories.get_mut(repository) else { return Ok(false) };
        found.tags.retain(|_, target| target != digest);
        Ok(found.manifests.remove(digest).is_some())
    }

    async fn delete_tag(&self, repository: &RepositoryName, tag: &Tag) -> Result<bool> {
        let mut state = self.state();
        let Some(found) = state.repositories.get_mut(repository) else { return Ok(false) };
        let Some(digest) = found.tags.remove(tag.as_str()) else { return Ok(false) };
        if let Some(kept) = found.manifests.get_mut(&digest) {
            kept.used = Instant::now();
        }
        Ok(true)
    }

    async fn tags(&self, repository: &RepositoryName, wanted: &PageRequest) -> Result<Option<Page<Tag>>> {
        let state = self.state();
        let Some(found) = state.repositories.get(repository) else { return Ok(None) };
        let names = found.tags.range::<str, _>(after(wanted.after.as_deref())).map(|(name, _)| name);
        let found = page(names, wanted.limit);
        let entries = found.entries.into_iter().map(|name| name.parse()).collect::<Result<_>>()?;
        Ok(Some(Page { entries, more: found.more }))
    }

    async fn referrers(
        &self,
        repository: &RepositoryName,
        subject: &Digest,
        artifact_type: Option<&str>,
        wanted: &PageRequest,
    ) -> Result<Page<Descriptor>> {
        let state = self.state();
        let manifests =
            state.repositories.get(repository).into_iter().flat_map(|found| found.manifests.values());
        let entries = manifests.filter_map(|kept| {
            let (about, entry) = kept.manifest.referrer.as_ref()?;
            let typed = artifact_type.is_none() || entry.artifact_type.as_deref() == artifact_type;
            let later = wanted.after.as_ref().is_none_or(|last| entry.digest.to_string() > *last);
            (about == subject && typed && later).then(|| entry.clone())
        });
        Ok(page(entries, wanted.limit))
    }

    async fn repositories(&self, wanted: &PageRequest) -> Result<Page<RepositoryName>> {
        let state = self.state();
        let later = |name: &&RepositoryName| wanted.after.as_deref().is_none_or(|last| name.as_str() > last);
        Ok(page(state.repositories.keys().filter(later).cloned(), wanted.limit))
    }

    async fn usage(&self, repository: Option<&RepositoryName>) -> Result<Usage> {
        let state = self.state();
        let Some(name) = repository else {
            return Ok(Usage {
                bytes: state.bytes(),
                blobs: state.blobs.len() as u64,
                manifests: state.repositories.values().map(|found| found.manifests.len() as u64).sum(),
                repositories: state.repositories.len() as u64,
            });
        };
        let Some(found) = state.repositories.get(name) else { return Ok(Usage::default()) };
        Ok(Usage {
            bytes: state.bytes_of(found),
            blobs: found.blobs.len() as u64,
            manifests: found.manifests.len() as u64,
            repositories: 0,
        })
    }

    async fn collect(&self, policy: &GcPolicy) -> Result<GcReport> {
        let mut state = self.state();
        match policy.dry_run {
            // Blobs are counted references, so a copy is small.
            true => Ok(state.clone().collect(policy)),
            false => Ok(state.collect(policy)),
        }
    }
}
