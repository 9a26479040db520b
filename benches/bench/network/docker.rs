//! Docker, with a daemon of its own in this namespace.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use engine_testkit::image::Format;

use super::{Member, Subject};
use crate::host::{self, Host};
use crate::ours::IMAGE;

const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub(super) struct Docker {
    daemon: Child,
    socket: PathBuf,
}

impl Docker {
    pub(super) fn start(dir: &Path) -> Result<Self> {
        std::fs::create_dir_all(dir)?;
        let socket = dir.join("docker.sock");
        let path = |name: &str| dir.join(name).display().to_string();
        let log = std::fs::File::create(dir.join("log"))?;
        let daemon = Command::new("dockerd")
            .args(["--data-root", &path("data"), "--exec-root", &path("exec"), "--pidfile", &path("pid")])
            .args(["--host", &format!("unix://{}", socket.display())])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .context("dockerd is not installed")?;
        let docker = Self { daemon, socket };
        let begun = Instant::now();
        while host::run(&mut docker.command(&["version"])).is_err() {
            ensure!(begun.elapsed() < PATIENCE, "dockerd does not answer");
            std::thread::sleep(Duration::from_millis(100));
        }
        let archive = dir.join("image.tar");
        Host::image(Format::Docker)?.write_docker_archive(&archive, &[IMAGE]);
        host::run(docker.command(&["load", "-i"]).arg(&archive))?;
        host::run(&mut docker.command(&["network", "create", "bench"]))?;
        Ok(docker)
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new("docker");
        command.arg("--host").arg(format!("unix://{}", self.socket.display()));
        command.args(args).stdin(Stdio::null());
        command
    }
}

impl Drop for Docker {
    fn drop(&mut self) {
        if let Some(pid) = rustix::process::Pid::from_raw(self.daemon.id() as i32) {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
        let _ = self.daemon.wait();
    }
}

impl Subject for Docker {
    fn run(&self, port: u16) -> Result<()> {
        let publish = format!("{port}:{port}");
        host::run(&mut self.command(&["run", "--rm", "-p", &publish, IMAGE, "/true"]))
    }

    fn start(&self, name: &str, ports: &[u16]) -> Result<Member> {
        let mut command =
            self.command(&["run", "-d", "--network", "bench", "--stop-signal", "KILL", "--name", name]);
        for port in ports {
            command.arg("-p").arg(format!("{port}:{port}"));
        }
        host::run(command.args([IMAGE, "/pause"]))?;
        let format = "{{.State.Pid}} {{.NetworkSettings.Networks.bench.IPAddress}} {{.NetworkSettings.Networks.bench.Gateway}}";
        let text = host::output(self.command(&["inspect", "--format", format, name]))?;
        let [pid, address, gateway] = text.split_whitespace().collect::<Vec<_>>()[..] else {
            anyhow::bail!("docker inspect says {text:?}");
        };
        Member::new(pid, address, gateway)
    }

    fn remove(&self, name: &str) -> Result<()> {
        host::run(&mut self.command(&["rm", "-f", name]))
    }

    fn resolver(&self, _: &Member) -> SocketAddr {
        (Ipv4Addr::new(127, 0, 0, 11), 53).into()
    }
}
