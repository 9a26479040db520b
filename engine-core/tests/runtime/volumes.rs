//! Volumes, binds and image mounts of containers, through the facade: SECURITY A1, A5 and A9 for what they mount.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use engine_core::container_spec::{MountSpec, VolumesFrom};
use engine_core::engine::{ImportOptions, LabelFilter, PruneOptions, RemoveOptions};
use engine_core::image_config::ProcessDefaults;
use engine_core::io::AttachOptions;
use engine_core::volume_driver::VolumeOptions;
use engine_core::{Container, ContainerSpec, Engine, ErrorKind, Mount, Name, Result};
use engine_testkit::image::{LayerBuilder, busybox_layer};
use engine_testkit::{Sentinel, require};
use tokio::io::AsyncReadExt as _;

use crate::support::Leaks;

const IMAGE: &str = "localhost/volumes:1";

struct World {
    engine: Engine,
    _leaks: Leaks,
    dir: tempfile::TempDir,
}

impl World {
    /// An engine with an image that wants the volume `/data`, where it has files.
    async fn new() -> Self {
        let dir = tempfile::Builder::new().prefix("engine-volumes-").tempdir().unwrap();
        let (root, run) = (dir.path().join("root"), dir.path().join("run"));
        let leaks = Leaks::begin(&root, &run);
        let engine = Engine::builder(root).run_root(run).open().await.unwrap();
        let world = Self { engine, _leaks: leaks, dir };
        let layer =
            busybox_layer().owner(33, 34).dir("data", 0o2750).file("data/file", 0o640, b"of the image\n");
        world.import(IMAGE, layer, &["/data"]).await;
        world
    }

    async fn import(&self, name: &str, layer: LayerBuilder, volumes: &[&str]) {
        let mut config = ProcessDefaults::default();
        config.volumes = volumes.iter().map(|path| ((*path).to_owned(), Default::default())).collect();
        let options = ImportOptions::default().with_config(config);
        self.engine.import(&name.parse().unwrap(), Bytes::from(layer.build()), options).await.unwrap();
    }

    async fn create(&self, change: impl FnOnce(&mut ContainerSpec), script: &str) -> Result<Container> {
        let mut spec = ContainerSpec::command(["/bin/sh", "-c", script]);
        change(&mut spec);
        self.engine.create(IMAGE, spec).await
    }

    /// Runs a script in a container that is removed again, with its volumes, and returns what it wrote.
    async fn run(&self, change: impl FnOnce(&mut ContainerSpec), script: &str) -> Result<String> {
        let container = self.create(change, script).await?;
        let outcome = output(&container).await;
        container.remove(RemoveOptions::default().with_force(true).with_volumes(true)).await?;
        outcome
    }

    async fn volume(&self, text: &str) -> PathBuf {
        let volume = self.engine.create_volume(&name(text), &VolumeOptions::default()).await.unwrap();
        volume.mountpoint.unwrap()
    }

    async fn volumes(&self) -> Vec<String> {
        self.engine.volumes().await.unwrap().into_iter().map(|volume| volume.name.to_string()).collect()
    }
}

async fn output(container: &Container) -> Result<String> {
    let mut streams = container.start_attached(AttachOptions::piped(false)).await?;
    let (mut out, mut err) = (String::new(), String::new());
    streams.stdout.as_mut().unwrap().read_to_string(&mut out).await.unwrap();
    streams.stderr.as_mut().unwrap().read_to_string(&mut err).await.unwrap();
    container.wait().await?;
    Ok(out + &err)
}

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

fn volume_at(spec: &mut ContainerSpec, text: &str, target: &str) {
    spec.mounts.push(MountSpec::volume(Some(name(text)), target));
}

fn part(text: &str, target: &str, part: &str) -> MountSpec {
    let mut mount = MountSpec::volume(Some(name(text)), target);
    if let MountSpec::Volume { subpath, .. } = &mut mount {
        *subpath = Some(part.into());
    }
    mount
}

