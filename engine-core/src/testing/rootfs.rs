//! What an [`ImageStore`] promises about root file systems that changed: comparing, committing, freezing.

use super::content::SampleImage;
use super::image_store::write_image;
use super::{Subject, Suite, assert_kind, run_promises};
use crate::error::ErrorKind;
use crate::id::{ContainerId, SnapshotId};
use crate::image_store::{ImageStore, LayerOptions};

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
    let mut suite = Suite::new("ImageStore's root file systems");
    run_promises!(suite, factory, |subject|
        what_is_missing_is_not_found(&*subject.first);
        untouched_rootfs_has_no_changes(&*subject.first);
        committed_layer_is_there(&*subject.first, &*subject.second);
        snapshot_keeps_and_gives(&*subject.first, &*subject.second);
    );
    suite.finish();
}

async fn prepared(store: &dyn ImageStore) -> (ContainerId, SampleImage) {
    let image = SampleImage::new("changes");
    write_image(store, &image).await;
    let id = ContainerId::random();
    store.prepare_rootfs(&id, &image.manifest.digest, &image.diff_ids()).await.expect("prepare");
    (id, image)
}

/// Promise: root file systems and snapshots that are not there are not found, and removing one is `Ok`.
pub async fn what_is_missing_is_not_found(store: &dyn ImageStore) {
    let (none, snapshot) = (ContainerId::random(), SnapshotId::random());
    let missing = &[ErrorKind::NotFound, ErrorKind::Unsupported];
    assert_kind(store.rootfs_changes(&none, None).await, &[ErrorKind::NotFound], "compare");
    assert_kind(store.commit_rootfs(&none, &LayerOptions::default()).await, &[ErrorKind::NotFound], "commit");
    assert_kind(store.freeze_rootfs(&none, &snapshot, false).await, missing, "freeze");
    assert_kind(store.fork_rootfs(&none, &snapshot).await, missing, "fork");
    let (id, _) = prepared(store).await;
    assert_kind(store.restore_rootfs(&id, &snapshot).await, missing, "restore");
    store.remove_snapshot(&snapshot).await.expect("remove a snapshot that is not there");
    assert!(store.snapshot_list().await.expect("list").is_empty());
    store.remove_rootfs(&id).await.expect("remove");
}

/// Promise: a root file system nobody wrote to is as its image.
pub async fn untouched_rootfs_has_no_changes(store: &dyn ImageStore) {
    let (id, _) = prepared(store).await;
    assert_eq!(store.rootfs_changes(&id, None).await.expect("compare"), Vec::new());
    store.remove_rootfs(&id).await.expect("remove");
}

/// Promise: a committed layer is in the store, blob and files, and committing the same again gives the same.
pub async fn committed_layer_is_there(first: &dyn ImageStore, second: &dyn ImageStore) {
    let (id, _) = prepared(first).await;
    let _lease = first.lease().await.expect("lease");
    let (layer, diff_id) = first.commit_rootfs(&id, &LayerOptions::default()).await.expect("commit");
    assert_eq!(second.blob_size(&layer.digest).await.expect("size"), Some(layer.size));
    assert!(second.has_layer(&diff_id).await.expect("has layer"));
    assert_eq!(
        second.commit_rootfs(&id, &LayerOptions::default()).await.expect("commit again"),
        (layer, diff_id)
    );
    first.remove_rootfs(&id).await.expect("remove");
}

/// Promise: a snapshot keeps its image, gives root file systems, and stays when its container goes. A store that cannot
/// freeze says so.
pub async fn snapshot_keeps_and_gives(first: &dyn ImageStore, second: &dyn ImageStore) {
    let (id, image) = prepared(first).await;
    let snapshot = SnapshotId::random();
    match first.freeze_rootfs(&id, &snapshot, false).await {
        Err(error) if error.kind() == ErrorKind::Unsupported => {
            assert!(first.snapshot_list().await.expect("list").is_empty());
            return first.remove_rootfs(&id).await.expect("remove");
        }
        frozen => frozen.expect("freeze"),
    }
    second.freeze_rootfs(&id, &snapshot, false).await.expect("freeze again");
    assert_eq!(second.snapshot_list().await.expect("list"), std::slice::from_ref(&snapshot));
    assert_eq!(second.rootfs_changes(&id, Some(&snapshot)).await.expect("compare"), Vec::new());
    first.restore_rootfs(&id, &snapshot).await.expect("restore");
    first.prepare_rootfs(&id, &image.manifest.digest, &image.diff_ids()).await.expect("prepare");
    first.remove_rootfs(&id).await.expect("remove");
    second.collect_garbage().await.expect("collect");
    let fork = ContainerId::random();
    second.fork_rootfs(&fork, &snapshot).await.expect("fork");
    second.fork_rootfs(&fork, &snapshot).await.expect("fork again");
    first.remove_snapshot(&snapshot).await.expect("remove snapshot");
    first.remove_snapshot(&snapshot).await.expect("remove snapshot again");
    first.collect_garbage().await.expect("collect");
    first.prepare_rootfs(&fork, &image.manifest.digest, &image.diff_ids()).await.expect("prepare the fork");
    assert_eq!(first.rootfs_list().await.expect("list"), std::slice::from_ref(&fork));
    first.remove_rootfs(&fork).await.expect("remove the fork");
    first.collect_garbage().await.expect("collect the rest");
    let left = first.blob_size(&image.manifest.digest).await.expect("size");
    assert_eq!(left, None, "nothing reaches the image any more");
}
