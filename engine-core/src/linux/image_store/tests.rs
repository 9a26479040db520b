//! The store from outside its parts: blobs, names, layers, collection, crashes.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use engine_testkit::require;
use futures_util::StreamExt as _;

use super::{LayerDriver, LocalImageStore, LocalImageStoreOptions};
use crate::database::Database;
use crate::descriptor::{Descriptor, media_type};
use crate::digest::Digest;
use crate::error::{Error, ErrorKind};
use crate::id::ContainerId;
use crate::image_store::ImageStore;
use crate::mount::MountKind;
use crate::tar::build::Archive;

pub(super) fn open(root: &Path, options: LocalImageStoreOptions) -> LocalImageStore {
    fs::create_dir_all(root).unwrap();
    let database = Database::open(&root.join("engine.db")).unwrap();
    LocalImageStore::open(root, database, options).unwrap()
}

pub(super) async fn put(
    store: &LocalImageStore,
    descriptor: &Descriptor,
    diff_id: Option<&Digest>,
    bytes: &[u8],
) -> Result<(), Error> {
    let mut ingest = store.ingest(descriptor, diff_id).await?;
    for chunk in bytes.chunks(10_000) {
        ingest.write(Bytes::copy_from_slice(chunk)).await?;
    }
    ingest.commit().await
}

