//! A server that is a cache of another registry.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use engine_core::descriptor::media_type;
use engine_core::digest::Digest;
use engine_registry::OciRegistry;
use engine_registry::server::{
    FileStorage, GcPolicy, MemoryStorage, PullThrough, RegistryServer, RegistryServerBuilder, Storage,
    Upstream,
};
use engine_registry::{RetryPolicy, Timeouts};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use crate::client::{Image, Server};
use crate::observe::Heard;

fn upstream(addr: SocketAddr) -> Upstream {
    let retry = RetryPolicy::default().with_attempts(1);
    let timeouts = Timeouts::default().with_connect(Duration::from_secs(20));
    let client = OciRegistry::builder().with_retry(retry).with_timeouts(timeouts).build().unwrap();
    Upstream::new("up", client).with_registry(addr.to_string())
}

/// Starts a cache over a directory, which holds what lies in between, too.
async fn cache(
    upstream: Upstream,
    more: impl FnOnce(RegistryServerBuilder) -> RegistryServerBuilder,
) -> Server {
    let dir = tempfile::tempdir().unwrap();
    let storage = FileStorage::open(dir.path()).unwrap();
    let through = PullThrough::new(dir.path().join("spool")).with_upstream(upstream);
    let builder = RegistryServer::builder(storage).with_pull_through(through);
    Server::start(more(builder), Some(dir)).await
}

async fn origin() -> (Server, Heard) {
    let heard = Heard::default();
    let builder = RegistryServer::builder(MemoryStorage::new()).with_listener(heard.clone());
    (Server::start(builder, None).await, heard)
}

async fn pull(server: &Server, repository: &str, image: &Image, query: &str) {
    let said = server.get(&format!("/v2/{repository}/manifests/v{query}")).await.is(200);
    assert_eq!(
        (&said.body[..], said.header("content-type")),
        (image.text.as_bytes(), media_type::OCI_MANIFEST)
    );
    for blob in [&image.config, &image.layer] {
        let path = format!("/v2/{repository}/blobs/{}{query}", Digest::sha256(blob));
        assert_eq!(server.get(&path).await.is(200).body, *blob);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn content_is_fetched_once_and_served_when_the_upstream_is_gone() {
    let (mut origin, heard) = origin().await;
    let image = origin.push_image("team/app", "v").await;
    let server = cache(upstream(origin.addr).with_ttl(Duration::ZERO), |builder| builder).await;
    let layer = format!("/v2/up/team/app/blobs/{}", Digest::sha256(&image.layer));
    // A look fetches nothing, and knows the size.
    assert_eq!(server.head(&layer).await.is(200).header("content-length"), image.layer.len().to_string());
    pull(&server, "up/team/app", &image, "").await;
    pull(&server, "up/team/app", &image, "").await;
    // As clients do that take this one for a mirror.
    pull(&server, "team/app", &image, &format!("?ns={}", origin.addr)).await;
    server.get(&format!("/v2/up/team/app/manifests/{}", image.digest)).await.is(200);
    assert_eq!(heard.pulls(), 3, "the manifest, the configuration and the layer");
    let said = server.send("GET", &layer, &[("Range", "bytes=1-3")], "").await.is(206);
    assert_eq!(said.body, image.layer[1..4]);
    // What is not there is not there.
    server.get("/v2/up/team/app/manifests/w").await.fails(404, "MANIFEST_UNKNOWN");
    server
        .get(&format!("/v2/up/team/app/manifests/{}", Digest::sha256(b"x")))
        .await
        .fails(404, "MANIFEST_UNKNOWN");
    server.get(&format!("/v2/up/team/app/blobs/{}", Digest::sha256(b"x"))).await.fails(404, "BLOB_UNKNOWN");
    server.get("/v2/team/app/manifests/v").await.fails(404, "MANIFEST_UNKNOWN");
    assert_eq!(
        server.get("/v2/up/team/app/tags/list").await.is(200).json()["tags"],
        serde_json::json!(["v"])
    );
    // It is the upstream's: nobody pushes to it.
    server.post("/v2/up/team/app/blobs/uploads/").await.fails(405, "UNSUPPORTED");
    server.put("up/new", "v", media_type::OCI_MANIFEST, &image.text).await.fails(405, "UNSUPPORTED");
    server.push_image("own", "v").await;

    origin.stop().await;
    pull(&server, "up/team/app", &image, "").await;
    assert_eq!(
        server.get("/v2/up/team/app/tags/list").await.is(200).json()["tags"],
        serde_json::json!(["v"])
    );
    server.get("/v2/up/team/other/manifests/v").await.fails(502, "UNAVAILABLE");
    server.get(&format!("/v2/up/team/app/blobs/{}", Digest::sha256(b"x"))).await.fails(502, "UNAVAILABLE");
    pull(&server, "own", &Image::new("v"), "").await;
}

#[tokio::test]
async fn a_tag_is_as_fresh_as_asked_for() {
    let (origin, _) = origin().await;
    let lazy = cache(upstream(origin.addr).with_ttl(Duration::MAX), |builder| builder).await;
    let keen = cache(upstream(origin.addr).with_ttl(Duration::ZERO), |builder| builder).await;
    let old = origin.push_image("a", "old").await;
    origin.put("a", "v", media_type::OCI_MANIFEST, &old.text).await.is(201);
    for server in [&lazy, &keen] {
        assert_eq!(server.get("/v2/up/a/manifests/v").await.is(200).body, old.text);
    }
    let new = origin.push_image("a", "v").await;
    assert_eq!(lazy.get("/v2/up/a/manifests/v").await.is(200).body, old.text);
    assert_eq!(
        keen.head("/v2/up/a/manifests/v").await.is(200).header("docker-content-digest"),
        new.digest.to_string()
    );
    origin.delete("/v2/a/manifests/v").await.is(202);
    assert_eq!(lazy.get("/v2/up/a/manifests/v").await.is(200).body, old.text);
    keen.get("/v2/up/a/manifests/v").await.fails(404, "MANIFEST_UNKNOWN");
    // By its digest, it is what it was.
    assert_eq!(keen.get(&format!("/v2/up/a/manifests/{}", new.digest)).await.is(200).body, new.text);
}

#[tokio::test]
async fn what_nobody_asks_for_goes() {
    let (origin, heard) = origin().await;
    let image = origin.push_image("a", "v").await;
    // Long enough for what was fetched to be answered with before it goes.
    let unused = Duration::from_secs(2);
    let upstream = upstream(origin.addr).with_unused(Some(unused));
    let policy = GcPolicy::default().with_grace(unused);
    let server = cache(upstream, |builder| builder.with_gc(Duration::from_millis(20), policy)).await;
    server.get("/v2/up/a/manifests/v").await.is(200);
    let storage = FileStorage::open(server.dir.as_ref().unwrap().path()).unwrap();
    let gone = async {
        while storage.usage(None).await.unwrap().manifests > 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), gone).await.expect("it is evicted");
    assert_eq!(server.get("/v2/up/a/manifests/v").await.is(200).body, image.text);
    assert!(heard.pulls() >= 2, "it was fetched anew");
}

/// An upstream that has one blob, of which it sends the second half when it may.
async fn slow(size: usize, digest: Digest, bytes: Vec<u8>) -> (SocketAddr, Arc<AtomicU32>, Arc<Semaphore>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (addr, gets, may) =
        (listener.local_addr().unwrap(), Arc::new(AtomicU32::new(0)), Arc::new(Semaphore::new(0)));
    let (count, wait) = (Arc::clone(&gets), Arc::clone(&may));
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let (count, wait, bytes, digest) =
                (Arc::clone(&count), Arc::clone(&wait), bytes.clone(), digest.clone());
            tokio::spawn(async move {
                let _ = half(stream, size, &digest, &bytes, &count, &wait).await;
            });
        }
    });
    (addr, gets, may)
}

