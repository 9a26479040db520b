//! The [`Storage`] contract: where a registry keeps its content.
//!
//! Owns the types that travel between the server's requests and an implementation. What a request may do, and which manifest
//! is acceptable, is decided before a storage is asked.

use std::fmt;
use std::fs::File;
use std::ops::Range;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use engine_core::descriptor::Descriptor;
use engine_core::digest::Digest;
use engine_core::error::Result;
use engine_core::io::ByteStream;
use futures_core::Stream;

use super::garbage::{GcPolicy, GcReport};
use super::names::{RepositoryName, Tag, Target, UploadId};
use super::quota::{Quota, Usage};

/// The bytes of a request, as they arrive.
pub type Incoming<'a> = dyn Stream<Item = Result<Bytes>> + Send + Unpin + 'a;

/// Keeps the content of a registry: blobs, manifests, tags, and uploads that are under way.
///
/// # Contract
/// - Content belongs to a repository. A blob that another repository has is not there until it is uploaded or mounted, and
///   is gone from one repository when it was deleted there, whatever others have (SECURITY D5).
/// - A method that returned `Ok` is done: what it stored survives the death of every program and a power loss; what it
///   deleted is not seen again. Uploads need to survive the death of a program only.
/// - Each method is atomic: another call, also through another instance over the same place, sees all of it or nothing.
///   When it fails, or its future is dropped, it has happened or not; the exception is [`append`](Self::append), of
///   which a part may stay.
/// - Nothing is held in memory whole but manifests, whatever the size of a blob.
/// - Calls may run at the same time.
/// - [`ResourceExhausted`](engine_core::ErrorKind::ResourceExhausted) says that there is no space left.
/// - What takes a [`Quota`] adds nothing that would exceed it, however many add at the same time, and says
///   [`Conflict`](engine_core::ErrorKind::Conflict). What is there already may always be added again.
/// - Content has a time of its last use: when it was pushed or mounted, and, within ten minutes, when
///   [`blob_size`](Self::blob_size), [`resolve`](Self::resolve) or [`manifest`](Self::manifest) last found it. Clients
///   send nothing of which they heard that it is there.
///
/// # Implementing
/// Check your type with [`testing`](super::testing) (feature `testing`). A wrapper forwards every method and carries
/// `#[deny(clippy::missing_trait_methods)]`.
#[async_trait]
pub trait Storage: fmt::Debug + Send + Sync + 'static {
    /// Returns the size of a blob, or `None` if the repository does not have it.
    async fn blob_size(&self, repository: &RepositoryName, digest: &Digest) -> Result<Option<u64>>;

    /// Streams a part of a blob. The range lies within its size. A blob that is deleted meanwhile is streamed to its end.
    ///
    /// # Errors
    /// [`NotFound`](engine_core::ErrorKind::NotFound) if the repository does not have the blob.
    async fn read_blob(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
        range: Range<u64>,
    ) -> Result<ByteStream>;

    /// Opens the file that has a blob's bytes and nothing else, if the storage keeps blobs in such files: the kernel can send it
    /// without anybody reading it. Nobody writes to it, and who has it open has it to its end, also when the blob is deleted.
    ///
    /// # Errors
    /// [`NotFound`](engine_core::ErrorKind::NotFound) if the repository does not have the blob.
    async fn open_blob(&self, repository: &RepositoryName, digest: &Digest) -> Result<Option<File>>;

    /// Gives `repository` a blob that `from` has, or without `from` any repository. Returns whether it has it now.
    async fn mount_blob(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
        from: Option<&RepositoryName>,
        quota: &Quota,
    ) -> Result<bool>;

    /// Takes a blob from a repository. Returns whether it had it.
    async fn delete_blob(&self, repository: &RepositoryName, digest: &Digest) -> Result<bool>;

    /// Begins an upload into a repository.
    async fn begin_upload(&self, repository: &RepositoryName) -> Result<UploadId>;

    /// Returns how many bytes an upload has, or `None` if there is no such upload in this repository.
    async fn upload_size(&self, repository: &RepositoryName, upload: &UploadId) -> Result<Option<u64>>;

    /// Appends bytes to an upload and returns how many it has then. With `offset`, it must have as many before.
    ///
    /// When `body` fails, or the future is dropped, what arrived until then may stay: [`upload_size`](Self::upload_size)
    /// tells.
    ///
    /// # Errors
    /// [`NotFound`](engine_core::ErrorKind::NotFound) if there is no such upload,
    /// [`Conflict`](engine_core::ErrorKind::Conflict) if it does not have `offset` bytes,
    /// [`Unavailable`](engine_core::ErrorKind::Unavailable) if somebody else is appending to it; what `body` fails with.
    async fn append(
        &self,
        repository: &RepositoryName,
        upload: &UploadId,
        offset: Option<u64>,
        body: &mut Incoming<'_>,
    ) -> Result<u64>;

    /// Makes a blob of an upload, which ends with that, also when the bytes are not those of `digest` or too many.
    ///
    /// # Errors
    /// [`NotFound`](engine_core::ErrorKind::NotFound) if there is no such upload,
    /// [`Corrupt`](engine_core::ErrorKind::Corrupt) if its bytes have another digest,
    /// [`Unavailable`](engine_core::ErrorKind::Unavailable) if somebody is appending to it.
    async fn commit_upload(
        &self,
        repository: &RepositoryName,
        upload: &UploadId,
        digest: &Digest,
        quota: &Quota,
    ) -> Result<()>;

    /// Ends an upload without a blob. Returns whether there was one.
    async fn cancel_upload(&self, repository: &RepositoryName, upload: &UploadId) -> Result<bool>;

    /// Ends uploads that got no byte for `idle`, and removes what crashed ones left. Returns how many.
    async fn sweep_uploads(&self, idle: Duration) -> Result<u64>;

    /// Returns what a tag or digest stands for in a repository.
    async fn resolve(&self, repository: &RepositoryName, target: &Target) -> Result<Option<Descriptor>>;

    /// Returns a manifest of a repository with its bytes.
    async fn manifest(
        &self,
        repository: &RepositoryName,
        target: &Target,
    ) -> Result<Option<(Descriptor, Bytes)>>;

    /// Stores a manifest, and points `tag` at it, in one step. Storing what is there is fine.
    ///
    /// What it names must be in the repository, unless it is [lazy](NewManifest::lazy); otherwise nothing changes, and
    /// [`PutManifest::Missing`] tells what is not.
    async fn put_manifest(
        &self,
        repository: &RepositoryName,
        manifest: &NewManifest,
        tag: Option<&Tag>,
        quota: &Quota,
    ) -> Result<PutManifest>;

    /// Removes a manifest with all tags that point at it. Returns whether it was there.
    async fn delete_manifest(&self, repository: &RepositoryName, digest: &Digest) -> Result<bool>;

    /// Removes a tag; its manifest stays. Returns whether it was there.
    async fn delete_tag(&self, repository: &RepositoryName, tag: &Tag) -> Result<bool>;

    /// Lists tags in the order of their bytes, or returns `None` if there is no such repository.
    async fn tags(&self, repository: &RepositoryName, page: &PageRequest) -> Result<Option<Page<Tag>>>;

    /// Lists the manifests of a repository whose subject is `subject` in the order of their digests, with `artifact_type`
    /// only those of that type. A page may end before its limit when it has some MiB.
    async fn referrers(
        &self,
        repository: &RepositoryName,
        subject: &Digest,
        artifact_type: Option<&str>,
        page: &PageRequest,
    ) -> Result<Page<Descriptor>>;

    /// Lists repositories in the order of their bytes. One is there from its first blob or manifest on.
    async fn repositories(&self, page: &PageRequest) -> Result<Page<RepositoryName>>;

    /// Returns what a repository has, or without one the registry.
    async fn usage(&self, repository: Option<&RepositoryName>) -> Result<Usage>;

    /// Removes garbage: first manifests, as far as the policy says so, then blobs that no manifest of their repository
    /// names, then what no repository has, with what crashes left of blobs, and repositories with nothing in them.
    ///
    /// It may run at any time, beside everything else, in several programs, and takes nothing whose last use is within the
    /// grace time. It is the other method of which a part may have happened when it fails or its future is dropped; what is
    /// left is found the next time. A manifest that lost its last tag is in use from then for the grace time.
    async fn collect(&self, policy: &GcPolicy) -> Result<GcReport>;
}

