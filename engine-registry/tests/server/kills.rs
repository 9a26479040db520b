//! A server that is killed in the middle of pushes: what it acknowledged is whole, and nothing else is visible.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use engine_core::descriptor::media_type;
use engine_core::digest::Digest;
use engine_registry::server::{FileStorage, GcPolicy, GcReport, RegistryServer, Storage as _};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::client::{Server, limits};

const DIRECTORY: &str = "ENGINE_TEST_SERVE";

/// Not a test: the server that the test below starts as a process, and kills.
#[ignore = "the test of kills starts it"]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn serves_a_directory() {
    let dir = std::env::var_os(DIRECTORY).unwrap();
    // What is young is safe, however often it is looked at.
    let policy = GcPolicy::default().with_untagged(true);
    let builder = RegistryServer::builder(FileStorage::open(Path::new(&dir)).unwrap());
    let server = builder.with_gc(Duration::from_millis(20), policy).build().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::fs::write(Path::new(&dir).join("address.new"), address).unwrap();
    std::fs::rename(Path::new(&dir).join("address.new"), Path::new(&dir).join("address")).unwrap();
    server.serve(listener).await.unwrap();
}

struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

async fn start(dir: &Path) -> (Process, SocketAddr) {
    let file = dir.join("address");
    let _ = std::fs::remove_file(&file);
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "kills::serves_a_directory"])
        .env(DIRECTORY, dir)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let process = Process(child);
    for _ in 0..600 {
        if let Ok(text) = std::fs::read_to_string(&file) {
            return (process, text.parse().unwrap());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("the server does not start");
}

/// Content that nobody else has, and so large that it takes some requests.
fn content(seed: u32, size: usize) -> Vec<u8> {
    let mut state = u64::from(seed) * 2_654_435_761 + 1;
    (0..size)
        .map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 56) as u8
        })
        .collect()
}

/// Pushes an image in whichever way its number says; `None` if the server went away.
async fn push(client: &reqwest::Client, base: &str, number: u32) -> Option<String> {
    let repository = format!("kill/{}", number % 5);
    let config = format!("{{\"number\":{number}}}").into_bytes();
    let layer = content(number, 1000 + (number as usize * 7919) % 400_000);
    for blob in [&config, &layer] {
        let digest = Digest::sha256(blob);
        let uploads = format!("{base}/v2/{repository}/blobs/uploads/");
        if number.is_multiple_of(3) {
            let url = format!("{uploads}?digest={digest}");
            let said = client.post(url).body(blob.clone()).send().await.ok()?;
            assert_eq!(said.status(), 201);
            continue;
        }
        let said = client.post(uploads).send().await.ok()?;
        assert_eq!(said.status(), 202);
        let location = format!("{base}{}", said.headers()["location"].to_str().unwrap());
        let (mut at, piece) = (0, if number % 3 == 1 { blob.len() } else { 100_000 });
        while at < blob.len() {
            let end = blob.len().min(at + piece);
            let range = format!("{at}-{}", end - 1);
            let request = client.patch(&location).header("Content-Range", range).body(blob[at..end].to_vec());
            assert_eq!(request.send().await.ok()?.status(), 202);
            at = end;
        }
        let said = client.put(format!("{location}?digest={digest}")).send().await.ok()?;
        assert_eq!(said.status(), 201);
    }
    let of = |kind: &str, bytes: &[u8]| json!({ "mediaType": kind, "digest": Digest::sha256(bytes), "size": bytes.len() });
    let manifest = json!({
        "schemaVersion": 2, "mediaType": media_type::OCI_MANIFEST,
        "config": of(media_type::OCI_CONFIG, &config), "layers": [of(media_type::OCI_LAYER, &layer)],
    });
    let url = format!("{base}/v2/{repository}/manifests/t{number}");
    let request = client.put(url).header("Content-Type", media_type::OCI_MANIFEST).body(manifest.to_string());
    assert_eq!(request.send().await.ok()?.status(), 201);
    Some(manifest.to_string())
}

