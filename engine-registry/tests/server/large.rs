//! Large blobs of files, which the kernel sends: every kind of reading, and readers that pause, go, or ask for what is gone.

use std::fs::{self, OpenOptions};
use std::path::PathBuf;
use std::time::Duration;

use engine_core::digest::Digest;
use engine_registry::server::{FileStorage, RegistryServer};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::client::{Server, limits};

const MIB: usize = 1 << 20;
const SOON: Duration = Duration::from_secs(60);

/// Bytes that are others at every place, and others for each seed; none of them is 0.
fn noise(seed: u64, size: usize) -> Vec<u8> {
    let mut state = (seed + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let mut next = || {
        // xorshift64
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state as u8) | 1
    };
    std::iter::repeat_with(&mut next).take(size).collect()
}

fn path_of(server: &Server, digest: &Digest) -> PathBuf {
    server.dir.as_ref().unwrap().path().join("blobs").join("sha256").join(digest.hex())
}

async fn begin(server: &Server, path: &str) -> TcpStream {
    let mut stream = TcpStream::connect(server.addr).await.unwrap();
    stream.write_all(request(path, "").as_bytes()).await.unwrap();
    stream
}

fn request(path: &str, headers: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: x\r\n{headers}\r\n")
}

/// Reads an answer's head, byte by byte, and returns it.
async fn head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.expect("a head"));
    }
    String::from_utf8(head).unwrap()
}

async fn body(stream: &mut TcpStream, size: usize) -> Vec<u8> {
    let mut body = vec![0; size];
    tokio::time::timeout(SOON, stream.read_exact(&mut body)).await.expect("nothing comes").unwrap();
    body
}

#[tokio::test]
async fn every_part_is_got() {
    let server = Server::files().await;
    let bytes = noise(0, 5 * MIB + 77);
    let digest = server.push_blob("a", &bytes).await;
    let path = format!("/v2/a/blobs/{digest}");
    let said = server.get(&path).await.is(200);
    assert_eq!(said.header("content-length"), bytes.len().to_string());
    assert_eq!(said.header("content-type"), "application/octet-stream");
    assert_eq!(said.header("docker-content-digest"), digest.to_string());
    assert!(said.body == bytes);
    let size = bytes.len();
    // Below, at and above what comes with the opening of the file, and what is sent at once.
    for (from, to) in [
        (0, size),
        (1, size),
        (0, 256 << 10),
        (1, (256 << 10) + 1),
        (0, (256 << 10) + 1),
        (4095, MIB + 4095),
        (4097, 2 * MIB + 4098),
        (size - MIB, size),
        (size - 1, size),
    ] {
        let range = format!("bytes={from}-{}", to - 1);
        for headers in
            [&[("Range", &*range)][..], &[("Range", &*range), ("If-Range", &format!("\"{digest}\""))]]
        {
            let said = server.send("GET", &path, headers, "").await.is(206);
            assert_eq!(said.header("content-range"), format!("bytes {from}-{}/{size}", to - 1));
            assert_eq!(said.header("content-length"), (to - from).to_string());
            assert!(said.body == bytes[from..to], "{range}");
        }
    }
    let said = server.send("GET", &path, &[("Range", "bytes=-1000000")], "").await.is(206);
    assert!(said.body == bytes[size - 1_000_000..]);
    let said =
        server.send("GET", &path, &[("Range", "bytes=0-"), ("If-Range", "\"other\"")], "").await.is(200);
    assert!(said.body == bytes);
    assert!(
        server
            .send("GET", &path, &[("If-None-Match", &*digest.to_string())], "")
            .await
            .is(304)
            .body
            .is_empty()
    );
    let said = server.head(&path).await.is(200);
    assert_eq!((said.header("content-length"), said.body.len()), (&*size.to_string(), 0));
}

