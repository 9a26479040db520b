//! Beside the engines of others as Debian has them, with real traffic: Docker's daemon and podman, each in the test's host.
//!
//! They run in the host's network namespace and else where the test runs. What they keep lies in the test's directory, and
//! their cgroups beneath one of their own, so that all of it can be removed.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use engine_core::Network as _;
use engine_core::network::{Attachment, EndpointOptions, PortMapping};
use engine_net::LocalNetworks;
use engine_testkit::require;
use nix::mount::{MntFlags, umount2};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::support::{Container, Host, Space};

/// How long a daemon may take to begin or to end.
const LONG: Duration = Duration::from_secs(60);
const PARENT: &str = "engine-test-beside";

fn text(output: Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_owned();
    assert!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
    text(&output.stdout)
}

/// An archive with a root file system of busybox alone.
fn archive() -> Vec<u8> {
    let root = tempfile::tempdir().unwrap();
    fs::create_dir(root.path().join("bin")).unwrap();
    fs::copy("/bin/busybox", root.path().join("bin/busybox")).unwrap();
    let tar = Command::new("tar").arg("-C").arg(root.path()).args(["-c", "."]).output().unwrap();
    assert!(tar.status.success());
    tar.stdout
}

fn feed(mut command: Command, input: &[u8]) -> String {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    text(child.wait_with_output().unwrap())
}

/// Removes what a killed engine left: processes that name the directory, mounts beneath it.
fn clean(dir: &Path) {
    for process in fs::read_dir("/proc").unwrap().flatten() {
        let Some(pid) = process.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        let command = fs::read(process.path().join("cmdline")).unwrap_or_default();
        let name = dir.as_os_str().as_encoded_bytes();
        if pid != std::process::id() as i32 && command.windows(name.len()).any(|part| part == name) {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
    }
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let beneath =
        mounts.lines().filter_map(|line| line.split(' ').nth(4)).filter(|at| Path::new(at).starts_with(dir));
    for mount in beneath.collect::<Vec<_>>().into_iter().rev() {
        let _ = umount2(mount, MntFlags::MNT_DETACH);
    }
}

/// Removes the cgroups of a parent that is ours, in each hierarchy.
fn clean_cgroups(parent: &str) {
    fn remove(dir: &Path) {
        fs::read_dir(dir)
            .into_iter()
            .flatten()
            .flatten()
            .filter(|entry| entry.path().is_dir())
            .for_each(|entry| remove(&entry.path()));
        let _ = fs::remove_dir(dir);
    }
    let hierarchies = fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten();
    hierarchies.for_each(|hierarchy| remove(&hierarchy.path().join(parent)));
    remove(&Path::new("/sys/fs/cgroup").join(parent));
}

/// Docker's daemon in a host.
struct Docker<'a> {
    host: &'a Space,
    dir: PathBuf,
    daemon: Option<Child>,
}

