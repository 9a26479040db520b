//! Operations: garbage collection beside pushes, quotas.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use engine_core::descriptor::media_type;
use engine_core::digest::Digest;
use engine_registry::server::{FileStorage, GcPolicy, MemoryStorage, Quotas, RegistryServer, Storage};

use crate::client::{Image, Server, limits};

/// Pushes images, deletes some, pushes their blobs again by mounts and by looking whether they are there.
async fn pushes(server: &Server, worker: u32, rounds: u32) {
    for round in 0..rounds {
        let (repository, tag) = (format!("gc/{worker}"), format!("{worker}-{round}"));
        let image = server.push_image(&repository, &tag).await;
        // Another client finds what it wants to push, and does not push it.
        let target = format!("/v2/{repository}/manifests/{tag}");
        if round % 2 == 0 {
            server.delete(&format!("/v2/{repository}/manifests/{}", image.digest)).await.is(202);
            for blob in [&image.config, &image.layer] {
                server.head(&format!("/v2/{repository}/blobs/{}", Digest::sha256(blob))).await.is(200);
            }
            server.put(&repository, &tag, media_type::OCI_MANIFEST, &image.text).await.is(201);
        }
        // A third one takes it from there.
        let other = format!("gc/other/{worker}");
        for blob in [&image.config, &image.layer] {
            let digest = Digest::sha256(blob);
            let path = format!("/v2/{other}/blobs/uploads/?mount={digest}&from={repository}");
            server.post(&path).await.is(201);
        }
        server.put(&other, &tag, media_type::OCI_MANIFEST, &image.text).await.is(201);
        for repository in [&repository, &other] {
            let target = format!("/v2/{repository}/manifests/{tag}");
            assert_eq!(server.get(&target).await.is(200).body, image.text);
            for blob in [&image.config, &image.layer] {
                let path = format!("/v2/{repository}/blobs/{}", Digest::sha256(blob));
                assert_eq!(server.get(&path).await.is(200).body, *blob);
            }
        }
        // Nothing is lost that has no tag any more, either: others ask for it by its digest.
        server.delete(&target).await.is(202);
        server.get(&format!("/v2/{repository}/manifests/{}", image.digest)).await.is(200);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn collections_all_the_time_take_nothing_from_pushes() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(RegistryServer::builder(FileStorage::open(dir.path()).unwrap()), None).await;
    // As from a second server on the directory, and a third.
    let done = Arc::new(AtomicBool::new(false));
    let collections: Vec<_> = (0..2)
        .map(|_| {
            let (storage, done) = (FileStorage::open(dir.path()).unwrap(), Arc::clone(&done));
            tokio::spawn(async move {
                let policy = GcPolicy::default().with_grace(Duration::from_secs(300)).with_untagged(true);
                let mut runs = 0;
                while !done.load(Ordering::Relaxed) {
                    let report = storage.collect(&policy).await.unwrap();
                    assert_eq!((report.manifests, report.unlinked), (0, 0), "all of it is young");
                    runs += 1;
                }
                runs
            })
        })
        .collect();
    let workers = (0..4).map(|worker| pushes(&server, worker, 8));
    futures_util::future::join_all(workers).await;
    done.store(true, Ordering::Relaxed);
    for collection in collections {
        assert!(collection.await.unwrap() > 2, "they ran beside the pushes");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_comes_through_whatever_is_collected() {
    // Without grace, only single uploads are safe: each is acknowledged, and comes again after it was taken.
    let dir = tempfile::tempdir().unwrap();
    let storage = FileStorage::open(dir.path()).unwrap();
    let server = Server::start(RegistryServer::builder(storage.clone()), None).await;
    let at_once = GcPolicy::default().with_grace(Duration::ZERO);
    let collect = async {
        loop {
            storage.collect(&at_once).await.unwrap();
        }
    };
    let uploads = async {
        for _ in 0..60 {
            server.push_blob("same", b"the same bytes").await;
        }
    };
    tokio::select! {
        () = uploads => {}
        () = collect => {}
    }
    storage.collect(&at_once).await.unwrap();
    assert_eq!(storage.usage(None).await.unwrap().bytes, 0);
}

#[tokio::test]
async fn a_server_collects_by_itself() {
    let storage = MemoryStorage::new();
    let policy = GcPolicy::default().with_grace(Duration::from_millis(200));
    let builder = RegistryServer::builder(storage.clone()).with_gc(Duration::from_millis(20), policy);
    let server = Server::start(builder.with_limits(limits()), None).await;
    let image = server.push_image("kept", "v").await;
    let loose = server.push_blob("kept", b"loose").await;
    let gone = async {
        while storage.usage(None).await.unwrap().blobs > 2 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), gone).await.expect("it collects");
    server.get(&format!("/v2/kept/blobs/{loose}")).await.fails(404, "BLOB_UNKNOWN");
    assert_eq!(
        server.get(&format!("/v2/kept/blobs/{}", Digest::sha256(&image.layer))).await.body,
        image.layer
    );
}

#[tokio::test]
async fn quotas_are_kept_wherever_bytes_come_in() {
    let quotas = Quotas::default().with_repositories("small/*", 2000).with_total(10_000);
    for files in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let builder = match files {
            true => RegistryServer::builder(FileStorage::open(dir.path()).unwrap()),
            false => RegistryServer::builder(MemoryStorage::new()),
        };
        let server = Server::start(builder.with_quotas(quotas.clone()), None).await;
        let (large, digest) = (vec![7; 2001], Digest::sha256(&[7; 2001]));
        // At once, in a stream, by a session, by a mount.
        let whole = format!("/v2/small/a/blobs/uploads/?digest={digest}");
        server.send("POST", &whole, &[], large.clone()).await.fails(403, "DENIED");
        let location = server.begin("small/a").await;
        let pieces =
            large.chunks(100).map(|piece| Ok::<_, std::io::Error>(piece.to_vec())).collect::<Vec<_>>();
        let stream = reqwest::Body::wrap_stream(futures_util::stream::iter(pieces));
        server.send("PATCH", &location, &[], stream).await.fails(403, "DENIED");
        server
            .send("PUT", &format!("{location}?digest={digest}"), &[], large.clone())
            .await
            .fails(403, "DENIED");
        server.push_blob("free", &large).await;
        let mount = format!("/v2/small/a/blobs/uploads/?mount={digest}&from=free");
        server.post(&mount).await.fails(403, "DENIED");
        server.get(&format!("/v2/small/a/blobs/{digest}")).await.fails(404, "BLOB_UNKNOWN");
        // What fits, fits; also again. A manifest counts.
        for _ in 0..2 {
            server.push_blob("small/a", &[1; 1900]).await;
        }
        let image = Image::new("a manifest of more than 100 bytes");
        server.put("small/a", "v", media_type::OCI_INDEX, &index(&image.text)).await.fails(403, "DENIED");
        server.get("/v2/small/a/manifests/v").await.fails(404, "MANIFEST_UNKNOWN");
        server.put("small/b", "v", media_type::OCI_INDEX, &index("")).await.is(201);
        // All together: 2001 and 1900 and little more are there.
        for (number, status) in [(1, 201), (2, 201), (3, 403)] {
            let bytes = vec![100 + number; 2500];
            let path = format!("/v2/free/blobs/uploads/?digest={}", Digest::sha256(&bytes));
            server.send("POST", &path, &[], bytes).await.is(status);
        }
    }
}

/// An index of nothing, with an annotation.
fn index(text: &str) -> String {
    serde_json::json!({
        "schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": [], "annotations": { "x": text },
    })
    .to_string()
}
