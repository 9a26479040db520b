//! Real clients against `registry serve`: docker with its daemon, podman, skopeo, and this command line.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use engine_testkit::{command, image, require};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustix::mount::{UnmountFlags, unmount};
use rustix::process::{Pid, Signal, kill_process};

use crate::registry_server::Serving;
use crate::support::Cli;

const LONG: Duration = Duration::from_secs(60);
const PASSWORD: &str = "hush hush";

/// Docker's daemon, which has no network and runs nothing, with its client.
struct Docker {
    dir: PathBuf,
    daemon: Child,
}

impl Docker {
    fn start(dir: &Path) -> Self {
        let dir = dir.join("docker-daemon");
        fs::create_dir_all(dir.join("home")).unwrap();
        fs::write(dir.join("daemon.json"), "{}").unwrap();
        let log = fs::File::create(dir.join("log")).unwrap();
        let mut command = Command::new("dockerd");
        command.args([
            "--storage-driver",
            "vfs",
            "--bridge",
            "none",
            "--iptables=false",
            "--ip6tables=false",
        ]);
        command.arg("-H").arg(format!("unix://{}", dir.join("sock").display()));
        for (flag, name) in [
            ("--data-root", "data"),
            ("--exec-root", "exec"),
            ("--pidfile", "pid"),
            ("--config-file", "daemon.json"),
        ] {
            command.arg(flag).arg(dir.join(name));
        }
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        let docker = Self { daemon: command.spawn().unwrap(), dir };
        let end = Instant::now() + LONG;
        while !docker.run(&["version"]).status.success() {
            assert!(Instant::now() < end, "{}", fs::read_to_string(docker.dir.join("log")).unwrap());
            std::thread::sleep(Duration::from_millis(100));
        }
        docker
    }

    fn command(&self) -> Command {
        let mut command = Command::new("docker");
        command.arg("-H").arg(format!("unix://{}", self.dir.join("sock").display()));
        command.env("DOCKER_CONFIG", self.dir.join("home")).stdin(Stdio::null());
        command
    }

    fn run(&self, args: &[&str]) -> Output {
        self.command().args(args).output().unwrap()
    }

    #[track_caller]
    fn ok(&self, args: &[&str]) -> String {
        succeeded(self.run(args))
    }

    #[track_caller]
    fn fails(&self, args: &[&str], word: &str) {
        let output = self.run(args);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && said.contains(word), "{args:?}: {said}");
    }

    #[track_caller]
    fn login(&self, host: &str, password: &str) -> Output {
        let mut command = self.command();
        command.args(["login", "-u", "me", "--password-stdin", host]);
        feed(command, password)
    }

    /// Returns the digest that an image has at a registry.
    #[track_caller]
    fn digest(&self, name: &str) -> String {
        let all = self.ok(&["image", "inspect", "-f", "{{join .RepoDigests \" \"}}", name]);
        let repository = name.rsplit_once(':').unwrap().0;
        let mine = all.split_whitespace().find_map(|one| one.strip_prefix(&format!("{repository}@")));
        mine.unwrap_or_else(|| panic!("{name} is not in {all}")).to_owned()
    }
}

