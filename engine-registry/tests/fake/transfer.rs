//! Transfers: retries, resuming, limits, mirrors, uploads.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use engine_core::descriptor::{Descriptor, media_type};
use engine_core::error::{Error, ErrorKind, Result};
use engine_core::io::ByteStream;
use engine_core::registry_client::{BlobSource, PushOutcome, RegistryClient as _};
use engine_registry::{OciRegistry, RetryPolicy};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};

use crate::server::{Fake, Reply, Seen, dead_port};
use crate::{everything, quick};

fn content() -> Vec<u8> {
    (0..200_000_u32).map(|n| (n * 7 % 251) as u8).collect()
}

async fn read(registry: &OciRegistry, fake: &Fake, blob: &Descriptor, offset: u64) -> Result<Vec<u8>> {
    let mut stream = registry.fetch_blob(&fake.reference("a:b"), blob, offset).await?;
    let mut bytes = Vec::new();
    while let Some(piece) = stream.next().await {
        bytes.extend_from_slice(&piece?);
    }
    Ok(bytes)
}

fn start_of(seen: &Seen) -> Option<usize> {
    seen.header("range")?.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok()
}

/// Answers with the content from the range on, cut after `most` bytes.
fn cut(seen: &Seen, content: &[u8], most: usize) -> Reply {
    let start = start_of(seen).unwrap_or(0);
    let rest = &content[start..];
    let end = rest.len().min(most);
    let reply = if start > 0 {
        let range = format!("bytes {start}-{}/{}", content.len() - 1, content.len());
        Reply::new(206).header("Content-Range", range)
    } else {
        Reply::new(200)
    };
    reply.body(&rest[..end]).claiming(rest.len())
}

#[tokio::test]
async fn a_broken_stream_is_resumed_by_range() {
    let (content, blob) = (content(), Descriptor::of("x", &content()));
    let served = content.clone();
    let fake = Fake::start(move |seen| cut(seen, &served, 30_000)).await;
    let registry = quick().build().unwrap();
    assert_eq!(read(&registry, &fake, &blob, 0).await.unwrap(), content);
    let starts: Vec<_> = fake.requests().iter().map(|seen| start_of(seen).unwrap_or(0)).collect();
    assert_eq!(starts, (0..7).map(|n| n * 30_000).collect::<Vec<_>>());
    // From an offset, as after a restart of the program.
    assert_eq!(read(&registry, &fake, &blob, 150_001).await.unwrap(), content[150_001..]);
    assert_eq!(read(&registry, &fake, &blob, 200_000).await.unwrap(), [0; 0]);
    assert_eq!(read(&registry, &fake, &blob, 200_001).await.unwrap_err().kind(), ErrorKind::InvalidArgument);
}

#[tokio::test]
async fn a_registry_that_ignores_ranges_is_read_again_and_skipped() {
    let (content, blob) = (content(), Descriptor::of("x", &content()));
    let (served, calls) = (content.clone(), AtomicUsize::new(0));
    let fake = Fake::start(move |_| {
        let call = calls.fetch_add(1, Ordering::SeqCst);
        let end = if call < 2 { 70_000 * (call + 1) } else { served.len() };
        Reply::new(200).body(&served[..end]).claiming(served.len())
    })
    .await;
    assert_eq!(read(&quick().build().unwrap(), &fake, &blob, 0).await.unwrap(), content);
    assert_eq!(fake.requests().len(), 3);
}