#[tokio::test]
async fn requests_of_one_connection_are_answered_in_turn() {
    let server = Server::files().await;
    let (first, second) = (noise(1, 3 * MIB), noise(2, 2 * MIB + 1));
    let [one, two] = [server.push_blob("a", &first).await, server.push_blob("a", &second).await];
    let small = server.push_blob("a", b"small").await;
    let path = |digest: &Digest| format!("/v2/a/blobs/{digest}");
    // All are asked for before the first is answered.
    let text = [
        request(&path(&one), ""),
        request(&path(&small), ""),
        request(&path(&two), "Range: bytes=100-\r\n"),
        request(&path(&one), "").replacen("GET", "HEAD", 1),
        request(&path(&two), ""),
        request("/v2/", ""),
        request(&path(&one), "Connection: close\r\n"),
    ];
    let mut stream = TcpStream::connect(server.addr).await.unwrap();
    stream.write_all(text.concat().as_bytes()).await.unwrap();
    let wanted: [&[u8]; 7] = [&first, b"small", &second[100..], b"", &second, b"{}", &first];
    for (number, wanted) in wanted.iter().enumerate() {
        let head = head(&mut stream).await;
        assert!(head.starts_with("HTTP/1.1 20"), "{number}: {head}");
        assert!(body(&mut stream, wanted.len()).await == *wanted, "{number}");
    }
    assert_eq!(stream.read_to_end(&mut Vec::new()).await.unwrap(), 0);
    // One that is not kept, and does not say so.
    let old = format!("GET {} HTTP/1.0\r\n\r\n", path(&one));
    let mut stream = TcpStream::connect(server.addr).await.unwrap();
    stream.write_all(old.as_bytes()).await.unwrap();
    assert!(head(&mut stream).await.contains(" 200 "));
    assert!(body(&mut stream, first.len()).await == first);
    assert_eq!(stream.read_to_end(&mut Vec::new()).await.unwrap(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_get_their_own() {
    let server = Server::files().await;
    let mut blobs = Vec::new();
    for seed in 0..6 {
        let bytes = noise(seed, 2 * MIB + 1000 * seed as usize);
        blobs.push((server.push_blob("a", &bytes).await, bytes));
    }
    let gets = (0..60).map(|number| {
        let (server, (digest, bytes)) = (&server, &blobs[number % blobs.len()]);
        async move {
            let from = number * 1000;
            let range = format!("bytes={from}-");
            let said = server.send("GET", &format!("/v2/a/blobs/{digest}"), &[("Range", &range)], "").await;
            assert!(said.is(206).body == bytes[from..], "{number}");
        }
    });
    futures_util::future::join_all(gets).await;
}

/// Readers that pause have their connection and nothing else: one thread that may block is enough for all.
#[test]
fn who_pauses_holds_no_thread_and_gets_the_rest() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .max_blocking_threads(1)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let server = Server::files().await;
        let bytes = noise(3, 24 * MIB);
        let digest = server.push_blob("a", &bytes).await;
        let path = format!("/v2/a/blobs/{digest}");
        let mut paused = Vec::new();
        for _ in 0..8 {
            let mut stream = begin(&server, &path).await;
            head(&mut stream).await;
            paused.push(stream);
        }
        // Until their buffers are full.
        tokio::time::sleep(Duration::from_millis(300)).await;
        for _ in 0..10 {
            let got = tokio::time::timeout(SOON, server.head(&path)).await;
            got.expect("a paused reader has the thread").is(200);
        }
        for stream in &mut paused {
            // By and by, and with another pause.
            let mut got = body(stream, 9 * MIB + 1).await;
            tokio::time::sleep(Duration::from_millis(20)).await;
            got.extend(body(stream, bytes.len() - got.len()).await);
            assert!(got == bytes);
        }
    });
}

#[tokio::test]
async fn who_reads_nothing_is_cut_off() {
    let dir = tempfile::tempdir().unwrap();
    let storage = FileStorage::open(dir.path()).unwrap();
    let limits = limits().with_idle(Duration::from_millis(300)).with_connections(1);
    let server = Server::start(RegistryServer::builder(storage).with_limits(limits), Some(dir)).await;
    let bytes = noise(4, 24 * MIB);
    // On a connection of its own, which ends with it: there is place for one.
    let digest = Digest::sha256(&bytes);
    let path = format!("/v2/a/blobs/uploads/?digest={digest}");
    server.send("POST", &path, &[("Connection", "close")], bytes.clone()).await.is(201);
    let mut stuck = begin(&server, &format!("/v2/a/blobs/{digest}")).await;
    let next = async {
        let mut stream = TcpStream::connect(server.addr).await.unwrap();
        stream.write_all(request("/v2/", "Connection: close\r\n").as_bytes()).await.unwrap();
        assert!(head(&mut stream).await.starts_with("HTTP/1.1 200"));
    };
    tokio::time::timeout(SOON, next).await.expect("the place is not free");
    head(&mut stuck).await;
    let mut got = Vec::new();
    let _ = stuck.read_to_end(&mut got).await;
    assert!(got.len() < bytes.len() && bytes.starts_with(&got));
}

