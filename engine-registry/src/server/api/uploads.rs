//! Uploads of blobs: end-4 (whole, or a session), end-5 (chunks), end-6 (the end), end-11 (mounts), end-13 (status) and
//! end-14 (cancel).

use axum::http::header::{CONTENT_LENGTH, CONTENT_RANGE, LOCATION, RANGE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::Response;
use engine_core::digest::Digest;
use engine_core::error::{Error, ErrorKind};

use super::body::RequestBody;
use super::range::{chunk, received};
use super::{Answer, CONTENT_DIGEST, Call, UPLOAD_ID, digest, empty, over_quota, set};
use crate::server::error::{ApiError, Code};
use crate::server::events::EventAction;
use crate::server::gate::Operation;
use crate::server::names::{RepositoryName, UploadId};

impl Call<'_> {
    /// POST: a mount, a whole blob, or the begin of a session.
    pub(super) async fn begin(&self, repository: &RepositoryName, body: &mut RequestBody) -> Answer {
        if let Some(wanted) = self.query.get("mount") {
            let wanted = digest(wanted)?;
            if self.mount(repository, &wanted).await? {
                return Ok(created(repository, &wanted));
            }
        } else if let Some(whole) = self.query.get("digest") {
            let whole = digest(whole)?;
            let upload = self.api.storage.begin_upload(repository).await?;
            let stored = async {
                self.limit(repository, &upload, Some(&whole), body).await?;
                let appended = self.api.storage.append(repository, &upload, Some(0), body).await;
                appended.map_err(|error| if body.is_too_long() { no_room() } else { refused(error) })?;
                self.commit(repository, &upload, &whole).await
            };
            if let Err(error) = stored.await {
                let _ = self.api.storage.cancel_upload(repository, &upload).await;
                return Err(error);
            }
            return Ok(created(repository, &whole));
        }
        let upload = self.api.storage.begin_upload(repository).await?;
        Ok(progress(StatusCode::ACCEPTED, repository, &upload, 0))
    }

    /// Takes a blob over from another repository, as far as the client may read there.
    async fn mount(&self, repository: &RepositoryName, wanted: &Digest) -> Result<bool, ApiError> {
        let from = match self.query.get("from") {
            None => None,
            Some(text) => match text.parse::<RepositoryName>() {
                Ok(from) => Some(from),
                // There is nothing to mount from, which is no reason not to upload.
                Err(_) => return Ok(false),
            },
        };
        if self.api.gate.admit(self.parts, Operation::MountFrom(from.as_ref())).await.is_err() {
            return Ok(false);
        }
        let quota = self.api.quotas.of(repository);
        let mounted = self.api.storage.mount_blob(repository, wanted, from.as_ref(), &quota).await;
        let mounted = mounted.map_err(over_quota)?;
        if mounted {
            self.tell_blob(EventAction::Mount, repository, wanted, from.as_ref()).await;
        }
        Ok(mounted)
    }

    /// PATCH: bytes of a blob, in order; with a `Content-Range` those that it says.
    pub(super) async fn append(
        &self,
        repository: &RepositoryName,
        id: &str,
        body: &mut RequestBody,
    ) -> Answer {
        let upload = upload(id)?;
        let size = self.take(repository, &upload, None, body).await?;
        Ok(progress(StatusCode::ACCEPTED, repository, &upload, size))
    }

    /// PUT: the rest of a blob, or nothing, and its digest.
    pub(super) async fn close(
        &self,
        repository: &RepositoryName,
        id: &str,
        body: &mut RequestBody,
    ) -> Answer {
        let upload = upload(id)?;
        let Some(whole) = self.query.get("digest") else {
            return Err(ApiError::new(Code::DigestInvalid, "the parameter digest is missing"));
        };
        let whole = digest(whole)?;
        let nothing = self.header(CONTENT_LENGTH) == Some("0") && self.header(CONTENT_RANGE).is_none();
        if !nothing {
            self.take(repository, &upload, Some(&whole), body).await?;
        }
        self.commit(repository, &upload, &whole).await?;
        Ok(created(repository, &whole))
    }

    async fn commit(
        &self,
        repository: &RepositoryName,
        upload: &UploadId,
        digest: &Digest,
    ) -> Result<(), ApiError> {
        let quota = self.api.quotas.of(repository);
        let stored = self.api.storage.commit_upload(repository, upload, digest, &quota).await;
        stored.map_err(|error| match error.kind() {
            ErrorKind::Conflict => over_quota(error),
            _ => refused(error),
        })?;
        self.tell_blob(EventAction::Push, repository, digest, None).await;
        Ok(())
    }

    /// Ends a body that has more bytes than there is room for. Uploads that come at the same time are not counted: the
    /// commit counts them all.
    async fn limit(
        &self,
        repository: &RepositoryName,
        upload: &UploadId,
        whole: Option<&Digest>,
        body: &mut RequestBody,
    ) -> Result<(), ApiError> {
        let quota = self.api.quotas.of(repository);
        if !quota.is_limited() {
            return Ok(());
        }
        let storage = &self.api.storage;
        // What is there already needs no room.
        if let Some(whole) = whole
            && storage.blob_size(repository, whole).await?.is_some()
        {
            return Ok(());
        }
        let (own, all) = (storage.usage(Some(repository)).await?, storage.usage(None).await?);
        let room = quota.repository.map_or(u64::MAX, |limit| limit.saturating_sub(own.bytes));
        let room = room.min(quota.total.map_or(u64::MAX, |limit| limit.saturating_sub(all.bytes)));
        let has = storage.upload_size(repository, upload).await?.unwrap_or(0);
        body.limit(room.saturating_sub(has));
        Ok(())
    }

    pub(super) async fn status(&self, repository: &RepositoryName, id: &str) -> Answer {
        let upload = upload(id)?;
        match self.api.storage.upload_size(repository, &upload).await? {
            Some(size) => Ok(progress(StatusCode::NO_CONTENT, repository, &upload, size)),
            None => Err(unknown()),
        }
    }

    pub(super) async fn cancel(&self, repository: &RepositoryName, id: &str) -> Answer {
        match self.api.storage.cancel_upload(repository, &upload(id)?).await? {
            true => Ok(empty(StatusCode::NO_CONTENT)),
            false => Err(unknown()),
        }
    }

    /// Appends a request's body to an upload and returns how much that has then.
    async fn take(
        &self,
        repository: &RepositoryName,
        upload: &UploadId,
        whole: Option<&Digest>,
        body: &mut RequestBody,
    ) -> Result<u64, ApiError> {
        let mut offset = None;
        if self.parts.headers.contains_key(CONTENT_RANGE) {
            let range = self
                .header(CONTENT_RANGE)
                .and_then(chunk)
                .ok_or_else(|| ApiError::new(Code::BlobUploadInvalid, "the Content-Range is malformed"))?;
            let length = range.end - range.start;
            if self.header(CONTENT_LENGTH).is_some_and(|text| text.parse() != Ok(length)) {
                return Err(ApiError::new(Code::SizeInvalid, "Content-Range and Content-Length differ"));
            }
            body.expect(length);
            offset = Some(range.start);
        }
        self.limit(repository, upload, whole, body).await?;
        let appended = self.api.storage.append(repository, upload, offset, body).await;
        match appended {
            Ok(size) => Ok(size),
            Err(_) if body.is_too_long() => Err(no_room()),
            Err(error) if error.kind() == ErrorKind::Conflict => {
                let size = self.api.storage.upload_size(repository, upload).await?.ok_or_else(unknown)?;
                let text =
                    |text: String| HeaderValue::from_str(&text).unwrap_or(HeaderValue::from_static(""));
                Err(ApiError::new(Code::BlobUploadInvalid, "the chunk does not begin where the upload is")
                    .with_status(StatusCode::RANGE_NOT_SATISFIABLE)
                    .with_header(RANGE, text(received(size)))
                    .with_header(LOCATION, text(location(repository, upload))))
            }
            Err(error) => Err(refused(error)),
        }
    }
}

