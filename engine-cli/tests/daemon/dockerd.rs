//! Debian's own Docker daemon, in a network namespace of its own: what others do, to compare with.
//!
//! What it keeps lies in the test's directory, and its cgroups beneath one of their own, so that all of it can be removed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::support::{NetHost, until};

const PARENT: &str = "engine-test-oracle";

/// A dockerd that serves at a socket in its directory.
pub(crate) struct Dockerd {
    dir: tempfile::TempDir,
    host: NetHost,
    daemon: Child,
}

impl Dockerd {
    pub(crate) fn start() -> Self {
        let dir = tempfile::Builder::new().prefix("engine-dockerd-test").tempdir().unwrap();
        let host = NetHost::start();
        fs::write(dir.path().join("daemon.json"), "{}").unwrap();
        let log = fs::File::create(dir.path().join("log")).unwrap();
        let mut command = host.command("dockerd");
        command.args(["--storage-driver", "vfs", "--cgroup-parent", PARENT]);
        command.arg("-H").arg(format!("unix://{}", dir.path().join("docker.sock").display()));
        let files = [
            ("--data-root", "root"),
            ("--exec-root", "exec"),
            ("--pidfile", "pid"),
            ("--config-file", "daemon.json"),
        ];
        for (flag, name) in files {
            command.arg(flag).arg(dir.path().join(name));
        }
        let daemon =
            command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap();
        let dockerd = Self { dir, host, daemon };
        until("dockerd serves", || dockerd.on_host("docker").arg("info").output().unwrap().status.success());
        dockerd
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A program on the daemon's host.
    pub(crate) fn on_host(&self, program: &str) -> Command {
        let mut command = self.host.command(program);
        command
            .env("DOCKER_HOST", format!("unix://{}", self.path("docker.sock").display()))
            .env("DOCKER_CONFIG", self.path("docker-config"))
            .current_dir(self.dir.path())
            .stdin(Stdio::null());
        command
    }
}

impl Drop for Dockerd {
    fn drop(&mut self) {
        let listed = self.on_host("docker").args(["ps", "-aq"]).output();
        let ids =
            listed.map(|listed| String::from_utf8_lossy(&listed.stdout).into_owned()).unwrap_or_default();
        if !ids.trim().is_empty() {
            let _ = self.on_host("docker").args(["rm", "-fv"]).args(ids.split_whitespace()).output();
        }
        let pid = Pid::from_child(&self.daemon);
        let _ = kill_process(pid, Signal::TERM);
        for _ in 0..1500 {
            if self.daemon.try_wait().is_ok_and(|ended| ended.is_some()) {
                break;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
        self.host.end();
        clean(self.dir.path());
        clean_cgroups();
    }
}

/// Removes what a killed daemon left: processes that name the directory, mounts beneath it.
fn clean(dir: &Path) {
    let name = dir.as_os_str().as_encoded_bytes();
    for process in fs::read_dir("/proc").unwrap().flatten() {
        let pid = process.file_name().to_str().and_then(|name| name.parse().ok()).and_then(Pid::from_raw);
        let command = fs::read(process.path().join("cmdline")).unwrap_or_default();
        if let Some(pid) = pid
            && command.windows(name.len()).any(|part| part == name)
        {
            let _ = kill_process(pid, Signal::KILL);
        }
    }
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let beneath =
        mounts.lines().filter_map(|line| line.split(' ').nth(4)).filter(|at| Path::new(at).starts_with(dir));
    for mount in beneath.collect::<Vec<_>>().into_iter().rev() {
        let _ = Command::new("umount").args(["-l", mount]).status();
    }
}

/// Removes the cgroups of the parent that is ours, in each hierarchy, with the processes of containers whose shims are gone.
fn clean_cgroups() {
    fn remove(dir: &Path) {
        let beneath = fs::read_dir(dir).into_iter().flatten().flatten();
        beneath.filter(|entry| entry.path().is_dir()).for_each(|entry| remove(&entry.path()));
        let processes = || fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
        let end = Instant::now() + Duration::from_secs(5);
        while !processes().is_empty() && Instant::now() < end {
            for pid in processes().lines().filter_map(|pid| pid.parse().ok()).filter_map(Pid::from_raw) {
                let _ = kill_process(pid, Signal::KILL);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = fs::remove_dir(dir);
    }
    let hierarchies = fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten();
    hierarchies.for_each(|hierarchy| remove(&hierarchy.path().join(PARENT)));
    remove(&Path::new("/sys/fs/cgroup").join(PARENT));
}
