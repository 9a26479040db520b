//! docker-py, from PyPI, driving everything it has.

use engine_testkit::require;

use crate::support::{Daemon, Said};

#[test]
fn docker_py_drives_containers_images_networks_and_volumes() {
    require!(root, overlayfs, "unshare", "nsenter", "ip", "/opt/engine-tests/clients/bin/python");
    let daemon = Daemon::start();
    let script = daemon.path("script.py");
    std::fs::write(&script, include_str!("files/docker_py.py")).unwrap();
    let said: Said = daemon.client("python").arg(&script).output().unwrap().into();
    let out = said.ok();
    assert!(out.ends_with("all done\n"), "{out}");
    daemon.finish();
}
