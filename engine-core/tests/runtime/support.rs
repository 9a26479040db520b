//! A container from a handful of busybox links, without image store or facade.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;

use engine_core::cgroups::CgroupOptions;
use engine_core::io::AttachOptions;
use engine_core::launch::{LaunchSpec, Lifetime};
use engine_core::linux::LinuxRuntime;
use engine_core::mount::{Mount, OverlayUpper};
use engine_core::oci_spec::runtime::{
    LinuxCapabilitiesBuilder, Mount as OciMount, MountBuilder, ProcessBuilder, Spec, SpecBuilder,
};
use engine_core::policy::{CapabilitySet, defaults};
use engine_core::{ContainerId, ExecSpec, ExitStatus, Runtime as _};
use tokio::io::AsyncReadExt as _;

/// Long enough for an emulated processor on a loaded machine, short enough to see a hang.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A runtime over a directory of its own, and an image to run. When it goes, nothing may be left.
pub struct Bench {
    pub runtime: LinuxRuntime,
    /// Dropped after the runtime and before the directory.
    leaks: Leaks,
    cgroups: CgroupOptions,
    pub dir: tempfile::TempDir,
}

/// Ends a test: panics when something is left behind (and the test has not failed already).
pub struct Leaks(Option<engine_testkit::LeakCheck>);

impl Leaks {
    /// Looks at what is there before `root` and `run_root` are used.
    pub fn begin(root: &Path, run_root: &Path) -> Self {
        Self(Some(engine_testkit::LeakCheck::begin(root, run_root)))
    }

    /// What would be told as left behind and carries `text`.
    pub fn found(&self, text: &str) -> Vec<String> {
        self.0.as_ref().map(|check| check.found(text)).unwrap_or_default()
    }
}

impl Drop for Leaks {
    fn drop(&mut self) {
        if let Some(check) = self.0.take()
            && !std::thread::panicking()
        {
            check.finish();
        }
    }
}

/// What a container wrote and how it ended.
#[derive(Debug)]
pub struct Outcome {
    pub status: ExitStatus,
    pub out: String,
    pub err: String,
}

impl Bench {
    pub async fn new() -> Self {
        Self::with_cgroups(CgroupOptions::default()).await
    }

    pub async fn with_cgroups(cgroups: CgroupOptions) -> Self {
        let dir = tempfile::Builder::new().prefix("engine-runtime-").tempdir().expect("make directory");
        busybox(&dir.path().join("layer"));
        let (root, run_root) = (dir.path().join("root"), dir.path().join("run"));
        let leaks = Leaks::begin(&root, &run_root);
        let runtime = LinuxRuntime::open_with(root, run_root, cgroups.clone()).await.expect("open runtime");
        Self { runtime, leaks, cgroups, dir }
    }

    pub fn leaks(&self) -> &Leaks {
        &self.leaks
    }

    pub fn layer(&self) -> PathBuf {
        self.dir.path().join("layer")
    }

    /// Another instance over the same directories, as another program would open it.
    pub async fn reopen(&self) -> LinuxRuntime {
        self.reopen_with(self.cgroups.clone()).await
    }

    pub async fn reopen_with(&self, cgroups: CgroupOptions) -> LinuxRuntime {
        LinuxRuntime::open_with(self.dir.path().join("root"), self.dir.path().join("run"), cgroups)
            .await
            .expect("open runtime")
    }

    /// Makes a writable overlay over the image and `extra` layers, topmost first.
    pub fn rootfs(&self, id: &ContainerId, extra: &[PathBuf]) -> Vec<Mount> {
        let base = self.dir.path().join("writable").join(id.as_str());
        let (upper, work) = (base.join("upper"), base.join("work"));
        fs::create_dir_all(&upper).expect("make upper");
        fs::create_dir_all(&work).expect("make work");
        let lower = extra.iter().cloned().chain([self.layer()]).collect();
        vec![Mount::overlay(lower, Some(OverlayUpper { upper, work }))]
    }

    /// Scoped, so that no container outlives a test that is killed.
    pub fn spec(&self, id: &ContainerId, command: &[&str]) -> LaunchSpec {
        let mut spec = LaunchSpec::new(oci(command), self.rootfs(id, &[]));
        scoped(&mut spec);
        spec
    }