#[tokio::test]
async fn an_images_volume_is_made_filled_and_goes_with_its_container() {
    require!(root, overlayfs);
    let world = World::new().await;
    let container =
        world.create(|_| {}, "stat -c '%u %g %a' /data /data/file; cat /data/file; echo x > /data/new").await;
    let container = container.unwrap();
    let info = container.inspect().await.unwrap();
    let [volume] = &info.anonymous_volumes[..] else { panic!("{info:?}") };
    let made = world.engine.volume(volume).await.unwrap();
    assert!(made.is_anonymous());
    // Filled already before the first start, as Docker does.
    let dir = made.mountpoint.unwrap();
    assert_eq!(fs::metadata(dir.join("file")).unwrap().uid(), 33);
    assert_eq!(output(&container).await.unwrap(), "33 34 2750\n33 34 640\nof the image\n");
    // A second start changes nothing, nor does what was removed come back.
    fs::remove_file(dir.join("file")).unwrap();
    assert!(output(&container).await.unwrap().contains("No such file"));
    assert!(dir.join("new").exists());
    let error = world.engine.remove_volume(volume).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert!(error.report().contains(info.name.as_str()) && error.report().contains("exited"), "{error:?}");
    container.remove(RemoveOptions::default()).await.unwrap();
    assert_eq!(world.volumes().await, [volume.to_string()], "without asking for it, the volume stays");
    assert!(world.engine.volume_usage(volume).await.unwrap().unwrap() > 0);
    let pruned = world.engine.prune_volumes(&PruneOptions::default()).await.unwrap();
    assert_eq!((&pruned.removed[..], pruned.bytes), (std::slice::from_ref(volume), 2));
    // Another mount at the place means no volume.
    world.run(|spec| *spec = spec.clone().with_mount(Mount::tmpfs("/data/.")), "true").await.unwrap();
    assert_eq!(world.volumes().await, [""; 0]);
    // With --rm it goes by itself.
    let container = world.create(|spec| spec.auto_remove = true, "true").await.unwrap();
    container.run().await.unwrap();
    assert_eq!(world.volumes().await, [""; 0]);
}

#[tokio::test]
async fn a_named_volume_is_filled_once_and_outlives_containers() {
    require!(root, overlayfs);
    let world = World::new().await;
    let script = "ls /data; echo more >> /data/file";
    let out = world.run(|spec| volume_at(spec, "kept", "/data"), script).await.unwrap();
    assert_eq!(out, "file\n");
    let out = world.run(|spec| volume_at(spec, "kept", "/data"), "cat /data/file").await.unwrap();
    assert_eq!(out, "of the image\nmore\n");
    let bare = |spec: &mut ContainerSpec| {
        volume_at(spec, "bare", "/data");
        if let Some(MountSpec::Volume { no_copy, .. }) = spec.mounts.last_mut() {
            *no_copy = true;
        }
    };
    assert_eq!(world.run(bare, "ls /data").await.unwrap(), "");
    // It is empty still, so whoever does not refuse gets the image's files.
    assert_eq!(world.run(|spec| volume_at(spec, "bare", "/data"), "ls /data").await.unwrap(), "file\n");
    assert_eq!(world.volumes().await, ["bare", "kept"]);
    let pruned = world.engine.prune_volumes(&PruneOptions::default()).await.unwrap();
    assert_eq!(pruned.removed, [], "named ones are kept");
    let labelled = PruneOptions::default().with_all(true).with_label(LabelFilter::parse("x", true));
    assert_eq!(world.engine.prune_volumes(&labelled).await.unwrap().removed, []);
    let all = PruneOptions::default().with_all(true);
    assert_eq!(world.engine.prune_volumes(&all).await.unwrap().removed.len(), 2);
    assert_eq!(world.engine.prune_volumes(&all).await.unwrap().removed, [], "again is no error");
}