pub(super) fn gzip(bytes: &[u8]) -> Vec<u8> {
    use std::io::Write as _;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// Every file beneath the ingest directory: must be nothing once all is quiet.
pub(super) fn leftovers(root: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for session in fs::read_dir(root.join("images/ingest")).unwrap() {
        for entry in fs::read_dir(session.unwrap().path()).unwrap() {
            found.push(entry.unwrap().path().display().to_string());
        }
    }
    found
}

/// An image of one gzip layer, complete in the store; manifest, config, layer, diff ID.
async fn image(store: &LocalImageStore, text: &str) -> (Descriptor, Descriptor, Descriptor, Digest) {
    let tar = Archive::new().dir("etc", 0o755).file("etc/text", text.as_bytes()).end();
    let diff_id = Digest::sha256(&tar);
    let blob = gzip(&tar);
    let layer = Descriptor::of(media_type::OCI_LAYER_GZIP, &blob);
    let config = format!(
        r#"{{"architecture":"amd64","os":"linux","rootfs":{{"type":"layers","diff_ids":["{diff_id}"]}}}}"#
    );
    let config_descriptor = Descriptor::of(media_type::OCI_CONFIG, config.as_bytes());
    let manifest = serde_json::json!({
        "schemaVersion": 2, "mediaType": media_type::OCI_MANIFEST, "config": config_descriptor, "layers": [layer],
    })
    .to_string();
    let manifest_descriptor = Descriptor::of(media_type::OCI_MANIFEST, manifest.as_bytes());
    put(store, &layer, Some(&diff_id), &blob).await.unwrap();
    put(store, &config_descriptor, None, config.as_bytes()).await.unwrap();
    put(store, &manifest_descriptor, None, manifest.as_bytes()).await.unwrap();
    (manifest_descriptor, config_descriptor, layer, diff_id)
}

async fn read(store: &LocalImageStore, digest: &Digest, offset: u64) -> Result<Vec<u8>, Error> {
    let mut stream = store.open_blob(digest, offset).await?;
    let mut bytes = Vec::new();
    while let Some(chunk) = stream.next().await {
        bytes.extend_from_slice(&chunk?);
    }
    Ok(bytes)
}

#[tokio::test]
async fn blobs_are_checked_on_their_way_in() {
    require!(root);
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path(), LocalImageStoreOptions::default());
    let bytes = vec![7; 1_000_000];
    let descriptor = Descriptor::of("application/octet-stream", &bytes);
    put(&store, &descriptor, None, &bytes).await.unwrap();
    put(&store, &descriptor, None, &bytes).await.unwrap();
    assert_eq!(store.blob_size(&descriptor.digest).await.unwrap(), Some(1_000_000));
    assert_eq!(read(&store, &descriptor.digest, 0).await.unwrap(), bytes);
    assert_eq!(read(&store, &descriptor.digest, 999_990).await.unwrap().len(), 10);
    assert_eq!(read(&store, &descriptor.digest, 2_000_000).await.unwrap().len(), 0);

    let other = Descriptor::of("application/octet-stream", &vec![8; 1_000_000]);
    for (what, bytes) in
        [("wrong", &bytes[..]), ("short", &bytes[1..]), ("long", &[&bytes[..], b"x"].concat())]
    {
        let error = put(&store, &other, None, bytes).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{what}: {error:?}");
    }
    assert_eq!(store.blob_size(&other.digest).await.unwrap(), None);
    assert_eq!(read(&store, &other.digest, 0).await.unwrap_err().kind(), ErrorKind::NotFound);
    let mut dropped = store.ingest(&other, None).await.unwrap();
    dropped.write(bytes.into()).await.unwrap();
    drop(dropped);
    for _ in 0..100 {
        if leftovers(dir.path()).is_empty() {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    assert_eq!(leftovers(dir.path()), [""; 0]);
}

#[tokio::test]
async fn an_image_is_named_prepared_kept_and_collected() {
    require!(root, overlayfs);
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path(), LocalImageStoreOptions::default());
    assert_eq!(store.capabilities().driver, "overlay");
    let lease = store.lease().await.unwrap();
    let (manifest, _, layer, diff_id) = image(&store, "kept").await;
    let (gone, _, _, gone_layer) = image(&store, "gone").await;
    assert!(store.has_layer(&diff_id).await.unwrap());
    let name = "localhost/kept:1".parse().unwrap();
    store.set_name(&name, &manifest).await.unwrap();
    assert_eq!(store.resolve_name(&name).await.unwrap(), Some(manifest.clone()));

    // While a lease lives, in whichever process, nothing goes.
    let second = open(dir.path(), LocalImageStoreOptions::default());
    assert_eq!(second.collect_garbage().await.unwrap(), Default::default());
    drop(lease);
    let report = second.collect_garbage().await.unwrap();
    assert_eq!((report.blobs.len(), report.layers), (3, vec![gone_layer.clone()]));
    assert_eq!(store.blob_size(&gone.digest).await.unwrap(), None);
    assert!(!store.has_layer(&gone_layer).await.unwrap());

    // A root file system keeps its image without a name.
    let id = ContainerId::random();
    let mounts = store.prepare_rootfs(&id, &manifest.digest, std::slice::from_ref(&diff_id)).await.unwrap();
    assert_eq!(
        store.prepare_rootfs(&id, &manifest.digest, std::slice::from_ref(&diff_id)).await.unwrap(),
        mounts
    );
    let MountKind::Overlay { lower, upper } = &mounts[0].kind else { panic!("{mounts:?}") };
    assert_eq!(fs::read_to_string(lower[0].join("etc/text")).unwrap(), "kept");
    assert_eq!(upper.as_ref().unwrap().upper.metadata().unwrap().permissions().mode() & 0o7777, 0o755);
    assert!(store.remove_name(&name).await.unwrap());
    assert!(!store.remove_name(&name).await.unwrap());
    assert_eq!(store.collect_garbage().await.unwrap(), Default::default());
    assert_eq!(store.rootfs_list().await.unwrap(), std::slice::from_ref(&id));
    let error = store.prepare_rootfs(&id, &manifest.digest, &[gone_layer]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    store.remove_rootfs(&id).await.unwrap();
    store.remove_rootfs(&id).await.unwrap();
    assert_eq!(fs::read_dir(dir.path().join("containers")).unwrap().count(), 0);
    let report = store.collect_garbage().await.unwrap();
    assert_eq!((report.blobs.len(), report.layers), (3, vec![diff_id.clone()]));
    assert!(report.bytes > layer.size);
    let error = store.set_name(&name, &manifest).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    drop((store, second));
    assert_eq!(fs::read_dir(dir.path().join("images/ingest")).unwrap().count(), 0);
    assert_eq!(fs::read_dir(dir.path().join("images/layers")).unwrap().count(), 0);
}

#[tokio::test]
async fn c6_one_flipped_bit_is_never_run() {
    require!(root, overlayfs);
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path(), LocalImageStoreOptions::default());
    let (manifest, config, layer, diff_id) = image(&store, "text").await;
    let old = ContainerId::random();
    store.prepare_rootfs(&old, &manifest.digest, std::slice::from_ref(&diff_id)).await.unwrap();
    let data = dir.path().join("containers").join(old.as_str()).join("upper/data");
    fs::write(&data, "of the user").unwrap();
    drop(store);
    for victim in [&manifest, &config, &layer] {
        let path = dir.path().join("images/blobs/sha256").join(victim.digest.hex());
        let sound = fs::read(&path).unwrap();
        for at in [0, sound.len() / 2, sound.len() - 1] {
            let mut flipped = sound.clone();
            flipped[at] ^= 1 << (at % 8);
            fs::write(&path, &flipped).unwrap();
            // Every process looks for itself: a new store for each.
            let store = open(dir.path(), LocalImageStoreOptions::default());
            let error = read(&store, &victim.digest, 0).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Corrupt, "{error:?}");
            let outcome = store
                .prepare_rootfs(&ContainerId::random(), &manifest.digest, std::slice::from_ref(&diff_id))
                .await;
            if victim == &layer {
                assert_eq!(outcome.unwrap_err().kind(), ErrorKind::Corrupt);
                let again =
                    store.prepare_rootfs(&old, &manifest.digest, std::slice::from_ref(&diff_id)).await;
                assert_eq!(again.unwrap_err().kind(), ErrorKind::Corrupt);
                assert!(data.exists(), "a failure takes nothing that a container wrote");
                fs::remove_dir_all(dir.path().join("images/layers").join(diff_id.hex())).unwrap();
                let error = store.unpack(&layer, &diff_id).await.unwrap_err();
                assert_eq!(error.kind(), ErrorKind::Corrupt, "{error:?}");
                assert!(!store.has_layer(&diff_id).await.unwrap());
                fs::write(&path, &sound).unwrap();
                store.unpack(&layer, &diff_id).await.unwrap();
            } else {
                assert_eq!(store.collect_garbage().await.map(|r| r.blobs.len()).unwrap_or(0), 0);
            }
            for id in store.rootfs_list().await.unwrap() {
                if id != old {
                    store.remove_rootfs(&id).await.unwrap();
                }
            }
        }
        fs::write(&path, &sound).unwrap();
        // Content that comes again replaces what is damaged.
        let store = open(dir.path(), LocalImageStoreOptions::default());
        put(&store, victim, None, &sound).await.unwrap();
        assert_eq!(read(&store, &victim.digest, 0).await.unwrap(), sound);
        store.set_name(&"localhost/x".parse().unwrap(), &manifest).await.unwrap();
    }
}

