//! Who builds.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use engine_testkit::image::Format;

use super::{OURS, command};
use crate::api;
use crate::host::{self, Host};
use crate::ours::IMAGE;
use crate::peers;

pub(super) const NAMES: [&str; 4] = ["engine", "docker", "buildah", "podman"];

#[derive(Debug)]
pub(super) struct Subject {
    pub(super) label: String,
    program: &'static str,
    /// Before and behind the word `build`.
    before: Vec<String>,
    behind: Vec<String>,
    _daemon: Option<api::Subject>,
}

impl Subject {
    /// Prepares a builder that has the base image.
    pub(super) fn start(host: &Host, name: &'static str) -> Result<Self> {
        let dir = host.dir().join(format!("build-{name}"));
        fs::create_dir_all(&dir)?;
        let archive = dir.join("image.tar");
        Host::image(Format::Docker)?.write_docker_archive(&archive, &[IMAGE]);
        let archive = archive.display().to_string();
        let path = |name: &str| dir.join(name).display().to_string();
        let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        let storage = ["--root", &path("root"), "--runroot", &path("run"), "--storage-driver", "overlay"]
            .map(str::to_owned);
        let mut subject = Self {
            label: peers::label(name),
            program: "podman",
            before: storage.to_vec(),
            behind: words(&["build", "-q", "--network", "none"]),
            _daemon: None,
        };
        match name {
            "engine" => {
                (subject.label, subject.program) = (OURS.to_owned(), "engine-cli");
                subject.before = vec!["--root".to_owned(), path("root")];
                host::run(&mut subject.command(&["load", "-i", &archive])?)?;
            }
            "docker" => {
                let daemon = api::Subject::start(host, "docker")?;
                subject.program = "docker";
                subject.before = vec!["--host".to_owned(), format!("unix://{}", daemon.socket().display())];
                subject._daemon = Some(daemon);
            }
            "buildah" => {
                subject.program = "buildah";
                subject.behind =
                    words(&["bud", "-q", "--layers", "--format", "docker", "--isolation", "chroot"]);
                host::run(&mut subject.command(&["pull", "-q", &format!("docker-archive:{archive}")])?)?;
            }
            "podman" => {
                subject.before.extend(words(&["--cgroup-manager", "cgroupfs", "--runtime", "runc"]));
                subject.behind.extend(words(&[
                    "--format",
                    "docker",
                    "--ulimit",
                    peers::NPROC,
                    "--ulimit",
                    peers::NOFILE,
                ]));
                host::run(&mut subject.command(&["load", "-q", "-i", &archive])?)?;
            }
            other => bail!("nothing is called {other}"),
        }
        Ok(subject)
    }

    fn command(&self, arguments: &[&str]) -> Result<Command> {
        let before = self.before.iter().map(String::as_str);
        let mut command =
            command(self.program, &before.chain(arguments.iter().copied()).collect::<Vec<_>>())?;
        command.env("DOCKER_BUILDKIT", "0");
        Ok(command)
    }

    fn build_command(&self, context: &Path) -> Result<Command> {
        let arguments = self.behind.iter().map(String::as_str);
        let context = context.to_str().context("a path that is no text")?;
        self.command(&arguments.chain([context]).collect::<Vec<_>>())
    }

    pub(super) fn build(&self, context: &Path) -> Result<()> {
        host::run(&mut self.build_command(context)?)
    }

    /// Builds, and returns the most memory that the program had, in MiB.
    pub(super) fn build_watched(&self, context: &Path) -> Result<f64> {
        let mut command = self.build_command(context)?;
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        let status = format!("/proc/{}/status", child.id());
        let mut peak = 0.0_f64;
        let ended = loop {
            let text = fs::read_to_string(&status).unwrap_or_default();
            let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
            let kib = line.and_then(|line| line.trim().trim_end_matches("kB").trim().parse::<f64>().ok());
            peak = peak.max(kib.unwrap_or(0.0) / 1024.0);
            if let Some(ended) = child.try_wait()? {
                break ended;
            }
            std::thread::sleep(Duration::from_millis(5));
        };
        ensure!(ended.success(), "the build failed");
        Ok(peak)
    }
}
