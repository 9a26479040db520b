//! SECURITY group A: paths, mounts, descriptors.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use engine_core::io::TerminalSize;
use engine_core::launch::InjectedFile;
use engine_core::mount::Mount;
use engine_core::{ContainerId, ErrorKind, ExecSpec, LaunchSpec, Runtime as _};
use engine_testkit::Sentinel;

use crate::support::Bench;

/// A tree of the host that no container may change, and a directory for layers beside it.
struct Ground {
    bench: Bench,
    sentinel: Sentinel,
    host: PathBuf,
    layers: usize,
}

impl Ground {
    async fn new() -> Self {
        let bench = Bench::new().await;
        let host = bench.dir.path().join("host");
        fs::create_dir(&host).unwrap();
        let sentinel = Sentinel::plant(&host);
        Self { bench, sentinel, host, layers: 0 }
    }

    /// A layer to be filled, over the image.
    fn layer(&mut self) -> PathBuf {
        self.layers += 1;
        let path = self.bench.dir.path().join(format!("layer-{}", self.layers));
        fs::create_dir(&path).unwrap();
        path
    }

    fn spec(&self, id: &ContainerId, layer: &Path, command: &[&str]) -> LaunchSpec {
        let mut spec = self.bench.spec(id, command);
        spec.rootfs = self.bench.rootfs(id, &[layer.to_owned()]);
        spec
    }

    /// Runs, and says what came out: the exit code, or why it failed. Either is right; the host's tree is what counts.
    async fn run(&self, layer: &Path, change: impl FnOnce(&mut LaunchSpec)) -> Result<String, ErrorKind> {
        let id = ContainerId::random();
        let mut spec = self.spec(&id, layer, &["sh", "-c", "echo ran"]);
        change(&mut spec);
        let result = self.bench.run_spec(&id, &spec).await;
        self.bench.runtime.delete(&id).await.unwrap();
        fs::remove_dir_all(self.bench.dir.path().join("writable").join(id.as_str())).unwrap();
        result.map(|outcome| outcome.out).map_err(|error| error.kind())
    }

    fn check(&self) {
        self.sentinel.assert_unchanged();
    }
}

/// The ways in which a path of an image can lead elsewhere. Each makes `name` in `layer`.
fn traps(host: &Path) -> Vec<(&'static str, PathBuf)> {
    let up = PathBuf::from(format!("{}{}", "../".repeat(12), host.strip_prefix("/").unwrap().display()));
    vec![
        ("absolute", host.to_owned()),
        ("dot-dot", up),
        ("dangling", host.join("not/there")),
        ("inside", PathBuf::from("/tmp")),
        ("loop", PathBuf::from("loop")),
        ("chain", PathBuf::from("/chain-1")),
        ("magic", PathBuf::from("/proc/self/root")),
        ("magic cwd", PathBuf::from("/proc/1/cwd")),
        ("magic fd", PathBuf::from("/proc/self/fd/3")),
        ("self", PathBuf::from(".")),
    ]
}

/// Makes `path` in `layer` (with its parents) a link to `target`.
fn trap(layer: &Path, path: &str, target: &Path, host: &Path) {
    let at = layer.join(path.trim_start_matches('/'));
    fs::create_dir_all(at.parent().unwrap()).unwrap();
    symlink(target, &at).unwrap();
    if target == Path::new("/chain-1") {
        symlink("/chain-2", layer.join("chain-1")).unwrap();
        symlink(host, layer.join("chain-2")).unwrap();
    }
}

