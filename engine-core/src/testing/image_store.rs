//! What an [`ImageStore`] promises. What unpacked layers look like is left to the implementation's own tests.

use std::path::Path;

use bytes::Bytes;
use futures_util::TryStreamExt as _;

use super::content::{SampleImage, SampleLayer, tar};
use super::{Subject, Suite, assert_kind, run_promises};
use crate::descriptor::{Descriptor, media_type};
use crate::digest::{Digest, DigestAlgorithm, DigestHasher};
use crate::error::{ErrorKind, Result};
use crate::id::ContainerId;
use crate::image_store::{CreatedLayer, ImageStore, StoreUsage};
use crate::reference::Reference;

/// Runs every promise, each on what `factory` makes anew.
///
/// # Panics
/// If a promise is broken; the message names all that are.
pub async fn all<T, F, Fut>(factory: F)
where
    F: Fn() -> Fut,
    Fut: Future<Output = Subject<T>>,
    T: ImageStore,
{
    let mut suite = Suite::new("ImageStore");
    run_promises!(suite, factory, |subject|
        blob_is_whole_after_commit(&*subject.first);
        blobs_of_any_algorithm_and_size(&*subject.first);
        missing_blob_is_not_found(&*subject.first);
        nothing_is_visible_before_commit(&*subject.first);
        dropped_ingest_leaves_nothing(&*subject.first);
        wrong_content_is_corrupt(&*subject.first);
        same_blob_twice_is_ok(&*subject.first, &*subject.second);
        layer_is_there_after_commit(&*subject.first);
        compressed_layer_is_unpacked(&*subject.first);
        wrong_diff_id_is_corrupt(&*subject.first);
        malformed_archive_is_corrupt(&*subject.first);
        unknown_layer_type_is_unsupported(&*subject.first);
        stored_blob_is_unpacked(&*subject.first);
        another_blob_is_no_blob_of_a_layer(&*subject.first);
        created_layer_is_named_by_its_bytes(&*subject.first);
        dropped_layer_leaves_nothing(&*subject.first);
        malformed_created_layer_is_corrupt(&*subject.first);
        usage_is_what_is_there(&*subject.first);
        same_layer_at_once_is_ok(&*subject.first, &*subject.second);
        names_point_where_they_were_set(&*subject.first);
        name_of_nothing_is_refused(&*subject.first);
        rootfs_is_prepared_once(&*subject.first);
        rootfs_of_missing_layers_is_refused(&*subject.first);
        garbage_is_what_nothing_reaches(&*subject.first);
        rootfs_keeps_its_image(&*subject.first);
        removed_manifest_is_as_if_never_here(&*subject.first, &*subject.second);
        mounted_image_is_kept(&*subject.first);
        new_rootfs_holds_nothing(&*subject.first);
        lease_keeps_everything(&*subject.first, &*subject.second);
        other_instances_see_content(&*subject.first, &*subject.second);
    );
    suite.finish();
}

/// Runs the promises that need a store that decompresses what it is given.
///
/// # Panics
/// If a promise is broken; the message names all that are.
pub async fn decompressing<T, F, Fut>(factory: F)
where
    F: Fn() -> Fut,
    Fut: Future<Output = Subject<T>>,
    T: ImageStore,
{
    let mut suite = Suite::new("ImageStore that decompresses");
    run_promises!(suite, factory, |subject|
        wrong_diff_id_of_a_compressed_layer_is_corrupt(&*subject.first);
        cut_compression_is_corrupt(&*subject.first);
        created_layer_may_be_compressed(&*subject.first);
        a_layer_may_have_several_blobs(&*subject.first, &*subject.second);
    );
    suite.finish();
}

/// Writes content in pieces of `step` bytes and commits it.
///
/// # Errors
/// What the store says.
pub async fn write(
    store: &dyn ImageStore,
    descriptor: &Descriptor,
    diff_id: Option<&Digest>,
    bytes: &Bytes,
    step: usize,
) -> Result<()> {
    let mut ingest = store.ingest(descriptor, diff_id).await?;
    let mut at = 0;
    while at < bytes.len() {
        let end = (at + step).min(bytes.len());
        ingest.write(bytes.slice(at..end)).await?;
        at = end;
    }
    ingest.commit().await
}

