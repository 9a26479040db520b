//! Engines elsewhere, by address and by name.

use std::io::{Read as _, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use engine_testkit::require;

use crate::support::{Cli, Said};

/// A command with nothing but what this test sets, on whichever engine is meant.
fn anywhere(cli: &Cli, variables: &[(&str, &str)], args: &[&str]) -> Said {
    let mut command = crate::daemons::engine_cli();
    command.args(args).envs(variables.iter().copied()).env("DOCKER_CONFIG", cli.path("docker"));
    command.stdin(Stdio::null()).output().unwrap().into()
}

#[test]
fn a_context_is_a_name_for_a_host() {
    require!(root, overlayfs, "docker");
    let cli = Cli::new();
    let host = cli.serve();
    let here = |args: &[&str]| anywhere(&cli, &[], args);
    assert_eq!(here(&["context", "show"]).ok(), "default\n");
    let endpoint = format!("host={host}");
    here(&["context", "create", "box", "--description", "A box", "--docker", &endpoint]).ok();
    let table = here(&["context", "ls"]).ok();
    assert!(table.contains("default *") && table.contains(&host), "{table}");
    assert_eq!(here(&["context", "inspect", "box", "-f", "{{.Endpoints.docker.Host}}"]).ok().trim(), host);

    // By its name, by the environment, and for good; what is named on the command line counts before all.
    let busybox = "busybox:latest\n";
    let images = ["images", "--format", "{{.Repository}}:{{.Tag}}"];
    let by = |first: &[&str]| here(&first.iter().chain(&images).copied().collect::<Vec<_>>());
    assert_eq!(by(&["--context", "box"]).ok(), busybox);
    assert_eq!(anywhere(&cli, &[("DOCKER_CONTEXT", "box")], &images).ok(), busybox);
    assert_eq!(
        anywhere(&cli, &[("DOCKER_HOST", &host), ("DOCKER_CONTEXT", "nothing")], &images).ok(),
        busybox
    );
    let over = [("DOCKER_HOST", host.as_str())];
    let said = anywhere(&cli, &over, &["context", "use", "box"]);
    assert!(said.err.contains("DOCKER_HOST counts before"), "{}", said.err);
    assert!(here(&["context", "use", "box"]).err.is_empty());
    assert_eq!(by(&[]).ok(), busybox);
    assert_eq!(here(&["context", "show"]).ok(), "box\n");
    assert_eq!(anywhere(&cli, &over, &["context", "show"]).ok(), "default\n");
    assert!(here(&["--host", &host, "context", "ls"]).ok().contains("default *"));
    // What is none of ours is in nobody's way.
    std::fs::write(cli.path("docker/contexts/meta/.DS_Store"), "x").unwrap();
    let empty = cli.path("another").display().to_string();
    assert_eq!(by(&["--root", &empty]).ok(), "");

    // Docker's command line finds it, and what that makes is found here.
    let docker = |args: &[&str]| -> Said {
        let mut command = Command::new("docker");
        command.args(args).env("DOCKER_CONFIG", cli.path("docker")).env_remove("DOCKER_HOST");
        command.output().unwrap().into()
    };
    assert_eq!(docker(&[&["--context", "box"], &images[..]].concat()).ok(), busybox);
    docker(&["context", "create", "theirs", "--docker", &endpoint]).ok();
    assert_eq!(by(&["-c", "theirs"]).ok(), busybox);

    here(&["context", "update", "theirs", "--description", "Docker's"]).ok();
    assert!(here(&["context", "ls"]).ok().contains("Docker's"));
    here(&["context", "rm", "box"]).fails(1, &["box", "in use"]);
    here(&["context", "rm", "-f", "box", "theirs"]).ok();
    assert_eq!(here(&["context", "ls", "-q"]).ok(), "default\n");
    cli.finish();
}

#[test]
fn wrong_hosts_and_contexts_are_named() {
    require!(root, overlayfs);
    let cli = Cli::new();
    let here = |args: &[&str]| anywhere(&cli, &[], args);
    for wrong in ["/run/sock", "unix://relative", "tcp://", "http://box", "ssh://-x"] {
        here(&["--host", wrong, "ps"]).fails(1, &[wrong]);
    }
    let nobody = format!("unix://{}", cli.path("nobody").display());
    here(&["--host", &nobody, "ps"]).fails(1, &[&nobody, "is the daemon running?"]);
    // This machine is not the one that was asked for.
    let info = here(&["--host", &nobody, "info"]);
    assert_eq!(info.out, "");
    info.fails(1, &[&nobody]);
    here(&["--tls", "--context", "default", "ps"]).fails(1, &["--tls"]);
    let mut command = crate::daemons::engine_cli();
    let no_text = std::ffi::OsStr::from_bytes(b"unix:///\xff");
    let said: Said = command.arg("ps").env("DOCKER_HOST", no_text).output().unwrap().into();
    said.fails(1, &["DOCKER_HOST is no text"]);
    // Somebody else's daemon.
    let socket = cli.path("other.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    let daemon = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let _ = stream.read(&mut [0; 4096]).unwrap();
        stream
            .write_all(b"HTTP/1.1 200 OK\r\nServer: Docker/28.2.2 (linux)\r\nContent-Length: 2\r\n\r\nOK")
            .unwrap();
    });
    let theirs = format!("unix://{}", socket.display());
    let said = anywhere(&cli, &[("DOCKER_HOST", &theirs)], &["ps"]);
    said.fails(1, &[&theirs, "Docker/28.2.2", "--context default"]);
    daemon.join().unwrap();
    here(&["--context", "nothing", "ps"]).fails(1, &["nothing", "context ls"]);
    here(&["--host", &nobody, "--context", "x", "ps"]).fails(125, &["--context"]);
    let root = cli.root().display().to_string();
    here(&["--root", &root, "--host", &nobody, "ps"]).fails(1, &["--root", "--host"]);
    here(&["context", "create", "x y", "--docker", "host=unix:///s"]).fails(1, &["x y"]);
    here(&["context", "create", "default", "--docker", "host=unix:///s"]).fails(1, &["default"]);
    here(&["context", "create", "xy"]).fails(1, &["host"]);
    here(&["context", "create", "xy", "--docker", "hose=unix:///s"]).fails(1, &["hose=unix:///s"]);
    here(&["context", "create", "xy", "--docker", "host=nowhere"]).fails(1, &["nowhere"]);
    let certificates = "ca=/no/such/ca,cert=/no/such/cert,key=/no/such/key";
    here(&["context", "create", "xy", "--docker", &format!("host=tcp://box,{certificates}")])
        .fails(1, &["/no/such/ca"]);
    // Without one of them there is no TLS, and without TLS everybody would be believed.
    here(&["context", "create", "xy", "--docker", "host=tcp://127.0.0.1:1,ca=/etc/hosts"])
        .fails(1, &["cert=FILE is missing"]);
    assert_eq!(here(&["context", "ls", "-q"]).ok(), "default\n");
    here(&["context", "use", "xy"]).fails(1, &["xy"]);
    here(&["context", "rm", "xy"]).fails(1, &["xy"]);
    cli.finish();
}

