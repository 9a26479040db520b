//! A registry's content in a bucket of an object store: S3, Google Cloud Storage, Azure, and what speaks like them.
//!
//! The bucket alone is the state, so any number of servers may share one, and a server's disk holds nothing. All that it takes
//! of a service is that it replaces an object only if nobody was faster (a compare-and-swap on its ETag).
//!
//! - What a repository has (blobs, manifests, tags, referrers) is *one* object, and each change of it one compare-and-swap. So a
//!   manifest, its tag and its entry among the referrers appear at once, for every server. A repository of 10,000 manifests has a
//!   state of some MB, which each change writes; servers ask for it by ETag and get it when it has changed.
//! - Content is in objects with random names, written before an entry names them and never changed. A blob that is mounted is
//!   one object with an entry in each repository.
//! - An entry that goes leaves its object, which a collection removes after the grace time: so whoever reads the blob does so to
//!   its end, and whoever is about to mount it finds it.
//! - Bytes of an upload go to the service in parts of 8 MiB, beneath the blob's own name; a commit copies none.
//! - No name of a client is a part of a key but a repository's, whose grammar allows no way up (SECURITY E8).
//!
//! ```text
//! PREFIX/
//!   repositories/<name>!state                       '!' sorts below all of a name: keys have the order of names
//!   blobs/<upload>, blobs/<upload>-<random>         bytes
//!   manifests/<random>
//!   digests/<algorithm>/<hex>/<name>!               hints where a blob may be mounted from; the state has the say
//!   uploads/<upload>                                how far an upload got, and who writes to it
//!   quota                                           who is about to add something, where all have a quota together
//! ```
//!
//! Times of last use are those of the servers' clocks, which should agree to a few seconds.

mod append;
mod bucket;
mod collect;
mod commit;
mod connect;
mod fault;
mod repositories;
mod state;
mod totals;
mod uploads;

use std::collections::HashMap;
use std::fs::File;
use std::ops::{Bound, Range};
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use engine_core::descriptor::Descriptor;
use engine_core::digest::Digest;
use engine_core::error::{Error, ErrorKind, Result};
use engine_core::io::ByteStream;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use object_store::ObjectStore;
use object_store::multipart::MultipartStore;
use object_store::path::Path;
use tokio::task::JoinHandle;

use self::append::Append;
use self::bucket::{Bucket, Read};
use self::repositories::{Repositories, Step};
use self::state::{Manifest, State, is_stale, now};
use self::totals::{admit, count};
use self::uploads::{For, Uploads};
use super::garbage::{GcPolicy, GcReport};
use super::names::{RepositoryName, Tag, Target, UploadId};
use super::quota::{Quota, Usage};
use super::storage::{Incoming, NewManifest, Page, PageRequest, PutManifest, Storage};

const BLOBS: &str = "blobs";
const MANIFESTS: &str = "manifests";
const HINTS: &str = "digests";
/// Bytes of a part. All but the last are equal (R2), have 5 MiB at least, and there are 10,000 at most (S3): blobs of 78 GiB.
const PART: usize = 8 << 20;
/// How long an entry may take to be made after its object was seen: far less than any grace time.
const LINK: Duration = Duration::from_secs(60);
/// Bytes of manifests that are remembered: they never change.
const MAX_REMEMBERED: usize = 16 << 20;
/// Bytes of a page of referrers, of which each may have annotations of any length. Clients read 4 MiB.
const MAX_REFERRERS: usize = 3 << 20;
/// Uploads that are ended at the same time.
const AT_ONCE: usize = 16;

/// Content in a bucket, which any number of servers may share. Clones share what they remember.
#[derive(Clone, Debug)]
pub struct ObjectStorage(Arc<Parts>);

#[derive(Debug)]
struct Parts {
    bucket: Arc<Bucket>,
    repositories: Repositories,
    uploads: Arc<Uploads>,
    manifests: Mutex<HashMap<String, Bytes>>,
}

