//! Docker's command line against the daemon: every command, what it prints and how it ends.

use std::time::SystemTime;

use engine_testkit::require;

use crate::support::{Daemon, until};

#[test]
fn containers_are_run_as_docker_runs_them() {
    require!(root, overlayfs, "docker", "unshare", "nsenter", "ip");
    let daemon = Daemon::start();
    let docker = |args: &[&str]| daemon.docker(args);
    // The default network, as of itself.
    let said = docker(&["run", "--rm", "busybox", "sh", "-c", "echo out; echo err >&2; exit 5"]);
    assert_eq!((said.code, said.out.as_str(), said.err.as_str()), (5, "out\n", "err\n"));
    assert_eq!(docker(&["run", "--rm", "busybox", "no-such-command"]).code, 127);
    assert_eq!(docker(&["run", "--rm", "busybox", "/etc"]).code, 126);
    assert_eq!(docker(&["run", "--rm", "--memory", "1", "busybox"]).code, 125);
    let absent = docker(&["run", "--rm", "--pull", "never", "nothing:1", "true"]);
    assert!(absent.code == 125 && absent.err.contains("No such image: nothing:1"), "{absent:?}");
    assert_eq!(docker(&["ps", "-aq"]).ok(), "", "what failed left something");

    let many = [
        "run",
        "--rm",
        "--name",
        "all",
        "--hostname",
        "h",
        "--env",
        "A=b",
        "--workdir",
        "/tmp",
        "--user",
        "3:4",
        "--label",
        "l=v",
        "--memory",
        "64m",
        "--cpus",
        "0.5",
        "--pids-limit",
        "50",
        "--read-only",
        "--tmpfs",
        "/scratch",
        "--cap-drop",
        "ALL",
        "--init",
        "--ulimit",
        "nofile=100:200",
        "--dns",
        "192.0.2.1",
        "--add-host",
        "other:192.0.2.2",
        "busybox",
        "sh",
        "-c",
        "hostname; echo $A $PWD $(id -u):$(id -g); ulimit -n; grep other /etc/hosts; touch /x || touch /scratch/x && echo written",
    ];
    let out = docker(&many).ok();
    let lines: Vec<_> = out.lines().collect();
    assert_eq!(lines[..3], ["h", "b /tmp 3:4", "100"], "{out}");
    assert!(
        lines[3].starts_with("192.0.2.2") && lines[3].ends_with("other") && lines[4] == "written",
        "{out}"
    );

    let id = docker(&[
        "run",
        "-d",
        "--name",
        "web",
        "-p",
        "127.0.0.1:8080:80",
        "busybox",
        "busybox",
        "httpd",
        "-f",
        "-h",
        "/",
    ])
    .ok();
    assert_eq!(id.trim().len(), 64);
    assert_eq!(docker(&["port", "web"]).ok(), "80/tcp -> 127.0.0.1:8080\n");
    let fetch = || {
        daemon
            .on_host("busybox")
            .args(["wget", "-q", "-O", "-", "http://127.0.0.1:8080/etc/hostname"])
            .output()
    };
    until("the port answers", || fetch().unwrap().stdout == format!("{}\n", &id[..12]).as_bytes());
    let row = docker(&["ps", "--format", "{{.Names}}|{{.Image}}|{{.State}}|{{.Ports}}|{{.Command}}"]).ok();
    assert_eq!(row, "web|busybox|running|127.0.0.1:8080->80/tcp|\"busybox httpd -f -h…\"\n");
    assert!(docker(&["ps", "--format", "{{.Status}}"]).ok().starts_with("Up "));
    let address = docker(&["inspect", "-f", "{{.NetworkSettings.Networks.bridge.IPAddress}}", "web"]).ok();
    assert!(address.starts_with("172."), "{address}");
    assert_eq!(docker(&["exec", "web", "cat", "/etc/hostname"]).ok(), format!("{}\n", &id[..12]));
    assert!(docker(&["top", "web"]).ok().contains("httpd"));
    docker(&["pause", "web"]).ok();
    assert!(docker(&["ps", "--format", "{{.Status}}"]).ok().contains("(Paused)"));
    docker(&["unpause", "web"]).ok();
    docker(&["rename", "web", "site"]).ok();
    docker(&["update", "--memory", "32m", "--memory-swap", "32m", "site"]).ok();
    assert_eq!(docker(&["inspect", "-f", "{{.HostConfig.Memory}}", "site"]).ok(), format!("{}\n", 32 << 20));
    assert_eq!(docker(&["restart", "-t", "0", "site"]).ok(), "site\n");
    docker(&["exec", "site", "touch", "/new"]).ok();
    assert!(docker(&["diff", "site"]).ok().contains("A /new"));
    docker(&["kill", "site"]).ok();
    assert_eq!(docker(&["wait", "site"]).ok(), "137\n");
    assert!(docker(&["ps", "-a", "--format", "{{.Status}}"]).ok().starts_with("Exited (137)"));
    let twice = docker(&["create", "--name", "site", "busybox"]);
    assert!(twice.code == 1 && twice.err.contains("is already in use by container"), "{twice:?}");
    docker(&["start", "site"]).ok();
    let running = docker(&["rm", "site"]);
    assert!(running.code == 1 && running.err.contains("container is running"), "{running:?}");
    docker(&["stop", "-t", "0", "site"]).ok();
    assert_eq!(docker(&["rm", "site"]).ok(), "site\n");

    docker(&["create", "--name", "one", "busybox", "echo", "started"]).ok();
    assert_eq!(docker(&["start", "-a", "one"]).ok(), "started\n");
    assert_eq!(docker(&["logs", "one"]).ok(), "started\n");
    assert!(docker(&["container", "prune", "-f"]).ok().contains("Total reclaimed space"));
    assert_eq!(docker(&["ps", "-aq"]).ok(), "");
    daemon.finish();
}

