//! Copies in and out of containers, exports: SECURITY E4 and A9 through the facade.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use engine_core::container_spec::MountSpec;
use engine_core::engine::{CopyOptions, ImportOptions, RemoveOptions};
use engine_core::files::UnpackFiles;
use engine_core::io::ByteStream;
use engine_core::{Container, ContainerSpec, Engine, Error, ErrorKind, Mount};
use engine_testkit::image::{LayerBuilder, busybox_layer};
use engine_testkit::{Sentinel, require};
use futures_util::TryStreamExt as _;

use super::support;

/// An engine with the image `busybox`, and a tree outside that nothing may touch.
pub struct World {
    pub engine: Engine,
    sentinel: Sentinel,
    _leaks: support::Leaks,
    pub dir: tempfile::TempDir,
}

impl World {
    pub async fn new() -> Self {
        let dir = tempfile::Builder::new().prefix("engine-files-").tempdir().unwrap();
        let outside = dir.path().join("outside");
        fs::create_dir(&outside).unwrap();
        let sentinel = Sentinel::plant(&outside);
        let (root, run) = (dir.path().join("root"), dir.path().join("run"));
        let leaks = support::Leaks::begin(&root, &run);
        let engine = Engine::builder(&root).run_root(&run).open().await.unwrap();
        let archive = busybox_layer().build().into();
        engine.import(&"busybox".parse().unwrap(), archive, ImportOptions::default()).await.unwrap();
        Self { engine, sentinel, _leaks: leaks, dir }
    }

    pub fn outside(&self) -> PathBuf {
        self.dir.path().join("outside")
    }

    pub async fn create(&self, spec: ContainerSpec) -> Container {
        self.engine.create("busybox", spec).await.unwrap()
    }

    pub async fn run(&self, container: &Container, script: &str) {
        let status = container.run().await.unwrap();
        assert!(status.success(), "{script}: {status:?}");
    }

    /// A container that has run `script`.
    pub async fn after(&self, script: &str) -> Container {
        let container = self.create(ContainerSpec::command(["sh", "-ec", script])).await;
        self.run(&container, script).await;
        container
    }

    pub async fn remove(&self, container: &Container) {
        container.remove(RemoveOptions::default().with_force(true).with_volumes(true)).await.unwrap();
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            let differences = self.sentinel.differences(&Sentinel::record(&self.outside()));
            assert!(differences.is_empty(), "{differences:?}");
        }
    }
}

pub fn stream(bytes: Vec<u8>) -> ByteStream {
    Box::pin(futures_util::stream::iter([Ok(bytes.into())]))
}

pub async fn collect(stream: ByteStream) -> Result<Vec<u8>, Error> {
    stream
        .try_fold(Vec::new(), |mut all, chunk| async move {
            all.extend_from_slice(&chunk);
            Ok(all)
        })
        .await
}

/// Names, and the content of regular files, as another program's reader sees them.
pub fn list(archive: &[u8]) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for entry in tar_entries(archive) {
        found.push(entry);
    }
    found
}

fn tar_entries(archive: &[u8]) -> Vec<(String, String)> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.tar");
    fs::write(&path, archive).unwrap();
    let script = "import sys,tarfile,json\n\
        t=tarfile.open(sys.argv[1])\n\
        print(json.dumps([[m.name, t.extractfile(m).read().decode('latin1') if m.isreg() else m.linkname if m.issym() else ''] for m in t]))";
    let output = std::process::Command::new("python3").args(["-c", script]).arg(path).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