impl ObjectStorage {
    /// Opens a place in a bucket: `s3://BUCKET/PREFIX`, `gs://BUCKET/PREFIX` or `az://CONTAINER/PREFIX`.
    ///
    /// `options` are credentials and settings, named as the services' environment variables: `AWS_ACCESS_KEY_ID`,
    /// `AWS_ENDPOINT_URL`, `GOOGLE_SERVICE_ACCOUNT`, `AZURE_STORAGE_ACCOUNT_NAME` and so on; others are ignored. So
    /// `std::env::vars()` will do. Without credentials, S3's and Google's come from the machine's own service.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidArgument`] if the URL or an option is wrong, [`ErrorKind::Unsupported`] if the service does not
    /// change objects conditionally; else what it says.
    pub async fn open(url: &str, options: impl IntoIterator<Item = (String, String)>) -> Result<Self> {
        let options: Vec<(String, String)> = options.into_iter().collect();
        let url = url.to_owned();
        // The system's authorities are read from files.
        let connecting = tokio::task::spawn_blocking(move || connect::connect(&url, &options));
        Self::checked(done(connecting).await?).await
    }

    /// Opens what is below `prefix` in a store of your own.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] if it does not change objects conditionally; else what it says.
    pub async fn over(store: impl ObjectStore + MultipartStore, prefix: &str) -> Result<Self> {
        let prefix = Path::parse(prefix).map_err(|error| {
            Error::new(ErrorKind::InvalidArgument, "open bucket").with("prefix", prefix).with_source(error)
        })?;
        let name = format!("{store}/{prefix}");
        Self::checked(Bucket::new(Arc::new(store), prefix, name)).await
    }

    async fn checked(bucket: Bucket) -> Result<Self> {
        bucket.probe().await?;
        let bucket = Arc::new(bucket);
        let repositories = Repositories::new(Arc::clone(&bucket));
        let uploads = Arc::new(Uploads::new(Arc::clone(&bucket)));
        Ok(Self(Arc::new(Parts { bucket, repositories, uploads, manifests: Mutex::default() })))
    }

    /// Returns where this is, as users call it.
    #[must_use]
    pub fn location(&self) -> &str {
        self.0.bucket.name()
    }
}

/// Waits for a task.
async fn done<T>(task: JoinHandle<Result<T>>) -> Result<T> {
    task.await.unwrap_or_else(|error| {
        Err(Error::new(ErrorKind::Other, "store content")
            .with_message("its worker stopped")
            .with_source(error))
    })
}

/// Waits a little longer with each attempt, and not as long as the others who failed at the same time.
async fn pause(attempt: u32) {
    let most = 20_u64 << attempt.min(6);
    let mut random = [0_u8; 8];
    // Without random bytes, all wait equally long.
    let _ = getrandom::fill(&mut random);
    tokio::time::sleep(Duration::from_millis(most / 4 + u64::from_le_bytes(random) % most)).await;
}

/// What notes that somebody has heard of content.
const NOTE: &str = "note use";

/// Waits for a change, but not for a bucket that does not answer.
async fn in_time<T>(
    operation: &'static str,
    repository: &RepositoryName,
    change: impl Future<Output = Result<T>>,
) -> Result<T> {
    tokio::time::timeout(LINK, change).await.unwrap_or_else(|_| Err(late(operation, repository)))
}

fn late(operation: &'static str, repository: &RepositoryName) -> Error {
    Error::new(ErrorKind::Unavailable, operation)
        .with("repository", repository)
        .with_message(format!("the bucket did not answer within {} s", LINK.as_secs()))
}

fn hints(digest: &Digest) -> String {
    format!("{HINTS}/{}/{}", digest.algorithm().as_str(), digest.hex())
}

fn hint(digest: &Digest, repository: &RepositoryName) -> String {
    format!("{}/{repository}!", hints(digest))
}