#[tokio::test]
async fn a1_every_mount_target_stays_inside_whatever_the_image_links() {
    let mut ground = Ground::new().await;
    let volume = ground.bench.dir.path().join("volume");
    fs::create_dir(&volume).unwrap();
    let file = ground.bench.dir.path().join("file");
    fs::write(&file, "f").unwrap();
    let mut variants = 0;
    // Kernel file systems, volumes, single files: as the target itself and as a directory on the way to it.
    let targets: [(&str, &str); 20] = [
        ("/proc", "/proc"),
        ("/sys", "/sys"),
        ("/dev", "/dev"),
        ("/dev/pts", "/dev/pts"),
        ("/dev/shm", "/dev/shm"),
        ("/dev/mqueue", "/dev/mqueue"),
        ("/sys/fs", "/sys/fs/cgroup"),
        ("/sys/fs/cgroup", "/sys/fs/cgroup"),
        ("/data", "/data"),
        ("/data", "/data/deep/er"),
        ("/data/deep", "/data/deep/er"),
        ("/etc/hosts", "/etc/hosts"),
        ("/srv", "/srv/a/hosts"),
        ("/srv/a", "/srv/a/hosts"),
        ("/var/run", "/var/run/secret"),
        ("/file", "/file"),
        ("/a/file", "/a/file"),
        ("/a", "/a/b/file"),
        ("/tmpfs", "/tmpfs"),
        ("/opt/tmpfs", "/opt/tmpfs/x"),
    ];
    for (link, target) in targets {
        for (name, to) in traps(&ground.host.clone()) {
            let layer = ground.layer();
            trap(&layer, link, &to, &ground.host);
            let kernel = ["/proc", "/sys", "/dev"].iter().any(|prefix| target.starts_with(prefix));
            let outcome = ground
                .run(&layer, |spec| match target {
                    _ if kernel => {}
                    _ if target.ends_with("hosts") => spec.files.push(InjectedFile {
                        path: target.into(),
                        content: b"127.0.0.1 localhost\n".to_vec(),
                        mode: 0o644,
                    }),
                    _ if target.ends_with("file") => spec.mounts.push(Mount::bind(&file, target)),
                    _ if target.contains("tmpfs") => spec.mounts.push(Mount::tmpfs(target)),
                    _ => spec.mounts.push(Mount::bind(&volume, target)),
                })
                .await;
            if link == "/proc" || link == "/sys" || link == "/dev" {
                // A2, A4: these have to be real directories.
                assert_eq!(outcome, Err(ErrorKind::InvalidArgument), "{link} {name}");
            } else if let Ok(out) = outcome {
                assert_eq!(out, "ran\n", "{link} {target} {name}");
            }
            variants += 1;
        }
        ground.check();
    }
    assert!(variants >= 200, "{variants}");
    assert_eq!(fs::read_dir(&volume).unwrap().count(), 0);
    assert_eq!(fs::read_to_string(&file).unwrap(), "f");
}

/// Swaps `one` and `other` as fast as it can until dropped.
struct Swapper {
    stop: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Swapper {
    fn start(one: PathBuf, other: PathBuf) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                let cwd = rustix::fs::CWD;
                let _ = rustix::fs::renameat_with(cwd, &one, cwd, &other, rustix::fs::RenameFlags::EXCHANGE);
                std::thread::sleep(std::time::Duration::from_micros(50));
            }
        });
        Self { stop, thread: Some(thread) }
    }
}

impl Drop for Swapper {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().unwrap().join().unwrap();
    }
}

