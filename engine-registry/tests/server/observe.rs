//! What can be heard and seen of a server: events, figures, the end of one that still gets an upload.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use engine_core::descriptor::media_type;
use engine_core::digest::Digest;
use engine_registry::server::{
    EventAction, EventListener, MemoryStorage, RegistryEvent, RegistryServer, Webhook, WebhookOptions,
};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::client::{Image, Server, limits};

/// A listener in the same program.
#[derive(Clone, Debug, Default)]
pub(crate) struct Heard(Arc<Mutex<Vec<RegistryEvent>>>);

impl Heard {
    /// Returns how often something was read.
    pub(crate) fn pulls(&self) -> usize {
        self.0.lock().unwrap().iter().filter(|event| event.action == EventAction::Pull).count()
    }
}

#[async_trait]
impl EventListener for Heard {
    fn wants(&self, _: EventAction) -> bool {
        true
    }

    fn event(&self, event: &RegistryEvent) {
        self.0.lock().unwrap().push(event.clone());
    }

    async fn finish(&self, _: Duration) {}
}

#[tokio::test]
async fn a_listener_hears_of_what_was_done() {
    let heard = Heard::default();
    let builder = RegistryServer::builder(MemoryStorage::new()).with_listener(heard.clone());
    let server = Server::start(builder, None).await;
    let image = server.push_image("a/b", "v").await;
    let layer = Digest::sha256(&image.layer);
    server.post(&format!("/v2/c/blobs/uploads/?mount={layer}&from=a/b")).await.is(201);
    server.get("/v2/a/b/manifests/v").await.is(200);
    server.get(&format!("/v2/a/b/blobs/{layer}")).await.is(200);
    server.delete("/v2/a/b/manifests/v").await.is(202);
    server.delete(&format!("/v2/a/b/manifests/{}", image.digest)).await.is(202);
    server.delete(&format!("/v2/a/b/blobs/{layer}")).await.is(202);
    // Nothing of what only looks, or fails.
    server.head(&format!("/v2/c/blobs/{layer}")).await.is(200);
    server.get("/v2/a/b/manifests/v").await.is(404);
    server.delete("/v2/a/b/manifests/v").await.is(404);
    server.put("a/b", "w", media_type::OCI_MANIFEST, &image.text).await.is(404);
    let heard = heard.0.lock().unwrap().clone();
    let told: Vec<_> = heard
        .iter()
        .map(|event| {
            let tag = event.tag.as_ref().map(|tag| tag.as_str().to_owned());
            (event.action.as_str(), event.is_manifest, event.digest.clone(), tag)
        })
        .collect();
    let (config, v) = (Digest::sha256(&image.config), Some("v".to_owned()));
    assert_eq!(
        told,
        [
            ("push", false, Some(config), None),
            ("push", false, Some(layer.clone()), None),
            ("push", true, Some(image.digest.clone()), v.clone()),
            ("mount", false, Some(layer.clone()), None),
            ("pull", true, Some(image.digest.clone()), v.clone()),
            ("pull", false, Some(layer.clone()), None),
            ("delete", true, None, v),
            ("delete", true, Some(image.digest.clone()), None),
            ("delete", false, Some(layer), None),
        ]
    );
    assert_eq!(heard[2].descriptor.as_ref().unwrap().media_type, media_type::OCI_MANIFEST);
    assert_eq!(heard[1].descriptor.as_ref().unwrap().size, image.layer.len() as u64);
    assert_eq!(heard[3].from.as_ref().unwrap().as_str(), "a/b");
    assert!(heard[0].request.address.as_ref().unwrap().starts_with("127.0.0.1:"));
    assert_eq!(heard[0].request.host.as_ref().unwrap(), &server.addr.to_string());
}

/// An endpoint for events, which answers as `status` says for each request.
async fn endpoint(status: impl Fn(u32) -> u16 + Send + Sync + 'static) -> (SocketAddr, Heads) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (addr, heads) = (listener.local_addr().unwrap(), Heads::default());
    let (got, status, count) = (heads.clone(), Arc::new(status), Arc::new(AtomicU32::new(0)));
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let (got, status, count) = (got.clone(), Arc::clone(&status), Arc::clone(&count));
            tokio::spawn(async move {
                let _ = answer(stream, &got, || status(count.fetch_add(1, Ordering::Relaxed))).await;
            });
        }
    });
    (addr, heads)
}