/// Takes a page out of what comes in order.
fn page<T>(entries: impl Iterator<Item = T>, limit: usize) -> Page<T> {
    let mut entries: Vec<T> = entries.take(limit.saturating_add(1)).collect();
    let more = entries.len() > limit && limit > 0;
    entries.truncate(limit);
    Page { entries, more }
}

impl Parts {
    async fn state(&self, repository: &RepositoryName) -> Result<Arc<State>> {
        Ok(self.repositories.read(repository).await?.unwrap_or_default())
    }

    /// Gives a repository a blob. Returns whether its entry names this object, and not another one that was there.
    async fn link(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
        key: &str,
        size: u64,
        quota: &Quota,
    ) -> Result<bool> {
        let operation = "link blob";
        let has = async || Ok::<_, Error>(self.state(repository).await?.blobs.contains_key(digest));
        let admission = match quota.total {
            Some(_) if !has().await? => {
                admit(&self.bucket, &self.repositories, quota, Some(digest), size).await?
            }
            _ => None,
        };
        // Before the entry, so that what has one is found.
        let linked = async {
            self.bucket.put(operation, &hint(digest, repository), Bytes::new()).await?;
            let work = |state: &mut State| state.link(digest, key, size, quota).map(Step::Changed);
            self.repositories.change(repository, operation, work).await
        };
        let linked = in_time(operation, repository, linked).await;
        if let Some(admission) = admission {
            admission.leave().await.unwrap_or_else(|error| tracing::debug!(%error, "it runs out by itself"));
        }
        linked
    }

    /// Finds the object of a blob in any repository.
    async fn anywhere(&self, digest: &Digest) -> Result<Option<(String, u64)>> {
        let directory = hints(digest);
        let mut hints = self.bucket.list("find blob", &directory, None);
        while let Some(hint) = hints.try_next().await? {
            let name =
                hint.key.strip_prefix(&directory).and_then(|rest| rest.strip_prefix('/')?.strip_suffix('!'));
            let Some(name) = name.and_then(|name| name.parse().ok()) else { continue };
            if let Some(blob) = self.state(&name).await?.blobs.get(digest) {
                return Ok(Some((blob.key.clone(), blob.size)));
            }
        }
        Ok(None)
    }

    /// Finds a manifest, and notes that somebody has heard of it.
    async fn find(
        &self,
        repository: &RepositoryName,
        target: &Target,
    ) -> Result<Option<(Descriptor, String)>> {
        let state = self.state(repository).await?;
        let Some((digest, found)) = state.find(target) else { return Ok(None) };
        if !is_stale(found.used) {
            return Ok(Some((found.descriptor(digest), found.key.clone())));
        }
        let noted = self.repositories.change(repository, NOTE, |state| {
            let Some(digest) = state.find(target).map(|(digest, _)| digest.clone()) else {
                return Ok(Step::Unchanged(None));
            };
            Ok(Step::Changed(state.manifests.get_mut(&digest).map(|found| {
                found.used = now();
                (found.descriptor(&digest), found.key.clone())
            })))
        });
        in_time(NOTE, repository, noted).await
    }

    /// Finds a manifest for somebody who is about to read it: one whose use cannot be noted is there all the same.
    async fn find_to_read(
        &self,
        repository: &RepositoryName,
        target: &Target,
    ) -> Result<Option<(Descriptor, String)>> {
        match self.find(repository, target).await {
            Err(error) if error.operation() == NOTE => {
                tracing::warn!(%repository, error = %error.report(), "the use of a manifest was not noted");
                let state = self.state(repository).await?;
                Ok(state.find(target).map(|(digest, found)| (found.descriptor(digest), found.key.clone())))
            }
            found => found,
        }
    }

    async fn manifest_bytes(&self, key: &str) -> Result<Option<Bytes>> {
        if let Some(bytes) = self.manifests.lock().unwrap_or_else(PoisonError::into_inner).get(key) {
            return Ok(Some(bytes.clone()));
        }
        let Read::Found(bytes, _) = self.bucket.read("read manifest", key, None).await? else {
            return Ok(None);
        };
        let mut remembered = self.manifests.lock().unwrap_or_else(PoisonError::into_inner);
        let size: usize = remembered.values().map(Bytes::len).sum();
        if size + bytes.len() > MAX_REMEMBERED {
            remembered.clear();
        }
        remembered.insert(key.to_owned(), bytes.clone());
        Ok(Some(bytes))
    }