#[tokio::test]
async fn a1_a5_a_target_swapped_during_the_start_leads_nowhere_else() {
    let ground = Ground::new().await;
    // Two containers share this volume; what is in it changes while the second is set up.
    let shared = ground.bench.dir.path().join("shared");
    fs::create_dir_all(shared.join("inner")).unwrap();
    symlink(&ground.host, shared.join("link")).unwrap();
    let volume = ground.bench.dir.path().join("volume");
    fs::create_dir(&volume).unwrap();
    let swapper = Swapper::start(shared.join("inner"), shared.join("link"));
    let starts = std::env::var("ENGINE_TEST_SWAPS").ok().and_then(|text| text.parse().ok()).unwrap_or(150);
    for round in 0..starts {
        let id = ContainerId::random();
        let mut spec = ground.bench.spec(&id, &["true"]);
        spec.mounts.push(Mount::bind(&shared, "/shared"));
        // Beneath what is being swapped: mount points are made there (A5), and mounted on (A1).
        spec.mounts.push(Mount::bind(&volume, format!("/shared/inner/{}", round % 3)));
        spec.files.push(InjectedFile { path: "/shared/inner/f".into(), content: vec![1], mode: 0o600 });
        if let Err(error) = ground.bench.run_spec(&id, &spec).await {
            assert_ne!(error.kind(), ErrorKind::Other, "{}", error.report());
        }
        ground.bench.runtime.delete(&id).await.unwrap();
        fs::remove_dir_all(ground.bench.dir.path().join("writable").join(id.as_str())).unwrap();
    }
    drop(swapper);
    ground.check();
    assert_eq!(fs::read_dir(&volume).unwrap().count(), 0);
}

