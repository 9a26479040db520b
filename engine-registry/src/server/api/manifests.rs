//! Manifests: end-3 (read), end-7 (write) and end-9 (delete).
//!
//! Owns what a manifest has to be (SECURITY D1). Invariant: what is stored is what was received, byte for byte, under the
//! digest of these bytes.

use axum::body::Body;
use axum::http::StatusCode;
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE, LOCATION};
use axum::response::Response;
use bytes::Bytes;
use engine_core::descriptor::{Descriptor, media_type};
use engine_core::digest::Digest;
use engine_core::error::Result;
use engine_core::manifest::{MAX_MANIFEST_SIZE, Manifest};
use engine_core::platform::Platform;
use serde_json::json;

use super::accept::Accepted;
use super::body::RequestBody;
use super::{Answer, Call, OCI_SUBJECT, digest, empty, over_quota, set, set_digest};
use crate::server::error::{ApiError, Code};
use crate::server::events::EventAction;
use crate::server::names::{RepositoryName, Target};
use crate::server::storage::{NewManifest, PutManifest};

impl Call<'_> {
    pub(super) async fn manifest(&self, repository: &RepositoryName, text: &str) -> Answer {
        let target = target(text, Code::ManifestUnknown)?;
        self.refresh(repository, &target).await?;
        let accepted = Accepted::of(&self.parts.headers);
        let storage = &self.api.storage;
        let found = match self.is_head() {
            true => storage.resolve(repository, &target).await?.map(|descriptor| (descriptor, None)),
            false => {
                let found = storage.manifest(repository, &target).await?;
                found.map(|(descriptor, bytes)| (descriptor, Some(bytes)))
            }
        };
        let (mut descriptor, mut bytes) = found.ok_or_else(unknown)?;
        if matches!(target, Target::Tag(_)) && accepted.wants_one_of(&descriptor.media_type) {
            let (one, content) = self.default_image(repository, descriptor.digest).await?;
            (descriptor, bytes) = (one, Some(content));
        }
        if !accepted.may_get(&descriptor.media_type) {
            return Err(ApiError::new(
                Code::ManifestUnknown,
                format!("the manifest is {}, which the client does not accept", descriptor.media_type),
            ));
        }
        if self.has(&descriptor.digest) {
            let mut response = empty(StatusCode::NOT_MODIFIED);
            set_digest(&mut response, &descriptor.digest);
            return Ok(response);
        }
        if !self.is_head() {
            self.tell_manifest(EventAction::Pull, repository, &target, Some(&descriptor));
        }
        let body = bytes.filter(|_| !self.is_head()).map_or_else(Body::empty, Body::from);
        let mut response = Response::new(body);
        set(&mut response, CONTENT_TYPE, &descriptor.media_type);
        set(&mut response, CONTENT_LENGTH, descriptor.size.to_string());
        set_digest(&mut response, &descriptor.digest);
        Ok(response)
    }

    /// Returns the image of a manifest list that a client gets which does not know such lists.
    async fn default_image(
        &self,
        repository: &RepositoryName,
        list: Digest,
    ) -> Result<(Descriptor, Bytes), ApiError> {
        let storage = &self.api.storage;
        let found = storage.manifest(repository, &Target::Digest(list)).await?;
        let (descriptor, bytes) = found.ok_or_else(unknown)?;
        let Ok(Manifest::Index(index)) = Manifest::parse(&bytes, &descriptor.media_type) else {
            return Err(unknown());
        };
        let one = index.select(&Platform::new("linux", "amd64", None)).ok_or_else(unknown)?;
        let one = Target::Digest(one.digest.clone());
        self.refresh(repository, &one).await?;
        storage.manifest(repository, &one).await?.ok_or_else(unknown)
    }

    pub(super) async fn put_manifest(
        &self,
        repository: &RepositoryName,
        text: &str,
        body: &mut RequestBody,
    ) -> Answer {
        let target = target(text, Code::ManifestInvalid)?;
        let kind = self.header(CONTENT_TYPE).and_then(|text| text.split(';').next()).map(str::trim);
        let kind = kind
            .filter(|kind| !kind.is_empty())
            .ok_or_else(|| ApiError::new(Code::ManifestInvalid, "there has to be one Content-Type"))?;
        let limit = usize::try_from(MAX_MANIFEST_SIZE).unwrap_or(usize::MAX);
        let Some(bytes) = body.read(limit).await? else {
            return Err(ApiError::new(Code::SizeInvalid, format!("a manifest has {limit} bytes at most"))
                .with_status(StatusCode::PAYLOAD_TOO_LARGE));
        };
        let digest = match &target {
            Target::Tag(_) => Digest::sha256(&bytes),
            Target::Digest(digest) => digest.rehash(&bytes),
        };
        if let Target::Digest(wanted) = &target
            && *wanted != digest
        {
            return Err(ApiError::new(Code::DigestInvalid, format!("the manifest has the digest {digest}")));
        }
        let manifest = checked(kind, digest, bytes)
            .map_err(|error| ApiError::new(Code::ManifestInvalid, error.report()))?;
        let tag = match &target {
            Target::Tag(tag) => Some(tag),
            Target::Digest(_) => None,
        };
        let quota = self.api.quotas.of(repository);
        let put = self.api.storage.put_manifest(repository, &manifest, tag, &quota).await;
        if let PutManifest::Missing(missing) = put.map_err(over_quota)? {
            let error =
                ApiError::new(Code::ManifestBlobUnknown, "the manifest names what the repository lacks");
            let details = missing.iter().map(|digest| json!({ "digest": digest }));
            return Err(details.fold(error, ApiError::with_detail));
        }
        self.tell_manifest(EventAction::Push, repository, &target, Some(&manifest.descriptor));
        let digest = &manifest.descriptor.digest;
        let mut response = empty(StatusCode::CREATED);
        set(&mut response, LOCATION, format!("/v2/{repository}/manifests/{digest}"));
        set_digest(&mut response, digest);
        if let Some((subject, _)) = &manifest.referrer {
            set(&mut response, OCI_SUBJECT, subject.to_string());
        }
        Ok(response)
    }

    /// A tag goes alone; a digest goes with all tags that point at it.
    pub(super) async fn delete_manifest(&self, repository: &RepositoryName, text: &str) -> Answer {
        let target = target(text, Code::ManifestUnknown)?;
        let gone = match &target {
            Target::Tag(tag) => self.api.storage.delete_tag(repository, tag).await?,
            Target::Digest(digest) => self.api.storage.delete_manifest(repository, digest).await?,
        };
        if !gone {
            return Err(unknown());
        }
        self.tell_manifest(EventAction::Delete, repository, &target, None);
        Ok(empty(StatusCode::ACCEPTED))
    }
}

