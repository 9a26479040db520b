//! What a hook refuses is what would have been done: it sees what the handler acts on, however a body comes (SECURITY E5).

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use engine_api::server::{ApiServer, Limits};
use engine_core::Engine;
use engine_core::memory::{MemoryImageStore, MemoryNetwork, MemoryRuntime, MemoryVolumes};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::time::timeout;

use crate::memory::{IMAGE, registry};
use crate::random::Random;
use crate::support::PATIENCE;

/// How many bodies are sent unless `ENGINE_POLICY_BODIES` says otherwise.
const BODIES: usize = 2_000;
/// The largest document that the server takes here.
const LIMIT: usize = 16 << 10;

/// What a container is told to have: a label, and where a memory file system is.
type Wish = (String, String);

/// A request for the container `name`, in one of many forms. Some are wrong.
fn request(random: &mut Random, name: &str) -> Vec<u8> {
    let word = |random: &mut Random| {
        format!("{}{}", random.pick(&["plain", "refused", "ü", "a\\\"b"]), random.below(1000))
    };
    let labels = |random: &mut Random| format!(r#""Labels":{{"content":"{}"}}"#, word(random));
    let mut fields = vec![format!(r#""Image":"{IMAGE}""#), labels(random)];
    fields.push(format!(r#""HostConfig":{{"Tmpfs":{{"/t{}":""}}}}"#, random.below(1000)));
    if random.below(6) == 0 {
        // Readers differ about which of two counts.
        fields.push(labels(random));
    }
    if random.below(40) == 0 {
        fields.push(format!(r#""Domainname":"{}""#, "x".repeat(LIMIT)));
    }
    let mut body = format!("{{{}}}", fields.join(random.pick(&[",", " ,\n", ",\t"]))).into_bytes();
    match random.below(20) {
        0 => body.extend_from_slice(br#"{"Image":"other"}"#),
        1 => body.truncate(random.below(body.len())),
        2 => body.extend_from_slice(b" \n"),
        _ => {}
    }
    let mut head = format!(
        "POST /containers/create?name={name} HTTP/1.1\r\nContent-Type: application/json\r\nConnection: close\r\n"
    );
    let length = body.len();
    let sent = match random.below(9) {
        0..3 => {
            head.push_str(&format!("Content-Length: {length}\r\n"));
            body
        }
        3 | 4 => {
            head.push_str("Transfer-Encoding: chunked\r\n");
            chunked(random, &body)
        }
        // Nothing, and then something that looks like another request's beginning.
        5 => {
            head.push_str("Content-Length: 0\r\n");
            body
        }
        6 => {
            let other = random.pick(&[length, length + 1, length / 2]);
            head.push_str(&format!("Content-Length: {length}\r\nContent-Length: {other}\r\n"));
            body
        }
        7 => {
            let coded = chunked(random, &body);
            head.push_str(&format!(
                "Content-Length: {}\r\nTransfer-Encoding: chunked\r\n",
                random.pick(&[0, length, coded.len()])
            ));
            coded
        }
        // Cut off.
        _ => {
            head.push_str(&format!("Content-Length: {}\r\n", length + 1 + random.below(5)));
            body
        }
    };
    [head.as_bytes(), b"\r\n", &sent].concat()
}

fn chunked(random: &mut Random, body: &[u8]) -> Vec<u8> {
    let mut coded = Vec::new();
    let mut rest = body;
    while !rest.is_empty() {
        let (piece, next) = rest.split_at(1 + random.below(rest.len()));
        coded.extend_from_slice(format!("{:x}\r\n", piece.len()).as_bytes());
        coded.extend_from_slice(piece);
        coded.extend_from_slice(b"\r\n");
        rest = next;
    }
    coded.extend_from_slice(b"0\r\n\r\n");
    coded
}

#[tokio::test(flavor = "multi_thread")]
async fn e5_a_hook_sees_what_is_done() {
    let seen = Arc::new(Mutex::new(BTreeMap::<String, Vec<Wish>>::new()));
    let told = Arc::clone(&seen);
    let engine = Engine::in_memory()
        .image_store(MemoryImageStore::new())
        .runtime(MemoryRuntime::new())
        .registry(registry())
        .volume_driver(MemoryVolumes::new())
        .network(MemoryNetwork::new())
        .admit_mount(move |request| {
            let content = request.spec.labels.get("content").cloned().unwrap_or_default();
            let name = request.name.map(ToString::to_string).unwrap_or_default();
            let wish = (content.clone(), request.mount.target().display().to_string());
            told.lock().unwrap().entry(name).or_default().push(wish);
            if content.starts_with("refused") { Err("it is refused".into()) } else { Ok(()) }
        })
        .open()
        .await
        .unwrap();
    engine.pull(&IMAGE.parse().unwrap(), Default::default()).await.unwrap();
    let server = ApiServer::new(engine.clone())
        .with_limits(Limits::default().with_document(LIMIT))
        .serve_temp()
        .await
        .unwrap();
    let (mut random, mut statuses) = (Random::new(0x9e37_79b9_7f4a_7c15), BTreeMap::<u16, usize>::new());
    let bodies = std::env::var("ENGINE_POLICY_BODIES").map_or(BODIES, |count| count.parse().unwrap());
    for number in 0..bodies {
        let name = format!("c{number}");
        let request = request(&mut random, &name);
        let mut stream = UnixStream::connect(server.socket()).await.unwrap();
        let mut answer = Vec::new();
        let asked = async {
            // What is refused early is not read to its end.
            let _ = stream.write_all(&request).await;
            let _ = stream.shutdown().await;
            let _ = stream.read_to_end(&mut answer).await;
        };
        timeout(PATIENCE, asked).await.unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&request)));
        let answer = String::from_utf8_lossy(&answer).into_owned();
        let status = answer.split(' ').nth(1).map_or(0, |status| status.parse().unwrap());
        *statuses.entry(status).or_default() += 1;
        let wishes = seen.lock().unwrap().remove(&name).unwrap_or_default();
        let shown = || format!("{}\n{answer}\n{wishes:?}", String::from_utf8_lossy(&request));
        match engine.container(&name).await {
            Ok(container) => {
                assert_eq!(status, 201, "{}", shown());
                let spec = container.inspect().await.unwrap().spec;
                let target = spec.mounts.first().unwrap().target().display().to_string();
                let done = (spec.labels["content"].clone(), target);
                assert!(
                    !wishes.is_empty() && wishes.iter().all(|wish| *wish == done),
                    "{done:?}: {}",
                    shown()
                );
                assert!(!done.0.starts_with("refused"), "{}", shown());
                container.remove(Default::default()).await.unwrap();
            }
            Err(_) => {
                assert_ne!(status, 201, "{}", shown());
                assert!(status < 500, "{}", shown());
                // Nothing but a refusal follows from what the hook saw.
                assert!(wishes.is_empty() || status == 403, "{}", shown());
            }
        }
    }
    assert!(seen.lock().unwrap().is_empty(), "a request that nobody sent was seen");
    for status in [201, 400, 403, 413] {
        assert!(statuses.get(&status).is_some_and(|count| *count > bodies / 200), "{statuses:?}");
    }
}
