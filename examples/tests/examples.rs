//! The examples, run as a reader would: each against a real registry and a root of its own.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use engine_testkit::{LeakCheck, Registry, RegistryMode, command, image, require};

/// Returns the built example, which cargo puts beside the tests; built now where only the tests were asked for.
fn example(name: &str) -> PathBuf {
    let here = std::env::current_exe().expect("path of this test");
    let profile = here.parent().and_then(Path::parent).expect("target/<profile>/deps");
    let path = profile.join("examples").join(name);
    if !path.exists() {
        let mut build = Command::new(env!("CARGO"));
        build.args(["build", "--quiet", "--package", "engine-examples", "--example", name]);
        assert!(build.status().expect("run cargo").success(), "building {name}");
    }
    path
}

/// An engine's directory and a registry with busybox.
struct Stage {
    _dir: tempfile::TempDir,
    root: PathBuf,
    image: String,
    _registry: Registry,
    leaks: Option<LeakCheck>,
}

impl Stage {
    fn set(name: &str) -> Self {
        let dir = tempfile::tempdir().expect("temporary directory");
        let registry = Registry::start(RegistryMode::Plain);
        let image = registry.push(&image::busybox(), name, "1");
        let root = dir.path().join("root");
        Self { _dir: dir, root, image, _registry: registry, leaks: None }
    }

    /// Runs an example to its end and returns what it printed.
    fn run(&mut self, name: &str, args: &[&str]) -> String {
        let output = Command::new(example(name))
            .arg(&self.image)
            .args(args)
            .env("ENGINE_ROOT", &self.root)
            .output()
            .expect("run the example");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{name}: {text}{}", String::from_utf8_lossy(&output.stderr));
        text
    }

    /// Begins the leak check, once the engine's directory is there.
    fn watch(&mut self) {
        self.leaks = Some(LeakCheck::begin(&self.root, &self.root.join("run")));
    }
}

#[test]
fn hooks() {
    require!(root, overlayfs, "docker-registry");
    let mut stage = Stage::set("hooks");
    let text = stage.run("hooks", &[]);
    assert!(text.contains("only /srv may be shared with containers"), "{text}");
    assert!(text.contains("exited with 0"), "{text}");
    stage.watch();
    stage.run("hooks", &[]);
    stage.leaks.take().expect("begun above").finish();
}

#[test]
fn pull_and_run() {
    require!(root, overlayfs, "docker-registry");
    let mut stage = Stage::set("pull-and-run");
    assert_eq!(stage.run("pull_and_run", &["echo", "hello"]), "hello\nexited with 0\n");
    stage.watch();
    assert_eq!(stage.run("pull_and_run", &["sh", "-c", "echo out; exit 3"]), "out\nexited with 3\n");
    stage.leaks.take().expect("begun above").finish();
}

#[test]
fn detached_survives_its_program() {
    require!(root, overlayfs, "docker-registry");
    let mut stage = Stage::set("detached");
    assert!(stage.run("detached", &[]).starts_with("started "));
    assert_eq!(stage.run("detached", &[]), "line 1\nline 2\nline 3\nline 4\nline 5\nexited with 42\n");
    stage.watch();
    // And once more from the beginning.
    stage.run("detached", &[]);
    stage.run("detached", &[]);
    stage.leaks.take().expect("begun above").finish();
}

#[test]
fn scoped_ends_with_its_program() {
    require!(root, overlayfs, "docker-registry");
    let mut stage = Stage::set("scoped");
    let text = stage.run("scoped", &[]);
    assert!(text.contains("alive: true") && text.contains("its container was gone"), "{text}");
    stage.watch();
    stage.run("scoped", &[]);
    stage.leaks.take().expect("begun above").finish();
}

#[test]
fn private_registry() {
    require!("skopeo", "busybox", "htpasswd");
    let dir = tempfile::tempdir().expect("temporary directory");
    let path = |name: &str| dir.path().join(name).display().to_string();
    std::fs::write(path("users"), command("htpasswd", ["-Bbn", "-C", "5", "me", "secret"]))
        .expect("write the users");
    let mut served = Command::new(example("private_registry"))
        .args(["127.0.0.1:0", &path("data"), &path("users")])
        .stdout(Stdio::piped())
        .spawn()
        .expect("run the example");
    let mut line = String::new();
    let mut output = BufReader::new(served.stdout.take().expect("its output"));
    output.read_line(&mut line).expect("read its output");
    let host = line.trim().strip_prefix("serving ").expect("where it serves").to_owned();
    image::busybox().write_layout(Path::new(&path("layout")), "v1");
    let (source, target) = (format!("oci:{}:v1", path("layout")), format!("docker://{host}/mine:v1"));
    let skopeo =
        |args: &[&str]| Command::new("skopeo").args(args).output().expect("run skopeo").status.success();
    assert!(!skopeo(&["copy", "--dest-tls-verify=false", &source, &target]), "a stranger was let in");
    assert!(skopeo(&["copy", "--dest-tls-verify=false", "--dest-creds", "me:secret", &source, &target]));
    let interrupted =
        Command::new("kill").args(["-INT", &served.id().to_string()]).status().expect("run kill");
    assert!(interrupted.success() && served.wait().expect("wait").success(), "it did not end well");
}

#[test]
fn orchestrator() {
    require!(root, overlayfs, "docker-registry");
    let mut stage = Stage::set("orchestrator");
    let up = |replicas: usize| format!("{replicas} replicas of {} are up", stage.image);
    let mut orchestrator = Command::new(example("orchestrator"))
        .args([&stage.image, "2", "sh", "-c", "touch /up; exec sleep 1000"])
        .env("ENGINE_ROOT", &stage.root)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("run the example");
    let mut wishes = orchestrator.stdin.take().expect("its input was piped");
    let mut lines = BufReader::new(orchestrator.stdout.take().expect("its output was piped")).lines();
    let mut until =
        |wanted: &str| lines.by_ref().map(|line| line.expect("its output")).any(|line| line == wanted);
    assert!(until(&up(2)));
    writeln!(wishes, "scale 3").expect("it reads");
    assert!(until("web-3: started") && until(&up(3)));
    writeln!(wishes, "down").expect("it reads");
    assert!(until("web-1: removed"));
    assert!(orchestrator.wait().expect("wait for it").success());
    stage.watch();
    stage.leaks.take().expect("begun above").finish();
}