    async fn put_manifest(
        &self,
        repository: &RepositoryName,
        manifest: &NewManifest,
        tag: Option<&Tag>,
        quota: &Quota,
    ) -> Result<PutManifest> {
        let (operation, digest) = ("store manifest", &manifest.descriptor.digest);
        let lacks = |state: &State| if manifest.lazy { Vec::new() } else { state.missing(manifest) };
        let state = self.state(repository).await?;
        let missing = lacks(&state);
        if !missing.is_empty() {
            return Ok(PutManifest::Missing(missing));
        }
        let key = format!("{MANIFESTS}/{}", UploadId::random());
        let (is_new, size) = (!state.manifests.contains_key(digest), manifest.descriptor.size);
        let admission = match is_new {
            true => admit(&self.bucket, &self.repositories, quota, None, size).await?,
            false => None,
        };
        let stored = async {
            // Also where there is one: it may be deleted before this one's entry is made.
            if is_new {
                self.bucket.put(operation, &key, manifest.bytes.clone()).await?;
            }
            let change = self.repositories.change(repository, operation, |state| {
                let missing = lacks(state);
                if !missing.is_empty() {
                    return Ok(Step::Unchanged((Some(PutManifest::Missing(missing)), false)));
                }
                let known = state.manifests.get(digest).map(|known| known.key.clone());
                if known.is_none() {
                    if !is_new {
                        return Ok(Step::Unchanged((None, false)));
                    }
                    Quota { total: None, ..*quota }.check(state.bytes() + size, 0)?;
                }
                let is_own = known.is_none();
                let entry = Manifest::new(manifest, known.unwrap_or_else(|| key.clone()));
                state.manifests.insert(digest.clone(), entry);
                if let Some(tag) = tag {
                    state.set_tag(tag, digest);
                }
                Ok(Step::Changed((Some(PutManifest::Stored), is_own)))
            });
            change.await
        };
        let stored = in_time(operation, repository, stored).await;
        if let Some(admission) = admission {
            admission.leave().await.unwrap_or_else(|error| tracing::debug!(%error, "it runs out by itself"));
        }
        let is_unused = match &stored {
            Ok((_, is_own)) => !is_own,
            Err(error) => error.kind() == ErrorKind::Conflict,
        };
        if is_new && is_unused {
            self.bucket.delete(operation, &key).await?;
        }
        let (put, _) = stored?;
        put.ok_or_else(|| {
            Error::new(ErrorKind::Unavailable, operation)
                .with("manifest", digest)
                .with_message("somebody deleted it meanwhile")
        })
    }
}

fn no_blob(repository: &RepositoryName, digest: &Digest) -> Error {
    Error::new(ErrorKind::NotFound, "read blob").with("blob", digest).with("repository", repository)
}

#[async_trait]
impl Storage for ObjectStorage {
    async fn blob_size(&self, repository: &RepositoryName, digest: &Digest) -> Result<Option<u64>> {
        let state = self.0.state(repository).await?;
        let Some(blob) = state.blobs.get(digest) else { return Ok(None) };
        if !is_stale(blob.used) {
            return Ok(Some(blob.size));
        }
        let noted = self.0.repositories.change(repository, NOTE, |state| {
            let Some(blob) = state.blobs.get_mut(digest) else { return Ok(Step::Unchanged(None)) };
            blob.used = now();
            Ok(Step::Changed(Some(blob.size)))
        });
        in_time(NOTE, repository, noted).await
    }

    async fn read_blob(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
        range: Range<u64>,
    ) -> Result<ByteStream> {
        let state = self.0.state(repository).await?;
        let blob = state.blobs.get(digest).ok_or_else(|| no_blob(repository, digest))?;
        self.0.bucket.stream("read blob", &blob.key, range.start..range.end.min(blob.size)).await
    }

