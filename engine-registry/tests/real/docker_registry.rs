//! Pulling and pushing with and without TLS and a password, resuming, deleting, credentials.

use std::fs;

use async_trait::async_trait;
use bytes::Bytes;
use engine_core::descriptor::{Descriptor, media_type};
use engine_core::digest::Digest;
use engine_core::error::{ErrorKind, Result};
use engine_core::io::ByteStream;
use engine_core::manifest::Manifest;
use engine_core::reference::Reference;
use engine_core::registry_client::{BlobSource, Credentials, PushOutcome, RegistryClient as _};
use engine_registry::{DockerConfig, OciRegistry};
use engine_testkit::{RegistryMode, image, require};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};

use crate::{client_of, finish, leak_check, login, start};

#[derive(Debug)]
struct Content(Bytes);

#[async_trait]
impl BlobSource for Content {
    async fn open(&self, offset: u64) -> Result<ByteStream> {
        let rest = self.0.slice(offset as usize..);
        let pieces: Vec<_> = rest.chunks(64 << 10).map(|piece| Ok(Bytes::copy_from_slice(piece))).collect();
        Ok(Box::pin(stream::iter(pieces)))
    }
}

/// Reads an image as a pull does and checks every digest; returns the digests of its layers.
async fn pull(client: &OciRegistry, reference: &Reference) -> Vec<Digest> {
    let resolved = client.resolve(reference).await.unwrap();
    let (descriptor, bytes) =
        client.fetch_manifest(&reference.with_digest(resolved.digest.clone())).await.unwrap();
    assert_eq!(descriptor, resolved, "HEAD and GET agree");
    assert_eq!(client.fetch_manifest(reference).await.unwrap().1, bytes, "by tag and by digest");
    let Manifest::Image(image) = Manifest::parse(&bytes, &descriptor.media_type).unwrap() else {
        panic!("an index")
    };
    for blob in image.layers.iter().chain([&image.config]) {
        let pieces: Vec<Bytes> =
            client.fetch_blob(reference, blob, 0).await.unwrap().try_collect().await.unwrap();
        let content = pieces.concat();
        assert_eq!((blob.digest.rehash(&content), content.len() as u64), (blob.digest.clone(), blob.size));
        let offset = blob.size / 2;
        let pieces: Vec<Bytes> =
            client.fetch_blob(reference, blob, offset).await.unwrap().try_collect().await.unwrap();
        assert_eq!(pieces.concat(), content[offset as usize..], "the second half");
        assert!(client.has_blob(reference, &blob.digest).await.unwrap());
    }
    image.layers.into_iter().map(|layer| layer.digest).collect()
}

async fn push(client: &OciRegistry, reference: &Reference, size: usize) -> Descriptor {
    let layer = Bytes::from((0..size).map(|n| (n * 31 % 253) as u8).collect::<Vec<_>>());
    let config = Bytes::from_static(
        br#"{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]}}"#,
    );
    let layer_blob = Descriptor::of(media_type::OCI_LAYER, &layer);
    let config_blob = Descriptor::of(media_type::OCI_CONFIG, &config);
    for (blob, content) in [(&layer_blob, layer), (&config_blob, config)] {
        assert!(!client.has_blob(reference, &blob.digest).await.unwrap());
        let source = Content(content);
        let outcome = client.push_blob(reference, blob, None, &source).await.unwrap();
        assert_eq!(outcome, PushOutcome::Uploaded);
        let outcome = client.push_blob(reference, blob, None, &source).await.unwrap();
        assert_eq!(outcome, PushOutcome::Existed);
    }
    let text = format!(
        r#"{{"schemaVersion":2,"mediaType":"{}","config":{},"layers":[{}]}}"#,
        media_type::OCI_MANIFEST,
        serde_json::to_string(&config_blob).unwrap(),
        serde_json::to_string(&layer_blob).unwrap()
    );
    let manifest = Descriptor::of(media_type::OCI_MANIFEST, text.as_bytes());
    client.push_manifest(reference, &manifest, Bytes::from(text)).await.unwrap();
    layer_blob
}

