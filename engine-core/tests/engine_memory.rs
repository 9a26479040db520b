//! The facade over in-memory parts: its own promises, with faults injected below it.

#![expect(clippy::unwrap_used, reason = "a test's helpers may fail as the test does")]

use std::time::Duration;

use engine_core::container_spec::NetworkMode;
use engine_core::engine::{EngineBuilder, ImportOptions, PullOptions, RemoveOptions};
use engine_core::health::{HealthCheck, HealthProbe, HealthStatus};
use engine_core::io::AttachOptions;
use engine_core::logs::LogQuery;
use engine_core::memory::{
    Faults, MemoryImageStore, MemoryNetwork, MemoryRegistry, MemoryRuntime, MemoryVolumes,
};
use engine_core::testing::content::SampleImage;
use engine_core::{
    ContainerSpec, ContainerStatus, Engine, ErrorKind, ExecSpec, ImageStore as _, Reference, RestartPolicy,
    Runtime as _,
};
use futures_util::{StreamExt as _, TryStreamExt as _};
use tokio::io::AsyncReadExt as _;

/// The parts of an engine, to look at from behind.
#[derive(Clone)]
struct Parts {
    faults: Faults,
    images: MemoryImageStore,
    runtime: MemoryRuntime,
    registry: MemoryRegistry,
    volumes: MemoryVolumes,
}

impl Parts {
    fn new() -> Self {
        let faults = Faults::new();
        Self {
            images: MemoryImageStore::new().with_faults(faults.clone()),
            runtime: MemoryRuntime::new().with_faults(faults.clone()),
            registry: MemoryRegistry::new().with_faults(faults.clone()),
            volumes: MemoryVolumes::new().with_faults(faults.clone()),
            faults,
        }
    }

    fn builder(&self, builder: EngineBuilder) -> EngineBuilder {
        builder
            .image_store(self.images.clone())
            .runtime(self.runtime.clone())
            .registry(self.registry.clone())
            .volume_driver(self.volumes.clone())
            .network(MemoryNetwork::new().with_faults(self.faults.clone()))
    }

    async fn open(&self) -> Engine {
        self.builder(Engine::in_memory()).open().await.unwrap()
    }

    /// Puts a sample image into the registry.
    fn publish(&self, seed: &str, name: &str) -> Reference {
        let image = SampleImage::new(seed);
        let reference: Reference = name.parse().unwrap();
        for layer in &image.layers {
            self.registry.add_blob(&reference, &layer.descriptor.media_type, layer.bytes.clone());
        }
        self.registry.add_blob(&reference, &image.config.media_type, image.config_bytes.clone());
        self.registry.add_manifest(&reference, &image.manifest.media_type, image.manifest_bytes.clone());
        reference
    }

    /// Nothing of any container is in any part.
    async fn assert_no_containers(&self) {
        assert_eq!(self.runtime.list().await.unwrap(), []);
        assert_eq!(self.images.rootfs_list().await.unwrap(), []);
    }
}

async fn with_image() -> (Parts, Engine, String) {
    let parts = Parts::new();
    let reference = parts.publish("a", "registry.example/app:1");
    let engine = parts.open().await;
    engine.pull(&reference, PullOptions::default()).await.unwrap();
    (parts, engine, reference.to_string())
}

#[tokio::test]
async fn a_container_lives_and_goes() {
    let (parts, engine, image) = with_image().await;
    let container = engine.create(&image, ContainerSpec::command(["sh", "-c", "exit 3"])).await.unwrap();
    assert_eq!(container.inspect().await.unwrap().state.status, ContainerStatus::Created);
    assert_eq!(container.wait().await.unwrap().code, 0, "never started");
    assert_eq!(container.run().await.unwrap().code, 3);
    let info = container.inspect().await.unwrap();
    assert_eq!((info.state.status, info.state.exit.unwrap().code), (ContainerStatus::Exited, 3));
    container.stop(None).await.unwrap();
    assert_eq!(container.kill(9).await.unwrap_err().kind(), ErrorKind::Conflict);
    container.remove(RemoveOptions::default()).await.unwrap();
    container.remove(RemoveOptions::default()).await.unwrap();
    assert_eq!(container.inspect().await.unwrap_err().kind(), ErrorKind::NotFound);
    parts.assert_no_containers().await;
}