    async fn open_blob(&self, repository: &RepositoryName, digest: &Digest) -> Result<Option<File>> {
        let state = self.0.state(repository).await?;
        state.blobs.get(digest).map(|_| None).ok_or_else(|| no_blob(repository, digest))
    }

    async fn mount_blob(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
        from: Option<&RepositoryName>,
        quota: &Quota,
    ) -> Result<bool> {
        let found = match from {
            Some(from) => {
                self.0.state(from).await?.blobs.get(digest).map(|blob| (blob.key.clone(), blob.size))
            }
            None => self.0.anywhere(digest).await?,
        };
        let Some((key, size)) = found else { return Ok(false) };
        // As a task, so that it leaves the ledger of those about to add something also when nobody waits for it any more.
        let (parts, repository, digest, quota) =
            (Arc::clone(&self.0), repository.clone(), digest.clone(), *quota);
        done(tokio::spawn(
            async move { parts.link(&repository, &digest, &key, size, &quota).await.map(|_| true) },
        ))
        .await
    }

    async fn delete_blob(&self, repository: &RepositoryName, digest: &Digest) -> Result<bool> {
        let deleted = self.0.repositories.change(repository, "delete blob", |state| {
            Ok(if state.drop_blob(digest) { Step::Changed(true) } else { Step::Unchanged(false) })
        });
        deleted.await
    }

    async fn begin_upload(&self, repository: &RepositoryName) -> Result<UploadId> {
        self.0.uploads.begin(repository).await
    }

    async fn upload_size(&self, repository: &RepositoryName, upload: &UploadId) -> Result<Option<u64>> {
        self.0.uploads.size(repository, upload).await
    }

    async fn append(
        &self,
        repository: &RepositoryName,
        upload: &UploadId,
        offset: Option<u64>,
        body: &mut Incoming<'_>,
    ) -> Result<u64> {
        let held = self.0.uploads.hold(Some(repository), upload, For::Append).await?;
        Append::run(held, offset, body).await
    }

    async fn commit_upload(
        &self,
        repository: &RepositoryName,
        upload: &UploadId,
        digest: &Digest,
        quota: &Quota,
    ) -> Result<()> {
        // As a task, so that it comes to an end and gives the lease back also when nobody waits for it any more.
        let (parts, repository, upload) = (Arc::clone(&self.0), repository.clone(), upload.clone());
        let (digest, quota) = (digest.clone(), *quota);
        done(tokio::spawn(async move { parts.commit(&repository, &upload, &digest, &quota).await })).await
    }

    async fn cancel_upload(&self, repository: &RepositoryName, upload: &UploadId) -> Result<bool> {
        self.0.uploads.end(Some(repository), upload, None).await
    }

    async fn sweep_uploads(&self, idle: Duration) -> Result<u64> {
        let uploads = &self.0.uploads;
        let found = uploads.list(idle).await?.into_iter().filter(|(_, is_old)| *is_old);
        let ended = stream::iter(found).map(async |(id, _)| uploads.end(None, &id, Some(idle)).await);
        let mut ended = pin!(ended.buffer_unordered(AT_ONCE));
        let mut count = 0;
        while let Some(was_there) = ended.try_next().await? {
            count += u64::from(was_there);
        }
        Ok(count)
    }

    async fn resolve(&self, repository: &RepositoryName, target: &Target) -> Result<Option<Descriptor>> {
        Ok(self.0.find(repository, target).await?.map(|(descriptor, _)| descriptor))
    }

    async fn manifest(
        &self,
        repository: &RepositoryName,
        target: &Target,
    ) -> Result<Option<(Descriptor, Bytes)>> {
        // Once more if its object went, since then its entry has.
        for _ in 0..2 {
            let Some((descriptor, key)) = self.0.find_to_read(repository, target).await? else {
                return Ok(None);
            };
            if let Some(bytes) = self.0.manifest_bytes(&key).await? {
                return Ok(Some((descriptor, bytes)));
            }
        }
        Err(Error::new(ErrorKind::Corrupt, "read manifest")
            .with("manifest", target)
            .with("repository", repository)
            .with_message("the bucket has lost its object"))
    }