/// Checks that a manifest and all that it names are there, and have the digests they are asked for by.
async fn is_whole(server: &Server, repository: &str, tag: &str) -> String {
    let said = server.get(&format!("/v2/{repository}/manifests/{tag}")).await.is(200);
    assert_eq!(Digest::sha256(&said.body).to_string(), said.header("docker-content-digest"));
    let manifest: Value = said.json();
    for entry in [&manifest["config"], &manifest["layers"][0]] {
        let digest = entry["digest"].as_str().unwrap();
        let blob = server.get(&format!("/v2/{repository}/blobs/{digest}")).await.is(200);
        assert_eq!(Digest::sha256(&blob.body).to_string(), digest, "{repository}:{tag}");
    }
    String::from_utf8(said.body.to_vec()).unwrap()
}

fn files(dir: &Path) -> BTreeSet<String> {
    std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_server_has_what_it_acknowledged_and_nothing_half() {
    const ROUNDS: u32 = 10;
    const PUSHES: u32 = 20;
    let dir = tempfile::tempdir().unwrap();
    let acknowledged: Arc<Mutex<BTreeMap<u32, String>>> = Arc::default();
    for round in 0..ROUNDS {
        let (mut process, addr) = start(dir.path()).await;
        let pushes: Vec<_> = (0..PUSHES)
            .map(|one| {
                let acknowledged = Arc::clone(&acknowledged);
                let number = round * PUSHES + one;
                tokio::spawn(async move {
                    let client = reqwest::Client::builder()
                        .tls_backend_preconfigured(crate::client::client_tls(rustls::RootCertStore::empty()))
                        .build()
                        .unwrap();
                    if let Some(manifest) = push(&client, &format!("http://{addr}"), number).await {
                        acknowledged.lock().unwrap().insert(number, manifest);
                    }
                })
            })
            .collect();
        // In the middle of them: when so many are done, the others are wherever they are.
        let before = acknowledged.lock().unwrap().len();
        let wanted = before + 1 + 2 * round as usize;
        let done = async {
            while acknowledged.lock().unwrap().len() < wanted {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), done).await.expect("the pushes do not go on");
        process.0.kill().unwrap();
        process.0.wait().unwrap();
        for push in pushes {
            push.await.unwrap();
        }
    }
    let acknowledged = acknowledged.lock().unwrap().clone();
    assert!(acknowledged.len() < (ROUNDS * PUSHES) as usize, "no push was interrupted");

    let storage = FileStorage::open(dir.path()).unwrap();
    let builder = RegistryServer::builder(storage.clone()).with_limits(limits());
    let mut server = Server::start(builder, None).await;
    for (number, manifest) in &acknowledged {
        let found = is_whole(&server, &format!("kill/{}", number % 5), &format!("t{number}")).await;
        assert_eq!(found, *manifest);
    }
    // What was not acknowledged is there whole, or not at all. What is there is what may have files.
    let mut named = BTreeSet::new();
    let repositories =
        server.get("/v2/_catalog").await.is(200).json()["repositories"].as_array().unwrap().clone();
    for repository in &repositories {
        let repository = repository.as_str().unwrap();
        let tags = server.get(&format!("/v2/{repository}/tags/list")).await.is(200).json()["tags"].clone();
        for tag in tags.as_array().unwrap() {
            let manifest = is_whole(&server, repository, tag.as_str().unwrap()).await;
            let manifest: Value = serde_json::from_str(&manifest).unwrap();
            for entry in [&manifest["config"], &manifest["layers"][0]] {
                named.insert(entry["digest"].as_str().unwrap().strip_prefix("sha256:").unwrap().to_owned());
            }
        }
    }
    // Of what was under way, nothing stays.
    storage.sweep_uploads(Duration::ZERO).await.unwrap();
    assert!(files(&dir.path().join("uploads")).is_empty());
    let at_once = GcPolicy::default().with_grace(Duration::ZERO).with_untagged(true);
    let would = storage.collect(&at_once.clone().with_dry_run(true)).await.unwrap();
    assert_eq!(storage.collect(&at_once).await.unwrap(), would);
    assert!(would.blobs > 0, "the kills left no debris: {would:?}");
    assert_eq!(files(&dir.path().join("blobs/sha256")), named);
    assert!(files(&dir.path().join("blobs/sha512")).is_empty());
    assert_eq!(storage.collect(&at_once).await.unwrap(), GcReport::default());
    for (number, manifest) in &acknowledged {
        let found = is_whole(&server, &format!("kill/{}", number % 5), &format!("t{number}")).await;
        assert_eq!(found, *manifest);
    }
    server.stop().await;
}
