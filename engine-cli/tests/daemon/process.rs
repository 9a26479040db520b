//! The daemon's own life: start, stop, sudden death, sockets, options.

use std::os::unix::fs::PermissionsExt as _;
use std::process::Stdio;

use engine_testkit::require;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair};

use crate::support::{Daemon, until};

#[test]
fn a_stop_and_a_start_leave_containers_alone() {
    require!(root, overlayfs, "docker", "unshare", "nsenter", "ip");
    let mut daemon = Daemon::start();
    let mode = std::fs::metadata(daemon.path("docker.sock")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o660);
    let id = daemon.docker(&["run", "-d", "--name", "stays", "busybox", "sleep", "1000"]).ok();
    let started = daemon.docker(&["inspect", "-f", "{{.State.StartedAt}} {{.State.Pid}}", "stays"]).ok();
    let mut events = daemon.on_host("docker").arg("events").stdout(Stdio::null()).spawn().unwrap();
    assert_eq!(daemon.end("TERM"), Some(0));
    // What follows something ends with the daemon.
    events.wait().unwrap();
    assert_eq!(daemon.docker(&["ps"]).code, 1);
    daemon.serve();
    assert_eq!(
        daemon.docker(&["inspect", "-f", "{{.State.StartedAt}} {{.State.Pid}}", "stays"]).ok(),
        started
    );
    assert_eq!(daemon.docker(&["ps", "-q", "--no-trunc"]).ok(), id);
    daemon.finish();
}

#[test]
fn sudden_death_loses_no_container_no_line_and_no_code() {
    require!(root, overlayfs, "docker", "unshare", "nsenter", "ip");
    const CONTAINERS: usize = 50;
    let mut daemon = Daemon::start();
    let script = "i=0; while [ $i -lt 400 ]; do echo line $i; i=$((i+1)); sleep 0.02; done; exit $0";
    for number in 0..CONTAINERS {
        let (name, code) = (format!("c{number}"), (number % 7).to_string());
        daemon
            .docker(&[
                "run",
                "-d",
                "--network",
                "none",
                "--name",
                &name,
                "busybox",
                "sh",
                "-c",
                script,
                &code,
            ])
            .ok();
    }
    let mut clients: Vec<_> = (0..3)
        .map(|number| {
            let mut command = daemon.on_host("docker");
            command
                .args(["attach", "--no-stdin", &format!("c{number}")])
                .stdout(Stdio::null())
                .stderr(Stdio::null());
            command.spawn().unwrap()
        })
        .collect();
    std::thread::sleep(std::time::Duration::from_millis(500));
    daemon.end("KILL");
    for client in &mut clients {
        client.wait().unwrap();
    }
    daemon.serve();
    let names: Vec<_> = (0..CONTAINERS).map(|number| format!("c{number}")).collect();
    let of_all = |args: &[&str]| {
        let names = names.iter().map(String::as_str);
        daemon.docker(&args.iter().copied().chain(names).collect::<Vec<_>>()).ok()
    };
    // None was started anew: each goes on or has ended by itself.
    let states = of_all(&["inspect", "-f", "{{.RestartCount}} {{.State.Status}}"]);
    assert_eq!(states.lines().count(), CONTAINERS);
    assert!(states.lines().all(|state| ["0 running", "0 exited"].contains(&state)), "{states}");
    let codes: String = (0..CONTAINERS).map(|number| format!("{}\n", number % 7)).collect();
    assert_eq!(of_all(&["wait"]), codes);
    let expected: String = (0..400).map(|line| format!("line {line}\n")).collect();
    for name in &names {
        let log = daemon.docker(&["logs", name]).ok();
        assert!(log == expected, "{name} has {} lines", log.lines().count());
    }
    daemon.finish();
}

#[test]
fn containers_come_back_by_their_policy_and_go_by_themselves() {
    require!(root, overlayfs, "docker", "unshare", "nsenter", "ip");
    let mut daemon = Daemon::start();
    // Ended while nobody serves: the next daemon removes it.
    daemon.docker(&["run", "-d", "--rm", "--name", "brief", "busybox", "sh", "-c", "sleep 0.5"]).ok();
    daemon.end("KILL");
    std::thread::sleep(std::time::Duration::from_secs(1));
    daemon.serve();
    until("it is removed", || daemon.docker(&["ps", "-aq"]).ok().is_empty());
    daemon.finish();
}

