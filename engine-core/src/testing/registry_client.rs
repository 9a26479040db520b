//! What a [`RegistryClient`] promises, checked against a registry that accepts pushes.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::TryStreamExt as _;
use futures_util::stream;
use serde_json::json;

use super::content::SampleImage;
use super::{Suite, assert_kind, run_promises};
use crate::descriptor::{Descriptor, media_type};
use crate::digest::Digest;
use crate::error::{Error, ErrorKind, Result};
use crate::io::ByteStream;
use crate::reference::Reference;
use crate::registry_client::{BlobSource, Credentials, PushOutcome, RegistryClient};

/// What the suite runs on.
#[derive(Debug)]
#[non_exhaustive]
pub struct RegistrySubject {
    /// The client.
    pub client: Arc<dyn RegistryClient>,
    /// A tag of a repository that does not exist yet, and that the client may push to. The repository beside it
    /// with the suffix `-other` is free too.
    pub reference: Reference,
}

impl RegistrySubject {
    /// Creates a subject.
    pub fn new(client: Arc<dyn RegistryClient>, reference: Reference) -> Self {
        Self { client, reference }
    }
}

/// Runs every promise that needs no credentials, each on what `factory` makes anew.
///
/// # Panics
/// If a promise is broken; the message names all that are.
pub async fn all<F, Fut>(factory: F)
where
    F: Fn() -> Fut,
    Fut: Future<Output = RegistrySubject>,
{
    let mut suite = Suite::new("RegistryClient");
    run_promises!(suite, factory, |subject|
        pushed_image_is_fetched(&*subject.client, &subject.reference);
        pushed_index_is_fetched(&*subject.client, &subject.reference);
        tag_moves(&*subject.client, &subject.reference);
        unknown_manifest_is_not_found(&*subject.client, &subject.reference);
        unknown_blob_is_not_found(&*subject.client, &subject.reference);
        blob_is_read_from_an_offset(&*subject.client, &subject.reference);
        blob_is_never_longer_than_its_descriptor(&*subject.client, &subject.reference);
        pushing_a_blob_again_is_ok(&*subject.client, &subject.reference);
        blob_is_taken_from_another_repository(&*subject.client, &subject.reference);
        wrong_blob_is_not_accepted(&*subject.client, &subject.reference);
        failing_source_fails_the_push(&*subject.client, &subject.reference);
        tags_are_listed(&*subject.client, &subject.reference);
        large_blob_arrives_whole(&*subject.client, &subject.reference);
    );
    suite.finish();
}

/// Content of a push that is in memory.
#[derive(Clone, Debug)]
pub struct BytesSource(pub Bytes);

#[async_trait]
impl BlobSource for BytesSource {
    async fn open(&self, offset: u64) -> Result<ByteStream> {
        let begin = usize::try_from(offset).unwrap_or(usize::MAX).min(self.0.len());
        Ok(Box::pin(stream::iter([Ok(self.0.slice(begin..))])))
    }
}

/// Pushes an image with all its blobs.
///
/// # Panics
/// If the client fails.
pub async fn push(client: &dyn RegistryClient, reference: &Reference, image: &SampleImage) {
    for layer in &image.layers {
        push_blob(client, reference, &layer.descriptor, &layer.bytes).await;
    }
    push_blob(client, reference, &image.config, &image.config_bytes).await;
    client
        .push_manifest(reference, &image.manifest, image.manifest_bytes.clone())
        .await
        .expect("push the manifest");
}

async fn push_blob(
    client: &dyn RegistryClient,
    reference: &Reference,
    blob: &Descriptor,
    bytes: &Bytes,
) -> PushOutcome {
    client.push_blob(reference, blob, None, &BytesSource(bytes.clone())).await.expect("push a blob")
}

async fn fetch(client: &dyn RegistryClient, from: &Reference, blob: &Descriptor, at: u64) -> Result<Vec<u8>> {
    let pieces: Vec<Bytes> = client.fetch_blob(from, blob, at).await?.try_collect().await?;
    Ok(pieces.concat())
}