/// Writes an image's blobs and layers; its name is left to the caller.
///
/// # Panics
/// If the store fails.
pub async fn write_image(store: &dyn ImageStore, image: &SampleImage) {
    for layer in &image.layers {
        write(store, &layer.descriptor, Some(&layer.diff_id), &layer.bytes, 700)
            .await
            .expect("write a layer");
    }
    write(store, &image.config, None, &image.config_bytes, 4096).await.expect("write the config");
    write(store, &image.manifest, None, &image.manifest_bytes, 4096).await.expect("write the manifest");
}

async fn read(store: &dyn ImageStore, digest: &Digest, offset: u64) -> Result<Vec<u8>> {
    let pieces: Vec<Bytes> = store.open_blob(digest, offset).await?.try_collect().await?;
    Ok(pieces.concat())
}

async fn has_blob(store: &dyn ImageStore, digest: &Digest) -> bool {
    store.blob_size(digest).await.expect("blob_size").is_some()
}

async fn has_layer(store: &dyn ImageStore, layer: &SampleLayer) -> bool {
    store.has_layer(&layer.diff_id).await.expect("has_layer")
}

fn name(text: &str) -> Reference {
    text.parse().expect("a reference")
}

fn blob(text: &str) -> (Descriptor, Bytes) {
    let bytes = Bytes::from(text.to_owned());
    (Descriptor::of("application/octet-stream", &bytes), bytes)
}

fn layer(text: &str) -> SampleLayer {
    SampleLayer::plain(&tar(&[("dir/", b""), ("dir/file", text.as_bytes())]))
}

/// Promise: a committed blob is read back whole, and from any offset on.
pub async fn blob_is_whole_after_commit(store: &dyn ImageStore) {
    let (descriptor, bytes) = blob("0123456789");
    write(store, &descriptor, None, &bytes, 3).await.expect("write");
    assert_eq!(store.blob_size(&descriptor.digest).await.expect("blob_size"), Some(10));
    for offset in [0_u8, 4, 10] {
        let there = read(store, &descriptor.digest, offset.into()).await.expect("read");
        assert_eq!(there, bytes[usize::from(offset)..], "from {offset}");
    }
}

/// Promise: empty and large blobs are kept like others, under SHA-256 and SHA-512.
pub async fn blobs_of_any_algorithm_and_size(store: &dyn ImageStore) {
    for length in [0_u32, 1, 1_500_000] {
        let bytes: Bytes = (0..length).map(|n| (n % 251) as u8).collect::<Vec<u8>>().into();
        for algorithm in [DigestAlgorithm::Sha256, DigestAlgorithm::Sha512] {
            let mut hasher = DigestHasher::new(algorithm);
            hasher.update(&bytes);
            let descriptor = Descriptor::new("application/octet-stream", hasher.finish(), bytes.len() as u64);
            write(store, &descriptor, None, &bytes, 100_000).await.expect("write");
            let there = read(store, &descriptor.digest, 0).await.expect("read");
            assert!(there == bytes, "{length} bytes under {}", algorithm.as_str());
        }
    }
}

/// Promise: a blob that is not there has no size and cannot be opened.
pub async fn missing_blob_is_not_found(store: &dyn ImageStore) {
    let (missing, _) = blob("nobody wrote this");
    assert_eq!(store.blob_size(&missing.digest).await.expect("blob_size"), None);
    assert_kind(read(store, &missing.digest, 0).await, &[ErrorKind::NotFound], "open_blob");
}

/// Promise: nothing of an ingest is visible before its commit.
pub async fn nothing_is_visible_before_commit(store: &dyn ImageStore) {
    let layer = layer("uncommitted");
    let mut ingest = store.ingest(&layer.descriptor, Some(&layer.diff_id)).await.expect("ingest");
    ingest.write(layer.bytes.clone()).await.expect("write");
    assert!(!has_blob(store, &layer.descriptor.digest).await);
    assert!(!has_layer(store, &layer).await);
    ingest.commit().await.expect("commit");
    assert!(has_blob(store, &layer.descriptor.digest).await);
    assert!(has_layer(store, &layer).await);
}

