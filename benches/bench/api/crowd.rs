//! A hundred clients at once: each pulls the image, which is not there, and runs a container of it.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use super::subjects::Subject;
use super::wire::Wire;
use super::{create, end};
use crate::host;
use crate::ours::IMAGE;

const CLIENTS: usize = 100;
/// Where the registry listens, in the daemon's network namespace.
const REGISTRY: &str = "127.0.0.1:5000";
const PATIENCE: Duration = Duration::from_secs(30);

/// A registry in the network namespace of a daemon.
struct Registry(Child);

impl Registry {
    fn start(daemon: u32, dir: &Path) -> Result<Self> {
        let (config, data) = (dir.join("registry.yml"), dir.join("registry"));
        let text = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: {REGISTRY}}}\n",
            data.display()
        );
        fs::write(&config, text)?;
        let mut command = inside(daemon);
        command.args(["docker-registry", "serve"]).arg(config);
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        Ok(Self(child))
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn inside(daemon: u32) -> Command {
    let mut command = Command::new("nsenter");
    command.arg(format!("--net=/proc/{daemon}/ns/net"));
    command
}

/// Seconds until all clients have pulled the image and have seen their container end.
pub(super) fn seconds(subject: &Subject, dir: &Path) -> Result<f64> {
    host::run(inside(subject.pid()).args(["ip", "link", "set", "lo", "up"]))?;
    let _registry = Registry::start(subject.pid(), dir)?;
    let name = format!("{REGISTRY}/image:latest");
    let url = format!("unix://{}", subject.socket().display());
    let docker = |arguments: &[&str]| {
        host::run(Command::new("docker").args(["--host", &url]).args(arguments).stdout(Stdio::null()))
    };
    docker(&["tag", IMAGE, &name])?;
    let begun = Instant::now();
    while docker(&["push", "-q", &name]).is_err() {
        ensure!(begun.elapsed() < PATIENCE, "nothing can be pushed to {REGISTRY}");
        std::thread::sleep(Duration::from_millis(50));
    }
    docker(&["rmi", IMAGE, &name])?;
    let begun = Instant::now();
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(|| one(subject.socket(), &name))).collect();
        clients.into_iter().try_for_each(|client| client.join().ok().context("a client panicked")?)
    })?;
    let seconds = begun.elapsed().as_secs_f64();
    docker(&["tag", &name, IMAGE])?;
    Ok(seconds)
}

fn one(socket: &Path, image: &str) -> Result<()> {
    let mut wire = Wire::connect(socket)?;
    let said = wire.done("POST", &format!("/images/create?fromImage={image}"), "")?;
    let said = String::from_utf8_lossy(&said);
    ensure!(!said.contains("\"error\""), "pull: {said}");
    let id = create(&mut wire, image, &["/true"], "none")?;
    wire.done("POST", &format!("/containers/{id}/start"), "")?;
    end(&mut wire, &id)?;
    wire.done("DELETE", &format!("/containers/{id}"), "").map(drop)
}