fn upload(id: &str) -> Result<UploadId, ApiError> {
    id.parse().map_err(|_| unknown())
}

fn unknown() -> ApiError {
    ApiError::new(Code::BlobUploadUnknown, "the repository has no such upload")
}

fn no_room() -> ApiError {
    ApiError::new(Code::Denied, "the upload has more bytes than the quota has room for")
}

/// What went wrong with an upload.
fn refused(error: Error) -> ApiError {
    match error.kind() {
        ErrorKind::NotFound => unknown(),
        ErrorKind::Corrupt => ApiError::new(Code::DigestInvalid, error.to_string()),
        _ => error.into(),
    }
}

fn location(repository: &RepositoryName, upload: &UploadId) -> String {
    format!("/v2/{repository}/blobs/uploads/{upload}")
}

fn created(repository: &RepositoryName, digest: &Digest) -> Response {
    let mut response = empty(StatusCode::CREATED);
    set(&mut response, LOCATION, format!("/v2/{repository}/blobs/{digest}"));
    set(&mut response, CONTENT_DIGEST, digest.to_string());
    response
}

fn progress(status: StatusCode, repository: &RepositoryName, upload: &UploadId, size: u64) -> Response {
    let mut response = empty(status);
    set(&mut response, LOCATION, location(repository, upload));
    set(&mut response, RANGE, received(size));
    set(&mut response, UPLOAD_ID, upload.as_str());
    response
}
