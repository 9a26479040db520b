//! An upload becomes a blob.
//!
//! Owns the order of steps: the bytes are one object before its entry is made, and the upload goes after that. So a program that
//! dies in between leaves an object without an entry, which nobody sees, or an upload whose commit can be repeated.

use std::pin::pin;

use bytes::BytesMut;
use engine_core::digest::{Digest, DigestAlgorithm, DigestHasher};
use engine_core::error::{Error, ErrorKind, Result};
use futures_util::TryStreamExt as _;

use super::Parts;
use super::uploads::{For, RENEW, Upload, blob_key};
use crate::server::names::{RepositoryName, UploadId};
use crate::server::quota::Quota;

const OPERATION: &str = "store blob";

impl Parts {
    pub(super) async fn commit(
        &self,
        repository: &RepositoryName,
        id: &UploadId,
        digest: &Digest,
        quota: &Quota,
    ) -> Result<()> {
        let mut held = self.uploads.hold(Some(repository), id, For::Commit).await?;
        let known = match (&held.upload.digest, held.upload.size) {
            (Some(known), _) if known.algorithm() == digest.algorithm() => Some(known.clone()),
            (_, 0) => Some(digest.rehash(b"")),
            _ => None,
        };
        if let Some(wrong) = known.as_ref().filter(|known| *known != digest) {
            let error = corrupt(digest, wrong);
            held.upload.committing = false;
            held.end().await?;
            return Err(error);
        }
        let (size, upload) = (held.upload.size, held.upload.clone());
        let made = async {
            let key = self.assemble(id, &upload).await?;
            let actual = match known {
                Some(known) => known,
                None => self.hash(&key, size, digest.algorithm()).await?,
            };
            if actual != *digest {
                return Ok((key, Err(corrupt(digest, &actual))));
            }
            match self.link(repository, digest, &key, size, quota).await {
                // The quota is full: nothing was changed.
                Err(error) if error.kind() == ErrorKind::Conflict => Ok((key, Err(error))),
                linked => Ok((key, Ok(linked?))),
            }
        };
        let (mut made, mut renew) = (pin!(made), tokio::time::interval(RENEW));
        renew.tick().await;
        let made = loop {
            tokio::select! {
                made = &mut made => break made,
                // Large blobs take their time. Nobody else is to commit this one meanwhile: one of two may find the quota full, and
                // would remove what the other has made a blob.
                _ = renew.tick() => held.store(true).await?,
            }
        };
        let (key, linked) = match made {
            Ok(made) => made,
            Err(error) => {
                // What happened is not known; the commit may be repeated.
                held.release().await.unwrap_or_else(|later| tracing::debug!(%later, "a lease runs out"));
                return Err(error);
            }
        };
        let is_own = matches!(linked, Ok(true));
        let unused = if is_own { None } else { Some(&key) };
        let tail = held.upload.tail.as_ref().map(|tail| &tail.key).filter(|tail| **tail != key);
        let left: Vec<String> = unused.into_iter().chain(tail).cloned().collect();
        let tidied = async {
            for object in &left {
                self.bucket.delete(OPERATION, object).await?;
            }
            held.forget().await
        };
        // What is left over is found by a sweep or a collection; whether there is a blob is another matter.
        if let Err(error) = tidied.await {
            tracing::warn!(upload = %id, error = %error.report(), "something is left of an upload");
        }
        linked.map(drop)
    }

    /// Makes one object of an upload's bytes and returns its key.
    async fn assemble(&self, id: &UploadId, upload: &Upload) -> Result<String> {
        let key = blob_key(id);
        let Some(multipart) = upload.multipart.as_ref().filter(|_| !upload.parts.is_empty()) else {
            if let Some(tail) = &upload.tail {
                return Ok(tail.key.clone());
            }
            self.bucket.put(OPERATION, &key, bytes::Bytes::new()).await?;
            return Ok(key);
        };
        let mut parts = upload.parts.clone();
        if let Some(tail) = &upload.tail {
            let mut stream = match self.bucket.stream(OPERATION, &tail.key, 0..tail.size).await {
                // An earlier commit, which did not come to its end, has made one object of all and removed what was left over.
                Err(error)
                    if error.kind() == ErrorKind::NotFound && self.bucket.exists(OPERATION, &key).await? =>
                {
                    return Ok(key);
                }
                stream => stream?,
            };
            let mut bytes = BytesMut::new();
            while let Some(piece) = stream.try_next().await? {
                bytes.extend_from_slice(&piece);
            }
            let number = parts.len();
            parts.push(self.bucket.put_part(OPERATION, &key, multipart, number, bytes.freeze()).await?);
        }
        let ended = self.bucket.end_parts(OPERATION, &key, multipart, &parts).await?;
        if !ended && !self.bucket.exists(OPERATION, &key).await? {
            return Err(Error::new(ErrorKind::NotFound, OPERATION)
                .with("upload", id)
                .with_message("the service has lost its parts"));
        }
        Ok(key)
    }

    /// Reads an object to hash it: another program wrote some of its bytes, or the digest is not one of SHA-256.
    async fn hash(&self, key: &str, size: u64, algorithm: DigestAlgorithm) -> Result<Digest> {
        let mut hash = DigestHasher::new(algorithm);
        let mut bytes = self.bucket.stream(OPERATION, key, 0..size).await?;
        while let Some(piece) = bytes.try_next().await? {
            hash.update(&piece);
        }
        Ok(hash.finish())
    }
}

fn corrupt(digest: &Digest, actual: &Digest) -> Error {
    Error::new(ErrorKind::Corrupt, OPERATION)
        .with("blob", digest)
        .with_message(format!("the bytes have the digest {actual}"))
}