#[test]
fn options_of_a_file_are_those_of_dockerd() {
    require!(root, overlayfs, "docker", "unshare", "nsenter", "ip");
    let mut daemon = Daemon::prepare(&["--config", "daemon.json", "--pidfile", "daemon.pid"]);
    let write = |text: &str| std::fs::write(daemon.path("daemon.json"), text).unwrap();
    for (text, words) in [
        (r#"{"colour": "red"}"#, "colour"),
        (r#"{"hosts": ["unix:///x.sock"]}"#, "both as a flag and in the configuration file: hosts"),
        (r#"{"group": "nobody-has-this"}"#, "nobody-has-this"),
    ] {
        write(text);
        let said = daemon.command().output().unwrap();
        let error = String::from_utf8_lossy(&said.stderr);
        assert!(!said.status.success() && error.contains(words), "{text}: {error}");
    }
    write(r#"{"default-address-pools": [{"base": "10.77.0.0/16", "size": 24}], "log-level": "debug"}"#);
    assert!(daemon.command().arg("--validate").status().unwrap().success());
    daemon.serve();
    assert_eq!(std::fs::read_to_string(daemon.path("daemon.pid")).unwrap(), daemon.pid().to_string());
    daemon.docker(&["network", "create", "pooled"]).ok();
    let subnet =
        daemon.docker(&["network", "inspect", "-f", "{{(index .IPAM.Config 0).Subnet}}", "pooled"]).ok();
    assert!(subnet.starts_with("10.77."), "{subnet}");
    let second = daemon.command().output().unwrap();
    assert!(String::from_utf8_lossy(&second.stderr).contains("is running"), "{second:?}");
    daemon.docker(&["network", "rm", "pooled"]).ok();
    daemon.finish();
}

#[test]
fn systemd_opens_its_socket() {
    require!(root, overlayfs, "docker", "unshare", "nsenter", "ip", "systemd-socket-activate");
    let daemon = Daemon::prepare(&[]);
    let socket = daemon.path("activated.sock");
    let mut child = daemon
        .on_host("systemd-socket-activate")
        .arg("-l")
        .arg(&socket)
        .arg(env!("CARGO_BIN_EXE_engine-cli"))
        .arg("--root")
        .arg(daemon.path("root"))
        .args(["daemon", "-H", "fd://"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    until("the socket is there", || socket.exists());
    let host = format!("unix://{}", socket.display());
    let version = daemon
        .on_host("docker")
        .args(["-H", &host, "version", "-f", "{{.Server.Version}}"])
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&version.stdout).trim(), env!("CARGO_PKG_VERSION"), "{version:?}");
    engine_testkit::command("kill", [child.id().to_string()]);
    assert!(child.wait().unwrap().success());
    let alone = daemon
        .on_host(env!("CARGO_BIN_EXE_engine-cli"))
        .args(["--root", "r", "daemon", "-H", "fd://"])
        .output();
    assert!(String::from_utf8_lossy(&alone.unwrap().stderr).contains("systemd"), "it needs sockets");
}

#[test]
fn tcp_takes_certificates_on_both_sides() {
    require!(root, overlayfs, "docker", "unshare", "nsenter", "ip");
    let mut daemon = Daemon::prepare(&[]);
    let dir = daemon.path("tls");
    certificates(&dir);
    let plain = daemon.command().args(["-H", "tcp://127.0.0.1:2376"]).output().unwrap();
    assert!(String::from_utf8_lossy(&plain.stderr).contains("--tlsverify"), "{plain:?}");
    for arg in ["-H", "tcp://127.0.0.1:2376", "--tlsverify"] {
        daemon.args.push(arg.to_owned());
    }
    for (flag, name) in [("--tlscacert", "ca.pem"), ("--tlscert", "cert.pem"), ("--tlskey", "key.pem")] {
        daemon.args.extend([flag.to_owned(), dir.join(name).display().to_string()]);
    }
    daemon.serve();
    let ask = |with: &[&str]| {
        let mut command = daemon.on_host("docker");
        command.env("DOCKER_HOST", "tcp://127.0.0.1:2376").env("DOCKER_CERT_PATH", &dir);
        command.args(with).args(["version", "-f", "{{.Server.Os}}"]).output().unwrap()
    };
    let verified = ask(&["--tlsverify"]);
    assert_eq!(String::from_utf8_lossy(&verified.stdout), "linux\n", "{verified:?}");
    assert!(!ask(&[]).status.success());
    // One that has no certificate of the authority's.
    std::fs::remove_file(dir.join("cert.pem")).unwrap();
    std::fs::remove_file(dir.join("key.pem")).unwrap();
    assert!(!ask(&["--tls"]).status.success());
    daemon.finish();
}

/// Makes an authority, and a certificate of it that is the server's and the client's.
fn certificates(dir: &std::path::Path) {
    std::fs::create_dir_all(dir).unwrap();
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(["127.0.0.1".to_owned()]).unwrap();
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    let certificate = params.signed_by(&key, &authority).unwrap();
    for (name, text) in
        [("ca.pem", authority.pem()), ("cert.pem", certificate.pem()), ("key.pem", key.serialize_pem())]
    {
        std::fs::write(dir.join(name), text).unwrap();
    }
}

#[test]
fn figures_for_prometheus_are_where_they_are_asked_for() {
    require!(root, overlayfs, "docker", "unshare", "nsenter", "ip", "curl");
    let daemon = Daemon::with(&["--metrics-addr", "127.0.0.1:0"]);
    let address = daemon.said.lines().find_map(|line| line.strip_prefix("Metrics at ")).unwrap().to_owned();
    daemon.docker(&["run", "-d", "--network", "none", "busybox", "sleep", "1000"]).ok();
    daemon.docker(&["create", "busybox"]).ok();
    assert_eq!(daemon.docker(&["start", "absent"]).code, 1);
    let curl = |path: &str| {
        let said: engine_testkit::Said =
            daemon.on_host("curl").args(["-sS", "-w", "%{http_code}", path]).output().unwrap().into();
        said.ok()
    };
    let text = curl(&address);
    let value = |name: &str| -> f64 {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("{name}: {text}")).parse().unwrap()
    };
    assert_eq!(value("engine_daemon_container_states_containers{state=\"running\"}"), 1.0);
    assert_eq!(value("engine_daemon_container_states_containers{state=\"stopped\"}"), 1.0);
    assert_eq!(value("engine_daemon_container_actions_seconds_count{action=\"create\"}"), 2.0);
    assert_eq!(value("engine_daemon_container_actions_seconds_bucket{action=\"start\",le=\"+Inf\"}"), 1.0);
    assert!(value("engine_daemon_http_requests_total{code=\"404\"}") >= 1.0);
    assert!(value("process_resident_memory_bytes") > 1e6 && value("process_cpu_seconds_total") >= 0.0);
    // Nothing else is served there.
    let other = curl(&address.replace("/metrics", "/containers/json"));
    assert!(other.ends_with("404"), "{other}");
    daemon.finish();
}
