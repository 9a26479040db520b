//! What test suites drive Docker with: docker-py and testcontainers from PyPI, testcontainers from npm.

use engine_testkit::require;

use crate::support::{Daemon, Said};

fn run(daemon: &Daemon, text: &str) -> String {
    let script = daemon.path("script.py");
    std::fs::write(&script, text).unwrap();
    let mut command = daemon.client("python");
    // Its helper, which removes what a killed test leaves, is an image of Docker Hub.
    command.env("TESTCONTAINERS_RYUK_DISABLED", "true");
    let said: Said = command.arg(&script).output().unwrap().into();
    said.ok()
}

#[test]
fn docker_py_drives_containers_images_networks_and_volumes() {
    require!(root, overlayfs, "unshare", "nsenter", "ip", "/opt/engine-tests/clients/bin/python");
    let daemon = Daemon::start();
    let out = run(&daemon, include_str!("files/docker_py.py"));
    assert!(out.ends_with("all done\n"), "{out}");
    daemon.finish();
}

#[test]
fn testcontainers_waits_for_logs_and_reaches_ports() {
    require!(root, overlayfs, "unshare", "nsenter", "ip", "/opt/engine-tests/clients/bin/python");
    let daemon = Daemon::start();
    assert_eq!(run(&daemon, include_str!("files/testcontainers.py")), "all done\n");
    assert_eq!(daemon.cli(&["ps", "-aq"]).ok(), "");
    daemon.finish();
}

#[test]
fn testcontainers_for_node_does_so_too() {
    require!(root, overlayfs, "unshare", "nsenter", "ip", "/opt/engine-tests/clients/bin/node");
    let daemon = Daemon::start();
    let script = daemon.path("script.cjs");
    std::fs::write(&script, include_str!("files/testcontainers.cjs")).unwrap();
    let mut command = daemon.client("node");
    command.env("NODE_PATH", "/opt/engine-tests/clients/npm/node_modules");
    // Its helper, which removes what a killed test leaves, is an image of Docker Hub.
    command.env("TESTCONTAINERS_RYUK_DISABLED", "true");
    let said: Said = command.arg(&script).output().unwrap().into();
    assert_eq!(said.ok(), "all done\n");
    assert_eq!(daemon.cli(&["ps", "-aq"]).ok(), "");
    assert_eq!(daemon.cli(&["network", "ls", "-q"]).ok().lines().count(), 3);
    daemon.finish();
}