#[test]
fn health_restarts_and_events_are_told() {
    require!(root, overlayfs, "docker", "unshare", "nsenter", "ip");
    let daemon = Daemon::start();
    let docker = |args: &[&str]| daemon.docker(args);
    docker(&[
        "run",
        "-d",
        "--name",
        "sick",
        "--health-cmd",
        "test -f /well",
        "--health-interval",
        "100ms",
        "--health-retries",
        "1",
        "busybox",
        "sleep",
        "1000",
    ])
    .ok();
    let health = || docker(&["inspect", "-f", "{{.State.Health.Status}}", "sick"]).ok();
    until("it is unhealthy", || health() == "unhealthy\n");
    docker(&["exec", "sick", "touch", "/well"]).ok();
    until("it is healthy", || health() == "healthy\n");
    assert!(
        docker(&["ps", "--filter", "health=healthy", "--format", "{{.Status}}"]).ok().contains("(healthy)")
    );
    docker(&["run", "-d", "--name", "stubborn", "--restart", "on-failure:2", "busybox", "false"]).ok();
    until("it gave up", || {
        docker(&["inspect", "-f", "{{.RestartCount}} {{.State.Status}}", "stubborn"]).ok() == "2 exited\n"
    });
    // The client has times in whole seconds.
    let until = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs() + 2;
    let (until, filter) = (until.to_string(), ["--filter", "container=sick", "--format", "{{.Action}}"]);
    let since = [&["events", "--since", "1h", "--until", &until][..], &filter].concat();
    let events = docker(&since).ok();
    for action in ["create", "start", "health_status: unhealthy", "health_status: healthy"] {
        assert!(events.lines().any(|line| line == action), "{action}: {events}");
    }
    daemon.finish();
}