#[tokio::test]
async fn a9_a_subpath_stays_beneath_its_volume() {
    require!(root, overlayfs);
    let world = World::new().await;
    let host = world.dir.path().join("host");
    fs::create_dir(&host).unwrap();
    let sentinel = Sentinel::plant(&host);
    let dir = world.volume("parts").await;
    fs::create_dir_all(dir.join("a/b")).unwrap();
    fs::write(dir.join("a/b/file"), "deep").unwrap();
    symlink("a/b", dir.join("inside")).unwrap();
    symlink(&host, dir.join("absolute")).unwrap();
    symlink("../../../../..", dir.join("up")).unwrap();
    symlink("/proc/self/root", dir.join("magic")).unwrap();
    symlink("loop", dir.join("loop")).unwrap();
    let run = async |path: &str, script: &str| {
        world.run(|spec| spec.mounts.push(part("parts", "/mnt", path)), script).await
    };
    assert_eq!(run("a/b", "cat /mnt/file").await.unwrap(), "deep");
    assert_eq!(run("inside", "cat /mnt/file").await.unwrap(), "deep");
    assert_eq!(run("a/b/file", "cat /mnt").await.unwrap(), "deep");
    assert_eq!(run("./a/./b", "ls /mnt").await.unwrap(), "file\n");
    for bad in ["absolute", "up", "up/etc", "magic", "loop", "nothing", "a/b/file/x", "../parts", "/a", ""] {
        let error = run(bad, "find /mnt").await.unwrap_err();
        assert!(
            error.report().contains("subpath") || error.report().contains("not exist"),
            "{bad}: {error:?}"
        );
    }
    sentinel.assert_unchanged();
    // Somebody swaps the directory for a link out meanwhile: it is one or the other, and never the host's.
    let stop = Arc::new(AtomicBool::new(false));
    let swapper = std::thread::spawn({
        let (stop, dir, host) = (Arc::clone(&stop), dir.clone(), host.clone());
        move || {
            fs::create_dir(dir.join("swap")).unwrap();
            symlink(&host, dir.join("evil")).unwrap();
            let exchange = rustix::fs::RenameFlags::EXCHANGE;
            while !stop.load(Ordering::Relaxed) {
                rustix::fs::renameat_with(
                    rustix::fs::CWD,
                    dir.join("swap"),
                    rustix::fs::CWD,
                    dir.join("evil"),
                    exchange,
                )
                .unwrap();
            }
        }
    });
    for _ in 0..40 {
        if let Ok(out) = run("swap", "ls -A /mnt; touch /mnt/mine").await {
            assert!(matches!(&*out, "" | "mine\n"), "{out}");
        }
    }
    stop.store(true, Ordering::Relaxed);
    swapper.join().unwrap();
    sentinel.assert_unchanged();
    world.engine.remove_volume(&name("parts")).await.unwrap();
}

#[tokio::test]
async fn an_image_is_mounted_read_only_and_kept() {
    require!(root, overlayfs);
    let world = World::new().await;
    let layer = LayerBuilder::new()
        .dir("tools", 0o755)
        .file("tools/hammer", 0o4755, b"bang\n")
        .symlink("out", "/etc")
        .dir("etc", 0o755)
        .file("etc/mine", 0o644, b"m");
    world.import("localhost/tools:1", layer, &[]).await;
    let mount = |target: &str, part: Option<&str>| MountSpec::Image {
        image: "localhost/tools:1".to_owned(),
        target: target.into(),
        subpath: part.map(Into::into),
    };
    let two = |spec: &mut ContainerSpec| {
        spec.mounts.push(mount("/all", None));
        spec.mounts.push(mount("/tools", Some("tools")));
        spec.mounts.push(mount("/hammer", Some("tools/hammer")));
    };
    let script = "cat /all/tools/hammer /tools/hammer /hammer; echo x > /tools/new; echo x > /all/new; grep -c nosuid,nodev /proc/mounts";
    let container = world.create(two, script).await.unwrap();
    let out = output(&container).await.unwrap();
    assert!(out.starts_with("bang\nbang\nbang\n"), "{out}");
    assert_eq!(out.matches("Read-only file system").count(), 2, "{out}");
    let error = world.engine.remove_image("localhost/tools:1", false).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error:?}");
    world.engine.remove_image("localhost/tools:1", true).await.unwrap();
    world.engine.collect_garbage().await.unwrap();
    assert!(
        output(&container).await.unwrap().starts_with("bang\nbang\nbang\n"),
        "its name is gone, not its files"
    );
    container.remove(RemoveOptions::default().with_volumes(true)).await.unwrap();
    assert!(world.engine.collect_garbage().await.unwrap() > 0);
    let error = world.run(two, "true").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn a_part_of_an_image_of_several_layers() {
    require!(root, overlayfs);
    let world = World::new().await;
    // Two layers by the runtime's own words: an overlay whose part is shown, and a link out of it.
    let layers: Vec<PathBuf> = ["low", "high"].iter().map(|name| world.dir.path().join(name)).collect();
    for (layer, content) in layers.iter().zip(["low", "high"]) {
        fs::create_dir_all(layer.join("sub/dir")).unwrap();
        fs::write(layer.join("sub/dir").join(content), content).unwrap();
    }
    symlink("/etc", layers[1].join("out")).unwrap();
    let overlay = |part: &str| {
        let mut mount = Mount::overlay(layers.iter().rev().cloned().collect(), None).with_subpath(part);
        mount.target = "/mnt".into();
        mount
    };
    let run = async |part: &str, script: &str| {
        world.run(|spec| *spec = spec.clone().with_mount(overlay(part)), script).await
    };
    let out = run("sub/dir", "ls /mnt; ls -d /*; grep -c ' / ' /proc/mounts").await.unwrap();
    assert!(out.starts_with("high\nlow\n") && out.contains("/data") && out.ends_with("\n1\n"), "{out}");
    assert_eq!(run("sub/dir/low", "cat /mnt").await.unwrap(), "low");
    for bad in ["out", "nothing"] {
        assert_eq!(run(bad, "true").await.unwrap_err().kind(), ErrorKind::InvalidArgument, "{bad}");
    }
}

