//! Reading and deleting blobs: end-2 and end-10.

use std::ops::Range;

use axum::body::Body;
use axum::http::StatusCode;
use axum::http::header::{
    ACCEPT_RANGES, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, IF_RANGE, RANGE,
};
use axum::response::Response;
use engine_core::digest::Digest;

use super::range::{Wanted, wanted};
use super::{Answer, Call, digest, empty, set, set_digest};
use crate::server::error::{ApiError, Code};
use crate::server::events::EventAction;
use crate::server::names::RepositoryName;
use crate::server::pieces::PIECE;
use crate::server::sendfile::{FilePart, SendsFiles};

impl Call<'_> {
    pub(super) async fn blob(&self, repository: &RepositoryName, text: &str) -> Answer {
        let digest = digest(text)?;
        let (size, mut coming, elsewhere) = match self.api.storage.blob_size(repository, &digest).await? {
            Some(size) => (size, None, None),
            None => {
                let cache = self.api.cache.as_ref().ok_or_else(unknown)?;
                let (size, coming) = cache.blob(repository, &digest).await?.ok_or_else(unknown)?;
                let elsewhere = if coming.is_none() { Some(cache) } else { None };
                (size, coming, elsewhere)
            }
        };
        if self.has(&digest) {
            let mut response = empty(StatusCode::NOT_MODIFIED);
            set_digest(&mut response, &digest);
            return Ok(response);
        }
        // A range of something else than the client has begun with is of no use to it, and only a GET has ranges.
        let ranged = !self.is_head() && self.header(IF_RANGE).is_none_or(|tag| tag.trim_matches('"') == text);
        let (status, range) = match wanted(self.header(RANGE).filter(|_| ranged), size) {
            Wanted::All => (StatusCode::OK, 0..size),
            Wanted::Part(range) => (StatusCode::PARTIAL_CONTENT, range),
            Wanted::Unsatisfiable => {
                let mut response = empty(StatusCode::RANGE_NOT_SATISFIABLE);
                set(&mut response, CONTENT_RANGE, format!("bytes */{size}"));
                return Ok(response);
            }
        };
        // Only what the client gets is fetched.
        if let Some(cache) = elsewhere.filter(|_| !self.is_head()) {
            coming = cache.fetch_blob(repository, &digest, size).await?;
        }
        let (body, part) = match coming {
            _ if self.is_head() || range.is_empty() => (Body::empty(), None),
            Some(flight) => (Body::from_stream(flight.stream(range.clone())), None),
            None => self.stored(repository, &digest, range.clone()).await?,
        };
        if !self.is_head() {
            self.tell_blob(EventAction::Pull, repository, &digest, None).await;
        }
        let mut response = Response::new(body);
        *response.status_mut() = status;
        set(&mut response, CONTENT_LENGTH, (range.end - range.start).to_string());
        set(&mut response, CONTENT_TYPE, "application/octet-stream");
        set(&mut response, ACCEPT_RANGES, "bytes");
        // What has a digest never changes, but who may see it does.
        set(&mut response, CACHE_CONTROL, "private, max-age=31536000, immutable");
        set_digest(&mut response, &digest);
        if let Some(part) = part {
            response.extensions_mut().insert(part);
        }
        if status == StatusCode::PARTIAL_CONTENT {
            let last = range.end - 1;
            set(&mut response, CONTENT_RANGE, format!("bytes {}-{last}/{size}", range.start));
        }
        Ok(response)
    }

    /// Finds a part of a blob. If it is large, in a file, and goes to a connection that sends files, then it is one of a file, too.
    async fn stored(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
        range: Range<u64>,
    ) -> Result<(Body, Option<FilePart>), ApiError> {
        let storage = &self.api.storage;
        // Less comes with the opening, and leaves with the head.
        if range.end - range.start > PIECE
            && self.parts.extensions.get::<SendsFiles>().is_some()
            && let Some(file) = storage.open_blob(repository, digest).await?
        {
            let part = FilePart::new(file, range);
            return Ok((Body::from_stream(part.stream()), Some(part)));
        }
        Ok((Body::from_stream(storage.read_blob(repository, digest, range).await?), None))
    }

    pub(super) async fn delete_blob(&self, repository: &RepositoryName, text: &str) -> Answer {
        let digest = digest(text)?;
        if !self.api.storage.delete_blob(repository, &digest).await? {
            return Err(unknown());
        }
        self.tell_blob(EventAction::Delete, repository, &digest, None).await;
        Ok(empty(StatusCode::ACCEPTED))
    }
}

fn unknown() -> ApiError {
    ApiError::new(Code::BlobUnknown, "the repository has no such blob")
}