impl Drop for Docker {
    fn drop(&mut self) {
        let _ = kill_process(Pid::from_child(&self.daemon), Signal::TERM);
        let end = Instant::now() + LONG;
        while let Ok(None) = self.daemon.try_wait() {
            if Instant::now() > end {
                // Its containerd, which it would have ended.
                let pid = fs::read_to_string(self.dir.join("exec/containerd/containerd.pid")).ok();
                if let Some(pid) = pid.and_then(|pid| Pid::from_raw(pid.trim().parse().ok()?)) {
                    let _ = kill_process(pid, Signal::KILL);
                }
                let _ = self.daemon.kill();
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        unmount_beneath(&self.dir);
    }
}

fn unmount_beneath(dir: &Path) {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let beneath =
        mounts.lines().filter_map(|line| line.split(' ').nth(4)).filter(|at| Path::new(at).starts_with(dir));
    for mount in beneath.collect::<Vec<_>>().into_iter().rev() {
        let _ = unmount(mount, UnmountFlags::DETACH);
    }
}

#[track_caller]
fn succeeded(output: Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_owned();
    assert!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
    text(&output.stdout)
}

fn feed(mut command: Command, input: &str) -> Output {
    use std::io::Write as _;
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

/// podman, with all it keeps in a directory.
struct Podman {
    dir: PathBuf,
    /// What says whether certificates are looked at.
    tls: String,
}

impl Podman {
    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new("podman");
        for (flag, name) in [("--root", "root"), ("--runroot", "run"), ("--tmpdir", "tmp")] {
            command.arg(flag).arg(self.dir.join(name));
        }
        command.args(["--storage-driver", "vfs", "--cgroup-manager", "cgroupfs", "--events-backend", "none"]);
        command
            .args(args)
            .arg("--authfile")
            .arg(self.dir.join("auth.json"))
            .arg(&self.tls)
            .stdin(Stdio::null());
        command
    }

    #[track_caller]
    fn ok(&self, args: &[&str]) -> String {
        succeeded(self.command(args).output().unwrap())
    }
}

impl Drop for Podman {
    fn drop(&mut self) {
        unmount_beneath(&self.dir);
    }
}

/// Writes the certificate of an authority, and one for loopback with its key.
fn certificates(dir: &Path) {
    fs::create_dir(dir).unwrap();
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec!["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
    fs::create_dir(dir.join("trust")).unwrap();
    fs::write(dir.join("trust/ca.crt"), issuer.pem()).unwrap();
    fs::write(dir.join("server.pem"), params.signed_by(&key, &issuer).unwrap().pem()).unwrap();
    fs::write(dir.join("server.key"), key.serialize_pem()).unwrap();
}

/// An image goes from client to client through a registry: each has the digest that the others have.
fn round(cli: &Cli, docker: &Docker, flags: &[&str], rules: bool) {
    let path = |name: &str| cli.path(name).display().to_string();
    let serving = Serving::start(cli, flags);
    let (host, tls) = (serving.host.clone(), serving.scheme == "https");
    let trust = path("certs/trust");
    let name = |client: &str| format!("{host}/me/{client}:v1");
    let skopeo = |args: &[&str], side: &str| {
        let (certs, creds) = (format!("--{side}cert-dir={trust}"), format!("--{side}creds=me:{PASSWORD}"));
        let check = format!("--{side}tls-verify=false");
        let mut all = args.to_vec();
        all.extend([creds.as_str(), if tls { &certs } else { &check }]);
        command("skopeo", all)
    };
    let at_registry = |client: &str| {
        let raw = skopeo(&["inspect", "--raw", &format!("docker://{}", name(client))], "");
        image::digest(raw.as_bytes())
    };

    // skopeo brings it.
    let there = image::busybox_layers(2);
    let layout = cli.path("layout");
    let _ = fs::remove_dir_all(&layout);
    there.write_layout(&layout, "v1");
    let target = format!("docker://{}", name("skopeo"));
    skopeo(&["copy", &format!("oci:{}:v1", layout.display()), &target], "dest-");
    assert_eq!(at_registry("skopeo"), there.digest());

    // podman takes it and brings it again.
    let podman = Podman {
        dir: cli.path("podman"),
        tls: if tls { format!("--cert-dir={trust}") } else { "--tls-verify=false".to_owned() },
    };
    let login =
        |password: &str| feed(podman.command(&["login", "-u", "me", "--password-stdin", &host]), password);
    assert!(!login("wrong").status.success());
    succeeded(login(PASSWORD));
    podman.ok(&["pull", "-q", &name("skopeo")]);
    let digest_file = path("digest");
    podman.ok(&["push", "-q", "--digestfile", &digest_file, &name("skopeo"), &name("podman")]);
    let digest = fs::read_to_string(&digest_file).unwrap();
    assert_eq!(at_registry("podman"), digest);

    // docker takes that and brings its own.
    assert!(!docker.login(&host, "wrong").status.success());
    docker.fails(&["pull", &name("podman")], "");
    succeeded(docker.login(&host, PASSWORD));
    let kept = fs::read_to_string(docker.dir.join("home/config.json")).unwrap();
    assert_eq!(kept.contains("identitytoken"), rules, "with tokens, docker keeps no password: {kept}");
    docker.ok(&["pull", &name("podman")]);
    assert_eq!(docker.digest(&name("podman")), digest);
    docker.ok(&["tag", &name("podman"), &name("docker")]);
    docker.ok(&["push", &name("docker")]);
    let digest = docker.digest(&name("docker"));
    assert_eq!(at_registry("docker"), digest);

    // This takes it, and what it brings is what docker gets.
    let ca = format!("--registry-ca={trust}/ca.crt");
    let ours = |args: &[&str], input: &str| {
        let mut all = if tls { vec![ca.as_str()] } else { Vec::new() };
        all.extend(args);
        cli.feed(&all, input.as_bytes())
    };
    ours(&["login", "-u", "me", "--password-stdin", &host], PASSWORD).ok();
    assert!(ours(&["pull", &name("docker")], "").ok().contains(&digest));
    ours(&["tag", &name("docker"), &name("ours")], "").ok();
    ours(&["push", "-q", &name("ours")], "").ok();
    let digest = at_registry("ours");
    docker.ok(&["pull", &name("ours")]);
    assert_eq!(docker.digest(&name("ours")), digest);

    if rules {
        docker.fails(&["pull", &format!("{host}/other/app:v1")], "denied");
        docker.ok(&["tag", &name("docker"), &format!("{host}/other/app:v1")]);
        docker.fails(&["push", &format!("{host}/other/app:v1")], "denied");
    }
    docker.ok(&["logout", &host]);
    docker.fails(&["pull", &name("ours")], if rules { "unauthorized" } else { "no basic auth credentials" });
    if rules {
        // Nobody needs to log in for what is everybody's.
        let public = format!("{host}/me/public/app:v1");
        skopeo(&["copy", &format!("oci:{}:v1", layout.display()), &format!("docker://{public}")], "dest-");
        docker.ok(&["pull", &public]);
        assert_eq!(docker.digest(&public), there.digest());
    }

    let repository = format!("docker://{host}/me/docker");
    assert!(skopeo(&["list-tags", &repository], "").contains("\"v1\""));
    skopeo(&["delete", &format!("{repository}:v1")], "");
    let names = docker.ok(&["images", "--format", "{{.Repository}}:{{.Tag}}"]);
    let mut remove = vec!["rmi", "-f"];
    remove.extend(names.lines());
    docker.ok(&remove);
    assert!(!skopeo(&["list-tags", &repository], "").contains("\"v1\""));
    let said = serving.stop(Signal::TERM);
    assert_eq!(said.code, 0, "{said:?}");
}

#[test]
fn docker_podman_skopeo_and_this_share_a_private_registry() {
    require!(root, overlayfs, "busybox", "dockerd", "docker", "podman", "skopeo", "htpasswd");
    let cli = Cli::empty();
    let path = |name: &str| cli.path(name).display().to_string();
    certificates(&cli.path("certs"));
    fs::write(path("users"), command("htpasswd", ["-Bbn", "-C", "5", "me", PASSWORD])).unwrap();
    let rules = path("rules.toml");
    let init = ["registry", "init", "me", "--password-stdin", "--data", &path("a"), "--rules", &rules];
    cli.feed(&init, PASSWORD.as_bytes()).ok();
    let everybody =
        "\n[[rules]]\nwho = [\"anonymous\", \"*\"]\nmay = \"pull\"\nrepositories = \"me/public/*\"\n";
    fs::write(&rules, fs::read_to_string(&rules).unwrap() + everybody).unwrap();
    let docker = Docker::start(cli.dir.path());
    round(&cli, &docker, &["--data", &path("a"), "--htpasswd", &path("users")], false);
    let (cert, key) = (path("certs/server.pem"), path("certs/server.key"));
    let tls = ["--data", &path("b"), "--rules", &rules, "--tls-cert", &cert, "--tls-key", &key];
    round(&cli, &docker, &tls, true);
    drop(docker);
    cli.finish();
}
