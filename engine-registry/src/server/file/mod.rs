//! A registry's content in a directory.
//!
//! Blobs are files named by their digest, uploads are files named by their id. Everything that is small and changes together (which
//! repository has what, manifests, tags, referrers) is a row of one SQLite database:
//!
//! - A manifest, its tag and its entry among the referrers appear in one commit, and so do a deletion and all that goes with
//!   it. With a file for each link, as distribution's directories have them, a crash in between leaves halves.
//! - Nothing is scanned at the start, and a page of a list costs what the page has, also with 100,000 tags.
//! - Several programs may have the directory open: SQLite's lock orders their changes.
//! - No name of a client is ever a part of a path (SECURITY E8): names are values of rows, files are called by hex digits.
//!
//! What makes a change last is the commit of its row. A blob's file is synced, brought to its place, and the directory synced
//! before that, so a row never names a file that is not whole; a crash in between leaves a file without a row, which nobody
//! sees and the next upload of the same blob takes over. A file is removed inside a transaction that finds that it has no row;
//! so whoever has seen the row, or the file, inside a transaction may rely on it.
//!
//! ```text
//! DIR/                              0700
//!   registry.db                     repositories, links, manifests, tags (SQLite)
//!   blobs/sha256/<hex>              content as uploaded; sha512 beside it
//!   uploads/<id>-<repository>       bytes of an upload, locked by whoever appends; the repository as a hash
//! ```

mod blobs;
mod collect;
mod index;
mod manifests;
mod uploads;

use std::fs::File;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use engine_core::descriptor::Descriptor;
use engine_core::digest::Digest;
use engine_core::error::{Error, ErrorKind, Result};
use engine_core::io::ByteStream;

use self::blobs::Blobs;
use self::index::Index;
use self::uploads::Uploads;
use super::garbage::{GcPolicy, GcReport};
use super::names::{RepositoryName, Tag, Target, UploadId};
use super::quota::{Quota, Usage};
use super::storage::{Incoming, NewManifest, Page, PageRequest, PutManifest, Storage};

/// Content in a directory of a local file system. Clones share it.
#[derive(Clone, Debug)]
pub struct FileStorage(Arc<Parts>);

#[derive(Debug)]
struct Parts {
    database: PathBuf,
    index: Index,
    blobs: Blobs,
    uploads: Uploads,
}

impl Parts {
    /// Checks that a repository has a blob.
    fn belongs(&self, repository: &RepositoryName, digest: &Digest) -> Result<()> {
        let missing = || {
            Error::new(ErrorKind::NotFound, "read blob").with("blob", digest).with("repository", repository)
        };
        self.index.blob_size(repository, digest)?.map(|_| ()).ok_or_else(missing)
    }
}

impl FileStorage {
    /// Opens the directory `path`, and makes it if it is not there. Blocks on files.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] if a newer program has been here, [`ErrorKind::Corrupt`] if the database is none;
    /// else what the file system says.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let blobs = Blobs::open(&path.join("blobs"))?;
        let uploads = Uploads::open(&path.join("uploads"))?;
        let database = path.join("registry.db");
        let index = Index::open(&database)?;
        Ok(Self(Arc::new(Parts { database, index, blobs, uploads })))
    }

    /// Runs what blocks on files away from the workers that serve connections.
    async fn on<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Parts) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let parts = Arc::clone(&self.0);
        blocking(move || work(&parts)).await
    }
}

/// Runs `work` on a thread that may block.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| {
        Err(Error::new(ErrorKind::Other, "store content")
            .with_message("its worker stopped")
            .with_source(error))
    })
}

#[async_trait]
impl Storage for FileStorage {
    async fn blob_size(&self, repository: &RepositoryName, digest: &Digest) -> Result<Option<u64>> {
        let (repository, digest) = (repository.clone(), digest.clone());
        self.on(move |parts| parts.index.blob_size(&repository, &digest)).await
    }

    async fn read_blob(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
        range: Range<u64>,
    ) -> Result<ByteStream> {
        let (repository, digest) = (repository.clone(), digest.clone());
        self.on(move |parts| {
            parts.belongs(&repository, &digest)?;
            parts.blobs.read(&digest, range)
        })
        .await
    }

    async fn open_blob(&self, repository: &RepositoryName, digest: &Digest) -> Result<Option<File>> {
        let (repository, digest) = (repository.clone(), digest.clone());
        self.on(move |parts| {
            parts.belongs(&repository, &digest)?;
            parts.blobs.file(&digest).map(Some)
        })
        .await
    }

    async fn mount_blob(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
        from: Option<&RepositoryName>,
        quota: &Quota,
    ) -> Result<bool> {
        let (repository, digest, from, quota) = (repository.clone(), digest.clone(), from.cloned(), *quota);
        self.on(move |parts| parts.index.mount_blob(&repository, &digest, from.as_ref(), &quota)).await
    }

    async fn delete_blob(&self, repository: &RepositoryName, digest: &Digest) -> Result<bool> {
        let (repository, digest) = (repository.clone(), digest.clone());
        self.on(move |parts| parts.index.unlink_blob(&repository, &digest)).await
    }

