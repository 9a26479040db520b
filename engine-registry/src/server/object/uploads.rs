//! Uploads under way: what each has is in one object, its bytes are parts of the blob's object already.
//!
//! Owns parts, tails and who may write. Bytes go to the service in parts of one size, so that a commit copies nothing; what is
//! left over is kept as an object, the *tail*, which is the blob itself where there are no parts. Whoever changes an upload
//! holds a *lease* in its state, which others see, and which ends by itself where a program died. A lease that was lost, to
//! another clock or a long pause, is noticed by the next change, since it is a compare-and-swap: so an upload's state never
//! mixes two writers.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use engine_core::digest::{Digest, DigestHasher};
use engine_core::error::{Error, ErrorKind, Result};
use futures_util::TryStreamExt as _;
use object_store::UpdateVersion;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::bucket::{Bucket, Read};
use super::state::{VERSION, before, now};
use crate::server::names::{RepositoryName, UploadId};

pub(super) const DIRECTORY: &str = "uploads";
/// How long a lease lasts after it was renewed.
const LEASE: Duration = Duration::from_secs(30);
/// How often it is renewed.
pub(super) const RENEW: Duration = Duration::from_secs(10);
/// Uploads whose hash, and version, is remembered.
const MAX_REMEMBERED: usize = 4096;
const TRIES: u32 = 5;

/// An upload, as it is stored.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(super) struct Upload {
    version: u32,
    repository: String,
    /// All bytes: those of the parts and of the tail.
    pub(super) size: u64,
    /// What the service calls the parts together, and each.
    pub(super) multipart: Option<String>,
    pub(super) parts: Vec<String>,
    pub(super) tail: Option<Tail>,
    /// The digest of all bytes, where it is known.
    pub(super) digest: Option<Digest>,
    /// When bytes came, or it began.
    pub(super) touched: u64,
    /// Whether it is being made a blob: its objects may be that blob's already.
    pub(super) committing: bool,
    lease: Option<Lease>,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
pub(super) struct Tail {
    pub(super) key: String,
    pub(super) size: u64,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
struct Lease {
    owner: String,
    until: u64,
}

impl Upload {
    fn is_leased(&self) -> bool {
        self.lease.as_ref().is_some_and(|lease| lease.until > now())
    }
}

/// What is remembered of an upload. The version may be an old one, which a swap tells.
#[derive(Debug)]
struct Remembered {
    upload: Upload,
    version: UpdateVersion,
    hash: Option<DigestHasher>,
}

#[derive(Debug)]
pub(super) struct Uploads {
    pub(super) bucket: Arc<Bucket>,
    remembered: Mutex<HashMap<UploadId, Remembered>>,
    /// What was given up, and is being stored still.
    settling: Mutex<HashMap<UploadId, watch::Receiver<()>>>,
}

/// Marks an upload as being stored until it is dropped.
#[derive(Debug)]
pub(super) struct Settling {
    uploads: Arc<Uploads>,
    id: UploadId,
    _done: watch::Sender<()>,
}

impl Drop for Settling {
    fn drop(&mut self) {
        self.uploads.settling().remove(&self.id);
    }
}

/// An upload that nobody else changes.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) uploads: Arc<Uploads>,
    pub(super) id: UploadId,
    pub(super) upload: Upload,
    /// The hash of all bytes, unless another program wrote some of them.
    pub(super) hash: Option<DigestHasher>,
    version: UpdateVersion,
    owner: String,
}

/// What an upload is held for.
#[derive(Clone, Copy, Eq, PartialEq)]
pub(super) enum For {
    Append,
    Commit,
    /// To end it, if nobody has it.
    Sweep,
    /// To end it, whoever appends to it.
    Cancel,
}

fn key(id: &UploadId) -> String {
    format!("{DIRECTORY}/{id}")
}

/// The key of the blob's object. Those of tails begin with it.
pub(super) fn blob_key(id: &UploadId) -> String {
    format!("{}/{id}", super::BLOBS)
}

fn absent(id: &UploadId) -> Error {
    Error::new(ErrorKind::NotFound, "find upload").with("upload", id)
}

fn busy(id: &UploadId) -> Error {
    Error::new(ErrorKind::Unavailable, "open upload")
        .with("upload", id)
        .with_message("it is being written to")
}