#[tokio::test]
async fn broken_layers_leave_nothing() {
    require!(root, overlayfs);
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path(), LocalImageStoreOptions::default());
    let tar = Archive::new().file("a", &vec![1; 300_000]).file("b", b"x").end();
    let diff_id = Digest::sha256(&tar);
    let blob = gzip(&tar);
    let describe = |bytes: &[u8]| Descriptor::of(media_type::OCI_LAYER_GZIP, bytes);
    let mut cases: Vec<(&str, Descriptor, Vec<u8>)> = vec![
        ("truncated on the way", describe(&blob), blob[..blob.len() / 2].to_vec()),
        ("truncated at the source", describe(&blob[..blob.len() / 2]), blob[..blob.len() / 2].to_vec()),
        ("not compressed data", describe(&[0x1f, 0x8b, 1, 2, 3]), vec![0x1f, 0x8b, 1, 2, 3]),
        ("zstd garbage", describe(&[0x28, 0xb5, 0x2f, 0xfd, 9, 9, 9]), vec![0x28, 0xb5, 0x2f, 0xfd, 9, 9, 9]),
        ("no archive", describe(b"garbage of some length"), b"garbage of some length".to_vec()),
        ("another layer", describe(&gzip(&Archive::new().end())), gzip(&Archive::new().end())),
        ("trailing garbage", describe(&[&blob[..], b"xx"].concat()), [&blob[..], b"xx"].concat()),
    ];
    let mut wrong = blob.clone();
    *wrong.last_mut().unwrap() ^= 1;
    cases.push(("wrong digest", describe(&blob), wrong));
    for (what, descriptor, bytes) in cases {
        let error = put(&store, &descriptor, Some(&diff_id), &bytes).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{what}: {error:?}");
        assert_eq!(leftovers(dir.path()), [""; 0], "{what}");
        assert!(!store.has_layer(&diff_id).await.unwrap());
        assert_eq!(store.blob_size(&descriptor.digest).await.unwrap(), None, "{what}");
    }
    let plain = Descriptor::of(media_type::OCI_LAYER, &tar);
    put(&store, &plain, Some(&diff_id), &tar).await.unwrap();
    assert!(store.has_layer(&diff_id).await.unwrap());
    let error = store.ingest(&Descriptor::of("text/plain", b"x"), Some(&diff_id)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
}