#[tokio::test]
async fn a2_procfs_is_the_kernels_or_nothing_runs() {
    let mut ground = Ground::new().await;
    let before = fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start").unwrap();
    for path in ["proc", "sys"] {
        for kind in ["link", "file"] {
            let layer = ground.layer();
            match kind {
                "link" => symlink("/tmp", layer.join(path)).unwrap(),
                _ => fs::write(layer.join(path), "not a directory").unwrap(),
            }
            assert_eq!(ground.run(&layer, |_| ()).await, Err(ErrorKind::InvalidArgument), "{path} as {kind}");
        }
    }
    // Where procfs is covered by a tmpfs of the caller's, our writes still go to procfs.
    let outcome = ground
        .bench
        .run_with(&["sh", "-c", "ls /proc | wc -l"], |spec| spec.mounts.push(Mount::tmpfs("/proc/sys")))
        .await;
    assert!(outcome.status.success(), "{outcome:?}");
    let script =
        "cat /proc/sys/net/ipv4/ip_unprivileged_port_start /proc/self/oom_score_adj; stat -f -c %T /proc";
    let outcome = ground
        .bench
        .run_with(&["sh", "-c", script], |spec| {
            let mut process = spec.oci.process().clone().unwrap();
            process.set_oom_score_adj(Some(321));
            spec.oci.set_process(Some(process));
        })
        .await;
    assert_eq!(outcome.out, "0\n321\nproc\n", "{outcome:?}");
    assert_eq!(fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start").unwrap(), before);
    ground.check();
}

#[tokio::test]
async fn a3_masked_paths_are_empty_whatever_null_the_image_brings() {
    let mut ground = Ground::new().await;
    let script = "for p in $MASKED; do [ -e $p ] || continue; \
                  if [ -d $p ]; then [ -z \"$(ls -A $p)\" ] || echo full $p; touch $p/x 2>&1 | grep -q Read-only || echo writable $p; \
                  else [ \"$(head -c 1 $p | wc -c)\" = 0 ] || echo readable $p; fi; done; echo checked; \
                  grep -c ' - tmpfs \\| /null ' /proc/self/mountinfo";
    let masked = engine_core::policy::defaults::masked_paths().join(" ");
    for kind in ["none", "link", "file", "directory"] {
        let layer = ground.layer();
        fs::create_dir(layer.join("dev")).unwrap();
        let null = layer.join("dev/null");
        match kind {
            "link" => symlink(&ground.host, null).unwrap(),
            "file" => fs::write(null, "not null").unwrap(),
            "directory" => fs::create_dir(null).unwrap(),
            _ => {}
        }
        let id = ContainerId::random();
        let mut spec = ground.spec(&id, &layer, &["sh", "-c", script]);
        let mut process = spec.oci.process().clone().unwrap();
        process.set_env(Some(vec!["PATH=/bin".to_owned(), format!("MASKED={masked}")]));
        spec.oci.set_process(Some(process));
        let outcome = ground.bench.run_spec(&id, &spec).await.unwrap();
        assert!(outcome.out.starts_with("checked\n"), "{kind}: {outcome:?}");
    }
    // Files of the image can be masked too; what is not there needs no mask.
    let outcome = ground
        .bench
        .run_with(
            &["sh", "-c", "cat /proc/sysrq-trigger /etc/passwd; echo x > /proc/sys/kernel/hostname"],
            |spec| {
                let mut linux = spec.oci.linux().clone().unwrap();
                linux.set_masked_paths(Some(vec!["/etc/passwd".to_owned(), "/not/there".to_owned()]));
                spec.oci.set_linux(Some(linux));
            },
        )
        .await;
    assert!(outcome.out.is_empty() && outcome.err.contains("Read-only"), "{outcome:?}");
    ground.check();
}

#[tokio::test]
async fn a3_a_path_that_cannot_be_masked_fails_the_start() {
    let mut ground = Ground::new().await;
    let volume = ground.bench.dir.path().join("volume");
    fs::create_dir(&volume).unwrap();
    let layer = ground.layer();
    symlink("loop", layer.join("loop")).unwrap();
    // Links without end, links of procfs, a name that is too long: there may be something behind them.
    let long = format!("/{}", "x".repeat(300));
    for path in ["/loop", "/loop/deeper", "/proc/1/root/etc", "/proc/self/cwd", &long] {
        let id = ContainerId::random();
        let mut spec = ground.spec(&id, &layer, &["touch", "/volume/ran"]);
        spec.mounts.push(Mount::bind(&volume, "/volume"));
        let mut linux = spec.oci.linux().clone().unwrap();
        let mut masked = linux.masked_paths().clone().unwrap();
        masked.push(path.to_owned());
        linux.set_masked_paths(Some(masked));
        spec.oci.set_linux(Some(linux));
        let error = ground.bench.runtime.create(&id, &spec).await.unwrap_err();
        assert!(error.to_string().contains(path) && error.to_string().contains("masked"), "{error}");
        assert_eq!(ground.bench.runtime.state(&id).await.unwrap_err().kind(), ErrorKind::NotFound);
    }
    assert_eq!(fs::read_dir(&volume).unwrap().count(), 0);
    ground.check();
}

#[tokio::test]
async fn a4_the_images_dev_is_never_used() {
    let mut ground = Ground::new().await;
    for node in ["console", "null", "pts", "shm", "ptmx", "stdout"] {
        for terminal in [false, true] {
            for read_only in [false, true] {
                let layer = ground.layer();
                fs::create_dir(layer.join("dev")).unwrap();
                symlink(&ground.host, layer.join("dev").join(node)).unwrap();
                let id = ContainerId::random();
                let script =
                    "[ -c /dev/null ] && [ -d /dev/pts ] && [ -d /dev/shm ] && echo good > /dev/stdout";
                let mut spec = ground.spec(&id, &layer, &["sh", "-c", script]);
                spec.terminal = terminal.then_some(TerminalSize { columns: 80, rows: 24 });
                spec.rootfs[0].options.read_only = read_only;
                let outcome = ground.bench.run_spec(&id, &spec).await.unwrap();
                assert_eq!(outcome.out.trim_end(), "good", "{node} {terminal} {read_only}: {outcome:?}");
            }
        }
    }
    ground.check();
}

#[tokio::test]
async fn a5_working_directories_are_made_inside() {
    let mut ground = Ground::new().await;
    let host = ground.host.display().to_string();
    let mut values: Vec<String> =
        ["/", "/w", "/w/x/y/z", "/tmp/../w2", "/../../..", "/etc/passwd", "/etc/passwd/x", "/proc/1/root"]
            .map(str::to_owned)
            .to_vec();
    values.extend(
        ["/link", "/link/sub", "/link/a/b/c", "/up/sub", "/nowhere/sub", "/nowhere", "/loop", "/loop/x"]
            .map(str::to_owned),
    );
    values.push(host.clone());
    values.push(format!("{host}/sub"));
    values.extend((0..32).map(|number| format!("/w/{}", "d/".repeat(number))));
    assert!(values.len() >= 50);
    for value in values {
        let layer = ground.layer();
        symlink(&host, layer.join("link")).unwrap();
        symlink(format!("{}{host}", "../".repeat(9)), layer.join("up")).unwrap();
        symlink(format!("{host}/not/there"), layer.join("nowhere")).unwrap();
        symlink("loop", layer.join("loop")).unwrap();
        let cwd = value.clone();
        let outcome = ground
            .run(&layer, move |spec| {
                let mut process = spec.oci.process().clone().unwrap();
                process.set_cwd(cwd.into());
                spec.oci.set_process(Some(process));
            })
            .await;
        if let Ok(out) = outcome {
            assert_eq!(out, "ran\n", "{value}");
        }
    }
    ground.check();
}

#[tokio::test]
async fn a6_no_descriptor_of_ours_is_inside_and_no_magic_link_is_a_working_directory() {
    let bench = Bench::new().await;
    // `ls` has one for the directory it lists.
    let list = ["ls", "/proc/self/fd"];
    for init in [false, true] {
        assert_eq!(bench.run_with(&list, |spec| spec.init = init).await.out, "0\n1\n2\n3\n");
    }
    let id = bench.start(&["sleep", "1000"], |_| ()).await;
    assert_eq!(bench.exec(&id, &list).await.out, "0\n1\n2\n3\n");
    let spec = ExecSpec::new(list).with_terminal(TerminalSize { columns: 80, rows: 24 });
    assert_eq!(
        bench.exec_spec_terminal(&id, &spec).await.split_whitespace().collect::<Vec<_>>(),
        ["0", "1", "2", "3"]
    );
    for number in (3..32).chain([63, 255, 256, 1023]) {
        let cwd = format!("/proc/self/fd/{number}");
        let spec = ExecSpec::new(["pwd"]).with_working_dir(cwd.clone());
        assert!(
            bench.runtime.exec(&id, &spec, engine_core::io::AttachOptions::default()).await.is_err(),
            "{cwd}"
        );
        let container = ContainerId::random();
        let mut spec = bench.spec(&container, &["pwd"]);
        let mut process = spec.oci.process().clone().unwrap();
        process.set_cwd(cwd.clone().into());
        spec.oci.set_process(Some(process));
        assert!(bench.run_spec(&container, &spec).await.is_err(), "{cwd}");
        bench.runtime.delete(&container).await.unwrap();
    }
    bench.runtime.delete(&id).await.unwrap();
}

#[tokio::test]
async fn a7_the_helper_is_sealed() {
    let bench = Bench::new().await;
    // Process 1 in init mode is the helper itself: the container can reach it, and cannot write to it.
    let script =
        "readlink /proc/1/exe; echo x > /proc/1/exe; dd if=/dev/zero of=/proc/1/exe count=1 conv=notrunc";
    let outcome = bench.run_with(&["sh", "-c", script], |spec| spec.init = true).await;
    assert!(!outcome.status.success(), "{outcome:?}");
    let id = bench.start(&["sleep", "1000"], |spec| spec.init = true).await;
    let pid = bench.runtime.state(&id).await.unwrap().pid.unwrap();
    let exe = fs::File::open(format!("/proc/{pid}/exe")).unwrap();
    let seals = rustix::fs::fcntl_get_seals(&exe).unwrap();
    assert!(seals.contains(
        rustix::fs::SealFlags::WRITE | rustix::fs::SealFlags::SHRINK | rustix::fs::SealFlags::GROW
    ));
    assert_eq!(fs::metadata(format!("/proc/{pid}/exe")).unwrap().permissions().mode() & 0o111, 0o111);
    bench.runtime.delete(&id).await.unwrap();
}