impl<'a> Docker<'a> {
    fn begin(host: &'a Space, dir: &Path) -> Self {
        let dir = dir.join("docker");
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join("daemon.json"), "{}").unwrap();
        let mut docker = Self { host, dir, daemon: None };
        docker.start();
        docker
    }

    fn socket(&self) -> String {
        format!("unix://{}", self.dir.join("sock").display())
    }

    fn start(&mut self) {
        let log = fs::File::options().create(true).append(true).open(self.dir.join("log")).unwrap();
        let mut command = Command::new("dockerd");
        command.args(["--storage-driver", "vfs", "--cgroup-parent", PARENT, "-H", &self.socket()]);
        for (flag, name) in [
            ("--data-root", "data"),
            ("--exec-root", "exec"),
            ("--pidfile", "pid"),
            ("--config-file", "daemon.json"),
        ] {
            command.arg(flag).arg(self.dir.join(name));
        }
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        self.daemon = Some(self.host.run(|| command.spawn().unwrap()));
        let end = Instant::now() + LONG;
        while !self.command(&["info"]).output().unwrap().status.success() {
            let log = || fs::read_to_string(self.dir.join("log")).unwrap();
            assert!(Instant::now() < end, "{}", log());
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    fn stop(&mut self) {
        let Some(mut daemon) = self.daemon.take() else { return };
        let _ = kill(Pid::from_raw(daemon.id() as i32), Signal::SIGTERM);
        let end = Instant::now() + LONG;
        while daemon.try_wait().unwrap().is_none() {
            if Instant::now() > end {
                daemon.kill().unwrap();
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("docker");
        command
            .args(["-H", &self.socket()])
            .args(arguments)
            .stdin(Stdio::null())
            .env("DOCKER_CONFIG", &self.dir);
        command
    }

    fn say(&self, arguments: &[&str]) -> String {
        text(self.command(arguments).output().unwrap())
    }
}

impl Drop for Docker<'_> {
    fn drop(&mut self) {
        if self.daemon.is_some()
            && let Ok(listed) = self.command(&["ps", "-aq"]).output()
        {
            let ids = String::from_utf8_lossy(&listed.stdout).into_owned();
            for id in ids.split_whitespace() {
                let _ = self.command(&["rm", "-f", id]).output();
            }
        }
        self.stop();
        clean(&self.dir);
        clean_cgroups(PARENT);
    }
}

/// A container of ours with its server, published at 8080.
struct Ours {
    network: LocalNetworks,
    container: Container,
    held: Attachment,
}

impl Ours {
    fn attach(host: &Host, network: LocalNetworks) -> Self {
        let container = Container::new();
        let (opened, sandbox) = (network.clone(), container.sandbox.clone());
        let held = host.run(async move {
            let options = EndpointOptions::default().with_ports([PortMapping::new(80).with_host_port(8080)]);
            opened.attach(&"bridge".parse().unwrap(), &sandbox, &options).await.unwrap()
        });
        container.space.echo("0.0.0.0:80");
        container.space.echo("0.0.0.0:81");
        Self { network, container, held }
    }

    fn detach(self, host: &Host) -> LocalNetworks {
        let (network, id) = (self.network.clone(), self.container.sandbox.id.clone());
        host.run(async move { network.detach(&"bridge".parse().unwrap(), &id).await.unwrap() });
        self.network
    }

    fn address(&self) -> String {
        self.held.endpoint.addresses[0].to_string()
    }

    fn gateway(&self) -> String {
        self.held.endpoint.gateways[0].to_string()
    }

    /// Reaches the world and is reached.
    fn works(&self, world: &Space) {
        assert_eq!(world.ask("192.0.2.1:8080").unwrap(), "192.0.2.2");
        assert_eq!(self.container.space.ask("192.0.2.2:7").unwrap(), "192.0.2.1");
        // By UDP, too, and only where it is published.
        assert_eq!(self.container.space.ask_udp("192.0.2.2:7").unwrap(), "192.0.2.1");
        assert!(world.is_refused(&format!("{}:81", self.address())));
    }
}

fn remove(host: &Host, network: LocalNetworks) {
    host.run(async move { network.remove(&"bridge".parse().unwrap()).await.unwrap() });
}

/// A program of busybox that answers each connection to its port with a word.
fn server<'a>(port: &'a str, word: &'a str) -> [&'a str; 9] {
    ["/bin/busybox", "nc", "-ll", "-p", port, "-e", "/bin/busybox", "echo", word]
}

/// Asks until there is an answer: a server in a container takes a moment to listen.
fn ask(from: &Space, address: &str) -> String {
    let end = Instant::now() + LONG;
    loop {
        match from.ask(address) {
            Ok(answer) if !answer.is_empty() => return answer.trim_end().to_owned(),
            answer => assert!(Instant::now() < end, "{address}: {answer:?}"),
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Rules of iptables, without what they counted.
fn rules(host: &Host) -> String {
    host.space.command("iptables", "-S") + &host.space.command("iptables", "-t nat -S")
}

#[test]
fn docker_and_this_engine_work_beside_each_other() {
    require!(root, "dockerd", "docker", "iptables", "tar");
    let host = Host::new();
    let world = host.neighbour();
    world.echo("0.0.0.0:7");
    // As on a host that has just booted: then Docker makes the chain FORWARD drop.
    host.space.command("sysctl", "-qw net.ipv4.ip_forward=0");
    let mut docker = Docker::begin(&host.space, host.dir.path());
    assert!(rules(&host).contains("-P FORWARD DROP"));
    let mut import = docker.command(&["import", "-", "box"]);
    import.stdin(Stdio::piped());
    feed(import, &archive());
    let before = rules(&host);

    // Ours first: it comes, is there while Docker's come and go.
    let ours = Ours::attach(&host, host.open());
    ours.works(&world);
    let run = |name: &str, publish: &str, word: &str| {
        // The first process of a container does not mind SIGTERM.
        let mut all = vec!["run", "-d", "--stop-signal", "KILL", "--restart", "always"];
        all.extend(["--name", name, "-p", publish, "box"]);
        all.extend(server("80", word));
        docker.say(&all);
    };
    run("web", "8081:80", "docker");
    let theirs = docker.say(&["inspect", "-f", "{{.NetworkSettings.IPAddress}}", "web"]);
    let both = |ours: &Ours, theirs: &str| {
        ours.works(&world);
        assert_eq!(ask(&world, "192.0.2.1:8081"), "docker");
        assert_eq!(ask(&ours.container.space, "192.0.2.1:8081"), "docker");
        // What Docker does not publish it does not publish to ours, either.
        assert!(ours.container.space.is_refused(&format!("{theirs}:81")));
    };
    both(&ours, &theirs);
    let asked = |address: &str, port: &str| {
        let mut command = docker.command(&["exec", "web", "/bin/busybox", "nc", "-w", "2", address, port]);
        command.output().unwrap()
    };
    // Docker gives what leaves its network the host's address.
    assert_eq!(
        text(asked("192.0.2.1", "8080")),
        ours.gateway(),
        "from Docker's container, where it is published"
    );
    assert_eq!(
        asked(&ours.address(), "81").stdout,
        b"",
        "from Docker's container, where nothing is published"
    );

    // Another network of Docker's, made while we are there.
    docker.say(&["network", "create", "other"]);
    let mut all = vec!["run", "-d", "--name", "hidden", "--network", "other", "box"];
    all.extend(server("81", "hidden"));
    docker.say(&all);
    let hidden = docker.say(&["inspect", "-f", "{{.NetworkSettings.Networks.other.IPAddress}}", "hidden"]);
    assert_eq!(ask(&host.space, &format!("{hidden}:81")), "hidden");
    both(&ours, &hidden);
    docker.say(&["rm", "-f", "hidden"]);
    docker.say(&["network", "rm", "other"]);

    // Each begins again.
    docker.stop();
    ours.works(&world);
    docker.start();
    both(&ours, &theirs);
    let network = ours.detach(&host);
    assert_eq!(ask(&world, "192.0.2.1:8081"), "docker");
    drop(network);
    let ours = Ours::attach(&host, host.open());
    both(&ours, &theirs);

    // Each goes, and the other stays.
    let network = ours.detach(&host);
    remove(&host, network);
    assert_eq!(ask(&world, "192.0.2.1:8081"), "docker");
    assert!(!rules(&host).contains("engine-"), "{}", rules(&host));
    let ours = Ours::attach(&host, host.open());
    docker.say(&["rm", "-f", "web"]);
    docker.stop();
    ours.works(&world);
    let network = ours.detach(&host);
    remove(&host, network);
    assert_eq!(rules(&host), before);
}

/// podman in a host. What it keeps in /run, names of namespaces among it, is in a mount namespace of the test's.
struct Podman {
    dir: PathBuf,
    holder: Child,
}

impl Podman {
    fn new(host: &Space, dir: &Path) -> Self {
        let dir = dir.join("podman");
        fs::create_dir_all(dir.join("networks")).unwrap();
        let mut command = Command::new("unshare");
        let hold = "mount -t tmpfs tmpfs /run && exec sleep 1000";
        command.args(["--mount", "--propagation", "private", "sh", "-c", hold]);
        let holder = host.run(|| command.spawn().unwrap());
        let end = Instant::now() + LONG;
        while fs::read_to_string(format!("/proc/{}/comm", holder.id())).unwrap() != "sleep\n" {
            assert!(Instant::now() < end, "no mount namespace");
            std::thread::sleep(Duration::from_millis(5));
        }
        Self { dir, holder }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--target", &self.holder.id().to_string(), "--mount", "--net", "podman"]);
        // Not crun, which knows no hierarchy that is cgroup v1 and v2 at once.
        command.args([
            "--runtime",
            "runc",
            "--cgroup-manager",
            "cgroupfs",
            "--events-backend",
            "none",
            "--storage-driver",
            "vfs",
        ]);
        for (flag, name) in [
            ("--root", "root"),
            ("--runroot", "run"),
            ("--tmpdir", "tmp"),
            ("--network-config-dir", "networks"),
        ] {
            command.arg(flag).arg(self.dir.join(name));
        }
        command.args(arguments).stdin(Stdio::null());
        command
    }

    fn say(&self, arguments: &[&str]) -> String {
        text(self.command(arguments).output().unwrap())
    }
}

impl Drop for Podman {
    fn drop(&mut self) {
        let _ = self.command(&["rm", "-fa", "-t", "0"]).output();
        let _ = self.holder.kill().and_then(|()| self.holder.wait().map(drop)).map_err(|_: io::Error| ());
        clean(&self.dir);
        clean_cgroups(PARENT);
    }
}

#[test]
fn podman_and_this_engine_work_beside_each_other() {
    require!(root, "podman", "runc", "iptables", "nsenter", "unshare", "tar");
    let host = Host::new();
    let world = host.neighbour();
    world.echo("0.0.0.0:7");
    let podman = Podman::new(&host.space, host.dir.path());
    feed(podman.command(&["import", "-", "box"]), &archive());
    let ours = Ours::attach(&host, host.open());
    let run = || {
        // The limits of whoever runs the tests may be lower than what podman wants to give.
        let mut all = vec!["run", "-d", "--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024"];
        let parent = format!("/{PARENT}");
        all.extend(["--cgroup-parent", &parent, "--name", "web", "-p", "8083:80", "box"]);
        all.extend(server("80", "podman"));
        podman.say(&all);
    };
    run();
    let both = |ours: &Ours| {
        ours.works(&world);
        assert_eq!(ask(&world, "192.0.2.1:8083"), "podman");
        assert_eq!(ask(&ours.container.space, "192.0.2.1:8083"), "podman");
    };
    both(&ours);
    let asked = |address: &str, port: &str| {
        podman.command(&["exec", "web", "/bin/busybox", "nc", "-w", "2", address, port]).output().unwrap()
    };
    assert_eq!(text(asked("192.0.2.1", "8080")), ours.gateway());
    assert_eq!(asked(&ours.address(), "81").stdout, b"");
    podman.say(&["restart", "-t", "0", "web"]);
    both(&ours);
    let network = ours.detach(&host);
    remove(&host, network);
    assert_eq!(ask(&world, "192.0.2.1:8083"), "podman");
    let ours = Ours::attach(&host, host.open());
    both(&ours);
    podman.say(&["rm", "-f", "-t", "0", "web"]);
    ours.works(&world);
    let network = ours.detach(&host);
    remove(&host, network);
    assert!(!host.space.command("nft", "list ruleset").contains("engine-"));
}
