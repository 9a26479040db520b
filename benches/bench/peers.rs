//! Other engines, where they are installed and work: crun and runc on a ready bundle, podman and docker with the same image.

use std::{
    fs,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use engine_testkit::image::Format;
use serde_json::{Value, json};

use crate::{
    host::{self, Host},
    restart,
};

/// All peers.
pub(crate) const NAMES: [&str; 4] = ["crun", "runc", "podman", "docker"];
/// Podman's defaults are more than some machines allow.
pub(crate) const NPROC: &str = "nproc=1024:1024";
pub(crate) const NOFILE: &str = "nofile=1024:1024";
const IMAGE: &str = "localhost/engine-bench:latest";

/// Returns a peer's name with its version, for a table.
pub(crate) fn label(name: &str) -> String {
    // Docker's client and daemon may differ: the daemon does the work.
    let arguments: &[&str] =
        if name == "docker" { &["version", "--format", "{{.Server.Version}}"] } else { &["--version"] };
    let Ok(output) = Command::new(name).args(arguments).output() else { return name.to_owned() };
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let version = text.split_whitespace().find(|word| word.starts_with(|c: char| c.is_ascii_digit()));
    let bundle = if matches!(name, "crun" | "runc") { " (ready bundle)" } else { "" };
    format!("{name} {}{bundle}", version.unwrap_or_default().trim_end_matches(',')).trim_end().to_owned()
}

/// Measures and prints: the body of the program's `peer` subcommand.
pub(crate) fn measure(name: &str, what: &str, rounds: usize, dir: &Path) -> Result<()> {
    let peer = Peer::prepare(name, dir)?;
    match what {
        "start" => {
            for _ in 0..rounds {
                println!("{}", timed(|| peer.run_to_exit())?);
            }
        }
        "stop" => {
            for _ in 0..rounds {
                let id = peer.start_detached()?;
                println!("{}", timed(|| peer.stop_and_remove(&id))?);
            }
        }
        "restart" => {
            for _ in 0..rounds {
                println!("{}", peer.restart()?);
            }
        }
        "exec" => {
            let id = peer.start_detached()?;
            let result = (0..rounds).try_for_each(|_| {
                println!("{}", timed(|| peer.exec(&id))?);
                anyhow::Ok(())
            });
            peer.stop_and_remove(&id)?;
            result?;
        }
        "parallel" => println!("{}", timed(|| peer.parallel(rounds, 8))?),
        "memory" => println!("{}", peer.monitor_memory(rounds)?),
        "logs" => peer.logs(rounds)?,
        other => bail!("nothing is called {other}"),
    }
    Ok(())
}

fn timed(work: impl FnOnce() -> Result<()>) -> Result<u128> {
    let start = Instant::now();
    work()?;
    Ok(start.elapsed().as_nanos())
}

#[derive(Debug)]
struct Peer {
    name: String,
    dir: PathBuf,
    next: AtomicUsize,
}

impl Peer {
    fn prepare(name: &str, dir: &Path) -> Result<Self> {
        ensure!(Command::new(name).arg("--version").output().is_ok(), "not installed");
        let peer =
            Self { name: name.to_owned(), dir: dir.join(format!("peer-{name}")), next: AtomicUsize::new(0) };
        fs::create_dir_all(&peer.dir)?;
        if peer.is_runtime() {
            for (bundle, program) in [("true", "/true"), ("pause", "/pause")] {
                let bundle = peer.dir.join(bundle);
                fs::create_dir_all(&bundle)?;
                fs::write(
                    bundle.join("config.json"),
                    bundle_config(&dir.join("lower"), program).to_string(),
                )?;
            }
        } else if !peer.dir.join("loaded").exists() {
            if name == "docker" {
                host::output(peer.command(&["version", "--format", "{{.Server.Version}}"]))
                    .context("no daemon is running")?;
            }
            let archive = peer.dir.join("image.tar");
            Host::image(Format::Docker)?.write_docker_archive(&archive, &[IMAGE]);
            host::run(peer.command(&["load", "-i"]).arg(&archive))?;
            fs::write(peer.dir.join("loaded"), "")?;
        }
        Ok(peer)
    }

    fn is_runtime(&self) -> bool {
        matches!(self.name.as_str(), "crun" | "runc")
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.name);
        let path = |part: &str| self.dir.join(part).display().to_string();
        match self.name.as_str() {
            "podman" => {
                command.args([
                    "--root",
                    &path("root"),
                    "--runroot",
                    &path("run"),
                    "--storage-driver",
                    "overlay",
                ]);
                command.args([
                    "--cgroup-manager",
                    "cgroupfs",
                    "--events-backend",
                    "none",
                    "--runtime",
                    "runc",
                ]);
            }
            "docker" => {}
            _ => {
                command.args(["--root", &path("run")]);
            }
        }
        command.args(args).stdin(Stdio::null());
        command
    }

    fn id(&self) -> String {
        format!("engine-bench-{}-{}", std::process::id(), self.next.fetch_add(1, Ordering::Relaxed))
    }

    fn run_to_exit(&self) -> Result<()> {
        let (bundle, id) = (self.dir.join("true").display().to_string(), self.id());
        host::run(&mut if self.is_runtime() {
            self.command(&["run", "--bundle", &bundle, &id])
        } else {
            self.command(&[
                "run",
                "--rm",
                "--network",
                "none",
                "--ulimit",
                NOFILE,
                "--ulimit",
                NPROC,
                IMAGE,
                "/true",
            ])
        })
    }

    fn start_detached(&self) -> Result<String> {
        let (bundle, id) = (self.dir.join("pause").display().to_string(), self.id());
        let mut command = if self.is_runtime() {
            self.command(&["run", "--detach", "--bundle", &bundle, &id])
        } else {
            self.command(&[
                "run",
                "-d",
                "--network",
                "none",
                "--ulimit",
                NOFILE,
                "--ulimit",
                NPROC,
                "--stop-signal",
                "KILL",
                "--name",
                &id,
                IMAGE,
                "/pause",
            ])
        };
        // The container of a runtime keeps our descriptors: they must not be pipes that we then wait for.
        command.stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
        let status = command.status()?;
        ensure!(status.success(), "{} run -d: {status}", self.name);
        Ok(id)
    }

    /// Returns the nanoseconds from the death of a container's process to its next run.
    fn restart(&self) -> Result<u128> {
        ensure!(!self.is_runtime(), "has no restart policies");
        let (out, id) = (self.dir.join("out"), self.id());
        restart::directory(&out)?;
        let volume = format!("{}:/out", out.display());
        let mut command =
            self.command(&["run", "-d", "--network", "none", "--restart", "always", "--name", &id]);
        command.args(["--ulimit", NOFILE, "--ulimit", NPROC, "--stop-signal", "KILL", "-v", &volume, IMAGE]);
        command.args(restart::COMMAND).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
        let status = command.status()?;
        ensure!(status.success(), "{} run -d: {status}", self.name);
        let pid = host::output(self.command(&["inspect", "--format", "{{.State.Pid}}", &id]));
        let took = pid.and_then(|pid| restart::kill(&out, &pid));
        host::run(&mut self.command(&["rm", "-f", &id]))?;
        took
    }

    fn stop_and_remove(&self, id: &str) -> Result<()> {
        if self.is_runtime() {
            host::run(&mut self.command(&["delete", "--force", id]))
        } else {
            host::run(&mut self.command(&["stop", id]))?;
            host::run(&mut self.command(&["rm", id]))
        }
    }

    fn exec(&self, id: &str) -> Result<()> {
        host::run(&mut self.command(&["exec", id, "/true"]))
    }

    /// Prints the wall time of a container that writes so many lines, and the CPU time of those who keep them.
    fn logs(&self, lines: usize) -> Result<()> {
        ensure!(!self.is_runtime(), "keeps no logs");
        let id = self.id();
        let driver = if self.name == "docker" { "json-file" } else { "k8s-file" };
        let cost =
            crate::output::Cost::begin(&["conmon", "dockerd", "containerd-shim", "containerd-shim-runc-v2"]);
        let start = Instant::now();
        let mut command =
            self.command(&["run", "-d", "--network", "none", "--ulimit", NOFILE, "--ulimit", NPROC]);
        command.args(["--log-driver", driver, "--log-opt", "max-size=10m", "--name", &id, IMAGE]);
        host::run(command.args(crate::output::command(lines)))?;
        host::run(&mut self.command(&["wait", &id]))?;
        println!("{} {}", start.elapsed().as_secs_f64(), cost.end());
        host::run(&mut self.command(&["rm", &id]))
    }

    fn parallel(&self, count: usize, threads: usize) -> Result<()> {
        let next = AtomicUsize::new(0);
        thread::scope(|scope| {
            let work = || {
                while next.fetch_add(1, Ordering::Relaxed) < count {
                    self.run_to_exit()?;
                }
                anyhow::Ok(())
            };
            let handles: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
            handles
                .into_iter()
                .try_for_each(|handle| handle.join().map_err(|_| anyhow::anyhow!("a panic"))?)
        })
    }

    /// Returns the mean private memory, in KiB, of the processes that stay beside `count` containers.
    fn monitor_memory(&self, count: usize) -> Result<u64> {
        ensure!(!self.is_runtime(), "has no monitor");
        let ids = (0..count).map(|_| self.start_detached()).collect::<Result<Vec<_>>>()?;
        thread::sleep(Duration::from_millis(500));
        let mut sum = 0;
        for entry in fs::read_dir("/proc")?.flatten() {
            let comm = fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
            if matches!(comm.trim(), "conmon" | "containerd-shim") {
                sum += private_kib(&entry.path());
            }
        }
        for id in ids {
            self.stop_and_remove(&id)?;
        }
        Ok(sum / count as u64)
    }
}