fn unknown() -> ApiError {
    ApiError::new(Code::ManifestUnknown, "the repository has no such manifest")
}

/// Reads a tag or a digest; `code` is what a malformed tag is.
fn target(text: &str, code: Code) -> Result<Target, ApiError> {
    if text.contains(':') {
        return digest(text).map(Target::Digest);
    }
    text.parse().map(Target::Tag).map_err(|error: engine_core::Error| ApiError::new(code, error.to_string()))
}

/// Reads a manifest as strictly as our own client does, and finds what it names.
pub(in crate::server) fn checked(kind: &str, digest: Digest, bytes: Bytes) -> Result<NewManifest> {
    let parsed = Manifest::parse(&bytes, kind)?;
    let descriptor = Descriptor::new(kind, digest, bytes.len() as u64);
    let referrer = parsed.subject().map(|subject| (subject.digest.clone(), parsed.as_referrer(&descriptor)));
    let mut manifest = NewManifest::new(descriptor, bytes);
    manifest.referrer = referrer;
    match parsed {
        Manifest::Image(image) => {
            // What may not be distributed is elsewhere.
            let layers = image.layers.iter().filter(|layer| !media_type::is_foreign(&layer.media_type));
            manifest.blobs = std::iter::once(&image.config).chain(layers).map(|d| d.digest.clone()).collect();
        }
        Manifest::Index(index) => {
            // An index may name blobs that are no manifests, too.
            let (manifests, blobs): (Vec<_>, Vec<_>) = index.manifests.iter().partition(|entry| {
                media_type::is_manifest(&entry.media_type) || media_type::is_index(&entry.media_type)
            });
            manifest.manifests = manifests.iter().map(|entry| entry.digest.clone()).collect();
            manifest.blobs = blobs.iter().map(|entry| entry.digest.clone()).collect();
        }
        _ => {}
    }
    for named in [&mut manifest.blobs, &mut manifest.manifests] {
        named.sort();
        named.dedup();
    }
    Ok(manifest)
}