impl Uploads {
    pub(super) fn new(bucket: Arc<Bucket>) -> Self {
        Self { bucket, remembered: Mutex::default(), settling: Mutex::default() }
    }

    fn settling(&self) -> MutexGuard<'_, HashMap<UploadId, watch::Receiver<()>>> {
        self.settling.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that what nobody waits for any more is being stored.
    pub(super) fn settle(self: &Arc<Self>, id: &UploadId) -> Settling {
        let (done, settled) = watch::channel(());
        self.settling().insert(id.clone(), settled);
        Settling { uploads: Arc::clone(self), id: id.clone(), _done: done }
    }

    /// Waits for what this program is storing: whoever asks for the size is about to go on from there.
    async fn settled(&self, id: &UploadId) {
        let settling = self.settling().get(id).cloned();
        if let Some(mut settling) = settling {
            // It changes by its end only.
            let _ = settling.changed().await;
        }
    }

    fn remembered(&self) -> MutexGuard<'_, HashMap<UploadId, Remembered>> {
        self.remembered.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn remember(&self, id: &UploadId, upload: Upload, version: UpdateVersion, hash: Option<DigestHasher>) {
        let mut all = self.remembered();
        // Some are of uploads that were given up, or that others ended.
        if all.len() >= MAX_REMEMBERED
            && let Some(other) = all.keys().next().cloned()
        {
            all.remove(&other);
        }
        all.insert(id.clone(), Remembered { upload, version, hash });
    }

    pub(super) async fn begin(&self, repository: &RepositoryName) -> Result<UploadId> {
        let id = UploadId::random();
        let upload = Upload {
            version: VERSION,
            repository: repository.to_string(),
            size: 0,
            multipart: None,
            parts: Vec::new(),
            tail: None,
            digest: None,
            touched: now(),
            committing: false,
            lease: None,
        };
        let stored = self.bucket.swap("begin upload", &key(&id), encoded(&upload)?, None).await?;
        let version = stored.ok_or_else(|| {
            Error::new(ErrorKind::Conflict, "begin upload")
                .with("upload", &id)
                .with_message("there is one of this name")
        })?;
        self.remember(&id, upload, version, None);
        Ok(id)
    }

    /// Reads an upload, whosever it is.
    async fn read(&self, id: &UploadId) -> Result<Option<(Upload, UpdateVersion)>> {
        match self.bucket.read("read upload", &key(id), None).await? {
            Read::Absent | Read::Same => Ok(None),
            Read::Found(bytes, version) => {
                let upload: Upload = serde_json::from_slice(&bytes).map_err(|error| {
                    Error::new(ErrorKind::Corrupt, "read upload").with("upload", id).with_source(error)
                })?;
                Ok(Some((upload, version)))
            }
        }
    }

    pub(super) async fn size(&self, repository: &RepositoryName, id: &UploadId) -> Result<Option<u64>> {
        self.settled(id).await;
        let found = self.read(id).await?.filter(|(upload, _)| upload.repository == repository.as_str());
        Ok(found.map(|(upload, _)| upload.size))
    }

    /// Takes an upload's lease.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if there is no such upload in the repository, [`ErrorKind::Unavailable`] if somebody else has it.
    pub(super) async fn hold(
        self: &Arc<Self>,
        repository: Option<&RepositoryName>,
        id: &UploadId,
        purpose: For,
    ) -> Result<Held> {
        self.settled(id).await;
        let owner = UploadId::random().to_string();
        let mut remembered = self.remembered().remove(id);
        for attempt in 0..TRIES {
            let (mut upload, version, hash) = match remembered.take() {
                Some(known) => (known.upload, known.version, known.hash),
                None => {
                    let (upload, version) = self.read(id).await?.ok_or_else(|| absent(id))?;
                    (upload, version, None)
                }
            };
            if repository.is_some_and(|repository| upload.repository != repository.as_str()) {
                return Err(absent(id));
            }
            if upload.is_leased() && (purpose != For::Cancel || upload.committing) {
                return Err(busy(id));
            }
            if purpose == For::Append && upload.committing {
                return Err(Error::new(ErrorKind::Conflict, "open upload")
                    .with("upload", id)
                    .with_message("it is being made a blob"));
            }
            upload.committing |= purpose == For::Commit;
            upload.lease = Some(Lease { owner: owner.clone(), until: now() + LEASE.as_secs() });
            let swapped =
                self.bucket.swap("open upload", &key(id), encoded(&upload)?, Some(&version)).await?;
            if let Some(version) = swapped {
                let (uploads, id) = (Arc::clone(self), id.clone());
                return Ok(Held { uploads, id, upload, hash, version, owner });
            }
            super::pause(attempt).await;
        }
        Err(busy(id))
    }

