//! What images may do to the engine, and other users to its files: SECURITY rows A10, B9 and B10, through the facade.
//!
//! Needs root, overlayfs and busybox-static.

#![expect(clippy::unwrap_used, reason = "a test's helpers may fail as the test does")]

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use engine_core::container_spec::MountSpec;
use engine_core::engine::{ImportOptions, PullOptions, RemoveOptions};
use engine_core::files::{ContainerFiles, FilesSpec};
use engine_core::io::{AttachOptions, Streams, TerminalSize};
use engine_core::linux::LinuxRuntime;
use engine_core::logs::{LogQuery, LogStream};
use engine_core::memory::MemoryRegistry;
use engine_core::resources::Resources;
use engine_core::restart::RestartPolicy;
use engine_core::runtime::{ExecProcess, Kept, RuntimeCapabilities, Sandbox, Stats};
use engine_core::state::RuntimeState;
use engine_core::testing::content::{SampleImage, SampleLayer};
use engine_core::testing::registry_client::push;
use engine_core::{
    ContainerId, ContainerSpec, Descriptor, Engine, ErrorKind, ExecId, ExecSpec, ExitStatus, LaunchSpec,
    Reference, Result, Runtime, media_type,
};
use engine_testkit::image::LayerBuilder;
use engine_testkit::require;
use serde_json::{Value, json};

#[path = "runtime/support.rs"]
#[allow(dead_code, unreachable_pub, reason = "shared with the tests of the runtime")]
mod support;

/// The default runtime, and every launch specification it was given.
#[derive(Clone, Debug)]
struct Recording {
    runtime: LinuxRuntime,
    seen: Arc<Mutex<Vec<LaunchSpec>>>,
}

/// An engine whose launches can be looked at.
struct World {
    engine: Engine,
    seen: Arc<Mutex<Vec<LaunchSpec>>>,
    registry: MemoryRegistry,
    _leaks: support::Leaks,
    dir: tempfile::TempDir,
}

impl World {
    async fn new() -> Self {
        let dir = tempfile::Builder::new().prefix("engine-security-").tempdir().unwrap();
        let (root, run) = (dir.path().join("root"), dir.path().join("run"));
        let leaks = support::Leaks::begin(&root, &run);
        let (seen, registry) = (Arc::default(), MemoryRegistry::new());
        let runtime = LinuxRuntime::open(&root, &run).await.unwrap();
        let engine = Engine::builder(root)
            .run_root(run)
            .registry(registry.clone())
            .runtime(Recording { runtime, seen: Arc::clone(&seen) })
            .open()
            .await
            .unwrap();
        Self { engine, seen, registry, _leaks: leaks, dir }
    }

    async fn import(&self, name: &str, layer: LayerBuilder) {
        let archive = Bytes::from(layer.build());
        self.engine.import(&reference(name), archive, ImportOptions::default()).await.unwrap();
    }
}

fn reference(text: &str) -> Reference {
    text.parse().unwrap()
}

/// Busybox without users.
fn base() -> LayerBuilder {
    let busybox = std::fs::read("/bin/busybox").unwrap();
    ["bin", "etc", "proc", "sys", "dev", "tmp"]
        .into_iter()
        .fold(LayerBuilder::new(), |layer, name| layer.dir(name, 0o755))
        .file("bin/busybox", 0o755, &busybox)
        .symlink("bin/true", "busybox")
        .symlink("bin/sh", "busybox")
        .symlink("bin/sleep", "busybox")
}

fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[tokio::test]
async fn a10_hostile_user_files_of_an_image_fail_the_start_in_time() {
    require!(root, overlayfs);
    let world = World::new().await;
    let long = vec![b'\n'; 2 << 20];
    let members = format!("web:x:1000:{}\n", "m,".repeat(1_000_000));
    let many = "a:x:1:1:::\n".repeat(70_000);
    let cases = [
        ("fifo", base().fifo("etc/passwd", 0o644)),
        ("device", base().char_device("etc/passwd", 0o666, 1, 5)),
        ("directory", base().dir("etc/passwd", 0o755)),
        ("loop", base().symlink("etc/passwd", "passwd")),
        ("magic", base().symlink("etc/passwd", "/proc/self/fd/0")),
        ("host", base().symlink("etc/passwd", "../../../../../../../../etc/passwd")),
        ("fifo-behind-link", base().fifo("etc/pipe", 0o644).symlink("etc/group", "pipe")),
        ("long", base().file("etc/passwd", 0o644, &long)),
        ("lines", base().file("etc/passwd", 0o644, many.as_bytes())),
        ("members", base().file("etc/group", 0o644, members.as_bytes())),
    ];
    for (what, layer) in cases {
        let name = format!("localhost/{what}:1");
        world.import(&name, layer).await;
        let mut spec = ContainerSpec::command(["/bin/true"]);
        spec.user = Some("daemon:web".to_owned());
        let container = world.engine.create(&name, spec).await.unwrap();
        let before = resident_kib();
        let mut quickest = Duration::MAX;
        for _ in 0..3 {
            let begin = Instant::now();
            let error = container.run().await.expect_err(what);
            quickest = quickest.min(begin.elapsed());
            assert!(
                matches!(error.kind(), ErrorKind::InvalidArgument | ErrorKind::Corrupt),
                "{what}: {}",
                error.report()
            );
        }
        // Emulated processors are slower.
        let limit = if std::env::var_os("ENGINE_GUEST").is_some() { 2000 } else { 100 };
        assert!(quickest <= Duration::from_millis(limit), "{what}: {quickest:?}");
        let grown = resident_kib().saturating_sub(before);
        assert!(grown <= 16 << 10, "{what}: {grown} KiB");
        container.remove(RemoveOptions::default()).await.unwrap();
    }
}