/// A manifest that was checked and is to be stored.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct NewManifest {
    /// Its media type, digest and size.
    pub descriptor: Descriptor,
    /// Its bytes, as they were hashed.
    pub bytes: Bytes,
    /// The blobs it names, which must be there unless it is lazy.
    pub blobs: Vec<Digest>,
    /// The manifests it names, which must be there unless it is lazy.
    pub manifests: Vec<Digest>,
    /// What it is about, which need not be there, and how a list of referrers describes it.
    pub referrer: Option<(Digest, Descriptor)>,
    /// Whether what it names may come later, or never: as in a cache. It is kept for the manifest all the same.
    pub lazy: bool,
}

impl NewManifest {
    /// Creates a manifest that names nothing.
    #[must_use]
    pub fn new(descriptor: Descriptor, bytes: Bytes) -> Self {
        Self { descriptor, bytes, blobs: Vec::new(), manifests: Vec::new(), referrer: None, lazy: false }
    }
}

/// How storing a manifest went.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum PutManifest {
    /// It is stored.
    Stored,
    /// It is not, since the repository lacks these.
    Missing(Vec<Digest>),
}

/// Which part of a list is wanted.
#[derive(Clone, Debug)]
pub struct PageRequest {
    /// The last entry of the page before.
    pub after: Option<String>,
    /// How many entries at most.
    pub limit: usize,
}

impl PageRequest {
    /// Asks for the first `limit` entries after `after`.
    #[must_use]
    pub fn new(after: Option<&str>, limit: usize) -> Self {
        Self { after: after.map(str::to_owned), limit }
    }
}

/// A part of a list.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Page<T> {
    /// The entries, in order.
    pub entries: Vec<T>,
    /// Whether there are more.
    pub more: bool,
}
