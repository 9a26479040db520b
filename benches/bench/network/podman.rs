//! Podman with netavark.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::Result;
use engine_testkit::image::Format;

use super::{Member, Subject};
use crate::host::{self, Host};
use crate::ours::IMAGE;
use crate::peers::{NOFILE, NPROC};

#[derive(Debug)]
pub(super) struct Podman {
    dir: PathBuf,
}

impl Podman {
    pub(super) fn prepare(dir: &Path) -> Result<Self> {
        std::fs::create_dir_all(dir)?;
        std::fs::write(dir.join("containers.conf"), "[network]\nnetwork_backend = \"netavark\"\n")?;
        let podman = Self { dir: dir.to_owned() };
        let archive = dir.join("image.tar");
        Host::image(Format::Docker)?.write_docker_archive(&archive, &[IMAGE]);
        host::run(podman.command(&["load", "-i"]).arg(&archive))?;
        host::run(&mut podman.command(&["network", "create", "bench"]))?;
        Ok(podman)
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new("podman");
        let path = |part: &str| self.dir.join(part).display().to_string();
        command.env("CONTAINERS_CONF", path("containers.conf"));
        command.args(["--root", &path("root"), "--runroot", &path("run"), "--storage-driver", "overlay"]);
        command.args(["--network-config-dir", &path("networks"), "--cgroup-manager", "cgroupfs"]);
        command.args(["--events-backend", "none", "--runtime", "runc"]);
        command.args(args).stdin(Stdio::null());
        command
    }
}

impl Subject for Podman {
    fn run(&self, port: u16) -> Result<()> {
        let publish = format!("{port}:{port}");
        let limits = ["--ulimit", NOFILE, "--ulimit", NPROC];
        host::run(self.command(&["run", "--rm", "-p", &publish]).args(limits).args([IMAGE, "/true"]))
    }

    fn start(&self, name: &str, ports: &[u16]) -> Result<Member> {
        let mut command =
            self.command(&["run", "-d", "--network", "bench", "--stop-signal", "KILL", "--name", name]);
        command.args(["--ulimit", NOFILE, "--ulimit", NPROC]);
        for port in ports {
            command.arg("-p").arg(format!("{port}:{port}"));
        }
        // Its monitor keeps our descriptors: they must not be pipes that we then wait for.
        command.args([IMAGE, "/pause"]).stdout(Stdio::null()).stderr(Stdio::null());
        anyhow::ensure!(command.status()?.success(), "podman run failed");
        let format = "{{.State.Pid}} {{.NetworkSettings.Networks.bench.IPAddress}} {{.NetworkSettings.Networks.bench.Gateway}}";
        let text = host::output(self.command(&["inspect", "--format", format, name]))?;
        let [pid, address, gateway] = text.split_whitespace().collect::<Vec<_>>()[..] else {
            anyhow::bail!("podman inspect says {text:?}");
        };
        Member::new(pid, address, gateway)
    }

    fn remove(&self, name: &str) -> Result<()> {
        host::run(&mut self.command(&["rm", "-f", "-t", "0", name]))
    }

    fn resolver(&self, member: &Member) -> SocketAddr {
        (member.gateway, 53).into()
    }
}
