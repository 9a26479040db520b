//! Clients that nobody wishes for: what they send is answered with Docker's status, never with a failure of ours, and others
//! do not notice.

use std::time::Duration;

use engine_core::ContainerSpec;
use engine_testkit::require;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::support::{Host, PATIENCE};

/// Every path with the name of something in it, and what it needs beside.
const NAMED: [(&str, &str); 42] = [
    ("GET", "/containers/nobody/json"),
    ("GET", "/containers/nobody/top"),
    ("GET", "/containers/nobody/logs?stdout=1"),
    ("GET", "/containers/nobody/changes"),
    ("GET", "/containers/nobody/export"),
    ("GET", "/containers/nobody/stats?stream=0"),
    ("POST", "/containers/nobody/resize?h=1&w=1"),
    ("POST", "/containers/nobody/start"),
    ("POST", "/containers/nobody/stop"),
    ("POST", "/containers/nobody/restart"),
    ("POST", "/containers/nobody/kill"),
    ("POST", "/containers/nobody/rename?name=somebody"),
    ("POST", "/containers/nobody/pause"),
    ("POST", "/containers/nobody/unpause"),
    ("POST", "/containers/nobody/attach?stream=1"),
    ("POST", "/containers/nobody/wait"),
    ("DELETE", "/containers/nobody"),
    ("HEAD", "/containers/nobody/archive?path=/"),
    ("GET", "/containers/nobody/archive?path=/"),
    ("PUT", "/containers/nobody/archive?path=/"),
    ("POST", "/exec/nobody/resize?h=1&w=1"),
    ("POST", "/exec/nobody/start"),
    ("GET", "/exec/nobody/json"),
    ("GET", "/images/nobody/json"),
    ("GET", "/images/nobody/history"),
    ("GET", "/images/a/b/c/nobody:tag/json"),
    ("POST", "/images/nobody/tag?repo=x&tag=y"),
    ("DELETE", "/images/nobody"),
    ("GET", "/images/nobody/get"),
    ("GET", "/images/get?names=nobody"),
    ("POST", "/commit?container=nobody"),
    ("GET", "/networks/nobody"),
    ("DELETE", "/networks/nobody"),
    ("GET", "/volumes/nobody"),
    ("DELETE", "/volumes/nobody"),
    ("GET", "/containers/nobody/nothing"),
    ("GET", "/plugins/nobody/json"),
    ("GET", "/nothing/at/all"),
    ("POST", "/images/nobody/nothing"),
    ("GET", "/containers/..%2f..%2fetc/json"),
    ("GET", "/volumes/..%2f..%2fetc"),
    ("GET", "/networks/%00"),
];

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_there_is_not_found_on_every_path() {
    require!(root, overlayfs);
    let host = Host::new().await;
    for (method, path) in NAMED {
        let (status, body) = host.ask(method, path).await;
        // A name that cannot be one is a wrong request.
        let expected: &[u16] = if path.contains('%') { &[400, 404] } else { &[404] };
        assert!(expected.contains(&status), "{method} {path}: {status} {body}");
        let told = serde_json::from_str::<serde_json::Value>(&body);
        assert!(
            method == "HEAD" || told.is_ok_and(|told| told["message"].is_string()),
            "{method} {path}: {body}"
        );
    }
    host.finish().await;
}

/// What takes a document.
const DOCUMENTS: [&str; 8] = [
    "/containers/create",
    "/containers/box/update",
    "/containers/box/exec",
    "/networks/create",
    "/networks/bridge/connect",
    "/networks/bridge/disconnect",
    "/volumes/create",
    "/auth",
];