/// Returns `Private_Clean` and `Private_Dirty` of a process; see proc_pid_smaps(5).
pub(crate) fn private_kib(process: &Path) -> u64 {
    let text = fs::read_to_string(process.join("smaps_rollup")).unwrap_or_default();
    let lines =
        text.lines().filter(|line| line.starts_with("Private_Clean") || line.starts_with("Private_Dirty"));
    lines.filter_map(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok()).sum()
}

/// An OCI runtime configuration with what the engine does by default, without a seccomp filter.
fn bundle_config(lower: &Path, program: &str) -> Value {
    let mount = |to: &str, kind: &str, options: &[&str]| json!({ "destination": to, "type": kind, "source": kind, "options": options });
    let namespaces = ["pid", "network", "ipc", "uts", "mount", "cgroup"].map(|kind| json!({ "type": kind }));
    json!({
        "ociVersion": "1.0.2",
        "process": {
            "terminal": false, "user": { "uid": 0, "gid": 0 }, "args": [program], "cwd": "/",
            "env": ["PATH=/bin"], "noNewPrivileges": true,
            "capabilities": { "bounding": ["CAP_KILL"], "effective": ["CAP_KILL"], "permitted": ["CAP_KILL"] },
        },
        "root": { "path": lower, "readonly": false },
        "hostname": "bench",
        "mounts": [
            mount("/proc", "proc", &["nosuid", "noexec", "nodev"]),
            mount("/dev", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
            mount("/dev/pts", "devpts", &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]),
            mount("/dev/shm", "tmpfs", &["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]),
            mount("/dev/mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
            mount("/sys", "sysfs", &["nosuid", "noexec", "nodev", "ro"]),
            mount("/sys/fs/cgroup", "cgroup", &["nosuid", "noexec", "nodev", "relatime", "ro"]),
        ],
        "linux": {
            "namespaces": namespaces,
            "maskedPaths": ["/proc/acpi", "/proc/asound", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
                "/proc/sched_debug", "/proc/scsi", "/proc/timer_list", "/proc/timer_stats",
                "/sys/devices/virtual/powercap", "/sys/firmware", "/sys/fs/selinux"],
            "readonlyPaths": ["/proc/asound", "/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
        },
    })
}