    async fn put_manifest(
        &self,
        repository: &RepositoryName,
        manifest: &NewManifest,
        tag: Option<&Tag>,
        quota: &Quota,
    ) -> Result<PutManifest> {
        // As a task, for the same reason as a mount.
        let (parts, repository, quota) = (Arc::clone(&self.0), repository.clone(), *quota);
        let (manifest, tag) = (manifest.clone(), tag.cloned());
        done(tokio::spawn(
            async move { parts.put_manifest(&repository, &manifest, tag.as_ref(), &quota).await },
        ))
        .await
    }

    async fn delete_manifest(&self, repository: &RepositoryName, digest: &Digest) -> Result<bool> {
        let deleted = self.0.repositories.change(repository, "delete manifest", |state| {
            Ok(if state.drop_manifest(digest) { Step::Changed(true) } else { Step::Unchanged(false) })
        });
        deleted.await
    }

    async fn delete_tag(&self, repository: &RepositoryName, tag: &Tag) -> Result<bool> {
        let deleted = self.0.repositories.change(repository, "delete tag", |state| {
            Ok(if state.drop_tag(tag) { Step::Changed(true) } else { Step::Unchanged(false) })
        });
        deleted.await
    }

    async fn tags(&self, repository: &RepositoryName, wanted: &PageRequest) -> Result<Option<Page<Tag>>> {
        let Some(state) = self.0.repositories.read(repository).await? else { return Ok(None) };
        let after = wanted.after.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
        let names = state.tags.range::<str, _>((after, Bound::Unbounded)).map(|(name, _)| name);
        let found = page(names, wanted.limit);
        let entries = found.entries.into_iter().map(|name| name.parse()).collect::<Result<_>>();
        let entries = entries.map_err(|error: Error| error.with_kind(ErrorKind::Corrupt))?;
        Ok(Some(Page { entries, more: found.more }))
    }

    async fn referrers(
        &self,
        repository: &RepositoryName,
        subject: &Digest,
        artifact_type: Option<&str>,
        wanted: &PageRequest,
    ) -> Result<Page<Descriptor>> {
        let state = self.0.state(repository).await?;
        let entries = state.manifests.values().filter_map(|manifest| {
            let (about, entry) = manifest.referrer.as_ref()?;
            let typed = artifact_type.is_none() || entry.artifact_type.as_deref() == artifact_type;
            let later = wanted.after.as_ref().is_none_or(|last| entry.digest.to_string() > *last);
            (about == subject && typed && later).then(|| entry.clone())
        });
        let mut found = page(entries, wanted.limit);
        let mut size = 0;
        let fits = found.entries.iter().take_while(|entry| {
            size += serde_json::to_vec(entry).map_or(0, |bytes| bytes.len());
            size <= MAX_REFERRERS
        });
        // One is always told, so that a list comes to its end.
        let count = fits.count().max(1).min(found.entries.len());
        found.more |= count < found.entries.len();
        found.entries.truncate(count);
        Ok(found)
    }

    async fn repositories(&self, wanted: &PageRequest) -> Result<Page<RepositoryName>> {
        self.0.repositories.page(wanted).await
    }

    async fn usage(&self, repository: Option<&RepositoryName>) -> Result<Usage> {
        let Some(name) = repository else { return Ok(count(&self.0.repositories, None).await?.0) };
        let state = self.0.state(name).await?;
        Ok(Usage {
            bytes: state.bytes(),
            blobs: state.blobs.len() as u64,
            manifests: state.manifests.len() as u64,
            repositories: 0,
        })
    }

    async fn collect(&self, policy: &GcPolicy) -> Result<GcReport> {
        self.0.collect(policy).await
    }
}
