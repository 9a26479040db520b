//! The same commands over a daemon: with `ENGINE_TEST_HOST` set, every command of these tests has `--host` instead of `--root`.

use std::collections::BTreeMap;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// What a daemon has to be told, since it is the one to take things in.
const OF_DAEMONS: [&str; 4] = ["--insecure-registry", "--max-bytes", "--registry-ca", "--registry-mirror"];
/// What is no work on an engine, or is about opening one in this process.
const LOCAL: [&str; 8] = [
    "--cgroup-driver",
    "--cgroup-root",
    "--debug",
    "--help",
    "--userns-remap",
    "completion",
    "daemon",
    "registry",
];

/// The binary, without what the person who runs the tests has set.
pub(crate) fn engine_cli() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_engine-cli"));
    for name in ["ENGINE_ROOT", "ENGINE_RUN_ROOT", "DOCKER_HOST", "DOCKER_CONTEXT"] {
        command.env_remove(name);
    }
    command
}

/// The daemons over one test's root, one for each set of flags that were asked for.
pub(crate) struct Daemons {
    dir: PathBuf,
    running: Mutex<BTreeMap<Vec<String>, (Child, PathBuf)>>,
}

impl Daemons {
    pub(crate) fn new(dir: &Path) -> Self {
        Self { dir: dir.to_owned(), running: Mutex::default() }
    }

    /// The host that a command with these arguments goes to, and what is left of them; `None` for one in this process.
    pub(crate) fn host<'a>(&self, args: &'a [&'a str]) -> Option<(String, &'a [&'a str])> {
        std::env::var_os("ENGINE_TEST_HOST")?;
        let mut flags = Vec::new();
        let mut rest = args;
        loop {
            rest = match rest {
                [flag, value, others @ ..] if OF_DAEMONS.contains(flag) => {
                    flags.extend([(*flag).to_owned(), (*value).to_owned()]);
                    others
                }
                [flag, others @ ..] if OF_DAEMONS.iter().any(|of| flag.starts_with(&format!("{of}="))) => {
                    flags.push((*flag).to_owned());
                    others
                }
                _ => break,
            };
        }
        if rest.first().is_none_or(|first| LOCAL.contains(first)) {
            return None;
        }
        Some((self.address(flags)?, rest))
    }

    /// The address of a daemon without flags.
    pub(crate) fn serve(&self) -> String {
        self.address(Vec::new()).unwrap()
    }

    fn address(&self, flags: Vec<String>) -> Option<String> {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        if !running.contains_key(&flags) {
            // What no daemon starts with no command does: it says so itself.
            let started = self.start(running.len(), &flags)?;
            running.insert(flags.clone(), started);
        }
        Some(format!("unix://{}", running[&flags].1.display()))
    }

    /// Starts a daemon; `None` if it refuses its flags.
    fn start(&self, number: usize, flags: &[String]) -> Option<(Child, PathBuf)> {
        let socket = self.dir.join(format!("{number}.sock"));
        let log = std::fs::File::create(self.dir.join(format!("{number}.log"))).unwrap();
        let mut child = engine_cli()
            .arg("--root")
            .arg(self.dir.join("root"))
            .args(flags)
            .args(["daemon", "--host"])
            .arg(format!("unix://{}", socket.display()))
            .env("DOCKER_CONFIG", self.dir.join("nobody"))
            .stdin(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        let end = Instant::now() + Duration::from_secs(20);
        while UnixStream::connect(&socket).is_err() {
            if child.try_wait().unwrap().is_some() {
                return None;
            }
            assert!(Instant::now() < end, "the daemon does not listen");
            std::thread::sleep(Duration::from_millis(5));
        }
        Some((child, socket))
    }

    /// Ends them all; a panic's messages of theirs are shown.
    pub(crate) fn stop(&self) {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        for (_, (mut child, socket)) in std::mem::take(&mut *running) {
            let pid = rustix::process::Pid::from_child(&child);
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
            let _ = child.wait();
            if std::thread::panicking() {
                eprintln!("{}", std::fs::read_to_string(socket.with_extension("log")).unwrap_or_default());
            }
        }
    }
}

impl Drop for Daemons {
    fn drop(&mut self) {
        self.stop();
    }
}