#[tokio::test]
async fn a_silent_registry_is_left_and_resumed() {
    let (content, blob) = (content(), Descriptor::of("x", &content()));
    let (served, calls) = (content.clone(), AtomicUsize::new(0));
    let fake = Fake::start(move |seen| {
        let first = calls.fetch_add(1, Ordering::SeqCst) == 0;
        if first {
            cut(seen, &served, 10).hanging(Duration::from_secs(30))
        } else {
            cut(seen, &served, usize::MAX)
        }
    })
    .await;
    let start = Instant::now();
    assert_eq!(read(&quick().build().unwrap(), &fake, &blob, 0).await.unwrap(), content);
    assert!(start.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn a_truncated_blob_ends_in_an_error() {
    let (content, blob) = (content(), Descriptor::of("x", &content()));
    // It really has no more, whatever range it is asked for.
    let fake = Fake::start(move |seen| {
        let start = start_of(seen).unwrap_or(0).min(1_000);
        cut(seen, &content, 1_000 - start)
    })
    .await;
    let error = read(&quick().build().unwrap(), &fake, &blob, 0).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
    assert!(fake.requests().len() <= 5);
}

/// Makes an answer from the content.
type Answering = Box<dyn Fn(&[u8]) -> Reply + Send + Sync>;

#[tokio::test]
async fn wrong_ranges_sizes_and_encodings_are_refused() {
    let (content, blob) = (content(), Descriptor::of("x", &content()));
    let total = content.len();
    let wrong: Vec<Answering> = vec![
        Box::new(move |c| {
            Reply::new(206).header("Content-Range", format!("bytes 0-{}/{total}", total - 1)).body(c)
        }),
        Box::new(move |c| {
            Reply::new(206)
                .header("Content-Range", format!("bytes 101-{}/{total}", total - 1))
                .body(&c[101..])
        }),
        Box::new(move |c| {
            Reply::new(206)
                .header("Content-Range", format!("bytes 100-{total}/{}", total + 1))
                .body(&c[100..])
        }),
        Box::new(|c| Reply::new(206).body(&c[100..])),
        Box::new(|c| Reply::new(200).body([c, b"x"].concat())),
        Box::new(|c| Reply::new(200).body(&c[1..])),
        Box::new(|c| Reply::new(200).header("Content-Encoding", "gzip").body(c)),
        // No length claimed, one byte too many.
        Box::new(|c| Reply::new(200).body([c, b"x"].concat()).chunked()),
    ];
    for (number, reply) in wrong.into_iter().enumerate() {
        let served = content.clone();
        let fake = Fake::start(move |_| reply(&served)).await;
        let registry = quick().build().unwrap();
        let mut stream = match registry.fetch_blob(&fake.reference("a"), &blob, 100).await {
            Ok(stream) => stream,
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Corrupt, "{number}: {error:?}");
                continue;
            }
        };
        let mut sum = 100;
        let error = loop {
            match stream.next().await {
                Some(Ok(piece)) => sum += piece.len() as u64,
                Some(Err(error)) => break error,
                None => panic!("{number}: accepted"),
            }
        };
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{number}: {error:?}");
        assert!(sum <= blob.size, "{number}: {sum} bytes");
    }
}