#[tokio::test]
async fn files_go_in_and_out_of_running_stopped_and_new_containers() {
    require!(root, overlayfs, "python3");
    let world = World::new().await;
    let container = world
        .create(ContainerSpec::command(["sh", "-c", "while ! test -e /stop; do sleep 0.05; done"]))
        .await;
    for state in ["new", "running", "stopped"] {
        match state {
            "running" => container.start().await.unwrap(),
            "stopped" => {
                container
                    .copy_in(
                        "/",
                        stream(LayerBuilder::new().file("stop", 0o644, b"").build()),
                        &UnpackFiles::default(),
                    )
                    .await
                    .unwrap();
                container.wait().await.unwrap();
            }
            _ => {}
        }
        let archive = LayerBuilder::new().owner(7, 8).dir("d", 0o750).file("d/f", 0o4640, state.as_bytes());
        container.copy_in("/tmp", stream(archive.build()), &UnpackFiles::default()).await.unwrap();
        let stat = container.stat_path("/tmp/d/f").await.unwrap();
        assert_eq!((stat.mode, stat.size, &*stat.name), (0o104_640, state.len() as u64, "f"));
        let (stat, archive) = container.copy_out("/tmp/d").await.unwrap();
        assert!(stat.is_dir());
        let listed = list(&collect(archive).await.unwrap());
        assert_eq!(listed, [("d".to_owned(), String::new()), ("d/f".to_owned(), state.to_owned())]);
        let (_, archive) = container.copy_out("/tmp/d/.").await.unwrap();
        assert_eq!(list(&collect(archive).await.unwrap())[1], ("./f".to_owned(), state.to_owned()));
    }
    world.remove(&container).await;
}

#[tokio::test]
async fn paths_are_resolved_as_in_the_container() {
    require!(root, overlayfs);
    let world = World::new().await;
    let outside = world.outside();
    let script = format!(
        "mkdir -p /real/sub; echo in > /real/file; ln -s /real /abs; ln -s ../../../../real /up; ln -s {} /out; \
         ln -s loop /loop; mkfifo /fifo",
        outside.display()
    );
    let container = world.after(&script).await;
    for path in ["/abs/file", "/up/file", "/real/../abs/./file", "../../real/file", "real/file"] {
        assert_eq!(container.stat_path(path).await.unwrap().size, 3, "{path}");
    }
    let link = container.stat_path("/abs").await.unwrap();
    assert!(link.is_symlink() && link.link_target == "/real");
    assert!(container.stat_path("/abs/").await.unwrap().is_dir());
    for (path, kind) in [
        ("/out/etc/passwd", ErrorKind::NotFound),
        ("/out/", ErrorKind::NotFound),
        ("/missing", ErrorKind::NotFound),
        ("/real/file/", ErrorKind::InvalidArgument),
        ("/real/file/x", ErrorKind::InvalidArgument),
        ("/loop/x", ErrorKind::InvalidArgument),
        ("", ErrorKind::NotFound),
    ] {
        let error = container.copy_out(path).await.err().unwrap_or_else(|| panic!("{path} was found"));
        assert_eq!(error.kind(), kind, "{path}: {}", error.report());
    }
    let none = || stream(LayerBuilder::new().build());
    for (path, kind) in [("/missing", ErrorKind::NotFound), ("/real/file", ErrorKind::InvalidArgument)] {
        let error = container.copy_in(path, none(), &UnpackFiles::default()).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{path}: {}", error.report());
    }
    // An archive goes through a link to where it leads in the container.
    let file = || LayerBuilder::new().file("new", 0o644, b"1").build();
    container.copy_in("/abs", stream(file()), &UnpackFiles::default()).await.unwrap();
    assert_eq!(container.stat_path("/real/new").await.unwrap().size, 1);
    // Kinds are kept where that is asked for.
    let clash = LayerBuilder::new().file("sub", 0o644, b"1").build();
    let keep = UnpackFiles::default().with_keep_kinds(true);
    let error = container.copy_in("/real", stream(clash.clone()), &keep).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    container.copy_in("/real", stream(clash), &UnpackFiles::default()).await.unwrap();
    assert!(container.stat_path("/real/sub").await.unwrap().is_file());
    container
        .copy_in("/real", stream(file()), &UnpackFiles::default().with_owner(Some((5, 6))))
        .await
        .unwrap();
    world.remove(&container).await;
}

