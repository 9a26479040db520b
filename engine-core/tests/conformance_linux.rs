//! The Linux implementations keep the contracts. They make real files, mounts, namespaces and cgroups.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use engine_core::database::Database;
use engine_core::linux::image_store::{LayerDriver, LocalImageStore, LocalImageStoreOptions};
use engine_core::linux::volumes::LocalVolumes;
use engine_core::testing::{Subject, image_store, volume_driver};
use engine_testkit::require;

/// Directories for one instance after the other.
struct Roots {
    dir: tempfile::TempDir,
    next: AtomicU32,
}

impl Roots {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap(), next: AtomicU32::new(0) }
    }

    fn fresh(&self) -> std::path::PathBuf {
        let root = self.dir.path().join(self.next.fetch_add(1, Ordering::Relaxed).to_string());
        std::fs::create_dir(&root).unwrap();
        root
    }
}

/// Two stores with a database connection each, as two programs have.
fn stores(roots: &Roots, driver: LayerDriver) -> Subject<LocalImageStore> {
    let root = roots.fresh();
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
}

#[tokio::test]
async fn copying_image_store_keeps_its_promises() {
    require!(root);
    let roots = Roots::new();
    image_store::all(async || stores(&roots, LayerDriver::Copy)).await;
}

#[tokio::test]
async fn volume_driver_keeps_its_promises() {
    let roots = Roots::new();
    volume_driver::all(async || {
        let root = roots.fresh();
        let open = async || Arc::new(LocalVolumes::open(&root).await.unwrap());
        Subject::new(open().await, open().await)
    })
    .await;
}