/// Promise: an ingest that is dropped leaves nothing, and is no hindrance to the next.
pub async fn dropped_ingest_leaves_nothing(store: &dyn ImageStore) {
    let layer = layer("dropped");
    for written in [0, 100, layer.bytes.len()] {
        let mut ingest = store.ingest(&layer.descriptor, Some(&layer.diff_id)).await.expect("ingest");
        ingest.write(layer.bytes.slice(..written)).await.expect("write");
        drop(ingest);
        assert!(!has_blob(store, &layer.descriptor.digest).await);
        assert!(!has_layer(store, &layer).await);
    }
    write(store, &layer.descriptor, Some(&layer.diff_id), &layer.bytes, 512).await.expect("write again");
}

/// Promise: content that is too long, too short or other than its digest is refused and not kept.
pub async fn wrong_content_is_corrupt(store: &dyn ImageStore) {
    let (descriptor, _) = blob("0123456789");
    for wrong in ["", "012345678", "0123456789x", "012345678x"] {
        let wrote = write(store, &descriptor, None, &Bytes::from(wrong.to_owned()), 4).await;
        assert_kind(wrote, &[ErrorKind::Corrupt], wrong);
        assert!(!has_blob(store, &descriptor.digest).await, "{wrong:?} was kept");
    }
}

/// Promise: two that write the same blob both succeed.
pub async fn same_blob_twice_is_ok(first: &dyn ImageStore, second: &dyn ImageStore) {
    let (descriptor, bytes) = blob("written by all");
    let (a, b) =
        tokio::join!(write(first, &descriptor, None, &bytes, 2), write(second, &descriptor, None, &bytes, 5));
    a.expect("first writer");
    b.expect("second writer");
    write(first, &descriptor, None, &bytes, 100).await.expect("a late writer");
    assert_eq!(read(second, &descriptor.digest, 0).await.expect("read"), bytes);
}

/// Promise: a committed layer is unpacked, and its blob is kept as it came.
pub async fn layer_is_there_after_commit(store: &dyn ImageStore) {
    let layer = layer("whole");
    assert!(!has_layer(store, &layer).await);
    write(store, &layer.descriptor, Some(&layer.diff_id), &layer.bytes, 300).await.expect("write");
    assert!(has_layer(store, &layer).await);
    assert_eq!(read(store, &layer.descriptor.digest, 0).await.expect("read"), layer.bytes);
}

/// Promise: a gzip layer is taken like a plain one, under the diff ID of its archive.
pub async fn compressed_layer_is_unpacked(store: &dyn ImageStore) {
    let layer = SampleLayer::gzip(&tar(&[("file", b"compressed")]));
    write(store, &layer.descriptor, Some(&layer.diff_id), &layer.bytes, 100).await.expect("write");
    assert!(has_layer(store, &layer).await);
    assert_eq!(read(store, &layer.descriptor.digest, 0).await.expect("read"), layer.bytes);
}

/// Promise: a layer whose archive has another diff ID is refused and not kept.
pub async fn wrong_diff_id_is_corrupt(store: &dyn ImageStore) {
    refuses(store, &SampleLayer { diff_id: Digest::sha256(b"another"), ..layer("other diff ID") }).await;
}

/// Promise: as [`wrong_diff_id_is_corrupt`], for a gzip layer.
pub async fn wrong_diff_id_of_a_compressed_layer_is_corrupt(store: &dyn ImageStore) {
    let layer = SampleLayer::gzip(&tar(&[("file", b"x")]));
    refuses(store, &SampleLayer { diff_id: Digest::sha256(b"another"), ..layer }).await;
}

/// Promise: a gzip layer that ends too early is refused, though its blob's digest is right.
pub async fn cut_compression_is_corrupt(store: &dyn ImageStore) {
    let whole = SampleLayer::gzip(&tar(&[("file", b"x")]));
    let bytes = whole.bytes.slice(..whole.bytes.len() - 200);
    let descriptor = Descriptor::of(media_type::OCI_LAYER_GZIP, &bytes);
    refuses(store, &SampleLayer { descriptor, bytes, ..whole }).await;
}

/// Promise: a layer that is no archive is refused and not kept.
pub async fn malformed_archive_is_corrupt(store: &dyn ImageStore) {
    let whole = tar(&[("file", &[b'x'; 3000])]);
    let mut broken = whole.clone();
    broken[0] ^= 0x20; // The name no longer agrees with the header's checksum.
    for bytes in [&broken[..], &whole[..1500], &whole[..100], &[b'x'; 2048]] {
        refuses(store, &SampleLayer::plain(bytes)).await;
    }
}