#[tokio::test]
async fn busy_registries_are_asked_again_when_they_say() {
    let calls = AtomicUsize::new(0);
    let fake = Fake::start(move |_| match calls.fetch_add(1, Ordering::SeqCst) {
        0 => Reply::new(429).header("Retry-After", 1),
        1 => Reply::new(503),
        _ => Reply::new(200).body(r#"{"name":"a","tags":null}"#),
    })
    .await;
    let start = Instant::now();
    let tags = quick().build().unwrap().list_tags(&fake.reference("a")).await.unwrap();
    assert!(tags.is_empty() && start.elapsed() >= Duration::from_secs(1) && fake.requests().len() == 3);
    // One that asks for an hour is not waited for.
    let fake = Fake::start(|_| Reply::new(429).header("Retry-After", 3600)).await;
    let error = quick().build().unwrap().list_tags(&fake.reference("a")).await.unwrap_err();
    assert!(error.kind() == ErrorKind::Unavailable && error.report().contains("3600 s"), "{error:?}");
    assert!(error.is_retryable() && fake.requests().len() == 1);
}

#[tokio::test]
async fn failures_say_what_failed_and_what_to_do() {
    let port = dead_port().await;
    let registry = quick().build().unwrap();
    let down = format!("127.0.0.1:{port}/team/app:1").parse().unwrap();
    let error = registry.resolve(&down).await.unwrap_err();
    let text = error.report();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    for part in [&format!("127.0.0.1:{port}"), "team/app", "onnection refused", "registry is up"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let fake = Fake::start(|_| {
        Reply::new(404).body(r#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}"#)
    })
    .await;
    let error = registry.fetch_manifest(&fake.reference("team/app:9")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.report().contains("no such tag") && error.report().contains("\"9\""), "{error:?}");
    let fake = Fake::start(|_| Reply::new(401).header("WWW-Authenticate", "Basic realm=\"x\"")).await;
    let error = registry.resolve(&fake.reference("a")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unauthenticated);
    assert!(error.report().contains(&format!("engine-cli login {}", fake.host())), "{error:?}");
}

#[tokio::test]
async fn mirrors_are_tried_in_order_and_the_registry_last() {
    let manifest = format!(
        r#"{{"schemaVersion":2,"mediaType":"{}","config":{},"layers":[]}}"#,
        media_type::OCI_MANIFEST,
        serde_json::to_string(&Descriptor::of(media_type::OCI_CONFIG, b"{}")).unwrap()
    );
    let (content, blob) = (content(), Descriptor::of("x", &content()));
    let dead = dead_port().await;
    let empty = Fake::start(|_| Reply::new(404)).await;
    let liar = Fake::start(|_| Reply::new(200).header("Content-Type", "text/html").body("<html>")).await;
    // Breaks every blob after 50,000 bytes.
    let (half, whole) = (content.clone(), content.clone());
    let flaky = Fake::start(move |seen| {
        if seen.path().contains("/blobs/") {
            let start = start_of(seen).unwrap_or(0);
            return cut(seen, &half, 50_000_usize.saturating_sub(start));
        }
        Reply::new(500)
    })
    .await;
    let text = manifest.clone();
    let origin = Fake::start(move |seen| {
        if seen.path().contains("/blobs/") {
            return cut(seen, &whole, usize::MAX);
        }
        Reply::new(200).header("Content-Type", media_type::OCI_MANIFEST).body(text.clone())
    })
    .await;
    let registry = quick()
        .with_mirror(&origin.host(), &format!("http://127.0.0.1:{dead}"))
        .with_mirror(&origin.host(), &format!("{}/", empty.host()))
        .with_mirror(&origin.host(), &format!("http://{}/proxy", liar.host()))
        .with_mirror(&origin.host(), &flaky.host())
        .build();
    let registry = registry.unwrap();
    let (descriptor, bytes) = registry.fetch_manifest(&origin.reference("a:b")).await.unwrap();
    assert_eq!(
        (bytes, descriptor),
        (Bytes::from(manifest.clone()), Descriptor::of(media_type::OCI_MANIFEST, manifest.as_bytes()))
    );
    assert!(!empty.requests().is_empty() && !flaky.requests().is_empty());
    assert!(liar.requests().iter().all(|seen| seen.target.starts_with("/proxy/v2/a/")));
    // The stream moves on to the next place in the middle.
    let got = registry.fetch_blob(&origin.reference("a:b"), &blob, 0).await;
    // The liar answers a blob with ten bytes of HTML, which is refused by its length.
    let got: Vec<Bytes> = got.unwrap().try_collect().await.unwrap();
    assert_eq!(got.concat(), content);
    let last = origin.requests().pop().unwrap();
    assert_eq!(start_of(&last), Some(50_000));
    // Docker Hub's name, served by a mirror alone.
    let hub = OciRegistry::builder().with_mirror("docker.io", &origin.host()).build().unwrap();
    hub.resolve(&"busybox".parse().unwrap()).await.unwrap();
    assert!(origin.requests().pop().unwrap().target.starts_with("/v2/library/busybox/manifests/latest"));
    // Mirrors are told whom they stand for, and the registry is asked as ever.
    let ns = format!("ns={}", origin.host().replace(':', "%3A"));
    for mirror in [&empty, &liar, &flaky] {
        assert!(mirror.requests().iter().all(|seen| seen.query() == Some(&*ns)), "{:?}", mirror.requests());
    }
    let direct = origin.requests().into_iter().filter(|seen| seen.path().starts_with("/v2/a/"));
    assert!(direct.clone().count() > 1 && direct.clone().all(|seen| seen.query().is_none()));
    // Pushes and lists are for the registry itself.
    let before = empty.requests().len();
    let _ = registry.list_tags(&origin.reference("a")).await;
    assert_eq!(empty.requests().len(), before);
}

#[tokio::test]
async fn one_mirror_stands_for_several_registries() {
    let (content, blob) = (content(), Descriptor::of("x", &content()));
    let manifest = |registry: &str| {
        let config = Descriptor::of(media_type::OCI_CONFIG, registry.as_bytes());
        let config = serde_json::to_string(&config).unwrap();
        let kind = media_type::OCI_MANIFEST;
        format!(r#"{{"schemaVersion":2,"mediaType":"{kind}","config":{config},"layers":[]}}"#)
    };
    let served = content.clone();
    let storage = Fake::start(move |seen| cut(seen, &served, usize::MAX)).await;
    let signed = format!("http://{}/blob?signature=x%2Fy", storage.host());
    // As some do: it knows its upstreams by `ns` alone, wants a token, and has blobs elsewhere.
    let mirror = Fake::start(move |seen| {
        let query = seen.query().unwrap_or_default().to_owned();
        if seen.path() == "/token" {
            return Reply::new(200).body(r#"{"token":"t"}"#);
        }
        if seen.header("authorization") != Some("Bearer t") {
            let realm =
                format!("Bearer realm=\"http://{}/token\",service=\"m\"", seen.header("host").unwrap());
            return Reply::new(401).header("WWW-Authenticate", realm);
        }
        if seen.path().contains("/blobs/") {
            return Reply::new(307).header("Location", &signed);
        }
        match query.strip_prefix("ns=") {
            Some(registry) => {
                Reply::new(200).header("Content-Type", media_type::OCI_MANIFEST).body(manifest(registry))
            }
            None => Reply::new(400),
        }
    })
    .await;
    let others = [dead_port().await, dead_port().await].map(|port| format!("127.0.0.1:{port}"));
    let url = format!("http://{}/proxy", mirror.host());
    let registries = ["docker.io", &others[0], &others[1]];
    let client = registries.iter().fold(quick(), |client, registry| client.with_mirror(registry, &url));
    let client = client.build().unwrap();
    for registry in registries {
        let reference = format!("{registry}/a/b:c").parse().unwrap();
        let expected = manifest(&registry.replace(':', "%3A"));
        let (descriptor, bytes) = client.fetch_manifest(&reference).await.unwrap();
        assert_eq!(bytes, Bytes::from(expected));
        assert_eq!(client.resolve(&reference).await.unwrap().digest, descriptor.digest);
        let got: Vec<Bytes> =
            client.fetch_blob(&reference, &blob, 0).await.unwrap().try_collect().await.unwrap();
        assert_eq!(got.concat(), content);
        let ns = format!("ns={}", registry.replace(':', "%3A"));
        let asked = mirror.requests();
        let asked = asked.iter().filter(|seen| seen.query() == Some(&*ns));
        let (mut heads, mut manifests, mut blobs) = (0, 0, 0);
        for seen in asked {
            assert!(seen.path().starts_with("/proxy/v2/a/b/"), "{}", seen.target);
            match (&*seen.method, seen.path().contains("/blobs/")) {
                ("HEAD", _) => heads += 1,
                (_, true) => blobs += 1,
                (_, false) => manifests += 1,
            }
        }
        assert!(heads > 0 && manifests > 0 && blobs > 0, "{registry}: {heads} {manifests} {blobs}");
    }
    // Where it redirects to is asked exactly as it said, and its token server knows nothing of upstreams.
    assert!(storage.requests().iter().all(|seen| seen.target == "/blob?signature=x%2Fy"));
    assert!(storage.requests().iter().all(|seen| seen.header("authorization").is_none()));
    let tokens = mirror.requests().into_iter().filter(|seen| seen.path() == "/token");
    assert!(tokens.clone().count() > 0 && tokens.clone().all(|seen| !seen.target.contains("ns=")));
}

/// Content in pieces; `fails` of its streams break in the middle.
#[derive(Debug)]
struct Pieces {
    bytes: Vec<u8>,
    opened: AtomicUsize,
    breaks: bool,
}

#[async_trait]
impl BlobSource for Pieces {
    async fn open(&self, offset: u64) -> Result<ByteStream> {
        self.opened.fetch_add(1, Ordering::SeqCst);
        let rest = self.bytes[offset as usize..].to_vec();
        let mut pieces: Vec<_> = rest.chunks(10_000).map(|piece| Ok(Bytes::copy_from_slice(piece))).collect();
        if self.breaks {
            pieces[3] = Err(Error::new(ErrorKind::Corrupt, "read blob").with_message("the disk ate it"));
        }
        Ok(Box::pin(stream::iter(pieces)))
    }
}

fn pieces(breaks: bool) -> Pieces {
    Pieces { bytes: content(), opened: AtomicUsize::new(0), breaks }
}

#[tokio::test]
async fn a_broken_upload_begins_anew() {
    let (uploads, stored) = (AtomicUsize::new(0), Arc::new(Mutex::new(Vec::new())));
    let store = Arc::clone(&stored);
    let fake = Fake::start(move |seen| match seen.method.as_str() {
        "POST" => Reply::new(202).header("Location", "/v2/a/blobs/uploads/1?_state=x%2Fy"),
        "PUT" if uploads.fetch_add(1, Ordering::SeqCst) < 2 => Reply::new(502),
        "PUT" => {
            *store.lock().unwrap() = seen.body.clone();
            Reply::new(201)
        }
        _ => Reply::new(404),
    })
    .await;
    let (source, blob) = (pieces(false), Descriptor::of("x", &content()));
    let registry = quick().build().unwrap();
    let outcome = registry.push_blob(&fake.reference("a"), &blob, None, &source).await.unwrap();
    assert_eq!((outcome, source.opened.load(Ordering::SeqCst)), (PushOutcome::Uploaded, 3));
    assert_eq!(*stored.lock().unwrap(), content());
    let put = fake.requests().pop().unwrap();
    assert_eq!(put.header("content-length"), Some("200000"));
    assert!(put.target.contains("_state=x%2Fy&digest=sha256%3A"), "{}", put.target);
}

#[tokio::test]
async fn a_source_that_fails_or_lies_about_its_size_stops_the_push() {
    let fake = Fake::start(|seen| match seen.method.as_str() {
        "POST" => Reply::new(202).header("Location", "/v2/a/blobs/uploads/1"),
        "PUT" => Reply::new(201),
        _ => Reply::new(404),
    })
    .await;
    let registry = quick().build().unwrap();
    let right = Descriptor::of("x", &content());
    for (source, size) in [(pieces(true), 200_000), (pieces(false), 199_999), (pieces(false), 200_001)] {
        let blob = Descriptor::new("x", right.digest.clone(), size);
        let error = registry.push_blob(&fake.reference("a"), &blob, None, &source).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{error:?}");
        assert!(everything(&error).contains("read blob"), "{error:?}");
    }
    assert!(
        fake.requests().iter().all(|seen| seen.method != "PUT"),
        "a body that is not whole is no request"
    );
}

#[tokio::test]
async fn an_upload_that_nobody_takes_ends() {
    let fake = Fake::start(|seen| match seen.method.as_str() {
        "POST" => Reply::new(202).header("Location", "/v2/a/blobs/uploads/1"),
        _ => Reply::new(404),
    })
    .await;
    // A listener that accepts and never reads.
    let deaf = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let location = format!("http://{}/u", deaf.local_addr().unwrap());
    let post = Fake::start(move |seen| match seen.method.as_str() {
        "POST" => Reply::new(202).header("Location", &location),
        _ => Reply::new(404),
    })
    .await;
    drop(fake);
    let timeouts = engine_registry::Timeouts::default()
        .with_connect(Duration::from_millis(200))
        .with_idle(Duration::from_millis(200))
        .with_answer(Duration::from_millis(200));
    let registry = OciRegistry::builder()
        .with_timeouts(timeouts)
        .with_retry(RetryPolicy::default().with_attempts(1))
        .build()
        .unwrap();
    let blob = Descriptor::of("x", &content());
    let start = Instant::now();
    let error = registry.push_blob(&post.reference("a"), &blob, None, &pieces(false)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::DeadlineExceeded, "{error:?}");
    assert!(start.elapsed() < Duration::from_secs(10));
}

#[tokio::test]
async fn a_registry_that_stores_another_manifest_is_caught() {
    let fake = Fake::start(|_| {
        Reply::new(201).header("Docker-Content-Digest", engine_core::digest::Digest::sha256(b"other"))
    })
    .await;
    let bytes = Bytes::from_static(b"{}");
    let manifest = Descriptor::of(media_type::OCI_MANIFEST, &bytes);
    let registry = quick().build().unwrap();
    let error = registry.push_manifest(&fake.reference("a:b"), &manifest, bytes).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    // And so is a caller whose bytes are not what the descriptor says.
    let error = registry.push_manifest(&fake.reference("a:b"), &manifest, Bytes::from_static(b"[]")).await;
    assert_eq!(error.unwrap_err().kind(), ErrorKind::Corrupt);
    assert_eq!(fake.requests().len(), 1);
}

#[tokio::test]
async fn pages_of_tags_are_followed_within_the_registry_only() {
    let fake = Fake::start(|seen| match seen.target.as_str() {
        "/v2/a/tags/list" => Reply::new(200)
            .header("Link", r#"</v2/a/tags/list?last=2>; rel="next""#)
            .body(r#"{"name":"a","tags":["1","2"]}"#),
        "/v2/a/tags/list?last=2" => Reply::new(200).body(r#"{"name":"a","tags":["3"]}"#),
        "/v2/loop/tags/list" => Reply::new(200)
            .header("Link", r#"</v2/loop/tags/list>; rel="next""#)
            .body(r#"{"name":"a","tags":[]}"#),
        _ => Reply::new(200)
            .header("Link", r#"<http://127.0.0.1:1/x>; rel="next""#)
            .body(r#"{"name":"a","tags":["1"]}"#),
    })
    .await;
    let registry = quick().build().unwrap();
    assert_eq!(registry.list_tags(&fake.reference("a")).await.unwrap(), ["1", "2", "3"]);
    for name in ["loop", "elsewhere"] {
        let error = registry.list_tags(&fake.reference(name)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{error:?}");
    }
}

#[tokio::test]
async fn a_proxy_is_used_for_everything_but_loopback() {
    let proxy = Fake::start(|seen| match seen.method.as_str() {
        "CONNECT" => Reply::new(403),
        _ => Reply::new(200).body(r#"{"name":"a","tags":["through the proxy"]}"#),
    })
    .await;
    let local = Fake::start(|_| Reply::new(200).body(r#"{"name":"a","tags":["direct"]}"#)).await;
    let registry = quick()
        .with_proxy(&format!("http://{}", proxy.host()))
        .with_insecure("registry.example:5000")
        .build()
        .unwrap();
    let far = "registry.example:5000/a".parse().unwrap();
    assert_eq!(registry.list_tags(&far).await.unwrap(), ["through the proxy"]);
    assert_eq!(proxy.requests().last().unwrap().target, "http://registry.example:5000/v2/a/tags/list");
    assert_eq!(registry.list_tags(&local.reference("a")).await.unwrap(), ["direct"]);
    // 0.0.0.0 leads here too, and is no loopback address by its name.
    let host = format!("0.0.0.0:{}", local.port());
    let build = |direct: &str| {
        let builder = quick().with_proxy(&format!("http://{}", proxy.host())).with_insecure(&host);
        builder.with_no_proxy(direct).build().unwrap()
    };
    let near = format!("{host}/a").parse().unwrap();
    assert_eq!(build("").list_tags(&near).await.unwrap(), ["through the proxy"]);
    assert_eq!(build(".corp.example,0.0.0.0/8").list_tags(&near).await.unwrap(), ["direct"]);
}

/// What an upload looked like from the registry's side.
#[derive(Debug, Default)]
struct Uploads {
    received: Vec<u8>,
    steps: Vec<String>,
    broken: u32,
}

/// A registry that breaks the first PUT of a blob half way, and one PATCH; `resumes` says whether it tells where it is.
async fn fragile(resumes: bool, takes_pieces: bool) -> (Fake, Arc<Mutex<Uploads>>) {
    let uploads = Arc::new(Mutex::new(Uploads::default()));
    let state = Arc::clone(&uploads);
    let fake = Fake::start(move |seen| {
        let mut state = state.lock().unwrap();
        let range = |state: &Uploads| format!("0-{}", state.received.len().saturating_sub(1));
        let at = seen.header("content-range").map(|text| text.to_owned());
        state.steps.push(format!("{} {}", seen.method, at.as_deref().unwrap_or("-")));
        match seen.method.as_str() {
            "HEAD" => Reply::new(404),
            "POST" => {
                state.received.clear();
                Reply::new(202).header("Location", "/v2/a/blobs/uploads/1?s=0")
            }
            "GET" if resumes => {
                Reply::new(204).header("Range", range(&state)).header("Location", "/v2/a/blobs/uploads/1?s=1")
            }
            "PATCH" if !takes_pieces => Reply::new(405),
            "PATCH" => {
                let start: usize = at.unwrap().split('-').next().unwrap().parse().unwrap();
                assert_eq!(start, state.received.len(), "nothing is sent twice, and nothing is left out");
                state.broken += 1;
                let kept = if state.broken == 2 { seen.body.len() / 2 } else { seen.body.len() };
                state.received.extend_from_slice(&seen.body[..kept]);
                if state.broken == 2 {
                    return Reply::new(503);
                }
                Reply::new(202).header("Range", range(&state)).header("Location", "/v2/a/blobs/uploads/1?s=2")
            }
            "PUT" if state.broken == 0 => {
                state.broken += 1;
                let half = seen.body.len() / 2;
                state.received.extend_from_slice(&seen.body[..half]);
                Reply::new(503)
            }
            "PUT" => {
                if !seen.body.is_empty() {
                    state.received = seen.body.clone();
                }
                Reply::new(201)
            }
            _ => Reply::new(404),
        }
    })
    .await;
    (fake, uploads)
}

#[tokio::test]
async fn a_large_upload_goes_on_where_it_broke() {
    let content: Vec<u8> = (0..20_u32 << 20).map(|n| (n % 251) as u8).collect();
    let blob = Descriptor::of("x", &content);
    let source = engine_core::testing::registry_client::BytesSource(content.clone().into());
    let registry = quick().build().unwrap();
    let (fake, uploads) = fragile(true, true).await;
    let outcome = registry.push_blob(&fake.reference("a"), &blob, None, &source).await.unwrap();
    assert_eq!(outcome, PushOutcome::Uploaded);
    {
        let state = uploads.lock().unwrap();
        assert!(state.received == content, "{:?}", state.steps);
        assert_eq!(state.steps[..4], ["HEAD -", "POST -", "PUT -", "GET -"], "{:?}", state.steps);
        assert!(state.steps[4].starts_with("PATCH 10485760-"), "{:?}", state.steps);
        assert_eq!(state.steps.last().unwrap(), "PUT -");
        assert_eq!(
            state.steps.iter().filter(|step| step.starts_with("POST")).count(),
            1,
            "{:?}",
            state.steps
        );
    }
    // A registry that does not tell where it is gets it all again; one that takes no pieces, whole.
    for (resumes, takes_pieces) in [(false, true), (false, false), (true, false)] {
        let (fake, uploads) = fragile(resumes, takes_pieces).await;
        let outcome = registry.push_blob(&fake.reference("a"), &blob, None, &source).await.unwrap();
        assert_eq!(outcome, PushOutcome::Uploaded);
        let state = uploads.lock().unwrap();
        assert!(state.received == content, "{resumes} {takes_pieces}: {:?}", state.steps);
    }
}

#[tokio::test]
async fn referrers_come_from_the_api_or_from_a_tag() {
    let subject = Descriptor::of(media_type::OCI_MANIFEST, b"subject");
    let entry = |kind: &str| {
        let one = Descriptor::of(media_type::OCI_MANIFEST, kind.as_bytes());
        serde_json::json!({ "mediaType": one.media_type, "digest": one.digest, "size": one.size, "artifactType": kind })
    };
    let index = |entries: &[serde_json::Value]| {
        serde_json::json!({ "schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": entries })
            .to_string()
    };
    let api = format!("/v2/a/referrers/{}", subject.digest);
    let (first, second) = (index(&[entry("one")]), index(&[entry("two")]));
    let next = format!("<{api}?page=2>; rel=\"next\"");
    let fake = Fake::start(move |seen| {
        let reply = Reply::new(200).header("Content-Type", media_type::OCI_INDEX);
        match seen.target.as_str() {
            target if target == api => reply.header("Link", &next).body(first.clone()),
            target if target.ends_with("page=2") => reply.body(second.clone()),
            _ => Reply::new(404),
        }
    })
    .await;
    let registry = quick().build().unwrap();
    let pinned = fake.reference("a").with_digest(subject.digest.clone());
    let found = registry.list_referrers(&pinned, None).await.unwrap();
    let kinds: Vec<_> = found.iter().map(|entry| entry.artifact_type.as_deref().unwrap()).collect();
    assert_eq!(kinds, ["one", "two"]);
    assert_eq!(registry.list_referrers(&pinned, Some("two")).await.unwrap().len(), 1);
    let error = registry.list_referrers(&fake.reference("a:1"), None).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);

    // Without the API: the index under the tag, which a push keeps up to date.
    let tags: Arc<Mutex<HashMap<String, Vec<u8>>>> = Arc::default();
    let kept = Arc::clone(&tags);
    let fake =
        Fake::start(move |seen| match (seen.method.as_str(), seen.path().strip_prefix("/v2/a/manifests/")) {
            ("PUT", Some(tag)) => {
                kept.lock().unwrap().insert(tag.to_owned(), seen.body.clone());
                Reply::new(201)
            }
            ("GET", Some(tag)) => match kept.lock().unwrap().get(tag) {
                Some(bytes) => {
                    Reply::new(200).header("Content-Type", media_type::OCI_INDEX).body(bytes.clone())
                }
                None => Reply::new(404),
            },
            _ => Reply::new(404),
        })
        .await;
    let pinned = fake.reference("a").with_digest(subject.digest.clone());
    assert!(registry.list_referrers(&pinned, None).await.unwrap().is_empty());
    for kind in ["one", "two", "one"] {
        let config = Descriptor::of(media_type::OCI_EMPTY, b"{}");
        let text = serde_json::json!({ "schemaVersion": 2, "mediaType": media_type::OCI_MANIFEST, "artifactType": kind,
            "config": config, "layers": [config], "subject": subject })
        .to_string();
        let manifest = Descriptor::of(media_type::OCI_MANIFEST, text.as_bytes());
        let by_digest = fake.reference("a").with_digest(manifest.digest.clone());
        registry.push_manifest(&by_digest, &manifest, Bytes::from(text)).await.unwrap();
    }
    let found = registry.list_referrers(&pinned, None).await.unwrap();
    let kinds: Vec<_> = found.iter().map(|entry| entry.artifact_type.as_deref().unwrap()).collect();
    assert_eq!(kinds, ["one", "two"], "each once");
    assert!(tags.lock().unwrap().contains_key(&format!("sha256-{}", subject.digest.hex())));
}

#[tokio::test]
async fn repositories_are_listed_page_by_page() {
    let fake = Fake::start(|seen| match seen.target.as_str() {
        "/v2/_catalog?n=1000" => Reply::new(200)
            .header("Link", r#"</v2/_catalog?n=1000&last=b>; rel="next""#)
            .body(r#"{"repositories":["a","b"]}"#),
        "/v2/_catalog?n=1000&last=b" => Reply::new(200).body(r#"{"repositories":["c"]}"#),
        _ => Reply::new(404),
    })
    .await;
    let registry = quick().build().unwrap();
    assert_eq!(registry.catalog(&fake.host()).await.unwrap(), ["a", "b", "c"]);
    let other = Fake::start(|_| Reply::new(404)).await;
    assert_eq!(registry.catalog(&other.host()).await.unwrap_err().kind(), ErrorKind::Unsupported);
}