#[tokio::test]
async fn attached_output_and_the_log_say_the_same() {
    let (_parts, engine, image) = with_image().await;
    let container = engine.create(&image, ContainerSpec::command(["echo", "hello"])).await.unwrap();
    let mut streams = container.start_attached(AttachOptions::piped(false)).await.unwrap();
    let mut text = String::new();
    streams.stdout.take().unwrap().read_to_string(&mut text).await.unwrap();
    assert!(container.wait().await.unwrap().success());
    let log: Vec<_> = container.logs(&LogQuery::default()).await.unwrap().try_collect().await.unwrap();
    let logged: Vec<u8> = log.iter().flat_map(|entry| entry.message.to_vec()).collect();
    assert_eq!((text.as_bytes(), &logged[..]), (&b"hello\n"[..], &b"hello\n"[..]));
}

#[tokio::test]
async fn a_taken_name_is_told_and_makes_nothing() {
    let (parts, engine, image) = with_image().await;
    let spec = || ContainerSpec::command(["true"]).with_name("one".parse().unwrap());
    let first = engine.create(&image, spec()).await.unwrap();
    let error = engine.create(&image, spec()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AlreadyExists);
    assert!(error.report().contains(first.id().short()), "{error:?}");
    assert_eq!(engine.containers().await.unwrap().len(), 1);
    assert_eq!(parts.images.rootfs_list().await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_create_that_fails_at_any_call_leaves_nothing() {
    let (parts, engine, image) = with_image().await;
    for method in [
        "image_store.prepare_rootfs",
        "image_store.lease",
        "image_store.resolve_name",
        "image_store.open_blob",
    ] {
        parts.faults.fail_nth(method, 1, ErrorKind::ResourceExhausted);
        let error = engine.create(&image, ContainerSpec::command(["true"])).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ResourceExhausted, "{method}");
        parts.faults.clear();
        assert!(engine.containers().await.unwrap().is_empty(), "{method}");
        parts.assert_no_containers().await;
    }
}

#[tokio::test]
async fn a_dropped_create_leaves_nothing() {
    let (parts, engine, image) = with_image().await;
    parts.faults.delay("image_store.prepare_rootfs", Duration::from_millis(50));
    let create = engine.create(&image, ContainerSpec::command(["true"]));
    assert!(tokio::time::timeout(Duration::from_millis(10), create).await.is_err());
    let gone = async {
        while !engine.containers().await.unwrap().is_empty()
            || parts.faults.count("image_store.remove_rootfs") == 0
        {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), gone).await.expect("the container goes");
    parts.assert_no_containers().await;
}

#[tokio::test]
async fn a_start_that_fails_leaves_a_container_that_can_start() {
    let (parts, engine, image) = with_image().await;
    let spec = ContainerSpec::command(["true"])
        .with_network(NetworkMode::Networks(vec![("lan".parse().unwrap(), Default::default())]));
    let container = engine.create(&image, spec).await.unwrap();
    engine
        .local()
        .unwrap()
        .network_driver()
        .create(&"lan".parse().unwrap(), &Default::default())
        .await
        .unwrap();
    for method in ["runtime.create", "network.attach", "runtime.start"] {
        parts.faults.fail_nth(method, 1, ErrorKind::Unavailable);
        assert_eq!(container.start().await.unwrap_err().kind(), ErrorKind::Unavailable, "{method}");
        parts.faults.clear();
        assert!(!container.inspect().await.unwrap().state.status.is_running(), "{method}");
    }
    assert!(container.run().await.unwrap().success());
}

#[tokio::test]
async fn a_command_that_is_not_there_is_told() {
    let (_parts, engine, image) = with_image().await;
    let container = engine.create(&image, ContainerSpec::command(["/no/such"])).await.unwrap();
    assert_eq!(container.start().await.unwrap_err().kind(), ErrorKind::CommandNotFound);
    let info = container.inspect().await.unwrap();
    assert_eq!((info.state.status, info.state.exit.unwrap().code), (ContainerStatus::Exited, 127));
}

#[tokio::test]
async fn a_scoped_container_ends_with_its_handle() {
    let (parts, engine, image) = with_image().await;
    let scoped = engine.create_scoped(&image, ContainerSpec::command(["sleep", "1000"])).await.unwrap();
    scoped.start().await.unwrap();
    assert!(scoped.inspect().await.unwrap().scoped);
    drop(scoped);
    let gone = async {
        while !engine.containers().await.unwrap().is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), gone).await.expect("the container goes");
    let scoped = engine.create_scoped(&image, ContainerSpec::command(["sleep", "1000"])).await.unwrap();
    scoped.start().await.unwrap();
    scoped.close().await.unwrap();
    parts.assert_no_containers().await;
}