async fn half(
    mut stream: TcpStream,
    size: usize,
    digest: &Digest,
    bytes: &[u8],
    count: &AtomicU32,
    may: &Semaphore,
) -> std::io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        // A client tries TLS first.
        if stream.read_buf(&mut head).await? == 0 || !head.is_ascii() || head[0] == 22 {
            return Ok(());
        }
    }
    let head = String::from_utf8(head).unwrap();
    assert!(head.contains(&format!("/v2/a/blobs/{digest} ")), "{head}");
    let said = format!("HTTP/1.1 200 OK\r\nContent-Length: {size}\r\nConnection: close\r\n\r\n");
    stream.write_all(said.as_bytes()).await?;
    if head.starts_with("GET ") {
        count.fetch_add(1, Ordering::Relaxed);
        stream.write_all(&bytes[..size / 2]).await?;
        may.acquire().await.unwrap().forget();
        stream.write_all(&bytes[size / 2..]).await?;
    }
    stream.shutdown().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_read_what_one_fetches_while_it_comes() {
    let bytes: Vec<u8> = (0..2_000_000_u32).map(|n| (n % 253) as u8).collect();
    let digest = Digest::sha256(&bytes);
    let (addr, gets, may) = slow(bytes.len(), digest.clone(), bytes.clone()).await;
    let server = cache(upstream(addr), |builder| builder).await;
    let url = format!("{}/v2/up/a/blobs/{digest}", server.base);
    let mut answers = Vec::new();
    for _ in 0..5 {
        // Each has something before all of it is there, also whoever comes later.
        let mut answer = server.client.get(&url).send().await.unwrap();
        assert_eq!(answer.status(), 200);
        let mut got = Vec::new();
        while got.len() < 900_000 {
            got.extend_from_slice(&answer.chunk().await.unwrap().expect("a piece"));
        }
        answers.push((answer, got));
    }
    may.add_permits(1);
    for (mut answer, mut got) in answers {
        while let Some(piece) = answer.chunk().await.unwrap() {
            got.extend_from_slice(&piece);
        }
        assert!(got == bytes);
    }
    assert!(server.get(&format!("/v2/up/a/blobs/{digest}")).await.is(200).body == bytes);
    assert_eq!(gets.load(Ordering::Relaxed), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_bytes_are_not_kept_and_nobody_takes_them_for_whole() {
    let digest = Digest::sha256(b"right");
    let (addr, gets, may) = slow(10_000, digest.clone(), vec![7; 10_000]).await;
    may.add_permits(10);
    let server = cache(upstream(addr), |builder| builder).await;
    for round in 1..3 {
        let answer =
            server.client.get(format!("{}/v2/up/a/blobs/{digest}", server.base)).send().await.unwrap();
        let body = answer.bytes().await;
        assert!(body.is_err(), "{} bytes", body.unwrap().len());
        assert_eq!(gets.load(Ordering::Relaxed), round, "it is tried anew");
    }
    let storage = FileStorage::open(server.dir.as_ref().unwrap().path()).unwrap();
    assert_eq!(storage.usage(None).await.unwrap().blobs, 0);
    assert_eq!(std::fs::read_dir(server.dir.as_ref().unwrap().path().join("uploads")).unwrap().count(), 0);
}

/// An upstream that gives every request the same answer; with an empty one, it closes the connection. Returns how many it got.
async fn always(answer: &'static str) -> (SocketAddr, Arc<AtomicU32>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (addr, count) = (listener.local_addr().unwrap(), Arc::new(AtomicU32::new(0)));
    let asked = Arc::clone(&count);
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            asked.fetch_add(1, Ordering::Relaxed);
            let mut head = [0; 4096];
            // A client tries TLS first.
            let read = stream.read(&mut head).await.unwrap_or(0);
            if read > 0 && head[0] != 22 {
                let _ = stream.write_all(answer.as_bytes()).await;
            }
        }
    });
    (addr, count)
}