#[tokio::test]
async fn volumes_of_another_container() {
    require!(root, overlayfs);
    let world = World::new().await;
    let host = world.dir.path().join("bound");
    fs::create_dir(&host).unwrap();
    let first = |spec: &mut ContainerSpec| {
        spec.name = Some(name("first"));
        volume_at(spec, "shared", "/shared");
        *spec = spec.clone().with_mount(Mount::bind(&host, "/host")).with_mount(Mount::tmpfs("/memory"));
    };
    let first = world.create(first, "echo 1 > /shared/x; echo 2 > /host/x; echo 3 > /data/x").await.unwrap();
    first.run().await.unwrap();
    let from = |from: VolumesFrom| move |spec: &mut ContainerSpec| spec.volumes_from.push(from);
    let script = "cat /shared/x /host/x /data/x; ls -d /memory; touch /shared/y /host/y";
    let out = world.run(from(VolumesFrom::new("first")), script).await.unwrap();
    assert!(out.starts_with("1\n2\n3\n") && out.contains("/memory: No such file"), "{out}");
    assert!(host.join("y").exists());
    let read_only = VolumesFrom::new("first").with_read_only(true);
    let out = world.run(from(read_only), "touch /shared/z /host/z /data/z").await.unwrap();
    assert_eq!(out.matches("Read-only file system").count(), 3, "{out}");
    // What is asked for by itself wins.
    let own = |spec: &mut ContainerSpec| {
        spec.volumes_from.push(VolumesFrom::new("first"));
        volume_at(spec, "own", "/shared");
    };
    assert_eq!(world.run(own, "ls /shared").await.unwrap(), "");
    let error = world.run(from(VolumesFrom::new("nobody")), "true").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    // The anonymous volume stays as long as somebody uses it.
    let second = world.create(from(VolumesFrom::new("first")), "cat /data/x").await.unwrap();
    first.remove(RemoveOptions::default().with_volumes(true)).await.unwrap();
    assert_eq!(output(&second).await.unwrap(), "3\n");
    second.remove(RemoveOptions::default()).await.unwrap();
    assert_eq!(world.engine.prune_volumes(&PruneOptions::default()).await.unwrap().removed.len(), 1);
}