/// Heads and bodies of requests.
type Heads = Arc<Mutex<Vec<(String, Value)>>>;

async fn answer(mut stream: TcpStream, got: &Heads, status: impl Fn() -> u16) -> std::io::Result<()> {
    let mut bytes = Vec::new();
    loop {
        if stream.read_buf(&mut bytes).await? == 0 {
            return Ok(());
        }
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let head = head.to_ascii_lowercase();
        let length = head.split("content-length: ").nth(1).and_then(|rest| rest.lines().next());
        if body.len() < length.map_or(0, |length| length.parse().unwrap()) {
            continue;
        }
        let status = status();
        got.lock().unwrap().push((head, serde_json::from_str(body).unwrap()));
        bytes.clear();
        stream.write_all(format!("HTTP/1.1 {status} X\r\nContent-Length: 0\r\n\r\n").as_bytes()).await?;
    }
}

#[tokio::test]
async fn events_are_sent_again_until_they_are_taken_and_before_the_end() {
    let (addr, got) = endpoint(|count| if count < 2 { 503 } else { 200 }).await;
    let options = WebhookOptions::new(format!("http://{addr}/hook?token=hush"))
        .with_header("Authorization", "Bearer hush")
        .with_timeout(Duration::from_secs(20));
    let webhook = Webhook::new(options).unwrap();
    assert!(!format!("{webhook:?}").contains("hush"));
    let builder = RegistryServer::builder(MemoryStorage::new()).with_listener(webhook);
    let mut server = Server::start(builder.with_limits(limits()), None).await;
    let image = server.push_image("team/app", "v1").await;
    server.get("/v2/team/app/manifests/v1").await.is(200);
    // What is not yet taken is when the server has ended.
    server.stop().await;
    let got = got.lock().unwrap().clone();
    assert!(got.len() >= 3, "two were refused");
    let (head, first) = &got[0];
    assert!(head.starts_with("post /hook?token=hush "), "{head}");
    assert!(head.contains("authorization: bearer hush"), "{head}");
    assert!(head.contains("content-type: application/vnd.docker.distribution.events.v2+json"), "{head}");
    assert_eq!(got[1].1, *first, "the same again");
    let events: Vec<Value> =
        got[2..].iter().flat_map(|(_, body)| body["events"].as_array().unwrap().clone()).collect();
    assert_eq!(events.len(), 3, "no pulls: {events:?}");
    let last = &events[2];
    assert_eq!(last["action"], "push");
    assert_eq!(last["target"]["repository"], "team/app");
    assert_eq!(last["target"]["tag"], "v1");
    assert_eq!(last["target"]["digest"], image.digest.to_string());
    assert_eq!(last["target"]["mediaType"], media_type::OCI_MANIFEST);
    assert_eq!(last["target"]["size"], image.text.len());
    let url = format!("//{}/v2/team/app/manifests/{}", server.addr, image.digest);
    assert_eq!(last["target"]["url"], url);
    assert_eq!(last["request"]["method"], "PUT");
    assert_eq!(last["id"].as_str().unwrap().len(), 32);
    assert!(last["timestamp"].as_str().unwrap().ends_with('Z'));
    assert_eq!(events[0]["target"]["mediaType"], "application/octet-stream");
}

#[tokio::test]
async fn an_endpoint_that_does_not_answer_delays_nothing() {
    // It takes connections and says nothing.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let options = WebhookOptions::new(url).with_queue(2).with_timeout(Duration::from_secs(3600));
    let builder = RegistryServer::builder(MemoryStorage::new()).with_listener(Webhook::new(options).unwrap());
    let server = Server::start(builder, None).await;
    let pushes = async {
        for number in 0..20 {
            server.push_image("a", &format!("v{number}")).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), pushes).await.expect("pushes wait for the endpoint");
    for (url, header) in [("ftp://x/", "a"), ("nonsense", "a"), ("http://x/", "a b")] {
        let error = Webhook::new(WebhookOptions::new(url).with_header(header, "b")).unwrap_err();
        assert_eq!(error.kind(), engine_core::ErrorKind::InvalidArgument, "{url}");
    }
}