#[tokio::test]
async fn who_goes_leaves_nothing_open() {
    let server = Server::files().await;
    let bytes = noise(5, 16 * MIB);
    let digest = server.push_blob("a", &bytes).await;
    let (path, place) = (format!("/v2/a/blobs/{digest}"), path_of(&server, &digest));
    let open = || {
        let links = fs::read_dir("/proc/self/fd").unwrap().flatten();
        links.filter(|link| fs::read_link(link.path()).is_ok_and(|target| target == place)).count()
    };
    let mut readers = Vec::new();
    for _ in 0..10 {
        let mut stream = begin(&server, &path).await;
        head(&mut stream).await;
        assert!(body(&mut stream, 100_000).await == bytes[..100_000]);
        readers.push(stream);
    }
    assert!(open() >= 10, "{} are open", open());
    drop(readers);
    let closed = async {
        while open() > 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(SOON, closed).await.expect("files stay open");
    assert!(server.get(&path).await.is(200).body == bytes);
}

#[tokio::test]
async fn a_blob_that_is_deleted_is_sent_to_its_end() {
    let server = Server::files().await;
    let bytes = noise(6, 24 * MIB);
    let digest = server.push_blob("a", &bytes).await;
    let path = format!("/v2/a/blobs/{digest}");
    let mut stream = begin(&server, &path).await;
    head(&mut stream).await;
    server.delete(&path).await.is(202);
    fs::remove_file(path_of(&server, &digest)).unwrap();
    assert!(body(&mut stream, bytes.len()).await == bytes);
}

/// What a file lacks is not made up: the connection ends.
#[tokio::test]
async fn a_file_that_was_cut_ends_the_connection() {
    let server = Server::files().await;
    let bytes = noise(7, 24 * MIB);
    let digest = server.push_blob("a", &bytes).await;
    let path = format!("/v2/a/blobs/{digest}");
    let cut = |size: usize| {
        let file = OpenOptions::new().write(true).open(path_of(&server, &digest)).unwrap();
        file.set_len(size as u64).unwrap();
    };
    let mut stream = begin(&server, &path).await;
    head(&mut stream).await;
    let mut got = body(&mut stream, MIB).await;
    cut(20 * MIB);
    let _ = stream.read_to_end(&mut got).await;
    assert!(got.len() <= 20 * MIB && bytes.starts_with(&got), "{} bytes", got.len());
    for size in [3 * MIB + 1, 0] {
        cut(size);
        let mut stream = TcpStream::connect(server.addr).await.unwrap();
        stream.write_all((request(&path, "") + &request("/v2/", "")).as_bytes()).await.unwrap();
        assert!(head(&mut stream).await.contains(&format!("content-length: {}", bytes.len())));
        let mut got = Vec::new();
        let _ = stream.read_to_end(&mut got).await;
        assert!(got == bytes[..size], "{} bytes of {size}", got.len());
    }
    server.get("/v2/").await.is(200);
}

#[tokio::test]
async fn what_was_sent_is_counted() {
    let dir = tempfile::tempdir().unwrap();
    let registry = RegistryServer::builder(FileStorage::open(dir.path()).unwrap());
    let registry = registry.with_limits(limits()).build().unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let figures = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (base, metrics) =
        (format!("http://{}", listener.local_addr().unwrap()), figures.local_addr().unwrap());
    let other = registry.clone();
    tokio::spawn(async move { other.serve_metrics(figures).await });
    tokio::spawn(async move { registry.serve(listener).await });
    let client = Server::memory().await.client.clone();
    let (bytes, digest) = (noise(8, 3 * MIB), Digest::sha256(&noise(8, 3 * MIB)));
    let push = client.post(format!("{base}/v2/a/blobs/uploads/?digest={digest}")).body(bytes.clone());
    assert_eq!(push.send().await.unwrap().status(), 201);
    let got = client.get(format!("{base}/v2/a/blobs/{digest}")).send().await.unwrap().bytes().await.unwrap();
    assert!(got == bytes);
    let lines = [
        format!("engine_registry_sent_bytes_total {}", bytes.len()),
        "engine_registry_request_seconds_count{operation=\"blob_get\"} 1".to_owned(),
        "engine_registry_requests_under_way 0".to_owned(),
    ];
    let counted = async {
        loop {
            let text = client.get(format!("http://{metrics}/metrics")).send().await.unwrap();
            let text = text.text().await.unwrap();
            if lines.iter().all(|line| text.lines().any(|found| found == line)) {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(SOON, counted).await.expect("it is not counted");
}
