//! Engines to follow, and what they told.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use engine_core::engine::ImportOptions;
use engine_core::events::{EventQuery, EventStream};
use engine_core::memory::{MemoryImageStore, MemoryRuntime, MemoryVolumes};
use engine_core::{Engine, Event};
use engine_testkit::{LeakCheck, image};
use futures_util::StreamExt as _;

/// A real engine over a directory of its own.
pub(crate) struct World {
    pub(crate) dir: tempfile::TempDir,
    leaks: LeakCheck,
}

impl World {
    pub(crate) async fn new() -> (Self, Engine) {
        let dir = tempfile::Builder::new().prefix("engine-events-").tempdir().unwrap();
        let root = dir.path().join("root");
        // What an empty engine consists of is no leak.
        drop(Engine::builder(&root).open().await.unwrap());
        let leaks = LeakCheck::begin(&root, &root.join("run"));
        let world = Self { dir, leaks };
        let engine = world.open().await;
        import(&engine).await;
        (world, engine)
    }

    /// Opens the engine once more, as another program would.
    pub(crate) async fn open(&self) -> Engine {
        Engine::builder(self.dir.path().join("root")).open().await.unwrap()
    }

    /// Ends a test that left no container.
    pub(crate) async fn finish(self, engine: Engine) {
        assert!(engine.containers().await.unwrap().is_empty());
        drop(engine);
        self.leaks.finish();
    }
}

pub(crate) async fn in_memory() -> Engine {
    let engine = Engine::in_memory()
        .image_store(MemoryImageStore::new())
        .runtime(MemoryRuntime::new())
        .volume_driver(MemoryVolumes::new())
        .open()
        .await
        .unwrap();
    import(&engine).await;
    engine
}

async fn import(engine: &Engine) {
    let archive = Bytes::from(image::busybox_layer().build());
    engine.import(&"busybox".parse().unwrap(), archive, ImportOptions::default()).await.unwrap();
}

/// All events so far.
pub(crate) async fn all(engine: &Engine) -> Vec<Event> {
    let query = EventQuery::default().with_since(SystemTime::UNIX_EPOCH).with_until(SystemTime::now());
    engine.events(query).await.unwrap().map(Result::unwrap).collect().await
}

/// The next event, which must come.
pub(crate) async fn next(events: &mut EventStream) -> Event {
    let next = tokio::time::timeout(Duration::from_secs(120), events.next()).await;
    next.expect("an event in time").expect("the stream goes on").unwrap()
}

/// Kinds and actions.
pub(crate) fn words(events: &[Event]) -> Vec<String> {
    events.iter().map(|event| format!("{} {}", event.object, event.action)).collect()
}