    /// Runs `command` under our defaults to its end.
    pub async fn run(&self, command: &[&str]) -> Outcome {
        self.run_with(command, |_| ()).await
    }

    pub async fn run_with(&self, command: &[&str], change: impl FnOnce(&mut LaunchSpec)) -> Outcome {
        let id = ContainerId::random();
        let mut spec = self.spec(&id, command);
        change(&mut spec);
        self.run_spec(&id, &spec).await.expect("run container")
    }

    pub async fn run_spec(&self, id: &ContainerId, spec: &LaunchSpec) -> engine_core::Result<Outcome> {
        self.runtime.create(id, spec).await?;
        let result = self.finish(id).await;
        self.runtime.delete(id).await.expect("delete");
        result
    }

    async fn finish(&self, id: &ContainerId) -> engine_core::Result<Outcome> {
        let mut streams = self.runtime.attach(id, AttachOptions::piped(false)).await?;
        self.runtime.start(id).await?;
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let read = async {
            let (stdout, stderr) =
                (streams.stdout.as_mut().expect("stdout"), streams.stderr.as_mut().expect("stderr"));
            tokio::try_join!(stdout.read_to_end(&mut out), stderr.read_to_end(&mut err))
                .expect("read output");
        };
        let waited = tokio::time::timeout(PATIENCE, async {
            let ((), status) = tokio::join!(read, self.runtime.wait(id));
            status
        });
        let status = waited.await.expect("the container ends in time")?;
        Ok(Outcome { status, out: text(out), err: text(err) })
    }

    /// Starts a container that stays.
    pub async fn start(&self, command: &[&str], change: impl FnOnce(&mut LaunchSpec)) -> ContainerId {
        let id = ContainerId::random();
        let mut spec = self.spec(&id, command);
        change(&mut spec);
        self.runtime.create(&id, &spec).await.expect("create");
        self.runtime.start(&id).await.expect("start");
        id
    }

    pub async fn exec(&self, id: &ContainerId, command: &[&str]) -> Outcome {
        self.exec_spec(id, &ExecSpec::new(command.iter().copied())).await
    }

    pub async fn exec_spec(&self, id: &ContainerId, spec: &ExecSpec) -> Outcome {
        let mut process = self.runtime.exec(id, spec, AttachOptions::piped(false)).await.expect("exec");
        let (mut out, mut err) = (Vec::new(), Vec::new());
        process.streams.stdout.as_mut().expect("stdout").read_to_end(&mut out).await.expect("read");
        process.streams.stderr.as_mut().expect("stderr").read_to_end(&mut err).await.expect("read");
        let status = self.runtime.exec_wait(id, &process.id).await.expect("wait for exec");
        Outcome { status, out: text(out), err: text(err) }
    }
}

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Makes a root filesystem of busybox at `path`.
pub fn busybox(path: &Path) {
    for dir in ["bin", "etc", "proc", "sys", "dev", "tmp", "root", "home/user"] {
        fs::create_dir_all(path.join(dir)).expect("make directory");
    }
    fs::set_permissions(path.join("tmp"), fs::Permissions::from_mode(0o1777)).expect("chmod");
    fs::copy("/bin/busybox", path.join("bin/busybox")).expect("busybox-static is installed");
    for applet in [
        "sh", "true", "false", "cat", "ls", "id", "echo", "env", "sleep", "stat", "hostname", "mount",
        "kill", "head", "dd", "readlink", "touch", "mkdir", "mknod", "tty", "stty", "wc", "grep", "pwd",
        "seq", "ps", "sed", "find", "sync", "ln", "rm", "mv", "test", "printf", "tr", "yes", "chmod", "awk",
        "tail", "md5sum", "sort",
    ] {
        let _ = symlink("busybox", path.join("bin").join(applet));
    }
    let passwd = "root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1001::/home/user:/bin/sh\n";
    fs::write(path.join("etc/passwd"), passwd).expect("write");
    fs::write(path.join("etc/group"), "root:x:0:\nuser:x:1001:\nextra:x:2000:user\n").expect("write");
}