#[tokio::test]
async fn figures_are_served_on_an_address_of_their_own() {
    let storage = MemoryStorage::new();
    let registry = RegistryServer::builder(storage).build().unwrap();
    let (listener, figures) =
        (TcpListener::bind("127.0.0.1:0").await.unwrap(), TcpListener::bind("127.0.0.1:0").await.unwrap());
    let (addr, metrics) = (listener.local_addr().unwrap(), figures.local_addr().unwrap());
    let other = registry.clone();
    tokio::spawn(async move { other.serve_metrics(figures).await });
    tokio::spawn(async move { registry.serve(listener).await });
    let client = Server::memory().await.client.clone();
    let image = Image::new("figures");
    let digest = Digest::sha256(&image.layer);
    let base = format!("http://{addr}/v2/secret/blobs");
    let sent = client.post(format!("{base}/uploads/?digest={digest}")).body(image.layer.clone()).send().await;
    assert_eq!(sent.unwrap().status(), 201);
    let got = client.get(format!("{base}/{digest}")).send().await.unwrap().bytes().await.unwrap();
    assert_eq!(got, image.layer);
    assert_eq!(client.get(format!("http://{addr}/metrics")).send().await.unwrap().status(), 404);
    let url = format!("http://{metrics}/metrics");
    let lines = [
        "engine_registry_requests_total{operation=\"upload_begin\",status=\"201\"} 1".to_owned(),
        "engine_registry_requests_total{operation=\"blob_get\",status=\"200\"} 1".to_owned(),
        "engine_registry_request_seconds_count{operation=\"blob_get\"} 1".to_owned(),
        format!("engine_registry_received_bytes_total {}", image.layer.len()),
        format!("engine_registry_storage_bytes {}", image.layer.len()),
        "engine_registry_storage_repositories 1".to_owned(),
        "engine_registry_requests_under_way 0".to_owned(),
        "engine_registry_uploads_under_way 0".to_owned(),
    ];
    // A request is counted when its answer has gone, a moment after the client has it.
    let mut text = String::new();
    for _ in 0..200 {
        let answer = client.get(&url).send().await.unwrap();
        assert!(answer.headers()["content-type"].to_str().unwrap().starts_with("text/plain; version=0.0.4"));
        text = answer.text().await.unwrap();
        if lines.iter().all(|line| text.lines().any(|found| found == line)) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    for line in &lines {
        assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
    }
    assert!(!text.contains("secret"), "names of repositories are nobody's business");
}

#[tokio::test]
async fn an_upload_under_way_is_finished_and_nothing_else_begun() {
    let storage = MemoryStorage::new();
    let mut server = Server::start(RegistryServer::builder(storage).with_limits(limits()), None).await;
    let (bytes, digest) = (b"slowly but surely", Digest::sha256(b"slowly but surely"));
    let (send, receive) = tokio::sync::mpsc::channel::<Result<Bytes, std::io::Error>>(1);
    let body = reqwest::Body::wrap_stream(futures_util::stream::unfold(receive, async |mut receive| {
        receive.recv().await.map(|piece| (piece, receive))
    }));
    let url = format!("{}/v2/slow/blobs/uploads/?digest={digest}", server.base);
    let upload = tokio::spawn(server.client.post(url).body(body).send());
    for piece in bytes[..4].chunks(1) {
        send.send(Ok(Bytes::copy_from_slice(piece))).await.unwrap();
    }
    server.begin_to_stop();
    let refused = async {
        while TcpStream::connect(server.addr).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), refused).await.expect("new connections are refused");
    for piece in bytes[4..].chunks(1) {
        send.send(Ok(Bytes::copy_from_slice(piece))).await.unwrap();
    }
    drop(send);
    assert_eq!(upload.await.unwrap().unwrap().status(), 201);
    server.end().await;
}
