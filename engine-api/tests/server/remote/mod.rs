//! An engine behind the API, as an engine: the same results, the same errors, the same endings.

mod errors;
pub(crate) mod hostile;
mod life;
mod real;
mod sessions;
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
    runtime: MemoryRuntime,
    server: TempServer,
}

impl Pair {
    async fn new() -> Self {
        let registry = MemoryRegistry::new();
        publish(&registry, "a", IMAGE);
        let runtime = MemoryRuntime::new();
        let near = Engine::in_memory()
            .image_store(MemoryImageStore::new())
            .runtime(runtime.clone())
            .registry(registry.clone())
            .volume_driver(MemoryVolumes::new())
            .network(MemoryNetwork::new())
            .open()
            .await
            .unwrap();
        near.pull(&IMAGE.parse().unwrap(), PullOptions::default()).await.unwrap();
        let server = ApiServer::new(near.clone()).serve_temp().await.unwrap();
        let far = connect(&server.docker_host()).await;
        Self { near, far, registry, runtime, server }
    }
}

async fn connect(host: &str) -> Engine {
    let host: Host = host.parse().unwrap();
    Engine::from(RemoteEngine::connect(&host, ConnectOptions::default()).await.unwrap())
}

fn publish(registry: &MemoryRegistry, seed: &str, name: &str) {
    publish_image(registry, &SampleImage::new(seed), name);
}

fn publish_image(registry: &MemoryRegistry, image: &SampleImage, name: &str) {
    let reference = name.parse().unwrap();
    for layer in &image.layers {
        registry.add_blob(&reference, &layer.descriptor.media_type, layer.bytes.clone());
    }
    registry.add_blob(&reference, &image.config.media_type, image.config_bytes.clone());
    registry.add_manifest(&reference, &image.manifest.media_type, image.manifest_bytes.clone());
}
