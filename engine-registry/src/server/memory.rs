//! A registry's content in memory, for tests and for what needs to last no longer than the program.

use std::collections::{BTreeMap, BTreeSet, HashMap};
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

use super::names::{RepositoryName, Tag, Target, UploadId};
use super::storage::{Incoming, NewManifest, Page, PageRequest, PutManifest, Storage};

/// Content in memory. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct MemoryStorage(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    blobs: HashMap<Digest, Bytes>,
    repositories: BTreeMap<RepositoryName, Repository>,
    uploads: HashMap<UploadId, Upload>,
}

#[derive(Debug, Default)]
struct Repository {
    blobs: BTreeSet<Digest>,
    manifests: BTreeMap<Digest, NewManifest>,
    tags: BTreeMap<String, Digest>,
}

#[derive(Debug)]
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
    fn manifest(&self, repository: &RepositoryName, target: &Target) -> Option<&NewManifest> {
        let repository = self.repositories.get(repository)?;
        let digest = match target {
            Target::Digest(digest) => digest,
            Target::Tag(tag) => repository.tags.get(tag.as_str())?,
        };
        repository.manifests.get(digest)
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

#[async_trait]
impl Storage for MemoryStorage {
    async fn blob_size(&self, repository: &RepositoryName, digest: &Digest) -> Result<Option<u64>> {
        let state = self.state();
        let linked = state.repositories.get(repository).is_some_and(|found| found.blobs.contains(digest));
        Ok(state.blobs.get(digest).filter(|_| linked).map(|bytes| bytes.len() as u64))
    }

    async fn read_blob(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
        range: Range<u64>,
    ) -> Result<ByteStream> {
        let state = self.state();
        let linked = state.repositories.get(repository).is_some_and(|found| found.blobs.contains(digest));
        let bytes = state.blobs.get(digest).filter(|_| linked).ok_or_else(|| {
            Error::new(ErrorKind::NotFound, "read blob").with("blob", digest).with("repository", repository)
        })?;
        let place = |at: u64| usize::try_from(at).unwrap_or(usize::MAX).min(bytes.len());
        let part = bytes.slice(place(range.start)..place(range.end));
        Ok(Box::pin(stream::iter([Ok(part)])))
    }

    async fn mount_blob(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
        from: Option<&RepositoryName>,
    ) -> Result<bool> {
        let mut state = self.state();
        let has = |found: &Repository| found.blobs.contains(digest);
        let there = match from {
            Some(from) => state.repositories.get(from).is_some_and(has),
            None => state.repositories.values().any(has),
        };
        if there {
            state.repositories.entry(repository.clone()).or_default().blobs.insert(digest.clone());
        }
        Ok(there)
    }

    async fn delete_blob(&self, repository: &RepositoryName, digest: &Digest) -> Result<bool> {
        let mut state = self.state();
        let there = state.repositories.get_mut(repository).is_some_and(|found| found.blobs.remove(digest));
        if !state.repositories.values().any(|found| found.blobs.contains(digest)) {
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

    async fn commit_upload(&self, repository: &RepositoryName, id: &UploadId, digest: &Digest) -> Result<()> {
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
        state.blobs.entry(digest.clone()).or_insert(bytes);
        state.repositories.entry(repository.clone()).or_default().blobs.insert(digest.clone());
        Ok(())
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
        let state = self.state();
        Ok(state.manifest(repository, target).map(|found| (found.descriptor.clone(), found.bytes.clone())))
    }

    async fn put_manifest(
        &self,
        repository: &RepositoryName,
        manifest: &NewManifest,
        tag: Option<&Tag>,
    ) -> Result<PutManifest> {
        let mut state = self.state();
        let known = state.repositories.get(repository);
        let lacks_blob = |digest: &&Digest| known.is_none_or(|found| !found.blobs.contains(*digest));
        let lacks_manifest =
            |digest: &&Digest| known.is_none_or(|found| !found.manifests.contains_key(*digest));
        let missing: Vec<Digest> = manifest
            .blobs
            .iter()
            .filter(lacks_blob)
            .chain(manifest.manifests.iter().filter(lacks_manifest))
            .cloned()
            .collect();
        if !missing.is_empty() {
            return Ok(PutManifest::Missing(missing));
        }
        let found = state.repositories.entry(repository.clone()).or_default();
        let digest = manifest.descriptor.digest.clone();
        found.manifests.insert(digest.clone(), manifest.clone());
        if let Some(tag) = tag {
            found.tags.insert(tag.as_str().to_owned(), digest);
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
        Ok(found.tags.remove(tag.as_str()).is_some())
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
        let entries = manifests.filter_map(|manifest| {
            let (about, entry) = manifest.referrer.as_ref()?;
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
}
