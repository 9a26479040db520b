//! A daemon for one test, and clients of it.

use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

pub(crate) use engine_testkit::Said;
use engine_testkit::{LeakCheck, image};

/// Where .ci/setup puts clients from PyPI.
const CLIENTS: &str = "/opt/engine-tests/clients";

/// A network namespace, whoever works in it, for as long as this lives.
pub(crate) struct NetHost(Child);

impl NetHost {
    pub(crate) fn start() -> Self {
        let child = Command::new("unshare")
            .args(["-n", "sh", "-c", "ip link set lo up && echo ready && exec sleep infinity"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut host = Self(child);
        let mut ready = String::new();
        BufReader::new(host.0.stdout.take().unwrap()).read_line(&mut ready).unwrap();
        assert_eq!(ready, "ready\n");
        host
    }

    /// A program in it.
    pub(crate) fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/proc/{}/ns/net", self.0.id())).arg("--").arg(program);
        command
    }

    /// Ends it, and with it its interfaces.
    pub(crate) fn end(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for NetHost {
    fn drop(&mut self) {
        self.end();
    }
}

/// An engine of its own with a daemon over it.
pub(crate) struct Daemon {
    dir: tempfile::TempDir,
    leaks: Option<LeakCheck>,
    host: NetHost,
    child: Option<Child>,
    /// What it said until it served.
    pub(crate) said: String,
    /// More arguments of the daemon's.
    pub(crate) args: Vec<String>,
}

impl Daemon {
    /// Starts a daemon over an engine that has the image `busybox`.
    pub(crate) fn start() -> Self {
        Self::with(&[])
    }

    /// Starts it with more arguments.
    pub(crate) fn with(args: &[&str]) -> Self {
        let mut daemon = Self::prepare(args);
        daemon.serve();
        daemon
    }

    /// Prepares everything but the daemon's start.
    pub(crate) fn prepare(args: &[&str]) -> Self {
        let dir = tempfile::Builder::new().prefix("engine-daemon-test").tempdir().unwrap();
        let host = NetHost::start();
        let args = args.iter().map(|arg| (*arg).to_owned()).collect();
        let mut daemon = Self { dir, leaks: None, host, child: None, said: String::new(), args };
        let tar = daemon.path("busybox.tar");
        std::fs::write(&tar, image::busybox_layer().build()).unwrap();
        daemon.cli(&["image", "import", "--command", "sh", &tar.display().to_string(), "busybox"]).ok();
        std::fs::remove_file(tar).unwrap();
        daemon.leaks = Some(LeakCheck::begin(&daemon.path("root"), &daemon.path("root/run")));
        daemon
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn socket(&self) -> String {
        format!("unix://{}", self.path("docker.sock").display())
    }

    /// A program on the daemon's host.
    pub(crate) fn on_host(&self, program: &str) -> Command {
        let mut command = self.host.command(program);
        command
            .env("DOCKER_HOST", self.socket())
            .env("DOCKER_CONFIG", self.path("docker-config"))
            .env_remove("ENGINE_ROOT")
            .env_remove("ENGINE_RUN_ROOT")
            .env_remove("DOCKER_API_VERSION")
            .current_dir(self.dir.path())
            .stdin(Stdio::null());
        command
    }

    /// The command that serves.
    pub(crate) fn command(&self) -> Command {
        let mut command = self.on_host(env!("CARGO_BIN_EXE_engine-cli"));
        command
            .arg("--root")
            .arg(self.path("root"))
            .arg("daemon")
            .args(["--host", &self.socket()])
            .args(&self.args);
        command
    }

    /// Starts the daemon and waits until it serves.
    pub(crate) fn serve(&mut self) {
        assert!(self.child.is_none());
        let log = std::fs::File::options().create(true).append(true).open(self.path("daemon.log")).unwrap();
        let mut child = self.command().stdout(Stdio::piped()).stderr(log).spawn().unwrap();
        self.said.clear();
        let mut lines = BufReader::new(child.stdout.take().unwrap());
        while !self.said.contains("Serving ") {
            let count = lines.read_line(&mut self.said).unwrap();
            assert!(count > 0, "{:?}: {}", self.said, self.log());
        }
        self.child = Some(child);
    }

    /// What the daemon said of itself.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.path("daemon.log")).unwrap_or_default()
    }

    /// Returns the daemon's process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.as_ref().unwrap().id()
    }

    /// Sends the daemon a signal and waits for its end. Returns its exit code, if it has one.
    pub(crate) fn end(&mut self, signal: &str) -> Option<i32> {
        let mut child = self.child.take().unwrap();
        engine_testkit::command("kill", [format!("-{signal}"), child.id().to_string()]);
        child.wait().unwrap().code()
    }

    /// Runs our command line over the same engine, without the daemon.
    pub(crate) fn cli(&self, args: &[&str]) -> Said {
        let mut command = self.on_host(env!("CARGO_BIN_EXE_engine-cli"));
        command.arg("--root").arg(self.path("root")).args(args).output().unwrap().into()
    }

    /// Runs Docker's command line against the daemon.
    pub(crate) fn docker(&self, args: &[&str]) -> Said {
        self.on_host("docker").args(args).output().unwrap().into()
    }

    /// A program of the clients' environment: `python`, `docker-compose`.
    pub(crate) fn client(&self, program: &str) -> Command {
        self.on_host(&format!("{CLIENTS}/bin/{program}"))
    }

    /// Ends the test: no container and nothing else is left.
    pub(crate) fn finish(mut self) {
        assert!(self.child.is_some(), "it serves still");
        self.clear();
        self.end("TERM");
        assert!(!self.path("docker.sock").exists(), "the socket is left");
        self.host.end();
        self.leaks.take().unwrap().finish();
    }

    fn clear(&self) {
        let ids = self.cli(&["ps", "-aq"]).out;
        let mut args = vec!["rm", "-f", "-v"];
        args.extend(ids.split_whitespace());
        if args.len() > 3 {
            self.cli(&args);
        }
        self.cli(&["network", "prune", "-f"]);
        self.cli(&["volume", "prune", "-a", "-f"]);
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the daemon said:\n{}", self.log());
            self.clear();
        }
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Waits until `done`, for a minute at most.
#[track_caller]
pub(crate) fn until(what: &str, mut done: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(60);
    while !done() {
        assert!(Instant::now() < end, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
