//! The conformance suite of `Storage` on what we have.

use std::sync::{Arc, Mutex};

use engine_core::testing::Subject;
use engine_registry::server::{FileStorage, MemoryStorage, Storage, testing};

#[tokio::test]
async fn memory_keeps_every_promise() {
    testing::all(async || {
        let storage = MemoryStorage::new();
        let (first, second): (Arc<dyn Storage>, Arc<dyn Storage>) =
            (Arc::new(storage.clone()), Arc::new(storage));
        Subject::new(first, second)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_keep_every_promise() {
    let dirs = Mutex::new(Vec::new());
    testing::all(async || {
        let dir = tempfile::tempdir().unwrap();
        let open = || -> Arc<dyn Storage> { Arc::new(FileStorage::open(dir.path()).unwrap()) };
        let subject = Subject::new(open(), open());
        dirs.lock().unwrap().push(dir);
        subject
    })
    .await;
}