async fn refuses(store: &dyn ImageStore, layer: &SampleLayer) {
    let wrote = write(store, &layer.descriptor, Some(&layer.diff_id), &layer.bytes, 512).await;
    assert_kind(wrote, &[ErrorKind::Corrupt], "write");
    assert!(!has_layer(store, layer).await, "the layer was kept");
    assert!(!has_blob(store, &layer.descriptor.digest).await, "the blob was kept");
}

/// Promise: content of an unknown type is not unpacked. Without a diff ID, it is a blob like any other.
pub async fn unknown_layer_type_is_unsupported(store: &dyn ImageStore) {
    let layer = layer("strange");
    let strange = Descriptor::of("application/vnd.example.strange", &layer.bytes);
    let wrote = write(store, &strange, Some(&layer.diff_id), &layer.bytes, 512).await;
    assert_kind(wrote, &[ErrorKind::Unsupported], "write as a layer");
    write(store, &strange, None, &layer.bytes, 512).await.expect("write as a blob");
    assert_kind(store.unpack(&strange, &layer.diff_id).await, &[ErrorKind::Unsupported], "unpack");
    assert!(!has_layer(store, &layer).await);
}

/// Promise: a layer whose blob is there is unpacked from it, once.
pub async fn stored_blob_is_unpacked(store: &dyn ImageStore) {
    let layer = layer("unpacked later");
    let unpack = || store.unpack(&layer.descriptor, &layer.diff_id);
    assert_kind(unpack().await, &[ErrorKind::NotFound], "unpack of nothing");
    write(store, &layer.descriptor, None, &layer.bytes, 512).await.expect("write");
    assert!(!has_layer(store, &layer).await);
    let wrong = store.unpack(&layer.descriptor, &Digest::sha256(b"another")).await;
    assert_kind(wrong, &[ErrorKind::Corrupt], "unpack under another diff ID");
    unpack().await.expect("unpack");
    assert!(has_layer(store, &layer).await);
    unpack().await.expect("unpack again");
}

/// Promise: that a blob and a layer are here makes the one no blob of the other.
pub async fn another_blob_is_no_blob_of_a_layer(store: &dyn ImageStore) {
    let (one, other, third) = (layer("one"), layer("other"), layer("third"));
    for layer in [&one, &other] {
        write(store, &layer.descriptor, Some(&layer.diff_id), &layer.bytes, 512).await.expect("write");
        assert!(has_layer_of(store, layer, layer).await);
    }
    assert!(!has_layer_of(store, &one, &other).await);
    assert_kind(store.unpack(&one.descriptor, &other.diff_id).await, &[ErrorKind::Corrupt], "unpack");
    assert!(!has_layer_of(store, &one, &other).await);
    let wrote = write(store, &third.descriptor, Some(&other.diff_id), &third.bytes, 512).await;
    assert_kind(wrote, &[ErrorKind::Corrupt], "write");
    assert!(!has_blob(store, &third.descriptor.digest).await, "the blob was kept");
    // The layer is none the worse.
    assert!(has_layer(store, &other).await && has_layer_of(store, &other, &other).await);
}

async fn has_layer_of(store: &dyn ImageStore, blob: &SampleLayer, layer: &SampleLayer) -> bool {
    store.has_layer_of(&blob.descriptor.digest, &layer.diff_id).await.expect("has_layer_of")
}

