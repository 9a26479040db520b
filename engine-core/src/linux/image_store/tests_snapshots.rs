//! Frozen layers after a crash at each step, chains, and what keeps them.

use std::fs;
use std::path::Path;

use engine_testkit::require;

use super::tests::{gzip, open, put};
use super::{LayerDriver, LocalImageStore, LocalImageStoreOptions};
use crate::database::Durability;
use crate::descriptor::{Descriptor, media_type};
use crate::digest::Digest;
use crate::error::ErrorKind;
use crate::files::ChangeKind;
use crate::id::{ContainerId, SnapshotId};
use crate::image_store::{ImageStore, LayerOptions};
use crate::mount::{Mount, MountKind};
use crate::tar::build::Archive;

/// A store with a layer, and a container of it that wrote `f`.
struct Fixture {
    dir: tempfile::TempDir,
    store: LocalImageStore,
    layer: Digest,
    id: ContainerId,
}

impl Fixture {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = open(dir.path(), LocalImageStoreOptions::default());
        let tar = Archive::new().dir("d", 0o755).file("d/below", b"x").file("gone", b"x").end();
        let (blob, layer) = (gzip(&tar), Digest::sha256(&tar));
        put(&store, &Descriptor::of(media_type::OCI_LAYER_GZIP, &blob), Some(&layer), &blob).await.unwrap();
        let fixture = Self { dir, store, layer, id: ContainerId::random() };
        fixture.prepare(&fixture.id).await;
        fs::write(fixture.upper().join("f"), "written").unwrap();
        fixture
    }

    fn upper(&self) -> std::path::PathBuf {
        self.dir.path().join("containers").join(self.id.as_str()).join("upper")
    }

    async fn prepare(&self, id: &ContainerId) -> Vec<Mount> {
        self.store
            .prepare_rootfs(id, &Digest::sha256(b"image"), std::slice::from_ref(&self.layer))
            .await
            .unwrap()
    }

    fn reopen(&mut self) {
        self.store = open(self.dir.path(), LocalImageStoreOptions::default());
    }

    fn frozen(&self) -> usize {
        fs::read_dir(self.dir.path().join("images/frozen")).unwrap().count()
    }

    async fn freeze(&self) -> SnapshotId {
        let snapshot = SnapshotId::random();
        self.store.freeze_rootfs(&self.id, &snapshot, false).await.unwrap();
        snapshot
    }
}

fn lower(mounts: &[Mount]) -> &[std::path::PathBuf] {
    match &mounts[0].kind {
        MountKind::Overlay { lower, .. } => lower,
        other => panic!("{other:?}"),
    }
}

/// What lies in the topmost layers that has `name`.
fn find(mounts: &[Mount], name: &str) -> Option<String> {
    let read = |dir: &Path| fs::read_to_string(dir.join(name)).ok();
    lower(mounts).iter().find_map(|dir| read(dir))
}

#[tokio::test]
async fn a_crash_between_the_rows_and_the_rename_is_made_good_by_either_side() {
    require!(root, overlayfs);
    for by_fork in [true, false] {
        let mut fixture = Fixture::new().await;
        let snapshot = fixture.freeze().await;
        // As if the program had been killed behind its commit: the directory is still the container's.
        let frozen = fixture.dir.path().join("images/frozen").join(snapshot.as_str());
        fs::rename(&frozen, fixture.upper()).unwrap();
        fs::create_dir(fixture.upper().with_file_name("work")).unwrap();
        let database = &fixture.store.shared.database;
        database
            .write(Durability::Crash, |tx| {
                Ok(tx.execute("UPDATE image_frozen SET origin = ?1", [fixture.id.as_str()])?)
            })
            .unwrap();
        fixture.reopen();
        let fork = ContainerId::random();
        if by_fork {
            fixture.store.fork_rootfs(&fork, &snapshot).await.unwrap();
            assert_eq!(find(&fixture.prepare(&fork).await, "f").as_deref(), Some("written"));
        }
        let mounts = fixture.prepare(&fixture.id).await;
        assert_eq!(find(&mounts, "f").as_deref(), Some("written"));
        assert_eq!(fs::read_dir(fixture.upper()).unwrap().count(), 0, "what it writes now is its own");
        // A removal before anybody looked: the fork keeps what it stands on.
        fixture.store.remove_rootfs(&fixture.id).await.unwrap();
        assert_eq!(fixture.frozen(), 1);
        fixture.store.remove_snapshot(&snapshot).await.unwrap();
        assert_eq!(fixture.frozen(), usize::from(by_fork));
        fixture.store.remove_rootfs(&fork).await.unwrap();
        assert_eq!(fixture.frozen(), 0);
    }
}

#[tokio::test]
async fn a_crash_in_a_restore_is_carried_on() {
    require!(root, overlayfs);
    let mut fixture = Fixture::new().await;
    let snapshot = fixture.freeze().await;
    fixture.prepare(&fixture.id).await;
    fs::write(fixture.upper().join("f"), "later").unwrap();
    // As if killed behind the commit of a restore.
    fixture
        .store
        .shared
        .database
        .write(Durability::Crash, |tx| Ok(tx.execute("UPDATE image_rootfs SET stale = 1", [])?))
        .unwrap();
    fixture.reopen();
    fixture.prepare(&fixture.id).await;
    assert!(!fixture.upper().join("f").exists());
    fixture.store.restore_rootfs(&fixture.id, &snapshot).await.unwrap();
    assert_eq!(find(&fixture.prepare(&fixture.id).await, "f").as_deref(), Some("written"));
}

