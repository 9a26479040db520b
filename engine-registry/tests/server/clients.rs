//! Real clients: our own with its conformance suite, and skopeo.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use engine_core::reference::Reference;
use engine_core::testing::registry_client::{self, RegistrySubject};
use engine_registry::OciRegistry;
use engine_testkit::{Registry, RegistryMode, command, image, require};

use crate::client::Server;

async fn suite(server: &Server) {
    let (client, number) = (Arc::new(OciRegistry::new()), AtomicUsize::new(0));
    registry_client::all(async || {
        let number = number.fetch_add(1, Ordering::SeqCst);
        let reference: Reference = format!("{}/suite/repo-{number}:tag", server.addr).parse().unwrap();
        RegistrySubject::new(Arc::clone(&client) as _, reference)
    })
    .await;
}

#[tokio::test]
async fn our_client_keeps_every_promise_with_memory() {
    suite(&Server::memory().await).await;
}

#[tokio::test]
async fn our_client_keeps_every_promise_with_files() {
    suite(&Server::files().await).await;
}

/// Runs skopeo off the test's own thread, which serves.
async fn skopeo(args: &[&str]) -> String {
    let args: Vec<String> = args.iter().map(|arg| (*arg).to_owned()).collect();
    tokio::task::spawn_blocking(move || command("skopeo", args)).await.unwrap()
}

#[tokio::test]
async fn skopeo_copies_lists_inspects_and_deletes() {
    require!("skopeo", "busybox", "docker-registry");
    let server = Server::files().await;
    let dir = tempfile::tempdir().unwrap();
    let layout = dir.path().join("layout");
    let images = [
        ("oci", image::busybox_layers(4)),
        ("docker", image::busybox_docker()),
        ("multi/platform", image::busybox_multi_platform()),
    ];
    for (name, image) in &images {
        let _ = std::fs::remove_dir_all(&layout);
        let ours = format!("docker://{}/{name}:v1", server.addr);
        let source = match *name {
            // A layout has OCI types only.
            "docker" => {
                let archive = dir.path().join("docker.tar");
                image.write_docker_archive(&archive, &["docker:v1"]);
                format!("docker-archive:{}", archive.display())
            }
            _ => {
                image.write_layout(&layout, "v1");
                format!("oci:{}:v1", layout.display())
            }
        };
        skopeo(&["copy", "--all", "--dest-tls-verify=false", &source, &ours]).await;
        let raw = skopeo(&["inspect", "--tls-verify=false", "--raw", &ours]).await;
        let said = server.send("GET", &format!("/v2/{name}/manifests/v1"), &[], "").await.is(200);
        assert_eq!(raw.as_bytes(), said.body, "{name}");
        if *name != "docker" {
            assert_eq!(said.header("docker-content-digest"), image.digest(), "{name}");
        }
        let listed =
            skopeo(&["list-tags", "--tls-verify=false", &format!("docker://{}/{name}", server.addr)]).await;
        assert!(listed.contains("\"v1\""), "{listed}");
    }

    // From here to distribution and back: the digest is the same everywhere.
    let theirs = tokio::task::spawn_blocking(|| Registry::start(RegistryMode::Plain)).await.unwrap();
    let ours = format!("docker://{}/multi/platform:v1", server.addr);
    let there = format!("docker://{}/copy:v1", theirs.host());
    let back = format!("docker://{}/back:v1", server.addr);
    let insecure = ["--src-tls-verify=false", "--dest-tls-verify=false"];
    for (from, to) in [(&ours, &there), (&there, &back)] {
        skopeo(&["copy", "--all", insecure[0], insecure[1], from, to]).await;
    }
    let digest = images[2].1.digest();
    assert_eq!(server.head("/v2/back/manifests/v1").await.is(200).header("docker-content-digest"), digest);
    tokio::task::spawn_blocking(move || drop(theirs)).await.unwrap();

    let inspected =
        skopeo(&["inspect", "--tls-verify=false", &format!("docker://{}/oci:v1", server.addr)]).await;
    assert!(inspected.contains(images[0].1.digest()), "{inspected}");
    skopeo(&["delete", "--tls-verify=false", &back]).await;
    server.get("/v2/back/manifests/v1").await.fails(404, "MANIFEST_UNKNOWN");
}
