//! The Linux implementations keep the contracts. They make real files, mounts, namespaces and cgroups.

#![expect(clippy::unwrap_used, reason = "a test's helpers may fail as the test does")]

#[allow(dead_code, unreachable_pub, reason = "each test program uses a part of it")]
#[path = "runtime/support.rs"]
mod support;

use std::fs;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use engine_core::ContainerId;
use engine_core::database::Database;
use engine_core::launch::LaunchSpec;
use engine_core::linux::LinuxRuntime;
use engine_core::linux::image_store::{LayerDriver, LocalImageStore, LocalImageStoreOptions};
use engine_core::linux::volumes::LocalVolumes;
use engine_core::mount::{Mount, OverlayUpper};
use engine_core::runtime::Runtime;
use engine_core::testing::runtime::RuntimeHarness;
use engine_core::testing::{Subject, image_store, rootfs, runtime, volume_driver};
use engine_testkit::require;

/// Directories for one instance after the other. When they go, nothing may be left of any.
struct Roots {
    leaks: Mutex<Vec<support::Leaks>>,
    dir: tempfile::TempDir,
    next: AtomicU32,
}

impl Roots {
    fn new() -> Self {
        Self { leaks: Mutex::default(), dir: tempfile::tempdir().unwrap(), next: AtomicU32::new(0) }
    }

    fn fresh(&self) -> std::path::PathBuf {
        let root = self.dir.path().join(self.next.fetch_add(1, Ordering::Relaxed).to_string());
        std::fs::create_dir(&root).unwrap();
        let leaks = support::Leaks::begin(&root.join("root"), &root.join("run"));
        self.leaks.lock().unwrap().push(leaks);
        root
    }
}

/// Two stores with a database connection each, as two programs have.
fn stores(roots: &Roots, driver: LayerDriver) -> Subject<LocalImageStore> {
    let root = roots.fresh().join("root");
    fs::create_dir(&root).unwrap();
    let open = || {
        let database = Database::open(&root.join("engine.db")).unwrap();
        let options = LocalImageStoreOptions::default().with_driver(driver);
        Arc::new(LocalImageStore::open(&root, database, options).unwrap())
    };
    Subject::new(open(), open())
}

#[tokio::test]
async fn image_store_keeps_its_promises() {
    require!(root, overlayfs);
    let roots = Roots::new();
    image_store::all(async || stores(&roots, LayerDriver::Overlay)).await;
    image_store::decompressing(async || stores(&roots, LayerDriver::Overlay)).await;
    rootfs::all(async || stores(&roots, LayerDriver::Overlay)).await;
}

#[tokio::test]
async fn copying_image_store_keeps_its_promises() {
    require!(root);
    let roots = Roots::new();
    image_store::all(async || stores(&roots, LayerDriver::Copy)).await;
    rootfs::all(async || stores(&roots, LayerDriver::Copy)).await;
}

#[tokio::test]
async fn volume_driver_keeps_its_promises() {
    let roots = Roots::new();
    volume_driver::all(async || {
        let root = roots.fresh().join("root");
        let open = async || Arc::new(LocalVolumes::open(&root).await.unwrap());
        Subject::new(open().await, open().await)
    })
    .await;
}

/// Real containers from a handful of busybox links.
struct Containers {
    roots: Roots,
    latest: Mutex<std::path::PathBuf>,
}

impl Containers {
    fn new() -> Self {
        let roots = Roots::new();
        support::busybox(&roots.dir.path().join("layer"));
        Self { roots, latest: Mutex::default() }
    }
}

#[async_trait]
impl RuntimeHarness for Containers {
    async fn runtime(&self) -> Subject<dyn Runtime> {
        let dir = self.roots.fresh();
        self.latest.lock().unwrap().clone_from(&dir);
        let open = async || LinuxRuntime::open(dir.join("root"), dir.join("run")).await.unwrap();
        Subject::new(Arc::new(open().await), Arc::new(open().await))
    }

    async fn launch(&self, id: &ContainerId, args: &[&str]) -> LaunchSpec {
        let base = self.latest.lock().unwrap().join("writable").join(id.as_str());
        let (upper, work) = (base.join("upper"), base.join("work"));
        fs::create_dir_all(&upper).unwrap();
        fs::create_dir_all(&work).unwrap();
        let layer = self.roots.dir.path().join("layer");
        let rootfs = Mount::overlay(vec![layer], Some(OverlayUpper { upper, work }));
        let mut spec = LaunchSpec::new(support::oci(args), vec![rootfs]);
        support::scoped(&mut spec);
        spec
    }

    async fn release(&self, id: &ContainerId) {
        let base = self.latest.lock().unwrap().join("writable").join(id.as_str());
        fs::remove_dir_all(base).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn runtime_keeps_its_promises() {
    require!(root, overlayfs);
    runtime::all(&Containers::new()).await;
}