#[tokio::test]
async fn what_removes_itself_is_gone_after_wait() {
    let (parts, engine, image) = with_image().await;
    let spec = || ContainerSpec::command(["sh", "-c", "exit 5"]).with_auto_remove(true);
    let container = engine.create(&image, spec()).await.unwrap();
    assert_eq!(container.run().await.unwrap().code, 5);
    assert_eq!(container.inspect().await.unwrap_err().kind(), ErrorKind::NotFound);
    // One that nobody waited for goes when somebody looks.
    let container = engine.create(&image, spec()).await.unwrap();
    container.start().await.unwrap();
    parts.runtime.wait(container.id()).await.unwrap();
    assert!(engine.containers().await.unwrap().is_empty());
    parts.assert_no_containers().await;
}

#[tokio::test]
async fn stop_asks_first_and_kills_after() {
    let (_parts, engine, image) = with_image().await;
    let container = engine.create(&image, ContainerSpec::command(["sleep", "1000"])).await.unwrap();
    container.start().await.unwrap();
    container.stop(Some(Duration::from_millis(50))).await.unwrap();
    let code = container.inspect().await.unwrap().state.exit.unwrap().code;
    assert!(matches!(code, 137 | 143), "{code}");
    assert_eq!(
        container.exec(&ExecSpec::new(["true"]), AttachOptions::piped(false)).await.unwrap_err().kind(),
        ErrorKind::Conflict
    );
}