#[tokio::test]
async fn volumes_are_seen_and_what_is_read_only_stays_so() {
    require!(root, overlayfs, "python3");
    let world = World::new().await;
    let host = world.dir.path().join("bind");
    fs::create_dir(&host).unwrap();
    fs::write(host.join("f"), "bound").unwrap();
    for running in [false, true] {
        let mut spec = ContainerSpec::command(["sleep", "1000"]);
        spec.read_only_rootfs = true;
        spec.mounts = vec![
            MountSpec::Mount(Mount::bind(&host, "/rw")),
            MountSpec::Mount(Mount::bind(&host, "/ro").read_only()),
        ];
        let container = world.create(spec).await;
        if running {
            container.start().await.unwrap();
        }
        let (_, archive) = container.copy_out("/ro/f").await.unwrap();
        assert_eq!(list(&collect(archive).await.unwrap()), [("f".to_owned(), "bound".to_owned())]);
        let file = || stream(LayerBuilder::new().file("made", 0o644, b"1").build());
        for path in ["/", "/tmp", "/ro"] {
            let error = container.copy_in(path, file(), &UnpackFiles::default()).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{path}: {}", error.report());
        }
        container.copy_in("/rw", file(), &UnpackFiles::default()).await.unwrap();
        assert_eq!(fs::read(host.join("made")).unwrap(), b"1");
        fs::remove_file(host.join("made")).unwrap();
        if running {
            // The kernel's own files are none.
            for path in ["/proc/1/status", "/proc", "/sys/kernel"] {
                assert_eq!(
                    container.copy_out(path).await.err().map(|e| e.kind()),
                    Some(ErrorKind::InvalidArgument),
                    "{path}"
                );
            }
        }
        // An export has the root file system alone.
        let names = list(&collect(container.export().await.unwrap()).await.unwrap());
        assert!(names.iter().any(|(name, _)| name == "./bin/busybox"));
        assert!(
            !names.iter().any(|(name, _)| name.starts_with("./rw/") || name.starts_with("./proc/")),
            "{names:?}"
        );
        world.remove(&container).await;
    }
}

/// Turns the directory `d` in `dir` into a link to `outside` and back, as fast as it can.
fn swap(dir: &Path, outside: &Path, stop: &AtomicBool) {
    let (victim, aside) = (dir.join("d"), dir.join("aside"));
    while !stop.load(Ordering::Relaxed) {
        if fs::rename(&victim, &aside).is_ok() {
            let _ = symlink(outside, &victim);
            std::thread::yield_now();
            let _ = fs::remove_file(&victim);
            let _ = fs::rename(&aside, &victim);
        }
    }
}

/// As many as SECURITY E4 asks for; `ENGINE_TEST_COPIES` makes it fewer.
fn copies() -> usize {
    std::env::var("ENGINE_TEST_COPIES").ok().and_then(|n| n.parse().ok()).unwrap_or(10_000)
}