    /// Returns which uploads there are, and which of them got nothing for so long, as far as a list tells.
    pub(super) async fn list(&self, idle: Duration) -> Result<Vec<(UploadId, bool)>> {
        let mut found = self.bucket.list("list uploads", DIRECTORY, None);
        let (mut uploads, old) = (Vec::new(), before(idle));
        while let Some(listed) = found.try_next().await? {
            let id = listed.key.strip_prefix(DIRECTORY).and_then(|rest| rest.strip_prefix('/')?.parse().ok());
            uploads.extend(id.map(|id| (id, listed.modified <= old)));
        }
        Ok(uploads)
    }

    /// Ends an upload without a blob.
    pub(super) async fn end(
        self: &Arc<Self>,
        repository: Option<&RepositoryName>,
        id: &UploadId,
        idle: Option<Duration>,
    ) -> Result<bool> {
        let purpose = if idle.is_some() { For::Sweep } else { For::Cancel };
        if let Some(idle) = idle {
            let found = self.read(id).await?;
            let is_idle = |upload: &Upload| !upload.is_leased() && upload.touched <= before(idle);
            if !found.is_some_and(|(upload, _)| is_idle(&upload)) {
                return Ok(false);
            }
        }
        match self.hold(repository, id, purpose).await {
            Ok(held) => held.end().await.map(|()| true),
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Unavailable) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

fn encoded(upload: &Upload) -> Result<Bytes> {
    serde_json::to_vec(upload)
        .map(Bytes::from)
        .map_err(|error| Error::new(ErrorKind::Other, "store upload").with_source(error))
}

impl Held {
    /// Stores the upload's state, and renews the lease, or gives it up.
    pub(super) async fn store(&mut self, keep: bool) -> Result<()> {
        let until = now() + LEASE.as_secs();
        self.upload.lease = keep.then(|| Lease { owner: self.owner.clone(), until });
        let (bucket, key) = (&self.uploads.bucket, key(&self.id));
        for _ in 0..TRIES {
            let bytes = encoded(&self.upload)?;
            if let Some(version) = bucket.swap("store upload", &key, bytes, Some(&self.version)).await? {
                self.version = version;
                return Ok(());
            }
            // It may have been ourselves, without getting the answer.
            let (found, version) = self.uploads.read(&self.id).await?.ok_or_else(|| absent(&self.id))?;
            if found.lease.is_none_or(|lease| lease.owner != self.owner) {
                break;
            }
            self.version = version;
        }
        Err(busy(&self.id))
    }

    /// Gives the upload to whoever comes next.
    pub(super) async fn release(mut self) -> Result<()> {
        self.store(false).await?;
        let Self { uploads, id, upload, hash, version, .. } = self;
        uploads.remember(&id, upload, version, hash);
        Ok(())
    }

    /// Removes the upload. Its objects go, too, unless they may be a blob's; a collection finds those that are not.
    pub(super) async fn end(self) -> Result<()> {
        let (bucket, operation) = (&self.uploads.bucket, "end upload");
        if let Some(multipart) = &self.upload.multipart {
            bucket.drop_parts(operation, &blob_key(&self.id), multipart).await?;
        }
        if let Some(tail) = self.upload.tail.as_ref().filter(|_| !self.upload.committing) {
            bucket.delete(operation, &tail.key).await?;
        }
        bucket.delete(operation, &key(&self.id)).await
    }

    /// Removes the upload, whose objects are a blob's now, or gone.
    pub(super) async fn forget(self) -> Result<()> {
        self.uploads.bucket.delete("end upload", &key(&self.id)).await
    }
}