fn layer(content: &str) -> (Descriptor, Bytes) {
    let bytes = Bytes::from(content.to_owned());
    (Descriptor::of(media_type::OCI_LAYER, &bytes), bytes)
}

/// Promise: what was pushed is fetched byte for byte, by tag and by digest, with its media type.
pub async fn pushed_image_is_fetched(client: &dyn RegistryClient, reference: &Reference) {
    let image = SampleImage::new("fetched");
    push(client, reference, &image).await;
    for name in [reference.clone(), reference.with_digest(image.manifest.digest.clone())] {
        let (descriptor, bytes) = client.fetch_manifest(&name).await.expect("fetch the manifest");
        assert_eq!(bytes, image.manifest_bytes);
        let resolved = client.resolve(&name).await.expect("resolve");
        for found in [descriptor, resolved] {
            assert_eq!(found.digest, image.manifest.digest);
            assert_eq!(found.size, image.manifest.size);
            assert_eq!(found.media_type, image.manifest.media_type);
        }
    }
    for layer in &image.layers {
        let bytes = fetch(client, reference, &layer.descriptor, 0).await.expect("fetch a layer");
        assert_eq!(bytes, layer.bytes);
    }
    assert_eq!(
        fetch(client, reference, &image.config, 0).await.expect("fetch the config"),
        image.config_bytes
    );
}

/// Promise: an index is pushed and fetched as a manifest is.
pub async fn pushed_index_is_fetched(client: &dyn RegistryClient, reference: &Reference) {
    let image = SampleImage::new("in an index");
    push(client, &reference.with_digest(image.manifest.digest.clone()), &image).await;
    let index = json!({
        "schemaVersion": 2, "mediaType": media_type::OCI_INDEX,
        "manifests": [{
            "mediaType": image.manifest.media_type, "digest": image.manifest.digest, "size": image.manifest.size,
            "platform": { "os": "linux", "architecture": "amd64" },
        }],
    });
    let bytes = Bytes::from(index.to_string());
    let descriptor = Descriptor::of(media_type::OCI_INDEX, &bytes);
    client.push_manifest(reference, &descriptor, bytes.clone()).await.expect("push the index");
    let (found, fetched) = client.fetch_manifest(reference).await.expect("fetch the index");
    assert_eq!((found.digest, found.media_type.as_str()), (descriptor.digest, media_type::OCI_INDEX));
    assert_eq!(fetched, bytes);
}

/// Promise: a tag points at what was pushed last; what it pointed at before is there by digest.
pub async fn tag_moves(client: &dyn RegistryClient, reference: &Reference) {
    let (old, new) = (SampleImage::new("old"), SampleImage::new("new"));
    push(client, reference, &old).await;
    push(client, reference, &new).await;
    assert_eq!(client.resolve(reference).await.expect("resolve").digest, new.manifest.digest);
    let pinned = reference.with_digest(old.manifest.digest.clone());
    assert_eq!(client.fetch_manifest(&pinned).await.expect("fetch by digest").1, old.manifest_bytes);
}

/// Promise: a repository, tag or digest that does not exist is not found.
pub async fn unknown_manifest_is_not_found(client: &dyn RegistryClient, reference: &Reference) {
    let not_found = &[ErrorKind::NotFound];
    assert_kind(client.resolve(reference).await, not_found, "resolve in no repository");
    assert_kind(client.fetch_manifest(reference).await, not_found, "fetch in no repository");
    push(client, reference, &SampleImage::new("there")).await;
    let tag = reference.with_tag("no-such-tag").expect("a tag");
    assert_kind(client.resolve(&tag).await, not_found, "resolve an unknown tag");
    assert_kind(client.fetch_manifest(&tag).await, not_found, "fetch an unknown tag");
    let pinned = reference.with_digest(Digest::sha256(b"no such manifest"));
    assert_kind(client.fetch_manifest(&pinned).await, not_found, "fetch an unknown digest");
}

