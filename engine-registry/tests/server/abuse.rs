//! What careless and hostile clients do: slow heads, bodies and readers (SECURITY E7), a full disk, an end in the middle.

use std::os::unix::fs::DirEntryExt as _;
use std::time::Duration;

use engine_core::digest::Digest;
use engine_registry::server::{FileStorage, MemoryStorage, RegistryServer};
use engine_testkit::{command, require};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::client::{Server, limits};

const SOON: Duration = Duration::from_millis(300);

async fn connect(server: &Server, text: &str) -> TcpStream {
    let mut stream = TcpStream::connect(server.addr).await.unwrap();
    stream.write_all(text.as_bytes()).await.unwrap();
    stream
}

/// Reads until the server closes, which it has to.
async fn rest(stream: &mut TcpStream) -> String {
    let mut text = Vec::new();
    let read = tokio::time::timeout(Duration::from_secs(30), stream.read_to_end(&mut text)).await;
    // A reset ends it as well.
    let _ = read.expect("the server did not close");
    String::from_utf8_lossy(&text).into_owned()
}

#[tokio::test]
async fn e7_a_head_that_does_not_come_ends_its_connection() {
    let builder = RegistryServer::builder(MemoryStorage::new());
    let server = Server::start(builder.with_limits(limits().with_head(SOON)), None).await;
    for begin in ["", "GET /v2/ HT", "GET /v2/ HTTP/1.1\r\nHost: x\r\n"] {
        let said = rest(&mut connect(&server, begin).await).await;
        assert!(said.is_empty() || said.starts_with("HTTP/1.1 408"), "{begin:?}: {said}");
    }
    server.get("/v2/").await.is(200);
}

#[tokio::test]
async fn e7_a_large_head_is_refused() {
    let server = Server::memory().await;
    let head = format!("GET /v2/ HTTP/1.1\r\nHost: x\r\nX: {}\r\n\r\n", "x".repeat(1 << 20));
    let mut stream = TcpStream::connect(server.addr).await.unwrap();
    // The server may close before it has all.
    let _ = stream.write_all(head.as_bytes()).await;
    let said = rest(&mut stream).await;
    assert!(said.is_empty() || said.starts_with("HTTP/1.1 431"), "{said}");
}

#[tokio::test]
async fn e7_a_body_that_pauses_is_given_up_and_its_upload_stays() {
    let builder = RegistryServer::builder(MemoryStorage::new());
    let server = Server::start(builder.with_limits(limits().with_idle(SOON)), None).await;
    let location = server.begin("a").await;
    let head =
        format!("PATCH {location} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 10\r\n\r\n012");
    let said = rest(&mut connect(&server, &head).await).await;
    assert!(said.starts_with("HTTP/1.1 408") && said.contains("BLOB_UPLOAD_INVALID"), "{said}");
    assert_eq!(server.get(&location).await.is(204).header("range"), "0-2");
    let put = "PUT /v2/a/manifests/x HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: a/b\r\nContent-Length: 10\r\n\r\n{";
    assert!(rest(&mut connect(&server, put).await).await.starts_with("HTTP/1.1 408"));
}

#[tokio::test]
async fn e7_a_reader_that_does_not_read_loses_its_place() {
    let builder = RegistryServer::builder(MemoryStorage::new());
    let server = Server::start(builder.with_limits(limits().with_idle(SOON).with_connections(2)), None).await;
    let digest = server.push_blob("a", &vec![7; 48 << 20]).await;
    // More than there are places for, and each of them stuck.
    let mut stuck = Vec::new();
    for _ in 0..4 {
        stuck.push(connect(&server, &format!("GET /v2/a/blobs/{digest} HTTP/1.1\r\nHost: x\r\n\r\n")).await);
    }
    let fresh = tokio::time::timeout(Duration::from_secs(60), async {
        let said =
            rest(&mut connect(&server, "GET /v2/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await)
                .await;
        assert!(said.starts_with("HTTP/1.1 200"), "{said}");
    });
    fresh.await.expect("nobody gets a place any more");
}

#[tokio::test]
async fn an_end_lets_uploads_finish() {
    let mut server = Server::files().await;
    let idle = TcpStream::connect(server.addr).await.unwrap();
    let location = server.begin("a").await;
    let mut upload = connect(
        &server,
        &format!(
            "PATCH {location} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 10\r\n\r\n01234"
        ),
    )
    .await;
    // The request is under way when the end comes: its upload is locked (proc(5), /proc/locks).
    let uploads = server.dir.as_ref().unwrap().path().join("uploads");
    let file = std::fs::read_dir(uploads).unwrap().next().unwrap().unwrap();
    let place = format!(":{} ", file.ino());
    while !std::fs::read_to_string("/proc/locks").unwrap().contains(&place) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    server.begin_to_stop();
    tokio::time::sleep(Duration::from_millis(100)).await;
    upload.write_all(b"56789").await.unwrap();
    let said = rest(&mut upload).await;
    assert!(said.starts_with("HTTP/1.1 202") && said.contains("range: 0-9"), "{said}");
    drop(idle);
    let (addr, dir) = (server.addr, server.dir.take());
    server.end().await;
    assert!(TcpStream::connect(addr).await.is_err(), "it still listens");
    // The next one goes on with it.
    let storage = FileStorage::open(dir.as_ref().unwrap().path()).unwrap();
    let server = Server::start(RegistryServer::builder(storage), dir).await;
    let digest = Digest::sha256(b"0123456789");
    server.send("PUT", &format!("{location}?digest={digest}"), &[], "").await.is(201);
}

#[tokio::test]
async fn abandoned_uploads_go_by_themselves() {
    let builder = RegistryServer::builder(MemoryStorage::new());
    let server = Server::start(builder.with_limits(limits().with_upload_age(SOON)), None).await;
    let location = server.begin("a").await;
    let gone = async {
        while server.get(&location).await.status != 404 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), gone).await.expect("the upload stays");
}

/// A file system of a few MiB, unmounted in the end.
struct Small(tempfile::TempDir);

impl Small {
    fn mount() -> Self {
        let dir = tempfile::tempdir().unwrap();
        command("mount", ["-t", "tmpfs", "-o", "size=6m", "none", dir.path().to_str().unwrap()]);
        Self(dir)
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        command("umount", ["-l", self.0.path().to_str().unwrap()]);
    }
}

#[tokio::test]
async fn a_full_disk_is_said_so_and_leaves_nothing_half() {
    require!(root);
    let disk = Small::mount();
    let storage = FileStorage::open(disk.0.path()).unwrap();
    let mut server = Server::start(RegistryServer::builder(storage), None).await;
    let image = server.push_image("before", "v1").await;
    let large = vec![7; 12 << 20];
    let digest = Digest::sha256(&large);
    let path = format!("/v2/a/blobs/uploads/?digest={digest}");
    let said = server.send("POST", &path, &[], large.clone()).await.fails(507, "DENIED");
    assert!(said.json()["errors"][0]["message"].as_str().unwrap().contains("no space left"));
    let location = server.begin("a").await;
    server.send("PATCH", &location, &[], large).await.fails(507, "DENIED");
    server.get(&format!("/v2/a/blobs/{digest}")).await.fails(404, "BLOB_UNKNOWN");
    // What was there is whole, and there is room again once the upload is given up.
    assert_eq!(server.get("/v2/before/manifests/v1").await.is(200).body, image.text);
    server.delete(&location).await.is(204);
    server.push_image("after", "v1").await;
    server.stop().await;
}
