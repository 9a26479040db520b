//! An engine behind the API, as an engine: the same results, the same errors, the same endings.

mod errors;
mod hostile;
mod life;
mod real;
mod streams;
mod transports;

use engine_api::client::{ConnectOptions, Host, RemoteEngine};
use engine_api::server::{ApiServer, TempServer};
use engine_core::Engine;
use engine_core::engine::PullOptions;
use engine_core::memory::{MemoryImageStore, MemoryNetwork, MemoryRegistry, MemoryRuntime, MemoryVolumes};
use engine_core::testing::content::SampleImage;

/// The image that there is.
const IMAGE: &str = "registry.example/app:1";

/// An engine in memory, and the same one over the wire.
struct Pair {
    near: Engine,
    far: Engine,
    registry: MemoryRegistry,
    server: TempServer,
}

impl Pair {
    async fn new() -> Self {
        let registry = MemoryRegistry::new();
        publish(&registry, "a", IMAGE);
        let near = Engine::in_memory()
            .image_store(MemoryImageStore::new())
            .runtime(MemoryRuntime::new())
            .registry(registry.clone())
            .volume_driver(MemoryVolumes::new())
            .network(MemoryNetwork::new())
            .open()
            .await
            .unwrap();
        near.pull(&IMAGE.parse().unwrap(), PullOptions::default()).await.unwrap();
        let server = ApiServer::new(near.clone()).serve_temp().await.unwrap();
        let far = connect(&server.docker_host()).await;
        Self { near, far, registry, server }
    }
}

async fn connect(host: &str) -> Engine {
    let host: Host = host.parse().unwrap();
    Engine::from(RemoteEngine::connect(&host, ConnectOptions::default()).await.unwrap())
}

fn publish(registry: &MemoryRegistry, seed: &str, name: &str) {
    let image = SampleImage::new(seed);
    let reference = name.parse().unwrap();
    for layer in &image.layers {
        registry.add_blob(&reference, &layer.descriptor.media_type, layer.bytes.clone());
    }
    registry.add_blob(&reference, &image.config.media_type, image.config_bytes.clone());
    registry.add_manifest(&reference, &image.manifest.media_type, image.manifest_bytes.clone());
}