/// Promise: a layer that is unpacked may have further blobs, which are known to be its once they were compared.
pub async fn a_layer_may_have_several_blobs(first: &dyn ImageStore, second: &dyn ImageStore) {
    let archive = tar(&[("file", b"in several forms")]);
    let (plain, gzip) = (SampleLayer::plain(&archive), SampleLayer::gzip(&archive));
    write(first, &plain.descriptor, Some(&plain.diff_id), &plain.bytes, 512).await.expect("write");
    assert!(!has_layer_of(first, &gzip, &plain).await);
    write(first, &gzip.descriptor, Some(&gzip.diff_id), &gzip.bytes, 512).await.expect("write another blob");
    // One that came without its diff ID.
    let mut bytes = gzip.bytes.to_vec();
    bytes[9] = 3;
    let later = SampleLayer {
        descriptor: Descriptor::of(media_type::OCI_LAYER_GZIP, &bytes),
        bytes: bytes.into(),
        ..gzip.clone()
    };
    write(first, &later.descriptor, None, &later.bytes, 512).await.expect("write a blob");
    assert!(!has_layer_of(first, &later, &plain).await);
    first.unpack(&later.descriptor, &later.diff_id).await.expect("compare");
    for blob in [&plain, &gzip, &later] {
        assert!(has_layer_of(second, blob, &plain).await, "{}", blob.descriptor.digest);
        second.unpack(&blob.descriptor, &blob.diff_id).await.expect("unpack again");
    }
}

async fn create(store: &dyn ImageStore, bytes: &Bytes, piece: usize) -> Result<CreatedLayer> {
    let mut writer = store.create_layer().await?;
    for chunk in bytes.chunks(piece) {
        writer.write(Bytes::copy_from_slice(chunk)).await?;
    }
    writer.commit().await
}

/// Promise: a layer that was written without knowing its digests is named by its bytes, and is there as any other.
pub async fn created_layer_is_named_by_its_bytes(store: &dyn ImageStore) {
    let layer = layer("made here");
    let created = create(store, &layer.bytes, 300).await.expect("create");
    assert_eq!((&created.descriptor, &created.diff_id), (&layer.descriptor, &layer.diff_id));
    assert!(has_layer(store, &layer).await);
    assert_eq!(read(store, &layer.descriptor.digest, 0).await.expect("read"), layer.bytes);
    assert_eq!(create(store, &layer.bytes, 1000).await.expect("create again"), created);
}

/// Promise: a layer that is created from gzip is kept as it came, under the diff ID of its archive.
pub async fn created_layer_may_be_compressed(store: &dyn ImageStore) {
    let layer = SampleLayer::gzip(&tar(&[("file", b"compressed")]));
    let created = create(store, &layer.bytes, 100).await.expect("create");
    assert_eq!((&created.descriptor, &created.diff_id), (&layer.descriptor, &layer.diff_id));
    assert!(has_layer(store, &layer).await);
    let xz = Bytes::from_static(b"\xfd7zXZ\0 and so on");
    assert_kind(create(store, &xz, 100).await, &[ErrorKind::Unsupported], "create from xz");
}

/// Promise: a layer whose writer is dropped was never there.
pub async fn dropped_layer_leaves_nothing(store: &dyn ImageStore) {
    let layer = layer("given up");
    let mut writer = store.create_layer().await.expect("create");
    writer.write(layer.bytes.clone()).await.expect("write");
    drop(writer);
    assert!(!has_layer(store, &layer).await);
    assert!(!has_blob(store, &layer.descriptor.digest).await);
    assert_eq!(store.usage().await.expect("usage"), StoreUsage::default());
}

/// Promise: what is no archive becomes no layer.
pub async fn malformed_created_layer_is_corrupt(store: &dyn ImageStore) {
    let whole = tar(&[("file", &[b'x'; 3000])]);
    for bytes in [&whole[..1500], &[b'x'; 2048]] {
        let made = create(store, &Bytes::copy_from_slice(bytes), 512).await;
        assert_kind(made, &[ErrorKind::Corrupt], "create");
    }
    assert_eq!(store.usage().await.expect("usage"), StoreUsage::default());
}

/// Promise: usage lists each blob and each unpacked layer once, with its size.
pub async fn usage_is_what_is_there(store: &dyn ImageStore) {
    let image = SampleImage::new("measured");
    write_image(store, &image).await;
    let usage = store.usage().await.expect("usage");
    let mut blobs: Vec<(&Digest, u64)> =
        image.layers.iter().map(|layer| (&layer.descriptor.digest, layer.descriptor.size)).collect();
    blobs.extend([(&image.config.digest, image.config.size), (&image.manifest.digest, image.manifest.size)]);
    blobs.sort();
    assert_eq!(usage.blobs.iter().map(|(digest, size)| (digest, *size)).collect::<Vec<_>>(), blobs);
    let mut diff_ids = image.diff_ids();
    diff_ids.sort();
    assert_eq!(usage.layers.keys().cloned().collect::<Vec<_>>(), diff_ids);
}