#[test]
fn what_only_others_know_of_a_context_stays() {
    let dir = tempfile::tempdir().unwrap();
    let here = |args: &[&str]| -> Said {
        let mut command = crate::daemons::engine_cli();
        command.args(args).env("DOCKER_CONFIG", dir.path()).stdin(Stdio::null()).output().unwrap().into()
    };
    here(&["context", "create", "theirs", "--docker", "host=unix:///s"]).ok();
    let meta = std::fs::read_dir(dir.path().join("contexts/meta")).unwrap().next().unwrap().unwrap().path();
    let file = meta.join("meta.json");
    let read = || serde_json::from_slice::<serde_json::Value>(&std::fs::read(&file).unwrap()).unwrap();
    let made = serde_json::json!({
        "Name": "theirs", "Metadata": {},
        "Endpoints": {"docker": {"Host": "unix:///s", "SkipTLSVerify": false}},
    });
    assert_eq!(read(), made);
    let mut known = serde_json::json!({
        "Name": "theirs", "Metadata": {"Description": "one", "otherTool": {"a": [1]}}, "Later": 7,
        "Endpoints": {
            "docker": {"Host": "unix:///s", "SkipTLSVerify": true, "New": "x"},
            "kubernetes": {"Host": "https://k", "DefaultNamespace": "n"},
        },
    });
    std::fs::write(&file, known.to_string()).unwrap();
    here(&["context", "update", "theirs", "--description", "two", "--docker", "host=unix:///t"]).ok();
    known["Metadata"]["Description"] = "two".into();
    known["Endpoints"]["docker"]["Host"] = "unix:///t".into();
    assert_eq!(read(), known);

    // A part of its certificates is gone.
    let tls = dir.path().join("contexts/tls").join(meta.file_name().unwrap()).join("docker");
    std::fs::create_dir_all(&tls).unwrap();
    std::fs::write(tls.join("ca.pem"), "x").unwrap();
    here(&["context", "update", "theirs", "--docker", "host=tcp://127.0.0.1:1"])
        .fails(1, &["cert=FILE is missing"]);
    known["Endpoints"]["docker"]["Host"] = "tcp://127.0.0.1:1".into();
    std::fs::write(&file, known.to_string()).unwrap();
    here(&["--context", "theirs", "ps"]).fails(1, &["theirs", "no cert"]);
}