    async fn begin_upload(&self, repository: &RepositoryName) -> Result<UploadId> {
        let repository = repository.clone();
        self.on(move |parts| parts.uploads.begin(&repository)).await
    }

    async fn upload_size(&self, repository: &RepositoryName, upload: &UploadId) -> Result<Option<u64>> {
        let (repository, upload) = (repository.clone(), upload.clone());
        self.on(move |parts| parts.uploads.size(&repository, &upload)).await
    }

    async fn append(
        &self,
        repository: &RepositoryName,
        upload: &UploadId,
        offset: Option<u64>,
        body: &mut Incoming<'_>,
    ) -> Result<u64> {
        self.0.uploads.append(repository, upload, offset, body).await
    }

    async fn commit_upload(
        &self,
        repository: &RepositoryName,
        upload: &UploadId,
        digest: &Digest,
        quota: &Quota,
    ) -> Result<()> {
        let (repository, upload, digest, quota) =
            (repository.clone(), upload.clone(), digest.clone(), *quota);
        self.on(move |parts| {
            let upload = parts.uploads.finish(&repository, &upload, &digest)?;
            if parts.index.link_blob(&repository, &digest, &quota)? {
                // Somebody else has brought it; ours goes with the upload.
                return Ok(());
            }
            upload.sync()?;
            let take = || parts.blobs.take(&digest, upload.path());
            take()?;
            // A collection may have found the file before it has a row; inside the transaction, none can.
            let ensure = || if parts.blobs.has(&digest) { Ok(()) } else { take() };
            parts.index.add_blob(&repository, &digest, upload.size(), &quota, ensure)
        })
        .await
    }

    async fn cancel_upload(&self, repository: &RepositoryName, upload: &UploadId) -> Result<bool> {
        let (repository, upload) = (repository.clone(), upload.clone());
        self.on(move |parts| parts.uploads.cancel(&repository, &upload)).await
    }

    async fn sweep_uploads(&self, idle: Duration) -> Result<u64> {
        self.on(move |parts| parts.uploads.sweep(idle)).await
    }

    async fn resolve(&self, repository: &RepositoryName, target: &Target) -> Result<Option<Descriptor>> {
        let (repository, target) = (repository.clone(), target.clone());
        self.on(move |parts| parts.index.resolve(&repository, &target)).await
    }

    async fn manifest(
        &self,
        repository: &RepositoryName,
        target: &Target,
    ) -> Result<Option<(Descriptor, Bytes)>> {
        let (repository, target) = (repository.clone(), target.clone());
        self.on(move |parts| parts.index.manifest(&repository, &target)).await
    }

    async fn put_manifest(
        &self,
        repository: &RepositoryName,
        manifest: &NewManifest,
        tag: Option<&Tag>,
        quota: &Quota,
    ) -> Result<PutManifest> {
        let (repository, manifest, tag, quota) = (repository.clone(), manifest.clone(), tag.cloned(), *quota);
        self.on(move |parts| parts.index.put_manifest(&repository, &manifest, tag.as_ref(), &quota)).await
    }

    async fn delete_manifest(&self, repository: &RepositoryName, digest: &Digest) -> Result<bool> {
        let (repository, digest) = (repository.clone(), digest.clone());
        self.on(move |parts| parts.index.delete_manifest(&repository, &digest)).await
    }

    async fn delete_tag(&self, repository: &RepositoryName, tag: &Tag) -> Result<bool> {
        let (repository, tag) = (repository.clone(), tag.clone());
        self.on(move |parts| parts.index.delete_tag(&repository, &tag)).await
    }

    async fn tags(&self, repository: &RepositoryName, page: &PageRequest) -> Result<Option<Page<Tag>>> {
        let (repository, page) = (repository.clone(), page.clone());
        self.on(move |parts| parts.index.tags(&repository, &page)).await
    }

    async fn referrers(
        &self,
        repository: &RepositoryName,
        subject: &Digest,
        artifact_type: Option<&str>,
        page: &PageRequest,
    ) -> Result<Page<Descriptor>> {
        let (repository, subject, page) = (repository.clone(), subject.clone(), page.clone());
        let artifact_type = artifact_type.map(str::to_owned);
        self.on(move |parts| parts.index.referrers(&repository, &subject, artifact_type.as_deref(), &page))
            .await
    }

    async fn repositories(&self, page: &PageRequest) -> Result<Page<RepositoryName>> {
        let page = page.clone();
        self.on(move |parts| parts.index.repositories(&page)).await
    }

    async fn usage(&self, repository: Option<&RepositoryName>) -> Result<Usage> {
        let repository = repository.cloned();
        self.on(move |parts| parts.index.usage(repository.as_ref())).await
    }

    async fn collect(&self, policy: &GcPolicy) -> Result<GcReport> {
        let policy = policy.clone();
        self.on(move |parts| collect::collect(parts, &policy)).await
    }
}