#[tokio::test]
async fn b9_nothing_of_the_store_is_open_to_others() {
    require!(root, overlayfs);
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("root");
    let store = open(&root, LocalImageStoreOptions::default());
    let (manifest, _, _, diff_id) = image(&store, "x").await;
    store.prepare_rootfs(&ContainerId::random(), &manifest.digest, &[diff_id]).await.unwrap();
    for entry in
        ["", "images", "images/blobs", "images/blobs/sha256", "images/layers", "images/ingest", "containers"]
    {
        let mode = fs::metadata(root.join(entry)).unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{entry}");
    }
    for blob in fs::read_dir(root.join("images/blobs/sha256")).unwrap() {
        assert_eq!(blob.unwrap().metadata().unwrap().permissions().mode() & 0o777, 0o600);
    }
    for layer in fs::read_dir(root.join("images/layers")).unwrap() {
        assert_eq!(layer.unwrap().metadata().unwrap().permissions().mode() & 0o777, 0o700);
    }
}

#[tokio::test]
async fn what_a_dead_store_left_is_swept_and_a_living_ones_work_is_not() {
    require!(root);
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path(), LocalImageStoreOptions::default());
    let bytes = vec![1; 100_000];
    let descriptor = Descriptor::of("application/octet-stream", &bytes);
    let mut ingest = store.ingest(&descriptor, None).await.unwrap();
    ingest.write(bytes[..50_000].to_vec().into()).await.unwrap();
    let dead = dir.path().join("images/ingest/0123456789abcdef");
    fs::create_dir_all(dead.join("7.layer/fs/etc")).unwrap();
    fs::write(dead.join("7.blob"), "half").unwrap();
    let second = open(dir.path(), LocalImageStoreOptions::default());
    assert!(!dead.exists());
    ingest.write(bytes[50_000..].to_vec().into()).await.unwrap();
    ingest.commit().await.unwrap();
    assert_eq!(second.blob_size(&descriptor.digest).await.unwrap(), Some(100_000));
}

#[tokio::test]
async fn the_copying_driver_makes_the_same_tree() {
    require!(root);
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path(), LocalImageStoreOptions::default().with_driver(LayerDriver::Copy));
    assert_eq!((&*store.capabilities().driver, store.capabilities().shares_layers), ("copy", false));
    let layers = [
        Archive::new()
            .dir("./", 0o751)
            .dir("d", 0o750)
            .file("d/old", b"1")
            .file("gone", b"1")
            .dir("o", 0o755)
            .file("o/hidden", b"1")
            .clone(),
        Archive::new()
            .file("d/new", b"2")
            .file(".wh.gone", b"")
            .dir("o", 0o700)
            .file("o/shown", b"2")
            .file("o/.wh..wh..opq", b"")
            .clone(),
    ];
    let mut diff_ids = Vec::new();
    for layer in &layers {
        let tar = layer.end();
        let (diff_id, blob) = (Digest::sha256(&tar), gzip(&tar));
        put(&store, &Descriptor::of(media_type::OCI_LAYER_GZIP, &blob), Some(&diff_id), &blob).await.unwrap();
        diff_ids.push(diff_id);
    }
    let id = ContainerId::random();
    let mounts = store.prepare_rootfs(&id, &Digest::sha256(b"manifest"), &diff_ids).await.unwrap();
    assert_eq!(store.prepare_rootfs(&id, &Digest::sha256(b"manifest"), &diff_ids).await.unwrap(), mounts);
    let MountKind::Bind { source, .. } = &mounts[0].kind else { panic!("{mounts:?}") };
    let mut names: Vec<_> =
        engine_testkit::Sentinel::record(source).entries().keys().map(|p| p.display().to_string()).collect();
    names.sort();
    assert_eq!(names, ["", "d", "d/new", "d/old", "o", "o/shown"]);
    let mode = |path: &str| source.join(path).metadata().unwrap().permissions().mode() & 0o7777;
    assert_eq!((mode(""), mode("d"), mode("o")), (0o751, 0o750, 0o700));
    store.remove_rootfs(&id).await.unwrap();
    assert!(!source.exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn many_writers_of_the_same_layer_all_succeed() {
    require!(root, overlayfs);
    let dir = tempfile::tempdir().unwrap();
    let tar = Arc::new(Archive::new().file("a", &vec![1; 100_000]).end());
    let diff_id = Digest::sha256(&tar);
    let blob = Descriptor::of(media_type::OCI_LAYER, &tar);
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let store = open(dir.path(), LocalImageStoreOptions::default());
        let (tar, diff_id, blob) = (Arc::clone(&tar), diff_id.clone(), blob.clone());
        tasks.spawn(async move { put(&store, &blob, Some(&diff_id), &tar).await });
    }
    while let Some(outcome) = tasks.join_next().await {
        outcome.unwrap().unwrap();
    }
    assert_eq!(fs::read_dir(dir.path().join("images/layers")).unwrap().count(), 1);
    assert_eq!(leftovers(dir.path()), [""; 0]);
}