/// Promise: two that write or unpack the same layer both succeed.
pub async fn same_layer_at_once_is_ok(first: &dyn ImageStore, second: &dyn ImageStore) {
    let layer = layer("written by all");
    let (a, b) = tokio::join!(
        write(first, &layer.descriptor, Some(&layer.diff_id), &layer.bytes, 512),
        write(second, &layer.descriptor, Some(&layer.diff_id), &layer.bytes, 700),
    );
    a.expect("first writer");
    b.expect("second writer");
    let (a, b) = tokio::join!(
        first.unpack(&layer.descriptor, &layer.diff_id),
        second.unpack(&layer.descriptor, &layer.diff_id)
    );
    a.expect("first to unpack");
    b.expect("second to unpack");
    assert!(has_layer(first, &layer).await && has_layer(second, &layer).await);
}

/// Promise: a name points where it was set last, names are listed in order, and removing tells what was there.
pub async fn names_point_where_they_were_set(store: &dyn ImageStore) {
    let (old, new) = (SampleImage::new("old"), SampleImage::new("new"));
    write_image(store, &old).await;
    write_image(store, &new).await;
    let (a, b) = (name("registry.example/a:1"), name("registry.example/b:1"));
    assert_eq!(store.resolve_name(&a).await.expect("resolve"), None);
    for (name, target) in [(&b, &new), (&a, &old), (&a, &new)] {
        store.set_name(name, &target.manifest).await.expect("set");
        assert_eq!(store.resolve_name(name).await.expect("resolve").as_ref(), Some(&target.manifest));
    }
    let all = store.names().await.expect("list");
    assert_eq!(all, [(a.clone(), new.manifest.clone()), (b.clone(), new.manifest.clone())]);
    assert!(store.remove_name(&a).await.expect("remove"));
    assert!(!store.remove_name(&a).await.expect("remove again"));
    assert_eq!(store.names().await.expect("list"), [(b, new.manifest)]);
}

/// Promise: a name cannot point at content that is not there.
pub async fn name_of_nothing_is_refused(store: &dyn ImageStore) {
    let (missing, _) = blob("not there");
    let name = name("registry.example/a:1");
    assert_kind(store.set_name(&name, &missing).await, &[ErrorKind::NotFound], "set");
    assert_eq!(store.resolve_name(&name).await.expect("resolve"), None);
}

/// Promise: a container's root file system is the same when it is asked for again, and removing is idempotent.
pub async fn rootfs_is_prepared_once(store: &dyn ImageStore) {
    let image = SampleImage::new("rootfs");
    write_image(store, &image).await;
    let id = ContainerId::random();
    let prepare = || async { store.prepare_rootfs(&id, &image.manifest.digest, &image.diff_ids()).await };
    let mounts = prepare().await.expect("prepare");
    assert_eq!(mounts.first().map(|mount| mount.target.as_path()), Some("/".as_ref()));
    assert_eq!(prepare().await.expect("prepare again"), mounts);
    assert_eq!(store.rootfs_list().await.expect("list"), std::slice::from_ref(&id));
    store.remove_rootfs(&id).await.expect("remove");
    store.remove_rootfs(&id).await.expect("remove again");
    assert!(store.rootfs_list().await.expect("list").is_empty());
    prepare().await.expect("prepare after removal");
    store.remove_rootfs(&id).await.expect("remove at the end");
}

/// Promise: without its layers there is no root file system, and nothing is left of the attempt.
pub async fn rootfs_of_missing_layers_is_refused(store: &dyn ImageStore) {
    let image = SampleImage::new("rootfs");
    write_image(store, &image).await;
    let mut layers = image.diff_ids();
    layers.push(Digest::sha256(b"no such layer"));
    let prepared = store.prepare_rootfs(&ContainerId::random(), &image.manifest.digest, &layers).await;
    assert_kind(prepared, &[ErrorKind::NotFound], "prepare");
    assert!(store.rootfs_list().await.expect("list").is_empty());
}

