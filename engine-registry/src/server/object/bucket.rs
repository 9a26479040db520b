//! A place in a bucket: objects below a prefix, read and changed under the project's errors.
//!
//! Owns the requests. Invariant: an object that several may change is changed by [`Bucket::swap`] alone, which says whether
//! nobody was faster.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use engine_core::error::{Error, ErrorKind, Result};
use engine_core::io::ByteStream;
use futures_core::Stream;
use futures_util::{StreamExt as _, TryStreamExt as _};
use object_store::multipart::{MultipartStore, PartId};
use object_store::path::Path;
use object_store::{
    GetOptions, GetRange, ObjectStore, ObjectStoreExt as _, PutMode, PutOptions, PutPayload, PutResult,
    UpdateVersion,
};

use super::fault;
use crate::server::names::UploadId;

/// What a bucket's service can do.
pub(super) trait Service: ObjectStore + MultipartStore {}

impl<T: ObjectStore + MultipartStore> Service for T {}

pub(super) struct Bucket {
    store: Arc<dyn Service>,
    prefix: Path,
    /// As users call it, without credentials.
    name: String,
}

/// A conditional read's answer.
pub(super) enum Read {
    Absent,
    /// It is what the caller knows.
    Same,
    Found(Bytes, UpdateVersion),
}

/// An entry of a list.
pub(super) struct Listed {
    pub(super) key: String,
    pub(super) size: u64,
    /// In seconds since 1970, by the service's clock.
    pub(super) modified: u64,
    pub(super) e_tag: Option<String>,
}