/// Promise: a blob that does not exist is not found, at the call or at the first piece.
pub async fn unknown_blob_is_not_found(client: &dyn RegistryClient, reference: &Reference) {
    push(client, reference, &SampleImage::new("there")).await;
    let (missing, _) = layer("nobody pushed this");
    assert!(!client.has_blob(reference, &missing.digest).await.expect("has_blob"));
    assert_kind(fetch(client, reference, &missing, 0).await, &[ErrorKind::NotFound], "fetch");
}

/// Promise: a blob is read from any offset on.
pub async fn blob_is_read_from_an_offset(client: &dyn RegistryClient, reference: &Reference) {
    let (blob, bytes) = layer("0123456789");
    push_blob(client, reference, &blob, &bytes).await;
    for offset in [0_u8, 1, 9] {
        let read = fetch(client, reference, &blob, offset.into()).await.expect("fetch");
        assert_eq!(read, bytes[usize::from(offset)..], "from {offset}");
    }
}

/// Promise: a blob's stream never has more bytes than its descriptor says.
pub async fn blob_is_never_longer_than_its_descriptor(client: &dyn RegistryClient, reference: &Reference) {
    let (blob, bytes) = layer("0123456789");
    push_blob(client, reference, &blob, &bytes).await;
    let shorter = Descriptor::new(media_type::OCI_LAYER, blob.digest, 4);
    // A client may also refuse a blob whose length is not the expected one.
    if let Ok(read) = fetch(client, reference, &shorter, 0).await {
        assert!(read.len() <= 4, "{} bytes", read.len());
    }
}

/// Promise: pushing what is there is no error, and says so.
pub async fn pushing_a_blob_again_is_ok(client: &dyn RegistryClient, reference: &Reference) {
    let (blob, bytes) = layer("pushed twice");
    assert!(!client.has_blob(reference, &blob.digest).await.expect("has_blob before"));
    assert_eq!(push_blob(client, reference, &blob, &bytes).await, PushOutcome::Uploaded);
    assert!(client.has_blob(reference, &blob.digest).await.expect("has_blob after"));
    assert_eq!(push_blob(client, reference, &blob, &bytes).await, PushOutcome::Existed);
}

/// Promise: with `mount_from`, a blob gets there whether the registry can take it over or not.
pub async fn blob_is_taken_from_another_repository(client: &dyn RegistryClient, reference: &Reference) {
    let other: Reference =
        format!("{}/{}-other:x", reference.registry(), reference.repository()).parse().expect("a reference");
    let (there, bytes) = layer("there already");
    push_blob(client, &other, &there, &bytes).await;
    let source = BytesSource(bytes);
    client.push_blob(reference, &there, Some(other.repository()), &source).await.expect("push with a source");
    assert!(client.has_blob(reference, &there.digest).await.expect("has_blob"));
    let (absent, bytes) = layer("not there");
    let source = BytesSource(bytes);
    let outcome = client.push_blob(reference, &absent, Some(other.repository()), &source).await;
    assert_eq!(outcome.expect("push without anything to mount"), PushOutcome::Uploaded);
}

/// Promise: content that does not match its digest does not get into a registry.
pub async fn wrong_blob_is_not_accepted(client: &dyn RegistryClient, reference: &Reference) {
    let (blob, _) = layer("the right content");
    let wrong = BytesSource(Bytes::from_static(b"the wrong content"));
    client.push_blob(reference, &blob, None, &wrong).await.expect_err("push of wrong content");
    assert!(!client.has_blob(reference, &blob.digest).await.expect("has_blob"));
}

#[derive(Debug)]
struct FailingSource;

#[async_trait]
impl BlobSource for FailingSource {
    async fn open(&self, _: u64) -> Result<ByteStream> {
        Err(Error::new(ErrorKind::ResourceExhausted, "read the source"))
    }
}

/// Promise: where the source fails, the push fails and leaves nothing visible.
pub async fn failing_source_fails_the_push(client: &dyn RegistryClient, reference: &Reference) {
    let (blob, _) = layer("never read");
    client.push_blob(reference, &blob, None, &FailingSource).await.expect_err("push of nothing");
    assert!(!client.has_blob(reference, &blob.digest).await.expect("has_blob"));
}