#[tokio::test]
async fn file_systems_are_mounted_in_the_container_only() {
    require!(root, overlayfs);
    let world = World::new().await;
    let table = || fs::read_to_string("/proc/self/mounts").unwrap().lines().count();
    let before = table();
    let make = async |text: &str, options: &[(&str, &str)]| {
        let mut wanted = VolumeOptions::default();
        wanted.driver_options.extend(options.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())));
        world.engine.create_volume(&name(text), &wanted).await.unwrap();
    };
    let lower: Vec<PathBuf> = ["one", "two"].iter().map(|part| world.dir.path().join(part)).collect();
    for dir in &lower {
        fs::create_dir(dir).unwrap();
        fs::write(dir.join(dir.file_name().unwrap()), "x").unwrap();
    }
    make("memory", &[("type", "tmpfs"), ("device", "tmpfs"), ("o", "size=1m,mode=750,uid=7,noexec")]).await;
    make(
        "stack",
        &[
            ("type", "overlay"),
            ("device", "overlay"),
            ("o", &format!("lowerdir={}:{},ro", lower[0].display(), lower[1].display())),
        ],
    )
    .await;
    make("bound", &[("type", "none"), ("device", lower[0].to_str().unwrap()), ("o", "bind,ro")]).await;
    make("unknown", &[("type", "nosuchfs"), ("device", "x")]).await;
    make("refused", &[("type", "overlay"), ("device", "x"), ("o", "bogus=1")]).await;
    let run = async |text: &str, script: &str| world.run(|spec| volume_at(spec, text, "/mnt"), script).await;
    let out =
        run("memory", "stat -c '%u %a' /mnt; df -k /mnt | tail -n 1 | tr -s ' ' | cut -d ' ' -f 2").await;
    assert_eq!(out.unwrap(), "7 750\n1024\n");
    assert_eq!(run("stack", "ls /mnt").await.unwrap(), "one\ntwo\n");
    assert_eq!(run("bound", "ls /mnt; touch /mnt/x").await.unwrap().lines().next(), Some("one"));
    for (text, kind, word) in
        [("unknown", ErrorKind::Unsupported, "nosuchfs"), ("refused", ErrorKind::InvalidArgument, "options")]
    {
        let error = run(text, "true").await.unwrap_err();
        assert_eq!(error.kind(), kind, "{error:?}");
        assert!(error.report().contains(word), "{}", error.report());
    }
    assert_eq!(table(), before, "nothing is in the host's mount table");
    for text in ["memory", "stack", "bound", "unknown", "refused"] {
        world.engine.remove_volume(&name(text)).await.unwrap();
    }
    assert!(lower[0].join("one").exists());
}

#[tokio::test]
async fn a_directory_of_an_nfs_server_is_a_volume() {
    require!(root, overlayfs, nfs_server);
    let world = World::new().await;
    let address = std::env::var("ENGINE_TEST_NFS").unwrap();
    let mounted = || fs::read_to_string("/proc/self/mounts").unwrap().contains(" nfs4 ");
    let make = async |text: &str, device: &str, more: &str| {
        let mut wanted = VolumeOptions::default();
        let options = format!("addr={address},vers=4.2,soft{more}");
        for (key, value) in [("type", "nfs"), ("device", device), ("o", &options)] {
            wanted.driver_options.insert(key.to_owned(), value.to_owned());
        }
        world.engine.create_volume(&name(text), &wanted).await.unwrap();
    };
    make("shared", ":/export", "").await;
    make("reader", &format!("{address}:/export"), ",ro").await;
    make("missing", ":/none", "").await;
    let run = async |text: &str, script: &str| world.run(|spec| volume_at(spec, text, "/mnt"), script).await;
    let write = "stat -f -c %T /mnt; rm -rf /mnt/d; mkdir /mnt/d; echo hello > /mnt/d/f; chown 5:6 /mnt/d/f; mv /mnt/d/f /mnt/d/g";
    assert_eq!(run("shared", write).await.unwrap(), "nfs\n");
    assert!(!mounted(), "it is in the container's mounts only, and goes with it");
    let read = "cat /mnt/d/g; stat -c %u:%g /mnt/d/g; touch /mnt/x 2>/dev/null && echo written";
    assert_eq!(run("reader", &format!("{read}; true")).await.unwrap(), "hello\n5:6\n");
    // Two at once see each other's files.
    let there = world
        .create(|spec| volume_at(spec, "reader", "/mnt"), "until test -e /mnt/d/now; do sleep 0.1; done");
    let there = there.await.unwrap();
    there.start().await.unwrap();
    assert_eq!(run("shared", "touch /mnt/d/now").await.unwrap(), "");
    assert!(there.wait().await.unwrap().success());
    let error = run("missing", "true").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{}", error.report());
    assert!(
        error.report().contains("\":/none\": the source of the mount does not exist"),
        "{}",
        error.report()
    );
    assert_eq!(run("shared", "rm -r /mnt/d").await.unwrap(), "");
    assert!(!mounted());
    there.remove(RemoveOptions::default()).await.unwrap();
    for text in ["shared", "reader", "missing"] {
        world.engine.remove_volume(&name(text)).await.unwrap();
    }
}

