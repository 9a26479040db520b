//! Bytes on their way into an upload.
//!
//! Owns the gathering of parts. However the request ends, what has arrived is stored and the lease given back: by the request
//! itself, or, when nobody waits for it any more, by a task.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use engine_core::digest::{DigestAlgorithm, DigestHasher};
use engine_core::error::{Error, ErrorKind, Result};
use futures_util::{StreamExt as _, TryStreamExt as _};
use tokio::runtime::Handle;

use super::PART;
use super::state::now;
use super::uploads::{Held, RENEW, Tail, blob_key};
use crate::server::names::UploadId;
use crate::server::storage::Incoming;

/// An upload that is written to.
#[derive(Debug)]
pub(super) struct Append(Option<Writing>);

#[derive(Debug)]
struct Writing {
    held: Held,
    /// What is in no part yet: the tail as it was, and what came since.
    pending: BytesMut,
    /// A part that may not be stored yet.
    full: Option<Bytes>,
    /// Whether something came that is not in the upload's state.
    changed: bool,
}

impl Drop for Append {
    fn drop(&mut self) {
        let (Some(writing), Ok(runtime)) = (self.0.take(), Handle::try_current()) else { return };
        let id = writing.held.id.clone();
        let settling = writing.held.uploads.settle(&id);
        runtime.spawn(async move {
            let _settling = settling;
            if let Err(error) = writing.finish().await {
                tracing::warn!(%error, upload = %id, "what arrived of an upload is lost");
            }
        });
    }
}

impl Append {
    /// Appends all of `body`, and returns how many bytes there are then.
    pub(super) async fn run(held: Held, offset: Option<u64>, body: &mut Incoming<'_>) -> Result<u64> {
        let size = held.upload.size;
        let mut append = Self(Some(Writing { held, pending: BytesMut::new(), full: None, changed: false }));
        if offset.is_some_and(|offset| offset != size) {
            append.finish().await?;
            return Err(Error::new(ErrorKind::Conflict, "append to upload")
                .with_message(format!("it has {size} bytes")));
        }
        if let Some(writing) = &mut append.0 {
            writing.begin().await?;
        }
        let read = append.read(body).await;
        match read {
            Ok(()) => append.finish().await,
            Err(error) => {
                // What went wrong first is told.
                let _ = append.finish().await;
                Err(error)
            }
        }
    }

    async fn read(&mut self, body: &mut Incoming<'_>) -> Result<()> {
        let Some(writing) = &mut self.0 else { return Ok(()) };
        let mut renew = tokio::time::interval(RENEW);
        // The first tick comes at once.
        renew.tick().await;
        loop {
            tokio::select! {
                piece = body.next() => match piece {
                    Some(piece) => writing.take(piece?).await?,
                    None => return Ok(()),
                },
                _ = renew.tick() => writing.held.store(true).await?,
            }
        }
    }

    async fn finish(mut self) -> Result<u64> {
        let Some(writing) = self.0.take() else { return Ok(0) };
        // As a task, so that it is done even when nobody waits for it any more.
        super::done(tokio::spawn(writing.finish())).await
    }
}

impl Writing {
    /// Fetches the tail, which goes on.
    async fn begin(&mut self) -> Result<()> {
        let upload = &self.held.upload;
        let mut fresh = upload.parts.is_empty().then(|| DigestHasher::new(DigestAlgorithm::Sha256));
        if let Some(tail) = &upload.tail {
            let bucket = &self.held.uploads.bucket;
            let mut bytes = bucket.stream("read upload", &tail.key, 0..tail.size).await?;
            let mut pending = BytesMut::new();
            while let Some(piece) = bytes.try_next().await? {
                pending.extend_from_slice(&piece);
            }
            if let Some(hash) = &mut fresh {
                hash.update(&pending);
            }
            self.pending = pending;
        }
        self.held.hash = self.held.hash.take().or(fresh);
        Ok(())
    }

    async fn take(&mut self, mut piece: Bytes) -> Result<()> {
        while !piece.is_empty() {
            let some = piece.split_to(piece.len().min(PART - self.pending.len()));
            if let Some(hash) = &mut self.held.hash {
                hash.update(&some);
            }
            self.pending.extend_from_slice(&some);
            self.changed = true;
            if self.pending.len() == PART {
                self.full = Some(self.pending.split().freeze());
                self.store_part().await?;
            }
        }
        Ok(())
    }

    /// Stores the full part, if there is one. When that is given up half-way, it may be done again.
    async fn store_part(&mut self) -> Result<()> {
        let Some(full) = self.full.clone() else { return Ok(()) };
        let (operation, key) = ("append to upload", blob_key(&self.held.id));
        let bucket = Arc::clone(&self.held.uploads.bucket);
        let multipart = match &self.held.upload.multipart {
            Some(multipart) => multipart.clone(),
            None => {
                let multipart = bucket.begin_parts(operation, &key).await?;
                self.held.upload.multipart = Some(multipart.clone());
                // Noted before there are parts, so that a sweep finds them.
                self.held.store(true).await?;
                multipart
            }
        };
        let number = self.held.upload.parts.len();
        let part = bucket.put_part(operation, &key, &multipart, number, full).await?;
        let upload = &mut self.held.upload;
        upload.parts.push(part);
        upload.size = upload.parts.len() as u64 * PART as u64;
        upload.touched = now();
        // The hash is ahead of the parts where this runs late, so it is known only when all is stored.
        upload.digest = None;
        let tail = upload.tail.take();
        self.full = None;
        self.held.store(true).await?;
        self.drop_tail(tail).await;
        Ok(())
    }

    /// Stores what is left, and gives the upload back.
    async fn finish(mut self) -> Result<u64> {
        self.store_part().await?;
        let mut old = None;
        if self.changed {
            let size = self.pending.len() as u64;
            let upload = &mut self.held.upload;
            old = upload.tail.take();
            if size > 0 {
                // A name of its own: somebody who lost the lease may still be writing.
                let key = format!("{}-{}", blob_key(&self.held.id), UploadId::random());
                let bytes = self.pending.split().freeze();
                self.held.uploads.bucket.put("append to upload", &key, bytes).await?;
                upload.tail = Some(Tail { key, size });
            }
            upload.size = upload.parts.len() as u64 * PART as u64 + size;
            upload.digest = self.held.hash.clone().map(DigestHasher::finish);
            upload.touched = now();
        }
        let (size, bucket) = (self.held.upload.size, Arc::clone(&self.held.uploads.bucket));
        self.held.release().await?;
        if let Some(old) = old
            && let Err(error) = bucket.delete("append to upload", &old.key).await
        {
            tracing::debug!(%error, "an old tail is left for the collection");
        }
        Ok(size)
    }

    async fn drop_tail(&self, tail: Option<Tail>) {
        if let Some(tail) = tail
            && let Err(error) = self.held.uploads.bucket.delete("append to upload", &tail.key).await
        {
            tracing::debug!(%error, "an old tail is left for the collection");
        }
    }
}
