//! `registry serve`: with this command line as its client, and with others.

use std::io::Read;
use std::process::{Child, Command, Stdio};

use engine_testkit::{S3, command, image, require};
use rustix::process::{Pid, Signal, kill_process};

use crate::support::{Cli, Said};

/// A registry that a test started.
pub(crate) struct Serving {
    child: Child,
    pub(crate) host: String,
    pub(crate) scheme: String,
}

impl Serving {
    /// Starts a registry on a free port of loopback.
    pub(crate) fn start(cli: &Cli, args: &[&str]) -> Self {
        let all: Vec<&str> =
            ["registry", "serve", "--addr", "127.0.0.1:0"].iter().chain(args).copied().collect();
        Self::run(cli.command(&all))
    }

    /// Starts a registry by a command that has all it needs.
    pub(crate) fn run(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let line = read_line(child.stdout.as_mut().unwrap());
        let Some((scheme, rest)) = line.strip_prefix("Serving ").and_then(|rest| rest.split_once("://"))
        else {
            let mut err = String::new();
            child.stderr.take().unwrap().read_to_string(&mut err).unwrap();
            panic!("{line:?}, {err}");
        };
        let host = rest.split(' ').next().unwrap().to_owned();
        Self { host, scheme: scheme.to_owned(), child }
    }

    /// Returns the next line that it says.
    fn line(&mut self) -> String {
        read_line(self.child.stdout.as_mut().unwrap())
    }

    /// Interrupts it and waits for its end.
    pub(crate) fn stop(mut self, signal: Signal) -> Said {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
        let (mut out, mut err) = (String::new(), String::new());
        self.child.stdout.take().unwrap().read_to_string(&mut out).unwrap();
        self.child.stderr.take().unwrap().read_to_string(&mut err).unwrap();
        Said { code: self.child.wait().unwrap().code().unwrap_or(-1), out, err }
    }
}