#[tokio::test(flavor = "multi_thread")]
async fn documents_that_are_none_are_wrong_requests() {
    require!(root, overlayfs);
    let host = Host::new().await;
    host.start("box", ContainerSpec::command(["sleep", "1000"])).await;
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let long = format!(r#"{{"Image": "{}", "Name": "{0}", "Cmd": 5, "Memory": "x"}}"#, "x".repeat(100_000));
    for path in DOCUMENTS {
        for document in ["{", "[]", "5", "\"text\"", "{\"a\":", "\u{0}", &deep, &long] {
            let (status, body) = host.post(path, document).await;
            let told = &document[..document.len().min(20)];
            assert!((400..500).contains(&status), "{path} {told}: {status} {body}");
        }
        let huge = format!("{{\"a\": \"{}\"}}", "x".repeat(5 << 20));
        assert_eq!(host.post(path, &huge).await.0, 413, "{path}");
        // A page of the web may send this without being asked.
        let form = format!(
            "POST {path} HTTP/1.1\r\nHost: d\r\nConnection: close\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\n{{}}"
        );
        assert_eq!(host.send(&form).await.0, 400, "{path}");
    }
    host.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn e6_pages_of_the_web_are_refused() {
    require!(root, overlayfs);
    let host = Host::new().await;
    for origin in ["http://localhost", "https://example.com", "null", "", "http://127.0.0.1:2375", "file://"]
    {
        for path in ["/_ping", "/version", "/v1.40/containers/json", "/info", "/containers/create"] {
            let request = format!(
                "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nOrigin: {origin}\r\n\r\n"
            );
            let (status, body) = host.send(&request).await;
            assert_eq!(status, 403, "{path} {origin}: {body}");
        }
    }
    let (_, head) =
        host.send_whole("OPTIONS /containers/json HTTP/1.1\r\nHost: d\r\nConnection: close\r\n\r\n").await;
    assert!(!head.to_ascii_lowercase().contains("access-control"), "{head}");
    host.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_that_are_no_requests_end_their_connection_alone() {
    require!(root, overlayfs);
    let host = Host::new().await;
    let hostile: [&[u8]; 8] = [
        b"\0\0\0\0\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /_ping HTTP/1.1\r\nHost: d\r\nContent-Length: -1\r\n\r\n",
        b"POST /containers/create HTTP/1.1\r\nHost: d\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\nzz",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"POST /containers/x/attach HTTP/1.1\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET /_ping HTTP/1.1\r\nHost: d\r\nX: \xff\xfe\r\n",
    ];
    for bytes in hostile {
        let mut stream = host.connect().await;
        stream.write_all(bytes).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut answer = Vec::new();
        tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await.expect("it ends").unwrap();
        assert!(!answer.starts_with(b"HTTP/1.1 5"), "{}", String::from_utf8_lossy(&answer));
    }
    let heads = format!("GET /_ping HTTP/1.1\r\nHost: d\r\n{}", "X: y\r\n".repeat(100_000));
    let mut stream = host.connect().await;
    // It may be cut off before it has sent everything.
    let _ = stream.write_all(heads.as_bytes()).await;
    let mut answer = Vec::new();
    let _ = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await.expect("it ends");
    assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 431"), "{}", String::from_utf8_lossy(&answer));
    assert_eq!(host.ask("GET", "/_ping").await.0, 200);
    host.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn e7_a_thousand_idle_and_half_closed_connections_harm_nobody() {
    require!(root, overlayfs);
    let host = Host::new().await;
    let mut idle = Vec::new();
    for number in 0..1000 {
        let mut stream = host.connect().await;
        match number % 4 {
            0 => {}
            1 => stream.write_all(b"GET /_ping HT").await.unwrap(),
            2 => stream.shutdown().await.unwrap(),
            _ => {
                let part = b"POST /containers/create HTTP/1.1\r\nHost: d\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{";
                stream.write_all(part).await.unwrap();
            }
        }
        idle.push(stream);
    }
    let asked =
        tokio::time::timeout(Duration::from_secs(10), host.ask("GET", "/version")).await.expect("it answers");
    assert_eq!(asked.0, 200);
    drop(idle);
    host.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn e7_a_client_that_does_not_read_stops_no_other() {
    require!(root, overlayfs);
    let host = Host::new().await;
    let noise = "while :; do echo 0123456789012345678901234567890123456789; done";
    let container = host.start("noisy", ContainerSpec::command(["sh", "-c", noise])).await;
    let mut deaf = host.connect().await;
    deaf.write_all(b"GET /containers/noisy/logs?follow=1&stdout=1 HTTP/1.1\r\nHost: d\r\n\r\n")
        .await
        .unwrap();
    tokio::time::sleep(Duration::from_millis(300)).await;
    let mut reader = host.connect().await;
    reader
        .write_all(b"GET /containers/noisy/logs?follow=1&stdout=1 HTTP/1.1\r\nHost: d\r\n\r\n")
        .await
        .unwrap();
    let mut piece = vec![0; 1 << 20];
    let read = async {
        let mut bytes = 0;
        while bytes < 8 << 20 {
            bytes += reader.read(&mut piece).await.unwrap();
        }
    };
    tokio::time::timeout(PATIENCE, read).await.expect("the other goes on");
    assert_eq!(host.ask("GET", "/_ping").await.0, 200);
    container.stop(Some(Duration::ZERO)).await.unwrap();
    drop((deaf, reader, container));
    host.finish().await;
}
