//! Hooks of a program: what they refuse is not made, and they see what happens.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use engine_core::container_spec::{MountSpec, NetworkMode};
use engine_core::engine::{ImportOptions, PullOptions, RemoveOptions};
use engine_core::memory::{MemoryImageStore, MemoryNetwork, MemoryRegistry, MemoryRuntime, MemoryVolumes};
use engine_core::network::{EndpointOptions, PortMapping};
use engine_core::testing::content::SampleImage;
use engine_core::testing::registry_client::push;
use engine_core::{ContainerSpec, Engine, EngineBuilder, ErrorKind, Mount};
use engine_testkit::image;

use crate::support::words;

fn builder() -> (EngineBuilder, MemoryRegistry) {
    let registry = MemoryRegistry::new();
    let builder = Engine::in_memory()
        .image_store(MemoryImageStore::new())
        .runtime(MemoryRuntime::new())
        .volume_driver(MemoryVolumes::new())
        .network(MemoryNetwork::new())
        .registry(registry.clone());
    (builder, registry)
}

async fn import(engine: &Engine, name: &str) {
    let archive = Bytes::from(image::busybox_layer().build());
    engine.import(&name.parse().unwrap(), archive, ImportOptions::default()).await.unwrap();
}

#[tokio::test]
async fn an_image_that_is_refused_is_neither_pulled_nor_run() {
    let (builder, registry) = builder();
    let engine = builder
        .admit_image(|image| {
            assert!(image.config.is_some());
            if image.name.starts_with("registry.example/") { Ok(()) } else { Err("only ours may run".into()) }
        })
        .open()
        .await
        .unwrap();
    let mut pulled = Vec::new();
    for name in ["registry.example/app:1", "elsewhere.example/app:1"] {
        let reference = name.parse().unwrap();
        push(&registry, &reference, &SampleImage::new(name)).await;
        pulled.push(engine.pull(&reference, PullOptions::default()).await.map(drop));
    }
    pulled.remove(0).unwrap();
    let error = pulled.remove(0).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PermissionDenied);
    assert!(error.report().contains("only ours may run"), "{}", error.report());
    assert_eq!(engine.images().await.unwrap().len(), 1);
    // What came in by another way is refused when a container is made of it.
    import(&engine, "local").await;
    let error = engine.create("local", ContainerSpec::command(["true"])).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PermissionDenied);
    assert!(engine.containers().await.unwrap().is_empty());
}

#[tokio::test]
async fn mounts_and_ports_are_asked_about_at_create_and_at_start() {
    let (builder, _) = builder();
    let open = Arc::new(Mutex::new(true));
    let allowed = Arc::clone(&open);
    let engine = builder
        .admit_mount(move |request| match request.mount {
            MountSpec::Mount(mount) if mount.target.starts_with("/host") => Err("no host paths".into()),
            _ if *allowed.lock().unwrap() => Ok(()),
            _ => Err("closed".into()),
        })
        .admit_port(|request| if request.port.host_port < 1024 { Err("low port".into()) } else { Ok(()) })
        .open()
        .await
        .unwrap();
    import(&engine, "busybox").await;
    let bind = ContainerSpec::command(["true"]).with_mount(Mount::bind("/tmp", "/host/tmp"));
    let error = engine.create("busybox", bind).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PermissionDenied);
    assert!(
        error.report().contains("no host paths") && error.report().contains("/host/tmp"),
        "{}",
        error.report()
    );

    let fine = ContainerSpec::command(["true"]).with_mount(Mount::bind("/tmp", "/data"));
    let container = engine.create("busybox", fine).await.unwrap();
    *open.lock().unwrap() = false;
    assert_eq!(container.start().await.unwrap_err().kind(), ErrorKind::PermissionDenied);
    *open.lock().unwrap() = true;
    container.run().await.unwrap();

    let options = EndpointOptions::default().with_ports([PortMapping::new(80).with_host_port(80)]);
    let network = NetworkMode::Networks(vec![("front".parse().unwrap(), options)]);
    let error =
        engine.create("busybox", ContainerSpec::command(["true"]).with_network(network)).await.unwrap_err();
    assert!(
        error.report().contains("low port") && error.report().contains("80:80/tcp"),
        "{}",
        error.report()
    );
}

#[tokio::test]
async fn a_hook_sees_each_event_in_order() {
    let (builder, _) = builder();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let list = Arc::clone(&seen);
    let engine =
        builder.on_event(move |event| list.lock().unwrap().push(event.clone())).open().await.unwrap();
    import(&engine, "busybox").await;
    let container = engine.create("busybox", ContainerSpec::command(["true"])).await.unwrap();
    container.run().await.unwrap();
    container.remove(RemoveOptions::default()).await.unwrap();
    let expected =
        ["image import", "container create", "container start", "container die", "container destroy"];
    tokio::time::timeout(Duration::from_secs(60), async {
        while seen.lock().unwrap().len() < expected.len() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
    .expect("all events in time");
    assert_eq!(words(&seen.lock().unwrap()), expected);
}
