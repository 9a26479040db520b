//! An engine over a real image store and in-memory parts, and ways to look at what is left.

use std::path::PathBuf;

use bytes::Bytes;
use engine_core::database::Database;
use engine_core::engine::{EngineBuilder, ImportOptions};
use engine_core::linux::image_store::{LocalImageStore, LocalImageStoreOptions};
use engine_core::memory::{MemoryNetwork, MemoryRegistry, MemoryRuntime, MemoryVolumes};
use engine_core::testing::content::{SampleImage, SampleLayer, tar};
use engine_core::{Engine, Reference};

/// One engine in a directory of its own.
pub struct World {
    pub engine: Engine,
    pub registry: MemoryRegistry,
    pub dir: tempfile::TempDir,
}

impl World {
    pub async fn new() -> Self {
        Self::with(LocalImageStoreOptions::default()).await
    }

    pub async fn with(options: LocalImageStoreOptions) -> Self {
        Self::built(options, |builder| builder).await
    }

    pub async fn built(
        options: LocalImageStoreOptions,
        build: impl FnOnce(EngineBuilder) -> EngineBuilder,
    ) -> Self {
        let dir = tempfile::Builder::new().prefix("engine-images-").tempdir().unwrap();
        let root = dir.path().join("root");
        std::fs::create_dir(&root).unwrap();
        let database = Database::open(&root.join("store.db")).unwrap();
        let registry = MemoryRegistry::new();
        let engine = build(Engine::builder(&root))
            .image_store(LocalImageStore::open(&root, database, options).unwrap())
            .runtime(MemoryRuntime::new())
            .registry(registry.clone())
            .volume_driver(MemoryVolumes::new())
            .network(MemoryNetwork::new())
            .open()
            .await
            .unwrap();
        Self { engine, registry, dir }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Imports an image of one file, which `seed` makes different from others.
    pub async fn import(&self, name: &str, seed: &str) -> String {
        let archive = Bytes::from(tar(&[("file", seed.as_bytes())]));
        let image = self.engine.import(&reference(name), archive, ImportOptions::default()).await.unwrap();
        image.id().to_string()
    }

    /// Puts an image into the registry.
    pub fn publish(&self, image: &SampleImage, name: &str) -> Reference {
        let reference = reference(name);
        for SampleLayer { descriptor, bytes, .. } in &image.layers {
            self.registry.add_blob(&reference, &descriptor.media_type, bytes.clone());
        }
        self.registry.add_blob(&reference, &image.config.media_type, image.config_bytes.clone());
        self.registry.add_manifest(&reference, &image.manifest.media_type, image.manifest_bytes.clone());
        reference
    }

    /// Returns all files and directories of the store's content.
    pub fn content(&self) -> Vec<String> {
        let mut found = Vec::new();
        for dir in ["blobs/sha256", "blobs/sha512", "layers", "ingest"] {
            let path = self.dir.path().join("root/images").join(dir);
            for entry in std::fs::read_dir(path).unwrap() {
                let entry = entry.unwrap();
                // The directory of a store that lives is empty between two calls.
                match dir {
                    "ingest" => found.extend(
                        std::fs::read_dir(entry.path())
                            .unwrap()
                            .map(|e| format!("ingest/{}", e.unwrap().file_name().display())),
                    ),
                    _ => found.push(format!("{dir}/{}", entry.file_name().display())),
                }
            }
        }
        found
    }

    /// Waits until nothing is in the store: what was cut short is swept by a task of its own.
    pub async fn assert_empty(&self, what: &str) {
        let end = std::time::Instant::now() + std::time::Duration::from_secs(30);
        loop {
            let left = self.content();
            if left.is_empty() {
                return;
            }
            assert!(std::time::Instant::now() < end, "{what}: {left:?}");
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    }
}

pub fn reference(text: &str) -> Reference {
    text.parse().unwrap()
}