/// Everything at and beneath `path`, links not followed.
fn walk(path: &Path, found: &mut Vec<PathBuf>) {
    found.push(path.to_owned());
    if path.symlink_metadata().unwrap().is_dir() {
        for entry in std::fs::read_dir(path).unwrap() {
            walk(&entry.unwrap().path(), found);
        }
    }
}

/// Whether a path is what an image, a container or a volume holds: with the modes these gave it, behind our directories.
fn is_content(path: &Path, root: &Path) -> bool {
    let Ok(inside) = path.strip_prefix(root) else { return false };
    let parts: Vec<_> = inside.iter().map(|part| part.to_string_lossy().into_owned()).collect();
    match parts.first().map(String::as_str) {
        Some("images") => parts.get(1).is_some_and(|dir| dir == "layers") && parts.len() > 3,
        Some("containers") => parts.get(2).is_some_and(|dir| dir == "upper" || dir == "work"),
        Some("volumes") => parts.get(2).is_some_and(|dir| dir == "_data"),
        _ => false,
    }
}

#[tokio::test]
async fn b9_no_state_of_the_engine_is_open_to_other_users() {
    require!(root, overlayfs);
    let world = World::new().await;
    let passwd = base().file("etc/passwd", 0o644, b"root:x:0:0::/:/bin/sh\n");
    world.import("localhost/b9:1", passwd.file("bin/setuid", 0o4755, b"#!/bin/sh\n")).await;
    let volume = MountSpec::volume(None, "/data");
    let mut ended =
        ContainerSpec::command(["/bin/sh", "-c", "echo secret; echo secret > /data/x; echo s > /x"]);
    ended.mounts.push(volume);
    let ended = world.engine.create("localhost/b9:1", ended).await.unwrap();
    assert!(ended.run().await.unwrap().success());
    let running = world
        .engine
        .create_scoped("localhost/b9:1", ContainerSpec::command(["/bin/sleep", "100"]))
        .await
        .unwrap();
    running.start().await.unwrap();

    // The way to the state is open; the state is not.
    std::fs::set_permissions(world.dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let (root, run) = (world.dir.path().join("root"), world.dir.path().join("run"));
    let mut all = Vec::new();
    walk(&root, &mut all);
    walk(&run, &mut all);
    assert!(all.len() > 40, "{all:?}");
    assert!(
        all.iter().any(|path| path.ends_with("shim.sock")) && all.iter().any(|path| path.ends_with("setuid"))
    );
    let open: Vec<_> = all
        .iter()
        .filter(|path| !is_content(path, &root))
        .map(|path| (path, path.symlink_metadata().unwrap()))
        .filter(|(_, metadata)| !metadata.is_symlink())
        .map(|(path, metadata)| (path, metadata.is_dir(), metadata.permissions().mode() & 0o7777))
        .filter(|(_, directory, mode)| mode & if *directory { 0o001 } else { 0o077 } != 0)
        .map(|(path, _, mode)| format!("{mode:o} {}", path.display()))
        .collect();
    assert_eq!(open, Vec::<String>::new());

    let (paths, way) = (all.clone(), world.dir.path().to_owned());
    let readable = support::as_nobody(move || {
        let flags = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::NONBLOCK | rustix::fs::OFlags::CLOEXEC;
        let opens = |path: &PathBuf| rustix::fs::open(path, flags, rustix::fs::Mode::empty());
        opens(&way).expect("what lies before the state can be read");
        let refused = Err(rustix::io::Errno::ACCESS);
        paths.into_iter().filter(|path| opens(path).map(drop) != refused).collect::<Vec<_>>()
    });
    assert_eq!(readable, Vec::<PathBuf>::new());
    running.close().await.unwrap();
    ended.remove(RemoveOptions::default().with_volumes(true)).await.unwrap();
}

/// An image with these labels, annotations wherever a manifest can have them, and keys no configuration has.
fn labelled(labels: &Value, marker: &Path) -> SampleImage {
    let layer = base().file("etc/passwd", 0o644, b"root:x:0:0::/:/bin/sh\n").build();
    let mut image = SampleImage::of(vec![SampleLayer::plain(&layer)]);
    let mut config: Value = serde_json::from_slice(&image.config_bytes).unwrap();
    config["architecture"] = engine_testkit::image::host_architecture().into();
    config["config"] = json!({ "Cmd": ["/bin/true"], "Labels": labels });
    if labels.as_object().is_some_and(|labels| !labels.is_empty()) {
        let run = json!(["/bin/sh", "-c", format!("touch {}", marker.display())]);
        config["config"]["Healthcheck"] =
            json!({ "Test": ["CMD", "/bin/sh", "-c", "exit 1"], "Interval": 1 });
        config["config"]["OnBuild"] = json!(["RUN true"]);
        for (key, wish) in [
            ("Privileged", json!(true)),
            ("Hooks", json!({ "prestart": [{ "path": "/bin/sh", "args": run }] })),
            ("HostConfig", json!({ "Privileged": true, "Binds": ["/:/host"], "PidMode": "host" })),
            ("Annotations", labels.clone()),
        ] {
            config["config"][key] = wish.clone();
            config[key] = wish;
        }
    }
    image.config_bytes = config.to_string().into();
    image.config = Descriptor::of(media_type::OCI_CONFIG, &image.config_bytes);
    let annotated = |descriptor: &Descriptor| {
        let mut descriptor = serde_json::to_value(descriptor).unwrap();
        descriptor["annotations"] = labels.clone();
        descriptor
    };
    let manifest = json!({
        "schemaVersion": 2, "mediaType": media_type::OCI_MANIFEST, "annotations": labels,
        "config": annotated(&image.config),
        "layers": image.layers.iter().map(|layer| annotated(&layer.descriptor)).collect::<Vec<_>>(),
    });
    image.manifest_bytes = manifest.to_string().into();
    image.manifest = Descriptor::of(media_type::OCI_MANIFEST, &image.manifest_bytes);
    image
}

/// All of a launch specification as text in a fixed order, with `id` left out.
fn text(launch: &LaunchSpec, id: &ContainerId) -> String {
    fn ordered(value: &mut Value) {
        match value {
            Value::Array(list) => {
                list.iter_mut().for_each(ordered);
                list.sort_by_key(Value::to_string);
            }
            Value::Object(map) => map.values_mut().for_each(ordered),
            _ => {}
        }
    }
    let mut oci = serde_json::to_value(&launch.oci).unwrap();
    ordered(&mut oci);
    let mut rest = launch.clone();
    rest.oci = engine_core::oci_spec::runtime::Spec::default();
    // Events tell an image's labels, as Docker's do; nothing acts on them.
    rest.events = None;
    rest.oci.set_process(None).set_linux(None).set_mounts(None).set_root(None);
    format!("{oci}{rest:?}").replace(id.as_str(), "ID").replace(id.short(), "ID")
}

#[tokio::test]
async fn b10_labels_and_annotations_of_an_image_are_no_policy() {
    require!(root, overlayfs);
    let world = World::new().await;
    let marker = world.dir.path().join("a-command-of-the-image-ran");
    let prefixes = [
        "engine.",
        "io.engine.",
        "com.docker.",
        "io.containerd.",
        "io.podman.",
        "run.oci.",
        "org.criu.",
        "oci.hooks.",
        "io.kubernetes.cri-o.",
        "org.opencontainers.",
    ];
    let names = [
        "privileged",
        "prestart",
        "hooks",
        "seccomp",
        "devices",
        "mounts",
        "userns",
        "cap-add",
        "config",
        "log-binary",
    ];
    let labels: serde_json::Map<String, Value> = prefixes
        .iter()
        .flat_map(|prefix| names.map(|name| format!("{prefix}{name}")))
        .map(|key| (key, format!("/bin/sh -c 'touch {}'", marker.display()).into()))
        .collect();
    assert_eq!(labels.len(), 100);
    let mut launched = Vec::new();
    for (name, labels) in [("plain", serde_json::Map::new()), ("hostile", labels.clone())] {
        let name = reference(&format!("registry.example/{name}:1"));
        push(&world.registry, &name, &labelled(&Value::Object(labels.clone()), &marker)).await;
        world.engine.pull(&name, PullOptions::default()).await.unwrap();
        let mut spec = ContainerSpec::command(["/bin/sh", "-c", "echo ran"]);
        spec.hostname = Some("box".to_owned());
        let container = world.engine.create(&name.to_string(), spec).await.unwrap();
        assert!(container.run().await.unwrap().success());
        let info = container.inspect().await.unwrap();
        // The container's own labels and annotations are the caller's: none.
        assert_eq!((info.spec.labels.len(), info.spec.annotations.len()), (0, 0));
        assert!(!info.spec.privileged);
        let mut launch = world.seen.lock().unwrap().pop().unwrap();
        // How to look whether it is healthy is the image's to say, as its command is, and happens inside. Not how often.
        let check = launch.health.take();
        assert_eq!(check.is_some(), !labels.is_empty());
        assert!(check.is_none_or(|check| check.interval == std::time::Duration::from_millis(100)));
        // Events name the container and its image, as Docker's do.
        launch.events = None;
        assert!(
            launch.oci.hooks().is_none()
                && launch.oci.annotations().as_ref().is_none_or(|all| all.is_empty())
        );
        launched.push(text(&launch, container.id()));
        container.remove(RemoveOptions::default()).await.unwrap();
    }
    assert_eq!(launched[0], launched[1]);
    assert!(!marker.exists());
}

#[async_trait]
impl Runtime for Recording {
    fn capabilities(&self) -> RuntimeCapabilities {
        self.runtime.capabilities()
    }
    async fn create(&self, id: &ContainerId, launch: &LaunchSpec) -> Result<Sandbox> {
        self.seen.lock().unwrap().push(launch.clone());
        self.runtime.create(id, launch).await
    }
    async fn start(&self, id: &ContainerId) -> Result<()> {
        self.runtime.start(id).await
    }
    async fn state(&self, id: &ContainerId) -> Result<RuntimeState> {
        self.runtime.state(id).await
    }
    async fn list(&self) -> Result<Vec<ContainerId>> {
        self.runtime.list().await
    }
    async fn signal(&self, id: &ContainerId, signal: i32) -> Result<()> {
        self.runtime.signal(id, signal).await
    }
    async fn stop(&self, id: &ContainerId, signal: i32) -> Result<()> {
        self.runtime.stop(id, signal).await
    }
    async fn set_restart_policy(&self, id: &ContainerId, policy: RestartPolicy) -> Result<()> {
        self.runtime.set_restart_policy(id, policy).await
    }
    async fn keep(&self, id: &ContainerId, key: &str, kept: Vec<Kept>) -> Result<()> {
        self.runtime.keep(id, key, kept).await
    }
    async fn set_resolver(
        &self,
        id: &ContainerId,
        config: &engine_core::network::names::ResolverConfig,
    ) -> Result<()> {
        self.runtime.set_resolver(id, config).await
    }
    async fn pause(&self, id: &ContainerId) -> Result<()> {
        self.runtime.pause(id).await
    }
    async fn resume(&self, id: &ContainerId) -> Result<()> {
        self.runtime.resume(id).await
    }
    async fn wait(&self, id: &ContainerId) -> Result<ExitStatus> {
        self.runtime.wait(id).await
    }
    async fn attach(&self, id: &ContainerId, options: AttachOptions) -> Result<Streams> {
        self.runtime.attach(id, options).await
    }
    async fn resize(&self, id: &ContainerId, size: TerminalSize) -> Result<()> {
        self.runtime.resize(id, size).await
    }
    async fn exec(&self, id: &ContainerId, exec: &ExecSpec, io: AttachOptions) -> Result<ExecProcess> {
        self.runtime.exec(id, exec, io).await
    }
    async fn exec_wait(&self, id: &ContainerId, exec: &ExecId) -> Result<ExitStatus> {
        self.runtime.exec_wait(id, exec).await
    }
    async fn exec_signal(&self, id: &ContainerId, exec: &ExecId, signal: i32) -> Result<()> {
        self.runtime.exec_signal(id, exec, signal).await
    }
    async fn exec_resize(&self, id: &ContainerId, exec: &ExecId, size: TerminalSize) -> Result<()> {
        self.runtime.exec_resize(id, exec, size).await
    }
    async fn logs(&self, id: &ContainerId, query: &LogQuery) -> Result<LogStream> {
        self.runtime.logs(id, query).await
    }
    async fn update(&self, id: &ContainerId, resources: &Resources) -> Result<()> {
        self.runtime.update(id, resources).await
    }
    async fn stats(&self, id: &ContainerId) -> Result<Stats> {
        self.runtime.stats(id).await
    }
    fn files(&self, id: &ContainerId, spec: &FilesSpec) -> Box<dyn ContainerFiles> {
        self.runtime.files(id, spec)
    }

    async fn processes(&self, id: &ContainerId) -> Result<Vec<engine_core::stats::ProcessInfo>> {
        self.runtime.processes(id).await
    }
    async fn delete(&self, id: &ContainerId) -> Result<()> {
        self.runtime.delete(id).await
    }
}
