//! Compose, from PyPI: files of services, up and down.

use std::process::Command;

use engine_testkit::require;

use crate::support::{Daemon, Said, until};

const FILE: &str = include_str!("files/compose.yaml");

fn compose(daemon: &Daemon, args: &[&str]) -> Said {
    let mut command: Command = daemon.client("docker-compose");
    command.args(["--project-name", "shop", "--file", "compose.yaml"]).args(args);
    command.output().unwrap().into()
}

#[test]
fn services_come_up_in_order_and_go_down() {
    require!(
        root,
        overlayfs,
        "unshare",
        "nsenter",
        "ip",
        "docker",
        "/opt/engine-tests/clients/bin/docker-compose"
    );
    let daemon = Daemon::start();
    std::fs::write(daemon.path("compose.yaml"), FILE).unwrap();
    std::fs::write(daemon.path(".env"), "GREETING=hello\n").unwrap();
    compose(&daemon, &["config", "--quiet"]).ok();
    compose(&daemon, &["up", "--detach"]).ok();
    let names = compose(&daemon, &["ps", "--format", "{{.Service}}"]).ok();
    let mut names: Vec<_> = names.lines().collect();
    names.sort_unstable();
    assert_eq!(names, ["database", "web", "web"], "the profile's service is not asked for");
    // The web's containers were started when the database was healthy, and reach it by its name.
    let at = |name: &str| daemon.docker(&["inspect", "-f", "{{.State.StartedAt}}", name]).ok();
    assert!(at("shop-web-1") > at("shop-database-1"));
    let page = ["exec", "-T", "web", "busybox", "wget", "-q", "-O", "-", "http://database/"];
    until("the page is served", || compose(&daemon, &page).out == "hello\n");
    assert!(compose(&daemon, &["logs", "--no-color", "web"]).ok().contains("web says hello"));
    let id = daemon.docker(&["inspect", "-f", "{{.Id}}", "shop-database-1"]).ok();

    // Nothing changed, and nothing is made anew.
    compose(&daemon, &["up", "--detach"]).ok();
    assert_eq!(daemon.docker(&["inspect", "-f", "{{.Id}}", "shop-database-1"]).ok(), id);
    compose(&daemon, &["up", "--detach", "--scale", "web=3"]).ok();
    assert_eq!(compose(&daemon, &["ps", "-q", "web"]).ok().lines().count(), 3);
    std::fs::write(daemon.path(".env"), "GREETING=goodbye\n").unwrap();
    compose(&daemon, &["up", "--detach"]).ok();
    assert_ne!(daemon.docker(&["inspect", "-f", "{{.Id}}", "shop-database-1"]).ok(), id);
    until("the new page is served", || compose(&daemon, &page).out == "goodbye\n");

    let ran = compose(&daemon, &["--profile", "tools", "run", "--rm", "-T", "tool", "cat", "/shared/made"]);
    assert_eq!(ran.out, "made\n", "{ran:?}");
    compose(&daemon, &["stop"]).ok();
    assert_eq!(compose(&daemon, &["ps", "-q"]).ok(), "");
    compose(&daemon, &["start"]).ok();
    compose(&daemon, &["restart", "web"]).ok();
    compose(&daemon, &["cp", "web:/etc/hostname", "copied"]).ok();
    assert!(daemon.path("copied").exists());
    assert!(compose(&daemon, &["top", "web"]).ok().contains("sleep"));
    assert!(compose(&daemon, &["port", "database", "80"]).ok().contains(':'));
    compose(&daemon, &["down", "--volumes"]).ok();
    assert_eq!(daemon.docker(&["ps", "-aq"]).ok(), "");
    assert_eq!(daemon.docker(&["volume", "ls", "-q"]).ok(), "");
    let networks = daemon.docker(&["network", "ls", "--format", "{{.Name}}"]).ok();
    assert!(!networks.contains("shop"), "{networks}");
    daemon.finish();
}

#[test]
fn the_first_compose_works_as_well() {
    require!(root, overlayfs, "unshare", "nsenter", "ip", "docker", "/usr/bin/docker-compose");
    let daemon = Daemon::start();
    // A key that it does not know.
    std::fs::write(daemon.path("compose.yaml"), FILE.replace("    scale: 2\n", "")).unwrap();
    std::fs::write(daemon.path(".env"), "GREETING=hello\n").unwrap();
    let compose = |args: &[&str]| -> Said {
        let mut command = daemon.on_host("/usr/bin/docker-compose");
        command.args(["--project-name", "shop", "--file", "compose.yaml"]).args(args);
        command.output().unwrap().into()
    };
    compose(&["up", "--detach"]).ok();
    compose(&["up", "--detach", "--scale", "web=2"]).ok();
    assert_eq!(compose(&["ps", "-q", "web"]).ok().lines().count(), 2);
    let page = ["exec", "-T", "web", "busybox", "wget", "-q", "-O", "-", "http://database/"];
    until("the page is served", || compose(&page).out == "hello\n");
    assert!(compose(&["logs", "--no-color", "web"]).ok().contains("web says hello"));
    let restarted = compose(&["restart", "web"]);
    assert_eq!(restarted.code, 0, "{restarted:?}");
    compose(&["down", "--volumes"]).ok();
    assert_eq!(daemon.docker(&["ps", "-aq"]).ok(), "");
    daemon.finish();
}
