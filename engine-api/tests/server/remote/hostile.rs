//! Requests of the engine's own protocol that none of its clients sends.

use engine_core::ContainerSpec;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;

use super::{IMAGE, Pair};
use crate::support::PATIENCE;

/// Sends bytes as they are; returns the status and the whole answer.
async fn send(pair: &Pair, request: &[u8]) -> (u16, String) {
    let mut stream = UnixStream::connect(pair.server.socket()).await.unwrap();
    // One that is refused before it has sent everything may find the other side closed.
    let _ = stream.write_all(request).await;
    let mut answer = Vec::new();
    let _ = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await.expect("it answers");
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let status = answer.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0);
    (status, answer)
}

async fn post(pair: &Pair, operation: &str, headers: &str, body: &[u8]) -> (u16, String) {
    let head = format!(
        "POST /engine/v1/{operation} HTTP/1.1\r\nHost: e\r\nConnection: close\r\n{headers}Content-Length: {}\r\n\r\n",
        body.len()
    );
    send(pair, &[head.as_bytes(), body].concat()).await
}

const OURS: &str = "Content-Type: application/vnd.engine.v1\r\n";

#[tokio::test]
async fn requests_that_make_no_sense_are_refused() {
    let pair = Pair::new().await;
    let deep = "[".repeat(100_000);
    let cases: [(&str, &str, &[u8], u16); 16] = [
        ("containers", OURS, b"null\n", 200),
        ("containers", OURS, b"[]\n", 400),
        ("containers", OURS, b"", 400),
        ("containers", OURS, b"null", 400),
        ("containers", "", b"null\n", 415),
        ("containers", "Content-Type: application/json\r\n", b"null\n", 415),
        (
            "containers",
            "Origin: http://evil.example\r\nContent-Type: application/vnd.engine.v1\r\n",
            b"null\n",
            403,
        ),
        ("no_such_operation", OURS, b"null\n", 404),
        ("..%2f..%2fetc", OURS, b"null\n", 404),
        ("find_container", OURS, b"[7]\n", 400),
        ("find_container", OURS, b"[\"a\",\"b\"]\n", 400),
        ("find_container", OURS, b"\xff\xfe\n", 400),
        ("find_container", OURS, b"{\"0\":\"a\"}\n", 400),
        ("inspect_container", OURS, b"[\"../../etc/passwd\"]\n", 400),
        ("attach", OURS, b"[\"aa\",{}]\n", 400),
        ("find_container", OURS, deep.as_bytes(), 400),
    ];
    for (operation, headers, body, status) in cases {
        let (got, answer) = post(&pair, operation, headers, body).await;
        assert_eq!(got, status, "{operation} {headers:?}: {answer}");
    }
    // Another method is another path.
    assert_eq!(
        send(&pair, b"GET /engine/v1/containers HTTP/1.1\r\nHost: e\r\nConnection: close\r\n\r\n").await.0,
        404
    );
    // The argument line has the limit of documents, however long it is said to be.
    let head = format!(
        "POST /engine/v1/find_container HTTP/1.1\r\nHost: e\r\nConnection: close\r\n{OURS}Content-Length: 1073741824\r\n\r\n"
    );
    let long = [head.as_bytes(), &vec![b'['; 5 << 20]].concat();
    assert_eq!(send(&pair, &long).await.0, 413);
    // Neither have artifacts as many files, or bytes, as one may say they have.
    let file = |size: u64| format!("{{\"title\":null,\"media_type\":\"a/b\",\"size\":{size}}}");
    for files in [vec![file(0); 1001], vec![file(1 << 40)], vec![file(u64::MAX); 2]] {
        let body = format!("[\"registry.example/bits:1\",[{}],{{}}]\n", files.join(","));
        let (_, answer) = post(&pair, "create_artifact", OURS, body.as_bytes()).await;
        assert!(answer.contains("at most 1000 files"), "{answer}");
    }
    // What is secret is not told again.
    let (_, answer) = post(&pair, "create_secret", OURS, b"[\"key\",\"hunter2 is no base64\",{}]\n").await;
    assert!(answer.contains("400 Bad Request") && !answer.contains("hunter2"), "{answer}");
    assert!(pair.far.containers().await.unwrap().is_empty());
}

#[tokio::test]
async fn frames_that_make_no_sense_end_the_session() {
    let pair = Pair::new().await;
    let mut spec = ContainerSpec::command(["sleep", "1000"]);
    spec.open_stdin = true;
    let container = pair.near.create(IMAGE, spec).await.unwrap();
    container.start().await.unwrap();
    let arguments = format!(
        "[\"{}\",{{\"stdin\":true,\"stdout\":true,\"stderr\":true,\"blocking\":true}}]\n",
        container.id()
    );
    let upgrade = format!("{OURS}Connection: Upgrade\r\nUpgrade: engine-streams\r\n");
    let request = format!(
        "POST /engine/v1/attach HTTP/1.1\r\nHost: e\r\n{upgrade}Content-Length: {}\r\n\r\n{arguments}",
        arguments.len()
    );
    for wrong in [&b"\x04\xff\xff\xff\xff"[..], b"\x63\0\0\0\0", b"\x04\0\0", b"GET / HTTP/1.1\r\n\r\n"] {
        let mut stream = UnixStream::connect(pair.server.socket()).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        stream.write_all(wrong).await.unwrap();
        if wrong.len() == 3 {
            stream.shutdown().await.unwrap();
        }
        let mut answer = Vec::new();
        tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await.expect("it ends").unwrap();
        let answer = String::from_utf8_lossy(&answer);
        assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
        assert!(answer.contains("upgrade: engine-streams"), "{answer}");
        // One that breaks off knows why itself.
        assert_eq!(answer.contains("a frame that is none of a client's"), wrong.len() != 3, "{answer}");
    }
    // Without an upgrade there is nothing to take over.
    let (status, answer) = post(&pair, "attach", OURS, arguments.as_bytes()).await;
    assert_eq!(status, 400, "{answer}");
    assert!(pair.far.container(container.id().as_str()).await.is_ok());
}

/// The operations of an engine that go over the wire, by their names in its traits.
pub(crate) fn operations() -> Vec<String> {
    let traits = concat!(env!("CARGO_MANIFEST_DIR"), "/../engine-core/src/engine/operations");
    let mut operations = Vec::new();
    for file in std::fs::read_dir(traits).unwrap() {
        let text = std::fs::read_to_string(file.unwrap().path()).unwrap();
        let names = text.lines().filter_map(|line| {
            let (before, after) = line.trim().split_once("fn ")?;
            matches!(before, "" | "async ").then(|| after.split('(').next().unwrap_or_default().to_owned())
        });
        operations.extend(names);
    }
    // What a client knows since it connected, and what it makes of an archive.
    let own = ["as_local", "default_network", "is_predefined", "save_layout"];
    operations.retain(|operation| !own.contains(&operation.as_str()));
    assert!(operations.len() > 80, "{operations:?}");
    operations
}

#[tokio::test]
async fn every_operation_of_an_engine_is_there() {
    let pair = Pair::new().await;
    for operation in operations() {
        // No operation has such arguments.
        let (status, answer) = post(&pair, &operation, OURS, b"[7]\n").await;
        assert_eq!(status, 400, "{operation}: {answer}");
    }
}