impl fmt::Debug for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bucket").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Bucket {
    pub(super) fn new(store: Arc<dyn Service>, prefix: Path, name: String) -> Self {
        Self { store, prefix, name }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Keys are made of checked names and hex digits (SECURITY E8), which stand in a path as they are.
    fn path(&self, key: &str) -> Path {
        key.split('/').fold(self.prefix.clone(), |path, part| path.join(part))
    }

    fn failed(&self, operation: &'static str, key: &str) -> impl Fn(object_store::Error) -> Error + use<> {
        let (bucket, key) = (self.name.clone(), key.to_owned());
        move |fault| fault::error(operation, &bucket, &key, &fault)
    }

    /// Reads an object whole, unless it is the version that the caller knows.
    pub(super) async fn read(
        &self,
        operation: &'static str,
        key: &str,
        known: Option<&UpdateVersion>,
    ) -> Result<Read> {
        let known = known.and_then(|version| version.e_tag.clone());
        let options = GetOptions::new().with_if_none_match(known);
        let found = match self.store.get_opts(&self.path(key), options).await {
            Ok(found) => found,
            Err(object_store::Error::NotFound { .. }) => return Ok(Read::Absent),
            Err(object_store::Error::NotModified { .. }) => return Ok(Read::Same),
            Err(error) => return Err(self.failed(operation, key)(error)),
        };
        let version = UpdateVersion { e_tag: found.meta.e_tag.clone(), version: found.meta.version.clone() };
        let bytes = found.bytes().await.map_err(self.failed(operation, key))?;
        Ok(Read::Found(bytes, version))
    }

    /// Stores an object if it still is the version `seen`, or is not there without one. Returns its new version, or `None` if
    /// somebody else was faster.
    pub(super) async fn swap(
        &self,
        operation: &'static str,
        key: &str,
        bytes: Bytes,
        seen: Option<&UpdateVersion>,
    ) -> Result<Option<UpdateVersion>> {
        let mode = seen.map_or(PutMode::Create, |version| PutMode::Update(version.clone()));
        let put = (PutPayload::from_bytes(bytes), PutOptions::from(mode));
        match self.store.put_opts(&self.path(key), put.0, put.1).await {
            Ok(PutResult { e_tag, version, .. }) => Ok(Some(UpdateVersion { e_tag, version })),
            Err(object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. }) => {
                Ok(None)
            }
            Err(error) => Err(self.failed(operation, key)(error)),
        }
    }

    /// Stores an object that nobody else writes.
    pub(super) async fn put(&self, operation: &'static str, key: &str, bytes: Bytes) -> Result<()> {
        let put = self.store.put(&self.path(key), PutPayload::from_bytes(bytes)).await;
        put.map(drop).map_err(self.failed(operation, key))
    }

    /// Removes an object, which may be gone.
    pub(super) async fn delete(&self, operation: &'static str, key: &str) -> Result<()> {
        match self.store.delete(&self.path(key)).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(self.failed(operation, key)(error)),
        }
    }

    pub(super) async fn exists(&self, operation: &'static str, key: &str) -> Result<bool> {
        match self.store.head(&self.path(key)).await {
            Ok(_) => Ok(true),
            Err(object_store::Error::NotFound { .. }) => Ok(false),
            Err(error) => Err(self.failed(operation, key)(error)),
        }
    }

    /// Streams a part of an object that has it.
    pub(super) async fn stream(
        &self,
        operation: &'static str,
        key: &str,
        range: Range<u64>,
    ) -> Result<ByteStream> {
        // An empty range cannot be asked for.
        if range.is_empty() {
            return Ok(Box::pin(futures_util::stream::empty()));
        }
        let options = GetOptions::new().with_range(Some(GetRange::Bounded(range)));
        let found =
            self.store.get_opts(&self.path(key), options).await.map_err(self.failed(operation, key))?;
        Ok(Box::pin(found.into_stream().map_err(self.failed(operation, key))))
    }

    /// Lists the objects below `directory`, from after the key `after` on, in the order of their keys.
    pub(super) fn list(
        &self,
        operation: &'static str,
        directory: &str,
        after: Option<&str>,
    ) -> impl Stream<Item = Result<Listed>> + Send + Unpin + use<> {
        let prefix = self.path(directory);
        let found = match after {
            Some(after) => self.store.list_with_offset(Some(&prefix), &self.path(after)),
            None => self.store.list(Some(&prefix)),
        };
        let (failed, own) = (self.failed(operation, directory), self.prefix.as_ref().len());
        found.map(move |found| {
            let found = found.map_err(&failed)?;
            let key = found.location.as_ref().get(own..).unwrap_or_default().trim_start_matches('/');
            let modified = u64::try_from(found.last_modified.timestamp()).unwrap_or(0);
            Ok(Listed { key: key.to_owned(), size: found.size, modified, e_tag: found.e_tag })
        })
    }

    pub(super) async fn begin_parts(&self, operation: &'static str, key: &str) -> Result<String> {
        self.store.create_multipart(&self.path(key)).await.map_err(self.failed(operation, key))
    }

    /// Stores a part, and returns what the service calls it.
    pub(super) async fn put_part(
        &self,
        operation: &'static str,
        key: &str,
        id: &str,
        number: usize,
        bytes: Bytes,
    ) -> Result<String> {
        let part =
            self.store.put_part(&self.path(key), &id.to_owned(), number, PutPayload::from_bytes(bytes)).await;
        part.map(|part| part.content_id).map_err(self.failed(operation, key))
    }

    /// Makes an object of its parts. Returns whether there were any: without them, this has happened before, or never will.
    pub(super) async fn end_parts(
        &self,
        operation: &'static str,
        key: &str,
        id: &str,
        parts: &[String],
    ) -> Result<bool> {
        let parts = parts.iter().map(|part| PartId { content_id: part.clone() }).collect();
        match self.store.complete_multipart(&self.path(key), &id.to_owned(), parts).await {
            Ok(_) => Ok(true),
            Err(object_store::Error::NotFound { .. }) => Ok(false),
            Err(error) => Err(self.failed(operation, key)(error)),
        }
    }

    /// Forgets parts, if there are any.
    pub(super) async fn drop_parts(&self, operation: &'static str, key: &str, id: &str) -> Result<()> {
        match self.store.abort_multipart(&self.path(key), &id.to_owned()).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(self.failed(operation, key)(error)),
        }
    }

    /// Checks that the service compares before it swaps, without which two servers would overwrite each other's changes.
    pub(super) async fn probe(&self) -> Result<()> {
        let key = format!("probe/{}", UploadId::random());
        let verdict = self.compares(&key).await;
        let cleared = self.delete("probe bucket", &key).await;
        let why = match verdict {
            Ok(None) => return cleared,
            Ok(Some(why)) => why.to_owned(),
            Err(error) if error.kind() == ErrorKind::Unsupported => error.report(),
            Err(error) => return Err(error),
        };
        Err(Error::new(ErrorKind::Unsupported, "open bucket")
            .with("bucket", &self.name)
            .with_message(format!("its service does not change objects conditionally: {why}"))
            .with_hint(
                "a registry needs PutObject with If-None-Match and If-Match, as S3, Google Cloud Storage, Azure, R2 and MinIO have it",
            ))
    }

    /// Says what the service gets wrong, if anything.
    async fn compares(&self, key: &str) -> Result<Option<&'static str>> {
        let operation = "probe bucket";
        let text = |text: &'static str| Bytes::from_static(text.as_bytes());
        let Some(first) = self.swap(operation, key, text("1"), None).await? else {
            return Ok(Some("an object that is not there cannot be created"));
        };
        if self.swap(operation, key, text("2"), None).await?.is_some() {
            return Ok(Some("it creates an object that exists"));
        }
        let Some(second) = self.swap(operation, key, text("3"), Some(&first)).await? else {
            return Ok(Some("an object that nobody changed cannot be updated"));
        };
        if second.e_tag.is_none() && second.version.is_none() {
            return Ok(Some("its objects have no ETag"));
        }
        if self.swap(operation, key, text("4"), Some(&first)).await?.is_some() {
            return Ok(Some("it updates an object that was changed meanwhile"));
        }
        Ok(None)
    }
}