#[test]
fn an_engine_is_reached_by_ssh() {
    require!(root, overlayfs);
    let cli = Cli::new();
    let socket = cli.serve().strip_prefix("unix://").unwrap().to_owned();
    // What ssh(1) does, without a network: it gives the command to the shell of the user there.
    let bin = cli.path("bin");
    std::fs::create_dir(&bin).unwrap();
    let script = "#!/bin/sh\n\
        while [ \"$1\" != -- ]; do shift; done\n\
        [ \"$2\" = box ] || { echo \"ssh: Could not resolve hostname $2\" >&2; exit 255; }\n\
        exec sh -c \"$3\"\n";
    std::fs::write(bin.join("ssh"), script).unwrap();
    std::fs::set_permissions(bin.join("ssh"), std::fs::Permissions::from_mode(0o755)).unwrap();
    let there = Path::new(env!("CARGO_BIN_EXE_engine-cli")).parent().unwrap();
    let path = format!("{}:{}:{}", bin.display(), there.display(), std::env::var("PATH").unwrap_or_default());
    let far =
        |host: &str, args: &[&str]| anywhere(&cli, &[("PATH", &path)], &[&["--host", host], args].concat());
    let host = format!("ssh://me@box:2222{socket}");
    assert_eq!(far(&host, &["run", "--rm", "busybox", "echo", "far"]).ok(), "far\n");
    assert_eq!(far(&host, &["run", "--rm", "busybox", "sh", "-c", "exit 3"]).code, 3);
    assert_eq!(far(&host, &["ps", "-aq"]).ok(), "");
    // What is typed at the terminal goes to every program in front of it, and is meant for the one in the container.
    let script = "trap 'echo caught; exit 4' INT; echo ready; sleep 1000 & wait";
    let mut command = crate::daemons::engine_cli();
    command.args(["--host", &host, "run", "--rm", "busybox", "sh", "-c", script]).env("PATH", &path);
    let mut child = cli.spawn(command.stdin(Stdio::null()).process_group(0));
    let mut ready = [0; 6];
    child.stdout.as_mut().unwrap().read_exact(&mut ready).unwrap();
    rustix::process::kill_process_group(
        rustix::process::Pid::from_child(&child),
        rustix::process::Signal::INT,
    )
    .unwrap();
    let said: Said = child.wait_with_output().unwrap().into();
    assert_eq!((said.code, said.out.as_str()), (4, "caught\n"), "{}", said.err);
    far("ssh://elsewhere", &["ps"]).fails(1, &["ssh://elsewhere", "Could not resolve hostname elsewhere"]);
    let nobody = format!("ssh://box{}", cli.path("nobody").display());
    far(&nobody, &["ps"]).fails(1, &[&nobody]);
    cli.finish();
}