/// Promise: all tags of a repository are listed.
pub async fn tags_are_listed(client: &dyn RegistryClient, reference: &Reference) {
    let image = SampleImage::new("tagged");
    let mut wanted = Vec::new();
    for tag in ["one", "two", "three"] {
        push(client, &reference.with_tag(tag).expect("a tag"), &image).await;
        wanted.push(tag.to_owned());
    }
    wanted.sort();
    let mut tags = client.list_tags(reference).await.expect("list");
    tags.sort();
    assert_eq!(tags, wanted);
}

/// Promise: a blob of several pieces arrives whole.
pub async fn large_blob_arrives_whole(client: &dyn RegistryClient, reference: &Reference) {
    let bytes: Bytes = (0..3_000_000_u32).map(|n| (n % 251) as u8).collect::<Vec<u8>>().into();
    let blob = Descriptor::of(media_type::OCI_LAYER, &bytes);
    push_blob(client, reference, &blob, &bytes).await;
    let read = fetch(client, reference, &blob, 0).await.expect("fetch");
    assert_eq!(Digest::sha256(&read), blob.digest);
}

/// Promise: a registry's credentials are checked, and a wrong secret is not repeated in the error.
///
/// Not part of [`all`]: it needs a registry that wants credentials.
pub async fn credentials_are_checked(client: &dyn RegistryClient, registry: &str, good: &Credentials) {
    client.check_credentials(registry, good).await.expect("the right credentials");
    let wrong = Credentials::Basic { username: "nobody".to_owned(), password: "s3cr3t-and-wrong".to_owned() };
    let error = client.check_credentials(registry, &wrong).await.expect_err("wrong credentials");
    assert_eq!(error.kind(), ErrorKind::Unauthenticated, "{error:?}");
    assert!(!format!("{error:?} {}", error.report()).contains("s3cr3t-and-wrong"), "the secret is shown");
}

/// Promise: without credentials, a registry that wants them is not reached.
///
/// Not part of [`all`]: `client` has no credentials for the registry of `reference`, which wants some.
pub async fn stranger_is_refused(client: &dyn RegistryClient, reference: &Reference) {
    let refused = &[ErrorKind::Unauthenticated, ErrorKind::PermissionDenied];
    assert_kind(client.resolve(reference).await, refused, "resolve");
    assert_kind(client.fetch_manifest(reference).await, refused, "fetch");
    let (blob, bytes) = layer("refused");
    let pushed = client.push_blob(reference, &blob, None, &BytesSource(bytes)).await;
    assert_kind(pushed, refused, "push");
}

/// Promise: who is refused is let in with credentials given for the purpose, and is refused as before afterwards.
///
/// Not part of [`all`]: `client` has no credentials for the registry of `reference`, which wants `good` and has nothing there.
pub async fn credentials_are_lent(client: &dyn RegistryClient, reference: &Reference, good: &Credentials) {
    let refused = &[ErrorKind::Unauthenticated, ErrorKind::PermissionDenied];
    let wrong = Credentials::Basic { username: "nobody".to_owned(), password: "s3cr3t-and-wrong".to_owned() };
    let stranger = client.with_credentials(reference.registry(), wrong);
    let error = stranger.resolve(reference).await.expect_err("wrong credentials");
    assert!(refused.contains(&error.kind()), "{error:?}");
    let texts = format!("{error:?} {} {stranger:?}", error.report());
    assert!(!texts.contains("s3cr3t-and-wrong"), "the secret is shown");
    let friend = client.with_credentials(reference.registry(), good.clone());
    let image = SampleImage::new("lent");
    push(&*friend, reference, &image).await;
    let found = friend.resolve(reference).await.expect("resolve with credentials");
    assert_eq!(found.digest, image.manifest.digest);
    assert_kind(client.resolve(reference).await, refused, "resolve afterwards");
}