#[tokio::test]
async fn an_image_in_use_is_protected_by_its_last_name_only() {
    let (_parts, engine, image) = with_image().await;
    let second: Reference = "registry.example/app:2".parse().unwrap();
    engine.tag(&image, &second).await.unwrap();
    let container = engine.create(&image, ContainerSpec::command(["true"])).await.unwrap();
    engine.remove_image(&image, false).await.unwrap();
    assert_eq!(
        engine.remove_image("registry.example/app:2", false).await.unwrap_err().kind(),
        ErrorKind::Conflict
    );
    engine.remove_image("registry.example/app:2", true).await.unwrap();
    // The container still has its files.
    assert_eq!(engine.container_image(container.id()).await.unwrap().names, []);
    assert!(container.run().await.unwrap().success());
    container.remove(RemoveOptions::default()).await.unwrap();
    engine.collect_garbage().await.unwrap();
    assert_eq!(engine.image(&image).await.unwrap_err().kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn images_are_found_by_name_id_and_prefix() {
    let (_parts, engine, image) = with_image().await;
    let found = engine.image(&image).await.unwrap();
    for name in [found.id().to_string(), found.id().hex().to_owned(), found.id().short().to_owned()] {
        assert_eq!(engine.image(&name).await.unwrap().id(), found.id(), "{name}");
    }
    let pinned = format!("registry.example/app@{}", found.target.digest);
    assert_eq!(engine.image(&pinned).await.unwrap().id(), found.id());
    assert_eq!(engine.image("nosuch").await.unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(engine.image("NOT a name").await.unwrap_err().kind(), ErrorKind::InvalidArgument);
}

#[tokio::test]
async fn c6_content_that_is_wrong_is_never_stored() {
    let parts = Parts::new();
    let reference = parts.publish("a", "registry.example/app:1");
    let layer = SampleImage::new("a").layers[0].clone();
    let mut wrong = layer.bytes.to_vec();
    wrong[0] ^= 1;
    parts.registry.corrupt_blob(&reference, &layer.descriptor.digest, wrong);
    let engine = parts.open().await;
    let error = engine.pull(&reference, PullOptions::default()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{error:?}");
    assert!(parts.images.blob_size(&layer.descriptor.digest).await.unwrap().is_none());
    assert!(engine.images().await.unwrap().is_empty());
}

#[tokio::test]
async fn a_pull_that_fails_anywhere_can_be_repeated() {
    for method in
        ["registry.fetch_manifest", "registry.fetch_blob", "image_store.ingest", "image_store.set_name"]
    {
        for n in 1..4 {
            let parts = Parts::new();
            let reference = parts.publish("a", "registry.example/app:1");
            let engine = parts.open().await;
            parts.faults.fail_nth(method, n, ErrorKind::Unavailable);
            let failed = engine.pull(&reference, PullOptions::default()).await;
            if let Err(error) = &failed {
                assert_eq!(error.kind(), ErrorKind::Unavailable, "{method} {n}");
                assert!(engine.images().await.unwrap().is_empty(), "{method} {n}");
            }
            parts.faults.clear();
            engine.pull(&reference, PullOptions::default()).await.unwrap();
            assert!(engine.create(&reference.to_string(), ContainerSpec::command(["true"])).await.is_ok());
        }
    }
}

#[tokio::test]
async fn pull_progress_ends_with_done() {
    let parts = Parts::new();
    let reference = parts.publish("a", "registry.example/app:1");
    let engine = parts.open().await;
    let events: Vec<String> =
        engine.pull(&reference, PullOptions::default()).map(|event| format!("{event:?}")).collect().await;
    assert!(events.first().unwrap().starts_with("Resolved"), "{events:?}");
    assert!(events.last().unwrap().starts_with("Done"), "{events:?}");
}

#[tokio::test]
async fn two_engines_over_one_directory_see_one_truth() {
    let parts = Parts::new();
    let reference = parts.publish("a", "registry.example/app:1");
    let dir = tempfile::tempdir().unwrap();
    let one = parts.builder(Engine::builder(dir.path())).open().await.unwrap();
    one.pull(&reference, PullOptions::default()).await.unwrap();
    let container =
        one.create(&reference.to_string(), ContainerSpec::command(["sleep", "1000"])).await.unwrap();
    container.start().await.unwrap();
    let two = parts.builder(Engine::builder(dir.path())).open().await.unwrap();
    let same = two.container(container.id().short()).await.unwrap();
    assert_eq!(same.inspect().await.unwrap().state.status, ContainerStatus::Running);
    drop(one);
    same.remove(RemoveOptions::default().with_force(true)).await.unwrap();
    parts.assert_no_containers().await;
}

#[tokio::test]
async fn opening_sweeps_what_has_no_record() {
    let (parts, engine, image) = with_image().await;
    let container = engine.create(&image, ContainerSpec::command(["sleep", "1000"])).await.unwrap();
    container.start().await.unwrap();
    // A second engine over the same parts with no records: as if the record had been deleted and then a crash came.
    let _fresh = parts.open().await;
    parts.assert_no_containers().await;
}

#[tokio::test]
async fn import_makes_the_same_image_each_time() {
    let (_parts, engine, _) = with_image().await;
    let name: Reference = "localhost/made".parse().unwrap();
    let archive = SampleImage::new("x").layers[0].bytes.clone();
    let one = engine.import(&name, archive.clone(), ImportOptions::default()).await.unwrap();
    let two = engine.import(&name, archive, ImportOptions::default()).await.unwrap();
    assert_eq!(one.target, two.target);
}

#[tokio::test]
async fn restart_policies_are_checked_changed_and_carried_out_after_a_boot() {
    let (_parts, engine, image) = with_image().await;
    let spec = || ContainerSpec::command(["sleep", "1000"]);
    let both = spec().with_auto_remove(true).with_restart(RestartPolicy::Always);
    let error = engine.create(&image, both).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    assert!(error.report().contains("can't create 'AutoRemove' container with restart policy"), "{error:?}");
    let brief = engine.create(&image, spec().with_auto_remove(true)).await.unwrap();
    let error = brief.update_restart_policy(RestartPolicy::Always).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    let mut made = Vec::new();
    for policy in [RestartPolicy::No, RestartPolicy::Always, RestartPolicy::UnlessStopped] {
        let container = engine.create(&image, spec()).await.unwrap();
        container.start().await.unwrap();
        container.update_restart_policy(policy).await.unwrap();
        assert_eq!(container.inspect().await.unwrap().spec.restart, policy);
        container.kill(9).await.unwrap();
        container.wait().await.unwrap();
        made.push(container);
    }
    let started = engine.start_all().await.unwrap();
    assert_eq!(started.len(), 1, "{started:?}");
    assert!(started[0].result.is_ok() && &started[0].id == made[1].id());
    // A signal that is not the stop signal is no stop: its policy applies.
    made[1].kill(10).await.unwrap();
    assert!(!made[1].inspect().await.unwrap().state.stopped);
}

#[tokio::test]
async fn who_waits_learns_the_end_of_a_container_that_another_removed() {
    let (_parts, engine, image) = with_image().await;
    let spec = ContainerSpec::command(["sleep", "1000"]).with_auto_remove(true);
    let container = engine.create(&image, spec).await.unwrap();
    container.start().await.unwrap();
    container.kill(9).await.unwrap();
    // A daemon over the same root, say.
    engine.container(container.id().as_str()).await.unwrap().wait().await.unwrap();
    assert_eq!(container.inspect().await.unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(container.wait().await.unwrap().code, 137);
    let never_ran = engine.create(&image, ContainerSpec::command(["true"])).await.unwrap();
    assert_eq!(never_ran.wait().await.unwrap().code, 0);
    never_ran.remove(RemoveOptions::default()).await.unwrap();
    assert_eq!(never_ran.wait().await.unwrap_err().kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn a_health_check_is_carried_out_and_an_impossible_one_refused() {
    let (_parts, engine, image) = with_image().await;
    let mut check = HealthCheck::new(HealthProbe::Command(vec!["true".to_owned()]));
    check.interval = Some(Duration::from_millis(20));
    let container =
        engine.create(&image, ContainerSpec::command(["sleep", "1000"]).with_health(check)).await.unwrap();
    assert_eq!(container.health().await.unwrap(), None);
    container.start().await.unwrap();
    let healthy = async {
        while container.health().await.unwrap().unwrap().status != HealthStatus::Healthy {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), healthy).await.unwrap();
    let empty = HealthCheck::new(HealthProbe::Command(Vec::new()));
    let error = engine.create(&image, ContainerSpec::command(["x"]).with_health(empty)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
}

#[path = "engine_memory/ensure.rs"]
mod ensure;
#[path = "engine_memory/exec_snapshots.rs"]
mod exec_snapshots;
#[path = "engine_memory/networks.rs"]
mod networks;
#[path = "engine_memory/options.rs"]
mod options;
#[path = "engine_memory/secrets.rs"]
mod secrets;
#[path = "engine_memory/userns.rs"]
mod userns;