#[tokio::test]
async fn stopped_containers_are_pruned_and_others_stay() {
    require!(root, overlayfs);
    let world = World::new().await;
    let ended =
        world.create(|spec| spec.labels = [("tier".into(), "web".into())].into(), "echo x > /written").await;
    let ended = ended.unwrap();
    ended.run().await.unwrap();
    assert_eq!(world.engine.container_usage(ended.id()).await.unwrap(), 2);
    let runs = world.create(|_| {}, "sleep 1000").await.unwrap();
    runs.start().await.unwrap();
    let other = PruneOptions::default().with_label(LabelFilter::parse("tier=db", true));
    assert_eq!(world.engine.prune_containers(&other).await.unwrap().removed, []);
    let old = PruneOptions::default().with_until(std::time::SystemTime::UNIX_EPOCH);
    assert_eq!(world.engine.prune_containers(&old).await.unwrap().removed, []);
    let pruned = world.engine.prune_containers(&PruneOptions::default()).await.unwrap();
    assert_eq!((&pruned.removed[..], pruned.bytes), (std::slice::from_ref(ended.id()), 2));
    assert_eq!(world.engine.prune_containers(&PruneOptions::default()).await.unwrap().removed, []);
    let usage = world.engine.disk_usage().await.unwrap();
    assert_eq!((usage.containers.len(), usage.volumes.len()), (1, 2));
    assert_eq!(usage.volumes.iter().map(|volume| volume.containers).sum::<usize>(), 1);
    runs.remove(RemoveOptions::default().with_force(true).with_volumes(true)).await.unwrap();
}

#[tokio::test]
async fn wrong_mounts_are_refused_and_leave_nothing() {
    require!(root, overlayfs);
    let world = World::new().await;
    let many = LayerBuilder::new().dir("x", 0o755);
    let names: Vec<String> = (0..300).map(|n| format!("/v{n}")).collect();
    world.import("localhost/many:1", many, &names.iter().map(|name| &**name).collect::<Vec<_>>()).await;
    let relative = LayerBuilder::new().dir("x", 0o755);
    world.import("localhost/relative:1", relative, &["relative/path"]).await;
    for (image, kind) in [
        ("localhost/many:1", ErrorKind::ResourceExhausted),
        ("localhost/relative:1", ErrorKind::InvalidArgument),
    ] {
        let error = world.engine.create(image, ContainerSpec::command(["x"])).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{error:?}");
    }
    let twice = |spec: &mut ContainerSpec| {
        volume_at(spec, "aa", "/x");
        volume_at(spec, "bb", "/y/../x/");
    };
    assert_eq!(world.run(twice, "true").await.unwrap_err().kind(), ErrorKind::InvalidArgument);
    let image = |spec: &mut ContainerSpec| {
        spec.mounts.push(MountSpec::Image {
            image: "localhost/nothing:1".to_owned(),
            target: "/x".into(),
            subpath: None,
        });
    };
    assert_eq!(world.run(image, "true").await.unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(world.volumes().await, [""; 0]);
    assert!(world.engine.containers().await.unwrap().is_empty());
    assert_eq!(world.engine.volume(&name("nothing")).await.unwrap_err().kind(), ErrorKind::NotFound);
    assert!(Path::new(world.dir.path()).join("root").exists());
}