#[tokio::test]
async fn copies_no_row_names_are_swept_with_the_garbage() {
    require!(root, overlayfs);
    let fixture = Fixture::new().await;
    fs::create_dir_all(fixture.dir.path().join("images/frozen/left/behind")).unwrap();
    fixture.store.collect_garbage().await.unwrap();
    assert_eq!(fixture.frozen(), 0);
}

#[tokio::test]
async fn chains_end_where_overlayfs_ends() {
    require!(root, overlayfs);
    let fixture = Fixture::new().await;
    let mut last = None;
    for n in 0..600 {
        fixture.prepare(&fixture.id).await;
        fs::write(fixture.upper().join("f"), n.to_string()).unwrap();
        let snapshot = SnapshotId::random();
        match fixture.store.freeze_rootfs(&fixture.id, &snapshot, false).await {
            Ok(()) => {}
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::ResourceExhausted, "{error:?}");
                assert!(error.hint().is_some_and(|hint| hint.contains("commit")));
                last = Some(n);
                break;
            }
        }
    }
    let last = last.expect("a chain ends");
    assert!((400..500).contains(&last), "{last}");
    // What could not be frozen is still there, and the longest chain mounts.
    let mounts = fixture.prepare(&fixture.id).await;
    assert_eq!(fs::read_to_string(fixture.upper().join("f")).unwrap(), last.to_string());
    let MountKind::Overlay { lower, upper: Some(upper) } = &mounts[0].kind else { panic!("{mounts:?}") };
    let lower: Vec<&Path> = lower.iter().map(|path| path.as_path()).collect();
    crate::linux::files::view::overlay(&lower, Some((&upper.upper, &upper.work))).unwrap();
    // Without a change there is nothing to freeze: the chain does not grow.
    fs::remove_file(fixture.upper().join("f")).unwrap();
    let changes = fixture.store.rootfs_changes(&fixture.id, None).await.unwrap();
    assert_eq!(changes.len(), 1);
}

#[tokio::test]
async fn both_drivers_see_the_same_changes() {
    require!(root, overlayfs);
    let mut seen = Vec::new();
    for driver in [LayerDriver::Overlay, LayerDriver::Copy] {
        let dir = tempfile::tempdir().unwrap();
        let store = open(dir.path(), LocalImageStoreOptions::default().with_driver(driver));
        let tar =
            Archive::new().dir("d", 0o755).file("d/kept", b"x").file("d/gone", b"x").file("same", b"x").end();
        let (blob, layer) = (gzip(&tar), Digest::sha256(&tar));
        put(&store, &Descriptor::of(media_type::OCI_LAYER_GZIP, &blob), Some(&layer), &blob).await.unwrap();
        let id = ContainerId::random();
        let mounts = store.prepare_rootfs(&id, &layer, std::slice::from_ref(&layer)).await.unwrap();
        let work = move || match &mounts[0].kind {
            MountKind::Overlay { lower, upper: Some(upper) } => {
                let lower: Vec<&Path> = lower.iter().map(|path| path.as_path()).collect();
                crate::linux::files::view::overlay(&lower, Some((&upper.upper, &upper.work))).unwrap()
            }
            MountKind::Bind { source, .. } => fs::File::open(source).unwrap().into(),
            other => panic!("{other:?}"),
        };
        let root = work();
        let at = |name: &str| format!("/proc/self/fd/{}/{name}", std::os::fd::AsRawFd::as_raw_fd(&root));
        fs::remove_file(at("d/gone")).unwrap();
        fs::write(at("new"), "1").unwrap();
        fs::create_dir(at("dir")).unwrap();
        fs::write(at("dir/f"), "1").unwrap();
        fs::write(at("same"), "longer").unwrap();
        drop(root);
        let changes = store.rootfs_changes(&id, None).await.unwrap();
        let (_, diff_id) = store.commit_rootfs(&id, &LayerOptions::default()).await.unwrap();
        assert!(store.has_layer(&diff_id).await.unwrap());
        if driver == LayerDriver::Copy {
            let snapshot = SnapshotId::random();
            let error = store.freeze_rootfs(&id, &snapshot, false).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unsupported);
        }
        store.remove_rootfs(&id).await.unwrap();
        seen.push(changes);
    }
    let told: Vec<_> = seen[0].iter().map(|c| (c.kind, c.path.to_str().unwrap())).collect();
    let (added, deleted, modified) = (ChangeKind::Added, ChangeKind::Deleted, ChangeKind::Modified);
    let expected = [
        (modified, "/d"),
        (deleted, "/d/gone"),
        (added, "/dir"),
        (added, "/dir/f"),
        (added, "/new"),
        (modified, "/same"),
    ];
    assert_eq!(told, expected);
    assert_eq!(seen[0], seen[1]);
}