#[test]
fn images_volumes_networks_and_the_system_are_shown() {
    require!(root, overlayfs, "docker", "unshare", "nsenter", "ip");
    let daemon = Daemon::start();
    let docker = |args: &[&str]| daemon.docker(args);
    assert!(docker(&["version"]).ok().contains("Server:"));
    let info = docker(&["info"]).ok();
    for line in ["Containers: 0", "Images: 1", "Server Version: ", "Swarm: inactive", "Operating System: "] {
        assert!(info.contains(line), "{line}: {info}");
    }
    assert_eq!(docker(&["images", "--format", "{{.Repository}}:{{.Tag}}"]).ok(), "busybox:latest\n");
    docker(&["tag", "busybox", "other:2"]).ok();
    docker(&["image", "inspect", "other:2"]).ok();
    let archive = daemon.path("saved.tar").display().to_string();
    docker(&["save", "-o", &archive, "busybox", "other:2"]).ok();
    assert!(docker(&["rmi", "other:2"]).ok().contains("Untagged: other:2"));
    assert!(docker(&["rmi", "-f", "busybox"]).ok().contains("Deleted: sha256:"));
    let loaded = docker(&["load", "-i", &archive]).ok();
    assert!(
        loaded.contains("Loaded image: busybox:latest") && loaded.contains("Loaded image: other:2"),
        "{loaded}"
    );
    assert!(docker(&["history", "busybox"]).ok().lines().count() >= 2);
    docker(&["run", "--name", "changed", "busybox", "touch", "/made"]).ok();
    assert!(
        docker(&["commit", "-m", "note", "-c", "ENV K=v", "changed", "kept:1"]).ok().starts_with("sha256:")
    );
    assert_eq!(docker(&["run", "--rm", "kept:1", "sh", "-c", "ls /made; echo $K"]).ok(), "/made\nv\n");
    docker(&["export", "-o", &archive, "changed"]).ok();
    docker(&["import", &archive, "flat:1"]).ok();
    assert_eq!(docker(&["run", "--rm", "flat:1", "/bin/ls", "/made"]).ok(), "/made\n");
    docker(&["rm", "changed"]).ok();

    docker(&["volume", "create", "--label", "a=b", "data"]).ok();
    docker(&["run", "--rm", "-v", "data:/d", "busybox", "sh", "-c", "echo x > /d/f"]).ok();
    assert_eq!(docker(&["run", "--rm", "-v", "data:/d:ro", "busybox", "cat", "/d/f"]).ok(), "x\n");
    assert_eq!(docker(&["volume", "ls", "-q", "--filter", "label=a"]).ok(), "data\n");
    assert!(docker(&["volume", "inspect", "-f", "{{.Mountpoint}}", "data"]).ok().starts_with('/'));
    docker(&["run", "-d", "--name", "holder", "-v", "data:/d", "busybox", "sleep", "100"]).ok();
    let held = docker(&["volume", "rm", "data"]);
    assert!(held.code == 1 && held.err.contains("volume is in use"), "{held:?}");
    assert_eq!(docker(&["run", "--rm", "--volumes-from", "holder", "busybox", "cat", "/d/f"]).ok(), "x\n");
    docker(&["rm", "-f", "holder"]).ok();
    docker(&["volume", "rm", "data"]).ok();

    docker(&["network", "create", "--subnet", "10.98.0.0/24", "inner"]).ok();
    docker(&[
        "run",
        "-d",
        "--name",
        "server",
        "--network",
        "inner",
        "--ip",
        "10.98.0.9",
        "busybox",
        "busybox",
        "httpd",
        "-f",
    ])
    .ok();
    let named =
        docker(&["run", "--rm", "--network", "inner", "busybox", "busybox", "nslookup", "server"]).out;
    assert!(named.contains("10.98.0.9"), "{named}");
    docker(&["run", "-d", "--name", "late", "busybox", "sleep", "100"]).ok();
    docker(&["network", "connect", "--alias", "nick", "inner", "late"]).ok();
    assert!(docker(&["network", "inspect", "inner"]).ok().contains("\"Name\": \"late\""));
    let busy = docker(&["network", "rm", "inner"]);
    assert!(busy.code == 1 && busy.err.contains("has active endpoints"), "{busy:?}");
    docker(&["network", "disconnect", "inner", "late"]).ok();
    docker(&["rm", "-f", "late", "server"]).ok();
    docker(&["network", "rm", "inner"]).ok();
    let listed = docker(&["network", "ls", "--format", "{{.Name}}"]).ok();
    assert_eq!(listed.lines().collect::<Vec<_>>(), ["bridge", "host", "none"]);
    assert!(docker(&["system", "df"]).ok().contains("Images"));
    assert!(docker(&["system", "prune", "-af", "--volumes"]).ok().contains("Total reclaimed space"));
    assert_eq!(docker(&["images", "-q"]).ok(), "");
    daemon.finish();
}
