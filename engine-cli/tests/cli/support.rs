//! A root for one test, the binary over it, and what it said.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

pub(crate) use engine_testkit::Said;
use engine_testkit::{LeakCheck, image};

use crate::daemons::{Daemons, engine_cli};

/// An engine of its own.
pub(crate) struct Cli {
    pub(crate) dir: tempfile::TempDir,
    leaks: Option<LeakCheck>,
    daemons: Daemons,
}

impl Cli {
    /// Makes an engine with nothing in it.
    pub(crate) fn empty() -> Self {
        let dir = tempfile::Builder::new().prefix("engine-cli-test").tempdir().expect("temporary directory");
        let root = dir.path().join("root");
        let daemons = Daemons::new(dir.path());
        let mut cli = Self { dir, leaks: None, daemons };
        // What an empty engine consists of is no leak.
        cli.run(&["ps"]).ok();
        cli.leaks = Some(LeakCheck::begin(&root, &root.join("run")));
        cli
    }

    /// Makes an engine with the image `busybox`.
    pub(crate) fn new() -> Self {
        let cli = Self::empty();
        let tar = cli.path("busybox.tar");
        std::fs::write(&tar, image::busybox_layer().build()).expect("write the archive");
        let tar = tar.display().to_string();
        cli.run(&["image", "import", "--command", "sh", &tar, "busybox"]).ok();
        std::fs::remove_file(tar).expect("remove the archive");
        cli
    }

    /// Returns a path beside the root.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn root(&self) -> PathBuf {
        self.path("root")
    }

    /// Returns the command with these arguments, to be run by the caller.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        match self.daemons.host(args) {
            Some((host, args)) => self.with("--host", host.as_ref(), args),
            None => self.local(args),
        }
    }

    /// Serves the engine, and returns the address.
    pub(crate) fn serve(&self) -> String {
        self.daemons.serve()
    }

    /// As [`command`](Self::command), always on an engine in its own process.
    pub(crate) fn local(&self, args: &[&str]) -> Command {
        self.with("--root", &self.root(), args)
    }

    fn with(&self, flag: &str, place: &Path, args: &[&str]) -> Command {
        let mut command = engine_cli();
        command.arg(flag).arg(place).args(args);
        // Credentials of the person who runs the tests are none of their business.
        command.env("DOCKER_CONFIG", self.path("docker")).stdin(Stdio::null());
        command
    }

    /// Runs the binary to its end.
    pub(crate) fn run(&self, args: &[&str]) -> Said {
        self.command(args).output().expect("run engine-cli").into()
    }

    /// Runs the binary with `input` on its standard input.
    pub(crate) fn feed(&self, args: &[&str], input: &[u8]) -> Said {
        let mut child = self.spawn(self.command(args).stdin(Stdio::piped()));
        child.stdin.take().expect("stdin").write_all(input).expect("write");
        child.wait_with_output().expect("wait").into()
    }

    /// Starts the binary with pipes.
    pub(crate) fn spawn(&self, command: &mut Command) -> Child {
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("run engine-cli")
    }

    /// Starts a detached container and returns its id.
    pub(crate) fn start(&self, args: &[&str]) -> String {
        let all: Vec<&str> = ["run", "-d"].iter().chain(args).copied().collect();
        self.run(&all).ok().trim().to_owned()
    }

    /// Returns what `inspect --format` says about a container.
    pub(crate) fn inspect(&self, name: &str, format: &str) -> String {
        self.run(&["container", "inspect", "--format", format, name]).ok().trim().to_owned()
    }

    /// Ends a test: removes all containers, and nothing else may be left.
    pub(crate) fn finish(mut self) {
        let ids = self.run(&["ps", "-aq"]).ok();
        let mut args = vec!["rm", "-f", "-v"];
        args.extend(ids.split_whitespace());
        if args.len() > 3 {
            self.run(&args).ok();
        }
        self.finish_clean();
    }

    /// Ends a test that left no container.
    pub(crate) fn finish_clean(&mut self) {
        assert_eq!(self.run(&["ps", "-aq"]).ok(), "", "containers are left");
        // The default network's bridge as well.
        self.run(&["network", "prune", "-f"]).ok();
        self.daemons.stop();
        if let Some(leaks) = self.leaks.take() {
            leaks.finish();
        }
    }
}

impl Drop for Cli {
    fn drop(&mut self) {
        // A failed test leaves nothing to the next one either.
        if std::thread::panicking() {
            let ids = self.run(&["ps", "-aq"]).out;
            for id in ids.split_whitespace() {
                self.run(&["rm", "-f", "-v", id]);
            }
            self.run(&["network", "prune", "-f"]);
        }
    }
}

/// Waits until `done`, for ten seconds at most.
#[track_caller]
pub(crate) fn until(what: &str, mut done: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(10);
    while !done() {
        assert!(Instant::now() < end, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Returns whether `path` is there.
pub(crate) fn exists(path: &Path) -> bool {
    path.symlink_metadata().is_ok()
}