async fn is_whole(store: &dyn ImageStore, image: &SampleImage) -> bool {
    let mut whole =
        has_blob(store, &image.manifest.digest).await && has_blob(store, &image.config.digest).await;
    for layer in &image.layers {
        whole &= has_blob(store, &layer.descriptor.digest).await && has_layer(store, layer).await;
    }
    whole
}

async fn is_gone(store: &dyn ImageStore, image: &SampleImage) -> bool {
    let mut there =
        has_blob(store, &image.manifest.digest).await || has_blob(store, &image.config.digest).await;
    for layer in &image.layers {
        there |= has_blob(store, &layer.descriptor.digest).await || has_layer(store, layer).await;
    }
    !there
}

/// Promise: what a name reaches is kept, the rest is collected and reported.
pub async fn garbage_is_what_nothing_reaches(store: &dyn ImageStore) {
    let (kept, garbage) = (SampleImage::new("kept"), SampleImage::new("garbage"));
    write_image(store, &kept).await;
    write_image(store, &garbage).await;
    store.set_name(&name("registry.example/kept:1"), &kept.manifest).await.expect("set");
    let report = store.collect_garbage().await.expect("collect");
    assert!(is_whole(store, &kept).await, "{report:?}");
    assert!(is_gone(store, &garbage).await, "{report:?}");
    assert!(report.blobs.contains(&garbage.manifest.digest), "{report:?}");
    for layer in &garbage.layers {
        assert!(report.layers.contains(&layer.diff_id), "{report:?}");
    }
    assert!(store.collect_garbage().await.expect("collect again").blobs.is_empty());
    store.remove_name(&name("registry.example/kept:1")).await.expect("remove");
    assert!(is_whole(store, &kept).await, "removing a name leaves content alone");
    store.collect_garbage().await.expect("collect");
    assert!(is_gone(store, &kept).await);
}

/// Promise: a manifest that only an index leads to can be removed; the index stays, and with it what it has else. What is
/// named, in use or beneath a lease stays whole.
pub async fn removed_manifest_is_as_if_never_here(store: &dyn ImageStore, other: &dyn ImageStore) {
    let (one, two) = (SampleImage::new("one platform"), SampleImage::new("another"));
    write_image(store, &one).await;
    write_image(store, &two).await;
    let entries = [&one.manifest, &two.manifest].map(|manifest| serde_json::json!(manifest));
    let index =
        serde_json::json!({ "schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": entries });
    let bytes = Bytes::from(index.to_string());
    let index = Descriptor::of(media_type::OCI_INDEX, &bytes);
    write(store, &index, None, &bytes, usize::MAX).await.expect("write the index");
    let (all, alone) = (name("registry.example/all:1"), name("registry.example/one:1"));
    store.set_name(&all, &index).await.expect("set");
    let digest = &one.manifest.digest;
    let refused = async |why| {
        assert_kind(store.remove_manifest(digest).await, &[ErrorKind::Conflict], why);
        store.collect_garbage().await.expect("collect");
        assert!(is_whole(store, &one).await, "{why}");
    };
    store.set_name(&alone, &one.manifest).await.expect("set");
    refused("a name points at it").await;
    store.remove_name(&alone).await.expect("remove");
    let id = ContainerId::random();
    store.prepare_rootfs(&id, digest, &one.diff_ids()).await.expect("prepare");
    refused("a root file system is made of it").await;
    store.remove_rootfs(&id).await.expect("remove");
    let lease = other.lease().await.expect("lease");
    refused("somebody holds a lease").await;
    drop(lease);
    for _ in 0..2 {
        store.remove_manifest(digest).await.expect("remove");
    }
    let report = store.collect_garbage().await.expect("collect");
    assert!(is_gone(other, &one).await && is_whole(other, &two).await, "{report:?}");
    assert_eq!(other.resolve_name(&all).await.expect("resolve"), Some(index.clone()));
    assert_eq!(other.blob_size(&index.digest).await.expect("size"), Some(index.size));
    write_image(store, &one).await;
    assert!(
        store.collect_garbage().await.expect("collect").blobs.is_empty(),
        "it is one of the index's again"
    );
}

