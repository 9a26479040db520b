//! The example orchestrator over a daemon: it keeps its replicas, through the daemon's sudden death as well.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use engine_testkit::require;

use crate::support::Daemon;

/// How long a replica may take to be replaced, on a machine that does much else.
const PATIENCE: Duration = Duration::from_secs(60);

/// The built example, which cargo puts beside the tests; built now where only the tests were asked for.
fn example() -> PathBuf {
    let here = std::env::current_exe().unwrap();
    let path = here.parent().and_then(Path::parent).unwrap().join("examples/orchestrator");
    if !path.exists() {
        let mut build = Command::new(env!("CARGO"));
        build.args(["build", "--quiet", "--package", "engine-examples", "--example", "orchestrator"]);
        assert!(build.status().unwrap().success());
    }
    path
}

struct Orchestrator {
    child: Child,
    wishes: ChildStdin,
    lines: Receiver<String>,
}

impl Orchestrator {
    fn start(daemon: &Daemon, image: &str) -> Self {
        let mut command = daemon.on_host(&example().display().to_string());
        command.args([image, "3", "sh", "-c", "touch /up; exec sleep 1000"]);
        command.env("ENGINE_HOST", daemon.socket()).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let (sender, lines) = channel();
        let output = BufReader::new(child.stdout.take().unwrap());
        std::thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Self { wishes: child.stdin.take().unwrap(), child, lines }
    }

    /// Waits until it says this line; returns what it said before.
    #[track_caller]
    fn says(&self, wanted: &str) -> Vec<String> {
        let mut before = Vec::new();
        loop {
            let line = self.lines.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("{wanted:?}: {before:?}"));
            if line == wanted {
                return before;
            }
            before.push(line);
        }
    }

    fn wish(&mut self, line: &str) {
        writeln!(self.wishes, "{line}").unwrap();
    }
}

impl Drop for Orchestrator {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn an_orchestrator_survives_the_sudden_death_of_the_daemon() {
    require!(root, overlayfs, "docker", "unshare", "nsenter", "ip");
    let mut daemon = Daemon::start();
    let mut orchestrator = Orchestrator::start(&daemon, "busybox");
    orchestrator.says("3 replicas of busybox are up");
    // One dies.
    daemon.docker(&["kill", "web-2"]).ok();
    orchestrator.says("web-2: started");
    orchestrator.says("3 replicas of busybox are up");

    // The daemon dies, and while nobody serves another replica does.
    let pid = |name: &str| daemon.docker(&["inspect", "-f", "{{.State.Pid}}", name]).ok().trim().to_owned();
    let (dying, staying) = (pid("web-1"), pid("web-3"));
    daemon.end("KILL");
    engine_testkit::command("kill", ["-KILL", &dying]);
    assert!(Path::new("/proc").join(&staying).exists());
    daemon.serve();
    let said = orchestrator.says("web-1: started");
    assert!(said.iter().any(|line| line.starts_with("trying again: ")), "{said:?}");
    orchestrator.says("3 replicas of busybox are up");
    assert_eq!(daemon.docker(&["inspect", "-f", "{{.State.Pid}}", "web-3"]).ok().trim(), staying);

    // Another image comes to one replica after the other, and the others serve meanwhile.
    daemon.docker(&["commit", "--change", "ENV VERSION=2", "web-1", "busybox:2"]).ok();
    orchestrator.wish("image busybox:2");
    for name in ["web-1", "web-2", "web-3"] {
        orchestrator.says(&format!("{name}: replaced"));
        let healthy = ["ps", "-q", "--filter", "health=healthy"];
        let up = daemon.docker(&healthy).ok().lines().count();
        assert!(up >= 2, "{up} replicas serve while {name} is replaced");
    }
    orchestrator.says("3 replicas of busybox:2 are up");
    let images = daemon.docker(&["ps", "--format", "{{.Image}}"]).ok();
    assert_eq!(images, "busybox:2\n".repeat(3));

    // It dies itself, and the next one finds what is there.
    drop(orchestrator);
    let ids = daemon.docker(&["ps", "-q", "--no-trunc"]).ok();
    let mut orchestrator = Orchestrator::start(&daemon, "busybox:2");
    assert_eq!(orchestrator.says("3 replicas of busybox:2 are up"), [""; 0]);
    assert_eq!(daemon.docker(&["ps", "-q", "--no-trunc"]).ok(), ids);
    orchestrator.wish("scale 1");
    orchestrator.says("web-3: removed");
    orchestrator.says("1 replicas of busybox:2 are up");
    orchestrator.wish("down");
    assert!(orchestrator.child.wait().unwrap().success());
    assert_eq!(daemon.docker(&["ps", "-aq"]).ok(), "");
    daemon.docker(&["rmi", "busybox:2"]).ok();
    daemon.finish();
}