#[tokio::test]
async fn an_upstream_that_does_not_answer_is_not_asked_by_everybody() {
    let (addr, asked) = always("").await;
    let server = cache(upstream(addr), |builder| builder).await;
    server.get("/v2/up/a/manifests/v").await.fails(502, "UNAVAILABLE");
    let before = asked.load(Ordering::Relaxed);
    assert!(before > 0);
    for name in ["a", "b"] {
        server.get(&format!("/v2/up/{name}/manifests/w")).await.fails(502, "UNAVAILABLE");
        let digest = Digest::sha256(name.as_bytes());
        server.get(&format!("/v2/up/{name}/manifests/{digest}")).await.fails(502, "UNAVAILABLE");
        server.get(&format!("/v2/up/{name}/blobs/{digest}")).await.fails(502, "UNAVAILABLE");
    }
    assert_eq!(asked.load(Ordering::Relaxed), before);
}

#[tokio::test]
async fn a_failure_of_one_repository_is_no_other_ones() {
    let (addr, asked) = always("HTTP/1.1 500 Oh\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").await;
    let server = cache(upstream(addr), |builder| builder).await;
    server.get("/v2/up/a/manifests/v").await.fails(502, "UNAVAILABLE");
    let before = asked.load(Ordering::Relaxed);
    server.get("/v2/up/a/manifests/w").await.fails(502, "UNAVAILABLE");
    assert_eq!(asked.load(Ordering::Relaxed), before);
    server.get("/v2/up/b/manifests/v").await.fails(502, "UNAVAILABLE");
    assert!(asked.load(Ordering::Relaxed) > before);
}

#[tokio::test]
async fn what_an_upstream_does_not_let_one_see_is_not_there() {
    let digest = Digest::sha256(b"x");
    for (answer, status, codes) in [
        (
            "HTTP/1.1 401 No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
            404,
            ["MANIFEST_UNKNOWN", "BLOB_UNKNOWN"],
        ),
        ("HTTP/1.1 403 No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", 403, ["DENIED", "DENIED"]),
    ] {
        let (addr, _) = always(answer).await;
        let server = cache(upstream(addr), |builder| builder).await;
        server.get("/v2/up/a/manifests/v").await.fails(status, codes[0]);
        server.get(&format!("/v2/up/a/blobs/{digest}")).await.fails(status, codes[1]);
    }
}

#[tokio::test]
async fn nothing_is_fetched_for_an_answer_without_it() {
    let digest = Digest::sha256(b"right");
    let (addr, gets, _) = slow(10_000, digest.clone(), vec![7; 10_000]).await;
    let server = cache(upstream(addr), |builder| builder).await;
    let path = format!("/v2/up/a/blobs/{digest}");
    server.send("GET", &path, &[("If-None-Match", &format!("\"{digest}\""))], "").await.is(304);
    server.send("GET", &path, &[("Range", "bytes=20000-")], "").await.is(416);
    assert_eq!(gets.load(Ordering::Relaxed), 0);
}