pub fn mount(target: &str, kind: &str, options: &[&str]) -> OciMount {
    let options: Vec<String> = options.iter().map(|option| (*option).to_owned()).collect();
    MountBuilder::default()
        .destination(target)
        .typ(kind)
        .source(kind)
        .options(options)
        .build()
        .expect("mount")
}

/// The runtime spec of a container with our defaults and no network.
pub fn oci(command: &[&str]) -> Spec {
    let names: std::collections::HashSet<_> = CapabilitySet::default_set()
        .names()
        .map(|name| serde_json::from_value(serde_json::Value::String(name)).expect("capability"))
        .collect();
    let capabilities = LinuxCapabilitiesBuilder::default()
        .bounding(names.clone())
        .effective(names.clone())
        .permitted(names)
        .inheritable(std::collections::HashSet::new())
        .ambient(std::collections::HashSet::new())
        .build()
        .expect("capabilities");
    let process = ProcessBuilder::default()
        .args(command.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>())
        .env(vec!["PATH=/usr/bin:/bin".to_owned()])
        .cwd("/")
        .capabilities(capabilities)
        .no_new_privileges(true)
        .rlimits(Vec::new())
        .build()
        .expect("process");
    let mounts = vec![
        mount("/proc", "proc", &["nosuid", "noexec", "nodev"]),
        mount("/dev", "tmpfs", &["nosuid", "noexec", "strictatime", "mode=755", "size=65536k"]),
        mount(
            "/dev/pts",
            "devpts",
            &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
        ),
        mount("/sys", "sysfs", &["nosuid", "noexec", "nodev", "ro"]),
        mount("/sys/fs/cgroup", "cgroup", &["nosuid", "noexec", "nodev", "relatime", "ro"]),
        mount("/dev/mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
        mount("/dev/shm", "tmpfs", &["nosuid", "noexec", "nodev", "mode=1777", "size=67108864"]),
    ];
    let namespaces =
        ["mount", "pid", "ipc", "uts", "cgroup", "network"].map(|kind| serde_json::json!({ "type": kind }));
    let linux = serde_json::json!({
        "namespaces": namespaces,
        "maskedPaths": defaults::masked_paths(),
        "readonlyPaths": defaults::READONLY_PATHS,
        "sysctl": HashMap::from([("net.ipv4.ip_unprivileged_port_start", "0")]),
        "resources": { "devices": device_rules() },
    });
    SpecBuilder::default()
        .process(process)
        .mounts(mounts)
        .hostname("box")
        .linux(serde_json::from_value::<engine_core::oci_spec::runtime::Linux>(linux).expect("linux"))
        .build()
        .expect("spec")
}

fn device_rules() -> Vec<serde_json::Value> {
    let mut rules = vec![serde_json::json!({ "allow": false, "access": "rwm" })];
    for (major, minor) in defaults::DEVICE_RULES {
        let mut rule = serde_json::json!({ "allow": true, "type": "c", "major": major, "access": "rw" });
        if let Some(minor) = minor {
            rule["minor"] = minor.into();
        }
        rules.push(rule);
    }
    rules
}

pub fn scoped(spec: &mut LaunchSpec) {
    spec.lifetime = Lifetime::Scoped;
}

impl Bench {
    /// What an exec with a terminal writes.
    pub async fn exec_spec_terminal(&self, id: &ContainerId, spec: &ExecSpec) -> String {
        let mut process = self.runtime.exec(id, spec, AttachOptions::piped(false)).await.expect("exec");
        let mut out = Vec::new();
        process.streams.stdout.as_mut().expect("stdout").read_to_end(&mut out).await.expect("read");
        self.runtime.exec_wait(id, &process.id).await.expect("wait for exec");
        text(out)
    }
}

/// Runs `work` as user and group 1000, on a thread of its own: the kernel keeps credentials by thread (credentials(7)).
pub fn as_nobody<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let thread = std::thread::spawn(move || {
        let (uid, gid) = (rustix::process::Uid::from_raw(1000), rustix::process::Gid::from_raw(1000));
        rustix::thread::set_thread_groups(&[]).expect("setgroups");
        rustix::thread::set_thread_res_gid(gid, gid, gid).expect("setresgid");
        rustix::thread::set_thread_res_uid(uid, uid, uid).expect("setresuid");
        work()
    });
    thread.join().expect("the thread's result")
}
