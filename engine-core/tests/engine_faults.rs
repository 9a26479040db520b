//! The facade over in-memory parts: what it does when any of them fails, without a kernel's help.

#![expect(clippy::unwrap_used, reason = "a test's helpers may fail as the test does")]

use engine_core::container_spec::MountSpec;
use engine_core::engine::{ImportOptions, PullOptions, RemoveOptions};
use engine_core::io::AttachOptions;
use engine_core::memory::{Faults, MemoryImageStore, MemoryRegistry, MemoryRuntime, MemoryVolumes, Process};
use engine_core::testing::content::{SampleImage, tar};
use engine_core::testing::registry_client::push;
use engine_core::{
    ContainerSpec, Engine, ErrorKind, ImageStore as _, Reference, Runtime as _, VolumeDriver as _,
};
use tokio::io::AsyncReadExt as _;

/// An engine, the parts it is made of, and the faults they share.
struct World {
    engine: Engine,
    images: MemoryImageStore,
    runtime: MemoryRuntime,
    volumes: MemoryVolumes,
    registry: MemoryRegistry,
    faults: Faults,
}

impl World {
    async fn new() -> Self {
        let faults = Faults::new();
        let (images, runtime) = (MemoryImageStore::new(), MemoryRuntime::new());
        let (volumes, registry) = (MemoryVolumes::new(), MemoryRegistry::new());
        let engine = Engine::in_memory()
            .image_store(images.clone().with_faults(faults.clone()))
            .runtime(runtime.clone().with_faults(faults.clone()))
            .volume_driver(volumes.clone().with_faults(faults.clone()))
            .registry(registry.clone().with_faults(faults.clone()))
            .open()
            .await
            .unwrap();
        Self { engine, images, runtime, volumes, registry, faults }
    }

    async fn with_image(self) -> Self {
        let archive = tar(&[("hello", b"hello")]).into();
        self.engine.import(&reference("localhost/tiny:1"), archive, ImportOptions::default()).await.unwrap();
        self
    }

    /// Asserts that no trace of a container is left in any part.
    async fn assert_no_container(&self, what: &str) {
        assert!(self.engine.containers().await.unwrap().is_empty(), "{what}: a record is left");
        assert!(self.runtime.list().await.unwrap().is_empty(), "{what}: a sandbox is left");
        assert!(self.images.rootfs_list().await.unwrap().is_empty(), "{what}: a root file system is left");
        assert!(self.volumes.list().await.unwrap().is_empty(), "{what}: an anonymous volume is left");
    }
}

fn reference(text: &str) -> Reference {
    text.parse().unwrap()
}

fn with_volume(command: &[&str]) -> ContainerSpec {
    let mut spec = ContainerSpec::command(command.iter().copied());
    spec.mounts.push(MountSpec::volume(None, "/data"));
    spec
}

#[tokio::test]
async fn an_image_is_pulled_and_run() {
    let world = World::new().await;
    let name = reference("registry.example/app:1");
    push(&world.registry, &name, &SampleImage::new("pulled")).await;
    world.runtime.register("greet", async |process: Process| {
        process.stdout.write(format!("hello {}\n", process.args[1])).await.map_or(1, |()| 5)
    });
    world.engine.pull(&name, PullOptions::default()).await.unwrap();
    let spec = ContainerSpec::command(["greet", "you"]);
    let container = world.engine.create(&name.to_string(), spec).await.unwrap();
    let mut streams = container.start_attached(AttachOptions::piped(false)).await.unwrap();
    let mut text = String::new();
    streams.stdout.take().unwrap().read_to_string(&mut text).await.unwrap();
    assert_eq!((text.as_str(), container.wait().await.unwrap().code), ("hello you\n", 5));
    container.remove(RemoveOptions::default()).await.unwrap();
    world.assert_no_container("removed").await;
}

#[tokio::test]
async fn a_create_that_fails_anywhere_leaves_nothing() {
    for method in
        ["image_store.prepare_rootfs", "volume.create", "volume.mount", "runtime.create", "runtime.start"]
    {
        let world = World::new().await.with_image().await;
        world.faults.fail_nth(method, 1, ErrorKind::ResourceExhausted);
        let create = world.engine.create_scoped("localhost/tiny:1", with_volume(&["true"])).await;
        let outcome = match create {
            Ok(container) => {
                let outcome = container.run().await;
                container.remove(RemoveOptions::default().with_force(true).with_volumes(true)).await.unwrap();
                outcome
            }
            Err(error) => Err(error),
        };
        assert_eq!(outcome.unwrap_err().kind(), ErrorKind::ResourceExhausted, "{method}");
        world.assert_no_container(method).await;
    }
}

#[tokio::test]
async fn a_pull_that_fails_anywhere_can_be_tried_again() {
    let name = reference("registry.example/app:1");
    let image = SampleImage::new("pulled");
    for method in [
        "registry.resolve",
        "registry.fetch_manifest",
        "registry.fetch_blob",
        "image_store.ingest",
        "image_store.write",
        "image_store.commit",
        "image_store.set_name",
    ] {
        for n in 1..=3 {
            let world = World::new().await;
            push(&world.registry, &name, &image).await;
            world.faults.fail_nth(method, n, ErrorKind::PermissionDenied);
            let pulled = world.engine.pull(&name, PullOptions::default()).await;
            if world.faults.count(method) >= n {
                assert_eq!(pulled.unwrap_err().kind(), ErrorKind::PermissionDenied, "{method} {n}");
                assert!(world.images.names().await.unwrap().is_empty(), "{method} {n}: a name is left");
                world.engine.collect_garbage().await.unwrap();
                assert!(world.images.blob_size(&image.manifest.digest).await.unwrap().is_none());
            }
            world.faults.clear();
            world.engine.pull(&name, PullOptions::default()).await.unwrap();
            assert!(world.images.has_layer(&image.layers[1].diff_id).await.unwrap(), "{method} {n}");
        }
    }
}

#[tokio::test]
async fn a_corrupt_blob_is_never_kept() {
    let world = World::new().await;
    let (name, image) = (reference("registry.example/app:1"), SampleImage::new("corrupt"));
    push(&world.registry, &name, &image).await;
    let layer = &image.layers[0];
    let mut wrong = layer.bytes.to_vec();
    wrong[600] ^= 1;
    world.registry.corrupt_blob(&name, &layer.descriptor.digest, wrong);
    let error = world.engine.pull(&name, PullOptions::default()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{error:?}");
    assert!(!world.images.has_layer(&layer.diff_id).await.unwrap());
    assert!(world.images.names().await.unwrap().is_empty());
}

#[tokio::test]
async fn a_missing_command_is_reported() {
    let world = World::new().await.with_image().await;
    let spec = ContainerSpec::command(["no-such-command"]);
    let container = world.engine.create("localhost/tiny:1", spec).await.unwrap();
    assert_eq!(container.start().await.unwrap_err().kind(), ErrorKind::CommandNotFound);
    assert_eq!(container.wait().await.unwrap().code, 127);
}
