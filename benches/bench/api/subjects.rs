//! The daemons that are measured.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use engine_testkit::image::Format;

use super::wire::Wire;
use crate::host::{self, Host};
use crate::ours::IMAGE;

pub(super) const NAMES: [&str; 3] = ["engine", "docker", "podman"];
const PATIENCE: Duration = Duration::from_secs(60);

/// A daemon with the benchmark's image.
#[derive(Debug)]
pub(crate) struct Subject {
    child: Child,
    socket: PathBuf,
    /// The programs that serve.
    programs: &'static [&'static str],
}

impl Subject {
    pub(crate) fn start(host: &Host, name: &str) -> Result<Self> {
        let dir = host.dir().join(format!("api-{name}"));
        fs::create_dir_all(&dir)?;
        let path = |name: &str| dir.join(name).display().to_string();
        let socket = dir.join("docker.sock");
        let url = format!("unix://{}", socket.display());
        let mut command = Command::new("unshare");
        command.arg("-n");
        let programs: &[&str] = match name {
            "engine" => {
                command.arg(host::sibling("engine-cli")?).args([
                    "--root",
                    &path("root"),
                    "daemon",
                    "--host",
                    &url,
                ]);
                &["engine-cli"]
            }
            "docker" => {
                command.args(["dockerd", "--data-root", &path("data"), "--exec-root", &path("exec")]);
                command.args(["--pidfile", &path("pid"), "--host", &url]);
                &["dockerd", "containerd"]
            }
            "podman" => {
                command.args(["podman", "--root", &path("root"), "--runroot", &path("run")]);
                command.args([
                    "--storage-driver",
                    "overlay",
                    "--cgroup-manager",
                    "cgroupfs",
                    "--runtime",
                    "runc",
                ]);
                command.args(["--events-backend", "none", "system", "service", "--time", "0", &url]);
                &["podman"]
            }
            other => bail!("nothing is called {other}"),
        };
        let log = fs::File::create(dir.join("log"))?;
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn()?;
        let subject = Self { child, socket, programs };
        let begun = Instant::now();
        while Wire::connect(&subject.socket).and_then(|mut wire| wire.done("GET", "/_ping", "")).is_err() {
            ensure!(begun.elapsed() < PATIENCE, "{name} does not answer");
            std::thread::sleep(Duration::from_millis(50));
        }
        let archive = dir.join("image.tar");
        Host::image(Format::Docker)?.write_docker_archive(&archive, &[IMAGE]);
        let mut load = Command::new("docker");
        host::run(load.args(["--host", &url, "load", "-i"]).arg(&archive))?;
        Ok(subject)
    }

    pub(crate) fn socket(&self) -> &Path {
        &self.socket
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The private and proportional memory of the programs that serve, in MiB: not of what watches over single containers.
    pub(super) fn memory(&self) -> Result<f64> {
        let mut kib = 0;
        for pid in family(self.child.id())? {
            let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            if self.programs.contains(&name.trim()) {
                kib += proportional(pid).unwrap_or(0);
            }
        }
        ensure!(kib > 0, "nobody serves");
        Ok(kib as f64 / 1024.0)
    }
}

impl Drop for Subject {
    fn drop(&mut self) {
        if let Some(pid) = rustix::process::Pid::from_raw(self.child.id() as i32) {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
        let _ = self.child.wait();
    }
}

/// A process and all that descend from it.
fn family(root: u32) -> Result<Vec<u32>> {
    let mut parents = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let Ok(pid) = entry?.file_name().to_string_lossy().parse::<u32>() else { continue };
        let Ok(status) = fs::read_to_string(format!("/proc/{pid}/status")) else { continue };
        let parent = status.lines().find_map(|line| line.strip_prefix("PPid:")?.trim().parse().ok());
        parents.push((pid, parent.unwrap_or(0)));
    }
    let mut family = vec![root];
    let mut next = 0;
    while let Some(&one) = family.get(next) {
        family.extend(parents.iter().filter(|(_, parent)| *parent == one).map(|(pid, _)| *pid));
        next += 1;
    }
    Ok(family)
}

fn proportional(pid: u32) -> Result<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:")).context("no Pss")?;
    Ok(line.trim().trim_end_matches("kB").trim().parse()?)
}