/// Promise: a container's root file system keeps its image, until it is removed.
pub async fn rootfs_keeps_its_image(store: &dyn ImageStore) {
    let (image, id) = (SampleImage::new("in use"), ContainerId::random());
    write_image(store, &image).await;
    store.prepare_rootfs(&id, &image.manifest.digest, &image.diff_ids()).await.expect("prepare");
    store.collect_garbage().await.expect("collect");
    assert!(is_whole(store, &image).await);
    store.remove_rootfs(&id).await.expect("remove");
    store.collect_garbage().await.expect("collect");
    assert!(is_gone(store, &image).await);
}

/// Promise: an image that a container mounts is kept until its root file system is removed. A store that cannot show
/// layers says so.
pub async fn mounted_image_is_kept(store: &dyn ImageStore) {
    let (own, other, id) = (SampleImage::new("own"), SampleImage::new("mounted"), ContainerId::random());
    write_image(store, &own).await;
    write_image(store, &other).await;
    store.prepare_rootfs(&id, &own.manifest.digest, &own.diff_ids()).await.expect("prepare");
    let target = Path::new("/image");
    let mount = async || store.mount_image(&id, &other.manifest.digest, &other.diff_ids(), target).await;
    match mount().await {
        Err(error) if error.kind() == ErrorKind::Unsupported => {
            return store.remove_rootfs(&id).await.expect("remove");
        }
        made => {
            let made = made.expect("mount");
            assert_eq!((&*made.target, made.options.read_only), (target, true));
            assert_eq!(mount().await.expect("mount again"), made);
        }
    }
    store.collect_garbage().await.expect("collect");
    assert!(is_whole(store, &own).await && is_whole(store, &other).await);
    store.remove_rootfs(&id).await.expect("remove");
    store.collect_garbage().await.expect("collect");
    assert!(is_gone(store, &own).await && is_gone(store, &other).await);
    assert_kind(mount().await, &[ErrorKind::NotFound], "mount an image that is gone");
}

/// Promise: nothing is written to a root file system that is new, or that is not there.
pub async fn new_rootfs_holds_nothing(store: &dyn ImageStore) {
    let (image, id) = (SampleImage::new("measured"), ContainerId::random());
    assert_eq!(store.rootfs_usage(&id).await.expect("measure nothing"), 0);
    write_image(store, &image).await;
    store.prepare_rootfs(&id, &image.manifest.digest, &image.diff_ids()).await.expect("prepare");
    if store.capabilities().shares_layers {
        assert_eq!(store.rootfs_usage(&id).await.expect("measure"), 0);
    }
    store.remove_rootfs(&id).await.expect("remove");
}

/// Promise: while any program holds a lease, no content that was there or came after is collected.
pub async fn lease_keeps_everything(first: &dyn ImageStore, second: &dyn ImageStore) {
    let (before, after) = (SampleImage::new("before"), SampleImage::new("after"));
    write_image(first, &before).await;
    let (lease, another) = (first.lease().await.expect("lease"), first.lease().await.expect("another"));
    write_image(first, &after).await;
    drop(another);
    for store in [first, second] {
        store.collect_garbage().await.expect("collect");
        assert!(is_whole(store, &before).await && is_whole(store, &after).await);
    }
    drop(lease);
    second.collect_garbage().await.expect("collect");
    assert!(is_gone(first, &before).await && is_gone(first, &after).await);
}

/// Promise: what one instance acknowledged, another over the same state sees.
pub async fn other_instances_see_content(first: &dyn ImageStore, second: &dyn ImageStore) {
    let (image, id, name) =
        (SampleImage::new("shared"), ContainerId::random(), name("registry.example/shared:1"));
    write_image(first, &image).await;
    first.set_name(&name, &image.manifest).await.expect("set");
    let mounts = first.prepare_rootfs(&id, &image.manifest.digest, &image.diff_ids()).await.expect("prepare");
    assert!(is_whole(second, &image).await);
    assert_eq!(second.resolve_name(&name).await.expect("resolve").as_ref(), Some(&image.manifest));
    let again = second.prepare_rootfs(&id, &image.manifest.digest, &image.diff_ids()).await;
    assert_eq!(again.expect("prepare"), mounts);
    second.remove_rootfs(&id).await.expect("remove");
    assert!(first.rootfs_list().await.expect("list").is_empty());
    assert!(second.remove_name(&name).await.expect("remove"));
    assert_eq!(first.resolve_name(&name).await.expect("resolve"), None);
}