/// Copies both ways through a directory that is swapped for a link out meanwhile.
async fn copy_through_a_swap(running: bool, count: usize) {
    let world = World::new().await;
    let shared = world.dir.path().join("shared");
    fs::create_dir_all(shared.join("d/sub")).unwrap();
    fs::write(shared.join("d/sub/file"), "inside").unwrap();
    let mut spec = ContainerSpec::command(["sleep", "1000"]);
    spec.mounts = vec![MountSpec::Mount(Mount::bind(&shared, "/w"))];
    let container = world.create(spec).await;
    if running {
        container.start().await.unwrap();
    }
    let archive = LayerBuilder::new()
        .dir("d", 0o777)
        .file("d/passwd", 0o666, b"evil")
        .dir("d/etc", 0o777)
        .file("d/etc/passwd", 0o666, b"evil")
        .build();
    let inner =
        LayerBuilder::new().owner(4242, 4242).dir("etc", 0o777).file("etc/passwd", 0o666, b"evil").build();
    let stop = AtomicBool::new(false);
    let outside = world.outside();
    let mut outcomes = [[0_u32; 2]; 4];
    tokio::task::block_in_place(|| {
        std::thread::scope(|scope| {
            scope.spawn(|| swap(&shared, &outside, &stop));
            let handle = tokio::runtime::Handle::current();
            handle.block_on(async {
                for n in 0..count {
                    let ok = match n % 4 {
                        0 => container
                            .copy_in("/w", stream(archive.clone()), &UnpackFiles::default())
                            .await
                            .is_ok(),
                        1 => container
                            .copy_in("/w/d", stream(inner.clone()), &UnpackFiles::default())
                            .await
                            .is_ok(),
                        direction => {
                            let path = if direction == 2 { "/w" } else { "/w/d/." };
                            let packed = match container.copy_out(path).await {
                                Ok((_, archive)) => collect(archive).await,
                                Err(error) => Err(error),
                            };
                            if let Ok(bytes) = &packed {
                                let leaked = bytes.windows(9).any(|window| window == b"untouched");
                                assert!(!leaked, "copy {n} has content from outside");
                            }
                            packed.is_ok()
                        }
                    };
                    outcomes[n % 4][usize::from(ok)] += 1;
                }
            });
            stop.store(true, Ordering::Relaxed);
        });
    });
    println!("failed and done, in, in below, out, out below: {outcomes:?}");
    assert!(outcomes.iter().all(|[_, done]| *done > 0), "{outcomes:?}");
    world.remove(&container).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn e4_links_swapped_while_a_running_containers_files_are_copied_lead_nowhere() {
    require!(root, overlayfs);
    copy_through_a_swap(true, copies()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn e4_links_swapped_while_a_stopped_containers_files_are_copied_lead_nowhere() {
    require!(root, overlayfs);
    copy_through_a_swap(false, copies() / 4).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a9_an_export_during_a_link_swap_has_nothing_from_outside() {
    require!(root, overlayfs);
    let world = World::new().await;
    let outside = world.outside();
    let script = format!(
        "mkdir -p /d/sub; echo inside > /d/sub/file; while true; do mv /d /aside; ln -s {} /d; rm /d; mv /aside /d; done",
        outside.display()
    );
    let container = world.create(ContainerSpec::command(["sh", "-c", &script])).await;
    container.start().await.unwrap();
    for n in 0..20 {
        let bytes = collect(container.export().await.unwrap()).await.unwrap();
        assert!(!bytes.windows(9).any(|window| window == b"untouched"), "export {n}");
    }
    world.remove(&container).await;
}

#[tokio::test]
async fn e4_a_container_copied_from_sees_no_process_and_keeps_its_name_service_to_itself() {
    require!(root, overlayfs);
    // An image whose libraries and programs would be run by whoever enters it: nobody does.
    let world = World::new().await;
    let marker = "/ran";
    let trap = format!("#!/bin/sh\necho $0 >> {marker}\n");
    let mut layer = busybox_layer();
    for path in ["bin/tar", "usr/bin/tar", "lib/x86_64-linux-gnu/libnss_files.so.2", "etc/nsswitch.conf"] {
        layer = layer.file(path, 0o755, trap.as_bytes());
    }
    let name = "trapped".parse().unwrap();
    world.engine.import(&name, layer.build().into(), ImportOptions::default()).await.unwrap();
    let container = world.engine.create("trapped", ContainerSpec::command(["sleep", "1000"])).await.unwrap();
    for running in [false, true] {
        if running {
            container.start().await.unwrap();
        }
        let host = world.dir.path().join(format!("copy-{running}"));
        let options = CopyOptions::default().with_archive(true);
        container.copy_to_host("/etc", &host, options).await.unwrap();
        container.copy_from_host(&host, "/tmp", options).await.unwrap();
        assert_eq!(container.stat_path(marker).await.unwrap_err().kind(), ErrorKind::NotFound);
    }
    world.remove(&container).await;
}

#[tokio::test]
async fn copies_from_and_to_the_host_follow_dockers_rules() {
    require!(root, overlayfs);
    let world = World::new().await;
    let host = world.dir.path().join("host");
    fs::create_dir_all(host.join("dir/sub")).unwrap();
    fs::write(host.join("dir/sub/f"), "1").unwrap();
    fs::write(host.join("file"), "22").unwrap();
    std::os::unix::fs::chown(host.join("file"), Some(1000), Some(1000)).unwrap();
    // After the owner, whose change would clear the set-ID bits.
    fs::set_permissions(host.join("file"), fs::Permissions::from_mode(0o6755)).unwrap();
    symlink("file", host.join("link")).unwrap();
    let container = world.after("mkdir /in; ln -s /in /to; ln -s /in/none /dangling").await;
    let plain = CopyOptions::default();
    let put = async |source: &str, to: &str, options| {
        container.copy_from_host(host.join(source), to, options).await
    };
    // A directory as a whole, under a new name, and its content.
    put("dir", "/in", plain).await.unwrap();
    put("dir", "/in/renamed", plain).await.unwrap();
    put("dir/.", "/in/content", plain).await.unwrap();
    put("dir/.", "/in", plain).await.unwrap();
    for path in ["/in/dir/sub/f", "/in/renamed/sub/f", "/in/content/sub/f", "/in/sub/f"] {
        assert_eq!(container.stat_path(path).await.unwrap().size, 1, "{path}");
    }
    // A file into a directory, through a link to one, over a file, and to where a link leads.
    put("file", "/in", plain).await.unwrap();
    put("file", "/to", plain).await.unwrap();
    put("file", "/in/sub/f", plain).await.unwrap();
    put("file", "/dangling", plain).await.unwrap();
    for path in ["/in/file", "/in/sub/f", "/in/none"] {
        assert_eq!(container.stat_path(path).await.unwrap().size, 2, "{path}");
    }
    put("link", "/in", plain).await.unwrap();
    assert!(container.stat_path("/in/link").await.unwrap().is_symlink());
    put("link", "/in/followed", plain.with_follow_link(true)).await.unwrap();
    assert!(container.stat_path("/in/followed").await.unwrap().is_file());
    for (source, to, kind) in [
        ("dir", "/in/file", ErrorKind::Conflict),
        ("file", "/in/none/x", ErrorKind::InvalidArgument),
        ("file", "/nowhere/x", ErrorKind::NotFound),
        ("file", "/nowhere/", ErrorKind::NotFound),
        ("missing", "/in", ErrorKind::NotFound),
        ("file/", "/in", ErrorKind::InvalidArgument),
    ] {
        let error = put(source, to, plain).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{source} to {to}: {}", error.report());
    }
    // And back.
    let out = world.dir.path().join("out");
    fs::create_dir(&out).unwrap();
    let get = async |from: &str, to: &str, options| container.copy_to_host(from, out.join(to), options).await;
    get("/in/dir", "", plain).await.unwrap();
    get("/in/dir", "renamed", plain).await.unwrap();
    get("/in/dir/.", "content", plain).await.unwrap();
    get("/in/file", "file", plain).await.unwrap();
    get("/to", "", plain).await.unwrap();
    get("/in/link", "followed", plain.with_follow_link(true)).await.unwrap();
    for path in ["dir/sub/f", "renamed/sub/f", "content/sub/f"] {
        assert_eq!(fs::read(out.join(path)).unwrap(), b"1", "{path}");
    }
    assert_eq!(fs::read_link(out.join("to")).unwrap(), Path::new("/in"));
    assert_eq!(fs::read(out.join("followed")).unwrap(), b"22");
    use std::os::unix::fs::MetadataExt as _;
    let made = fs::metadata(out.join("file")).unwrap();
    assert_eq!((made.mode() & 0o7777, made.uid()), (0o755, 0), "nothing gets rights");
    put("file", "/in/owned", plain.with_archive(true)).await.unwrap();
    get("/in/owned", "owned", plain.with_archive(true)).await.unwrap();
    let kept = fs::metadata(out.join("owned")).unwrap();
    assert_eq!((kept.mode() & 0o7777, kept.uid(), kept.gid()), (0o6755, 1000, 1000));
    for (from, to, kind) in [
        ("/in/dir", "file", ErrorKind::Conflict),
        ("/in/file", "none/x", ErrorKind::NotFound),
        ("/in/file", "none/", ErrorKind::NotFound),
        ("/none", "", ErrorKind::NotFound),
    ] {
        let error = get(from, to, plain).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{from} to {to}: {}", error.report());
    }
    world.remove(&container).await;
}