/// Reads a line and nothing behind it.
fn read_line(mut from: impl Read) -> String {
    let (mut line, mut byte) = (Vec::new(), [0]);
    while !line.ends_with(b"\n") && from.read(&mut byte).unwrap() > 0 {
        line.push(byte[0]);
    }
    String::from_utf8(line).unwrap()
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn what_is_pushed_is_pulled_also_after_a_restart() {
    require!(root, overlayfs, "busybox");
    let cli = Cli::new();
    let data = cli.path("registry").display().to_string();
    let serving = Serving::start(&cli, &["--data", &data]);
    assert_eq!(serving.scheme, "http");
    let name = format!("{}/team/busybox:1", serving.host);
    cli.run(&["tag", "busybox", &name]).ok();
    let pushed = cli.run(&["push", &name]).ok();
    let digest = pushed.split("digest: ").nth(1).unwrap().split(' ').next().unwrap().to_owned();
    cli.run(&["artifact", "attach", "--type", "text/note", &name, &{
        let note = cli.path("note.txt");
        std::fs::write(&note, "hello").unwrap();
        note.display().to_string()
    }])
    .ok();
    let said = serving.stop(Signal::INT);
    assert_eq!(said.code, 0, "{said:?}");

    let serving = Serving::start(&cli, &["--data", &data, "--read-only"]);
    let name = format!("{}/team/busybox:1", serving.host);
    let pulled = cli.run(&["pull", &name]).ok();
    assert!(pulled.contains(&digest), "{pulled}");
    assert_eq!(cli.run(&["run", "--rm", &name, "echo", "from our own"]).ok(), "from our own\n");
    assert!(cli.run(&["artifact", "referrers", &name]).ok().contains("text/note"));
    cli.run(&["tag", "busybox", &format!("{}/team/other:1", serving.host)]).ok();
    cli.run(&["push", &format!("{}/team/other:1", serving.host)]).fails(1, &["read-only"]);
    assert_eq!(serving.stop(Signal::TERM).code, 0);
    cli.finish();
}

#[test]
fn users_log_in_and_others_stay_out() {
    require!(root, overlayfs, "busybox", "htpasswd", "skopeo");
    let cli = Cli::new();
    let (data, users) = (cli.path("registry").display().to_string(), cli.path("users").display().to_string());
    std::fs::write(&users, command("htpasswd", ["-Bbn", "-C", "5", "me", "hush hush"])).unwrap();
    let serving = Serving::start(&cli, &["--data", &data, "--htpasswd", &users, "--log-level", "trace"]);
    let name = format!("{}/mine:1", serving.host);
    cli.run(&["tag", "busybox", &name]).ok();
    cli.run(&["push", &name]).fails(1, &["log in"]);
    cli.feed(&["login", "-u", "me", "--password-stdin", &serving.host], b"wrong").fails(1, &[&serving.host]);
    cli.feed(&["login", "-u", "me", "--password-stdin", &serving.host], b"hush hush").ok();
    cli.run(&["push", "-q", &name]).ok();
    cli.run(&["pull", "-q", &name]).ok();
    let image = format!("docker://{name}");
    let raw =
        command("skopeo", ["inspect", "--raw", "--tls-verify=false", "--creds", "me:hush hush", &image]);
    assert!(raw.contains("layers"), "{raw}");
    // Whatever a registry logs, it is not this (SECURITY D6): nor as the header had it.
    let said = serving.stop(Signal::INT);
    assert!(said.err.contains("/v2/mine/manifests/1"), "there is a log: {said:?}");
    for field in ["user=\"me\"", "operation=\"manifest_put\"", "repository=\"mine\"", "status=201"] {
        assert!(said.err.contains(field), "{field} is not in the log: {said:?}");
    }
    for secret in ["hush", "bWU6aHVzaCBodXNo", "$2y$"] {
        assert!(!said.err.contains(secret) && !said.out.contains(secret), "{secret} is in the log");
    }
    cli.finish();
}

#[test]
fn what_would_be_unsafe_or_wrong_is_refused() {
    let cli = Cli::new();
    let serve = |args: &[&str]| {
        let data = cli.path("registry").display().to_string();
        let all: Vec<&str> = ["registry", "serve", "--data", &data].iter().chain(args).copied().collect();
        cli.run(&all)
    };
    serve(&["--addr", "0.0.0.0:0"]).fails(1, &["0.0.0.0", "--tls-cert", "--insecure"]);
    serve(&["--addr", "[::]:0"]).fails(1, &["--insecure"]);
    serve(&["--webhook", "nonsense"]).fails(1, &["http or https"]);
    let headers = cli.path("headers").display().to_string();
    std::fs::write(&headers, "Authorization hush").unwrap();
    let refused = serve(&["--webhook", "http://127.0.0.1:1/", "--webhook-headers", &headers]);
    assert!(!refused.err.contains("hush"), "{refused:?}");
    refused.fails(1, &["headers", "line 1"]);
    serve(&["--addr", "127.0.0.1:0", "--metrics-addr", "nonsense"]).fails(1, &["--metrics-addr"]);
    serve(&["--upstream", "UP=docker.io"]).fails(1, &["prefix", "UP"]);
    serve(&["--upstream", "up=a/b/c d"]).fails(1, &["registry"]);
    serve(&["--quota", "all"]).fails(125, &["--quota", "PATTERN=BYTES"]);
    serve(&["--quota", "all=much"]).fails(125, &["much", "no size"]);
    serve(&["--gc-grace", "soon"]).fails(125, &["soon", "no duration"]);
    serve(&["--addr", "nonsense"]).fails(1, &["nonsense", "HOST:PORT"]);
    serve(&["--addr", "127.0.0.1:0", "--tls-cert", "/no/cert"]).fails(125, &["--tls-key"]);
    let files = ["--addr", "127.0.0.1:0", "--tls-cert", "/no/cert", "--tls-key", "/no/key"];
    serve(&files).fails(1, &["/no/"]);
    serve(&["--addr", "127.0.0.1:0", "--htpasswd", "/no/users"]).fails(1, &["/no/users"]);
    let users = cli.path("users").display().to_string();
    std::fs::write(&users, "me:plain").unwrap();
    serve(&["--addr", "127.0.0.1:0", "--htpasswd", &users]).fails(1, &["line 1", "htpasswd -B"]);
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    serve(&["--addr", &address]).fails(1, &[&address, "in use"]);
    cli.finish();
}

#[test]
fn a_registry_caches_another() {
    require!(root, overlayfs, "busybox");
    let cli = Cli::new();
    let (origin, cached) =
        (cli.path("origin").display().to_string(), cli.path("cached").display().to_string());
    let source = Serving::start(&cli, &["--data", &origin]);
    let name = format!("{}/team/busybox:1", source.host);
    cli.run(&["tag", "busybox", &name]).ok();
    cli.run(&["push", "-q", &name]).ok();
    cli.run(&["rmi", &name]).ok();
    let upstream = format!("up={}", source.host);
    let serving = Serving::start(&cli, &["--data", &cached, "--upstream", &upstream]);
    let through = format!("{}/up/team/busybox:1", serving.host);
    cli.run(&["pull", "-q", &through]).ok();
    assert_eq!(cli.run(&["run", "--rm", &through, "echo", "cached"]).ok(), "cached\n");
    cli.run(&["push", &through]).fails(1, &["copy from"]);
    // As a mirror, it serves what the registry itself does not any more.
    let host = source.host.clone();
    assert_eq!(source.stop(Signal::TERM).code, 0);
    let mirror = format!("{host}=http://{}", serving.host);
    let pull = |args: &[&str]| {
        let all: Vec<&str> = args.iter().copied().chain(["pull", "-q", &name]).collect();
        cli.run(&all)
    };
    pull(&["--registry-mirror", &mirror]).ok();
    drop(serving);
    cli.finish();
}

#[test]
fn garbage_goes_beside_a_server_and_quotas_are_kept() {
    require!(root, overlayfs, "busybox");
    let cli = Cli::new();
    let data = cli.path("registry").display().to_string();
    let mut serving = Serving::start(
        &cli,
        &["--data", &data, "--quota", "small/*=1k", "--gc-interval", "0", "--metrics-addr", "127.0.0.1:0"],
    );
    let name = |text: &str| format!("{}/{text}", serving.host);
    for text in ["kept:1", "gone:1", "small/one:1"] {
        cli.run(&["tag", "busybox", &name(text)]).ok();
    }
    cli.run(&["push", "-q", &name("kept:1")]).ok();
    cli.run(&["push", &name("small/one:1")]).fails(1, &["small/one", "quota"]);
    let note = cli.path("note.txt");
    std::fs::write(&note, vec![b'n'; 10_000]).unwrap();
    let note = note.display().to_string();
    cli.run(&["artifact", "add", "--type", "text/note", &name("gone:1"), &note]).ok();
    cli.run(&["push", "-q", &name("gone:1")]).ok();
    let delete = format!("http://{}/v2/gone/manifests/1", serving.host);
    command("curl", ["-sSf", "-X", "DELETE", &delete]);
    let gc = |args: &[&str]| {
        let all: Vec<&str> = ["registry", "gc", "--data", &data].iter().chain(args).copied().collect();
        cli.run(&all).ok()
    };
    let nowhere = cli.path("nowhere").display().to_string();
    cli.run(&["registry", "gc", "--data", &nowhere]).fails(1, &["no registry", "nowhere"]);
    assert!(!cli.path("nowhere").exists());
    let young = gc(&["--untagged"]);
    assert!(young.contains("Removed 0 manifests, 0 blobs") && young.contains("Freed 0B"), "{young}");
    let would = gc(&["--untagged", "--grace", "0", "--dry-run"]);
    assert!(would.contains("Would remove 1 manifests") && would.contains("10kB"), "{would}");
    let did = gc(&["--untagged", "--grace", "0"]);
    assert_eq!(did, would.replace("Would remove", "Removed").replace("Would free", "Freed"));
    cli.run(&["pull", "-q", &name("kept:1")]).ok();
    let line = serving.line();
    let figures = command("curl", ["-sSf", line.trim().strip_prefix("Figures at ").unwrap()]);
    assert!(figures.contains("engine_registry_storage_manifests 1\n"), "{figures}");
    assert!(figures.contains("operation=\"manifest_delete\",status=\"202\"} 1\n"), "{figures}");
    drop(serving);
    cli.finish();
}

#[test]
fn two_servers_share_a_directory() {
    require!(root, "busybox", "skopeo");
    let cli = Cli::new();
    let data = cli.path("registry").display().to_string();
    let (one, two) = (Serving::start(&cli, &["--data", &data]), Serving::start(&cli, &["--data", &data]));
    let layout = cli.path("layout");
    image::busybox().write_layout(&layout, "v1");
    let source = format!("oci:{}:v1", layout.display());
    command(
        "skopeo",
        ["copy", "--dest-tls-verify=false", &source, &format!("docker://{}/shared:v1", one.host)],
    );
    let seen = format!("docker://{}/shared:v1", two.host);
    let raw = command("skopeo", ["inspect", "--raw", "--tls-verify=false", &seen]);
    assert!(raw.contains("layers"), "{raw}");
    command("skopeo", ["delete", "--tls-verify=false", &seen]);
    let listed =
        command("skopeo", ["list-tags", "--tls-verify=false", &format!("docker://{}/shared", one.host)]);
    assert!(!listed.contains("v1"), "{listed}");
    drop((one, two));
    cli.finish();
}

#[test]
fn two_servers_share_a_bucket() {
    require!(root, "busybox", "skopeo", "moto_server");
    let (cli, s3) = (Cli::new(), S3::start());
    let (place, variables) = (format!("s3://{}/images", S3::BUCKET), s3.variables());
    let serve = || {
        let mut command = cli.command(&["registry", "serve", "--addr", "127.0.0.1:0", "--storage", &place]);
        command.envs(variables);
        Serving::run(command)
    };
    let (one, two) = (serve(), serve());
    let layout = cli.path("layout");
    image::busybox().write_layout(&layout, "v1");
    let source = format!("oci:{}:v1", layout.display());
    let name = |of: &Serving| format!("docker://{}/shared:v1", of.host);
    command("skopeo", ["copy", "--dest-tls-verify=false", &source, &name(&one)]);
    drop(one);
    let back = format!("dir:{}", cli.path("back").display());
    command("skopeo", ["copy", "--src-tls-verify=false", &name(&two), &back]);
    command("skopeo", ["delete", "--tls-verify=false", &name(&two)]);

    let gc = |args: &[&str]| {
        let all = [&["registry", "gc", "--grace", "0"], args].concat();
        let done = cli.command(&all).envs(variables).output().unwrap();
        (done.status.code(), String::from_utf8(done.stdout).unwrap(), String::from_utf8(done.stderr).unwrap())
    };
    let (code, out, err) = gc(&["--storage", &place]);
    assert_eq!(code, Some(0), "{err}");
    assert!(out.contains("2 blobs from repositories") && out.contains("in 2 files"), "{out}");
    for (wrong, code, expected) in [
        (["--storage", "s3://nobodys"], 1, "NoSuchBucket"),
        (["--storage", "elsewhere"], 1, "is no URL"),
        (["--storage", "https://example.com"], 1, "s3://BUCKET/PREFIX"),
    ] {
        let (was, _, err) = gc(&wrong);
        assert!(was == Some(code) && err.contains(expected), "{wrong:?}: {was:?} {err}");
        assert!(!err.contains(S3::SECRET), "{err}");
    }
    drop(two);
    cli.finish();
}
