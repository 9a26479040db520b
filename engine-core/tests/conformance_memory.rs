//! The in-memory implementations keep the contracts.

#![expect(clippy::unwrap_used, reason = "a test's helpers may fail as the test does")]

use std::sync::Arc;

use async_trait::async_trait;
use engine_core::launch::LaunchSpec;
use engine_core::memory::{MemoryImageStore, MemoryNetwork, MemoryRegistry, MemoryRuntime, MemoryVolumes};
use engine_core::mount::Mount;
use engine_core::network::Network;
use engine_core::oci_spec::runtime::{ProcessBuilder, SpecBuilder};
use engine_core::registry_client::Credentials;
use engine_core::runtime::{Runtime, Sandbox};
use engine_core::testing::network::NetworkHarness;
use engine_core::testing::registry_client::RegistrySubject;
use engine_core::testing::runtime::RuntimeHarness;
use engine_core::testing::{Subject, image_store, network, registry_client, rootfs, runtime, volume_driver};
use engine_core::{ContainerId, Reference};

#[tokio::test]
async fn image_store_keeps_its_promises() {
    let stores = async || {
        let store = MemoryImageStore::new();
        Subject::new(Arc::new(store.clone()), Arc::new(store))
    };
    image_store::all(stores).await;
    rootfs::all(stores).await;
}

#[tokio::test]
async fn volume_driver_keeps_its_promises() {
    volume_driver::all(async || {
        let volumes = MemoryVolumes::new();
        Subject::new(Arc::new(volumes.clone()), Arc::new(volumes))
    })
    .await;
}

struct Harness;

#[async_trait]
impl NetworkHarness for Harness {
    async fn network(&self) -> Subject<dyn Network> {
        let network = MemoryNetwork::new();
        Subject::new(Arc::new(network.clone()), Arc::new(network))
    }

    async fn sandbox(&self) -> Sandbox {
        Sandbox::new(ContainerId::random(), 1 << 23, None)
    }
}

#[tokio::test]
async fn network_keeps_its_promises() {
    network::all(&Harness).await;
}

fn reference() -> Reference {
    "registry.example/conformance/app:1".parse().unwrap()
}

#[tokio::test]
async fn registry_client_keeps_its_promises() {
    registry_client::all(async || RegistrySubject::new(Arc::new(MemoryRegistry::new()), reference())).await;
}

#[tokio::test]
async fn registry_client_minds_credentials() {
    let good = Credentials::Basic { username: "me".to_owned(), password: "right".to_owned() };
    let stranger = MemoryRegistry::new().requiring("registry.example", good.clone());
    registry_client::stranger_is_refused(&stranger, &reference()).await;
    registry_client::credentials_are_checked(&stranger, "registry.example", &good).await;
    registry_client::credentials_are_lent(&stranger, &reference(), &good).await;
    let friend = stranger.logged_in("registry.example", good);
    registry_client::pushed_image_is_fetched(&friend, &reference()).await;
}

#[async_trait]
impl RuntimeHarness for Harness {
    async fn runtime(&self) -> Subject<dyn Runtime> {
        let runtime = MemoryRuntime::new();
        Subject::new(Arc::new(runtime.clone()), Arc::new(runtime))
    }

    async fn launch(&self, _: &ContainerId, args: &[&str]) -> LaunchSpec {
        let args: Vec<String> = args.iter().map(|&arg| arg.to_owned()).collect();
        let process = ProcessBuilder::default().args(args).cwd("/").build().unwrap();
        LaunchSpec::new(SpecBuilder::default().process(process).build().unwrap(), vec![Mount::tmpfs("/")])
    }

    async fn release(&self, _: &ContainerId) {}
}

#[tokio::test]
async fn runtime_keeps_its_promises() {
    runtime::all(&Harness).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn runtime_keeps_its_promises_on_several_threads() {
    runtime::all(&Harness).await;
}

#[tokio::test]
#[should_panic(expected = "removed_volume_is_gone")]
async fn a_suite_names_the_broken_promise() {
    volume_driver::all(async || {
        let volumes = MemoryVolumes::new();
        volumes.faults().fail_nth("volume.remove", 1, engine_core::ErrorKind::Unavailable);
        Subject::single(Arc::new(volumes))
    })
    .await;
}