async fn everything(mode: RegistryMode) {
    require!("docker-registry", "busybox", "htpasswd");
    let leaks = leak_check();
    let registry = start(mode).await;
    let (registry, reference) = tokio::task::spawn_blocking(move || {
        let reference = registry.push(&image::busybox(), "library/busybox", "latest");
        (registry, reference)
    })
    .await
    .unwrap();
    let client = client_of(&registry, mode);
    assert!(!pull(&client, &reference.parse().unwrap()).await.is_empty());

    // 20 MiB: more than any buffer between the two.
    let pushed: Reference = format!("{}/team/app:1", registry.host()).parse().unwrap();
    let layer = push(&client, &pushed, 20 << 20).await;
    assert_eq!(pull(&client, &pushed).await, std::slice::from_ref(&layer.digest));

    // The registry takes the layer over from the other repository: no content is read.
    let mounted: Reference = format!("{}/other/app:2", registry.host()).parse().unwrap();
    let outcome = client.push_blob(&mounted, &layer, Some("team/app"), &Content(Bytes::new())).await.unwrap();
    assert_eq!(outcome, PushOutcome::Mounted);
    assert!(client.has_blob(&mounted, &layer.digest).await.unwrap());
    // From a repository that does not have it, the bytes go.
    let content = Bytes::from_static(b"new");
    let small = Descriptor::of(media_type::OCI_LAYER, &content);
    let outcome = client.push_blob(&mounted, &small, Some("no/such"), &Content(content)).await.unwrap();
    assert_eq!(outcome, PushOutcome::Uploaded);
    // The empty blob.
    let empty = Descriptor::of(media_type::OCI_LAYER, b"");
    let outcome = client.push_blob(&mounted, &empty, None, &Content(Bytes::new())).await.unwrap();
    assert!(matches!(outcome, PushOutcome::Uploaded | PushOutcome::Existed));

    let (descriptor, bytes) = client.fetch_manifest(&pushed).await.unwrap();
    for tag in ["2", "latest"] {
        client.push_manifest(&pushed.with_tag(tag).unwrap(), &descriptor, bytes.clone()).await.unwrap();
    }
    let mut tags = client.list_tags(&pushed).await.unwrap();
    tags.sort();
    assert_eq!(tags, ["1", "2", "latest"]);

    // What is not there, and what is not right.
    let absent: Reference = format!("{}/team/app:none", registry.host()).parse().unwrap();
    for error in
        [client.resolve(&absent).await.unwrap_err(), client.fetch_manifest(&absent).await.unwrap_err()]
    {
        assert_eq!(error.kind(), ErrorKind::NotFound, "{error:?}");
    }
    let unknown = Descriptor::of(media_type::OCI_LAYER, b"unknown");
    let error = client.fetch_blob(&pushed, &unknown, 0).await.err().unwrap();
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error:?}");
    let error = client.push_blob(&pushed, &unknown, None, &Content(Bytes::from_static(b"another"))).await;
    assert_eq!(error.unwrap_err().kind(), ErrorKind::Corrupt);
    let lacking = format!(
        r#"{{"schemaVersion":2,"mediaType":"{}","config":{},"layers":[]}}"#,
        media_type::OCI_MANIFEST,
        serde_json::to_string(&Descriptor::of(media_type::OCI_CONFIG, b"not there")).unwrap()
    );
    let manifest = Descriptor::of(media_type::OCI_MANIFEST, lacking.as_bytes());
    let error = client.push_manifest(&pushed, &manifest, Bytes::from(lacking)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error:?}");

    if matches!(mode, RegistryMode::Password | RegistryMode::TlsPassword) {
        let wrong = Credentials::Basic { username: "tester".to_owned(), password: "wrong".to_owned() };
        client.check_credentials(&registry.host(), &login()).await.unwrap();
        let error = client.check_credentials(&registry.host(), &wrong).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unauthenticated, "{error:?}");
        let ca = registry.ca_file().map(|ca| fs::read(ca).unwrap());
        let builder = || match &ca {
            Some(ca) => OciRegistry::builder().with_ca_pem(ca.clone()),
            None => OciRegistry::builder(),
        };
        let error = builder().build().unwrap().resolve(&pushed).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unauthenticated, "{error:?}");
        // As after a login.
        let dir = tempfile::tempdir().unwrap();
        let config = DockerConfig::new(dir.path().join("config.json"));
        config.store(&registry.host(), &login()).await.unwrap();
        let client = builder().with_docker_config(config.clone()).build().unwrap();
        client.resolve(&pushed).await.unwrap();
        config.erase(&registry.host()).await.unwrap();
        let client = builder().with_docker_config(config).build().unwrap();
        assert!(client.resolve(&pushed).await.is_err());
    }
    if registry.ca_file().is_some() {
        let error = OciRegistry::new().resolve(&pushed).await.unwrap_err();
        assert!(error.kind() == ErrorKind::Unavailable && !error.is_retryable(), "{error:?}");
    }
    drop(client);
    finish(leaks, registry).await;
}

#[tokio::test]
async fn plain() {
    everything(RegistryMode::Plain).await;
}

#[tokio::test]
async fn with_passwords() {
    everything(RegistryMode::Password).await;
}

#[tokio::test]
async fn with_tls() {
    everything(RegistryMode::Tls).await;
}

#[tokio::test]
async fn with_tls_and_passwords() {
    everything(RegistryMode::TlsPassword).await;
}

#[tokio::test]
async fn a_registry_that_dies_in_the_middle_is_an_error_with_a_sentence() {
    require!("docker-registry");
    let leaks = leak_check();
    let registry = start(RegistryMode::Plain).await;
    let client = OciRegistry::builder()
        .with_retry(engine_registry::RetryPolicy::default().with_attempts(2))
        .build()
        .unwrap();
    let reference: Reference = format!("{}/team/app:1", registry.host()).parse().unwrap();
    let layer = push(&client, &reference, 64 << 20).await;
    let mut stream = client.fetch_blob(&reference, &layer, 0).await.unwrap();
    stream.next().await.unwrap().unwrap();
    tokio::task::spawn_blocking(move || drop(registry)).await.unwrap();
    let error = stream.try_collect::<Vec<_>>().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
    assert!(error.report().contains("team/app") && error.is_retryable(), "{error:?}");
    drop(client);
    leaks.finish_async().await;
}
