//! `registry init`, `registry user`, and the three ways to give `registry serve` its flags.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;

use engine_testkit::{command, require};
use rustix::process::Signal;

use crate::registry_server::Serving;
use crate::support::{Cli, Said};

fn login(cli: &Cli, host: &str, user: &str, password: &str) -> Said {
    cli.feed(&["login", "-u", user, "--password-stdin", host], password.as_bytes())
}

#[test]
fn a_private_registry_is_set_up_by_one_command() {
    require!(root, overlayfs, "busybox");
    let cli = Cli::new();
    let data = cli.path("registry").display().to_string();
    let place = ["--data", data.as_str()];
    let init = ["registry", "init", "me", "--password-stdin", "--data", &data];
    let said = cli.feed(&init, b"hush hush\n").ok();
    for word in ["me/**", "rules.toml", &format!("engine-cli registry serve --data {data}")] {
        assert!(said.contains(word), "{word}: {said}");
    }
    let rules = cli.path("registry/rules.toml");
    assert_eq!(fs::metadata(&rules).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(!fs::read_to_string(&rules).unwrap().contains("hush"));
    cli.feed(&init, b"other\n").fails(1, &["is there already", "user add"]);

    // Served as it is, it is private, and follows its file.
    let serving = Serving::start(&cli, &[&place[..], &["--log-level", "trace"]].concat());
    let host = serving.host.clone();
    let name = format!("{host}/me/app:1");
    cli.run(&["tag", "busybox", &name]).ok();
    cli.run(&["push", &name]).fails(1, &["log in"]);
    login(&cli, &host, "me", "wrong").fails(1, &[&host]);
    login(&cli, &host, "me", "hush hush").ok();
    cli.run(&["push", "-q", &name]).ok();
    cli.run(&["pull", "-q", &name]).ok();
    cli.run(&["tag", "busybox", &format!("{host}/other/app:1")]).ok();
    cli.run(&["push", &format!("{host}/other/app:1")]).fails(1, &["denied"]);
    let user = |args: &[&str], input: &str| {
        let all: Vec<&str> = ["registry", "user"].iter().chain(args).chain(&place).copied().collect();
        cli.feed(&all, input.as_bytes())
    };
    user(&["add", "--password-stdin", "guest", "--repository", "me/*", "--may", "pull"], "guest").ok();
    assert_eq!(user(&["ls"], "").ok(), "guest\nme\n");
    login(&cli, &host, "guest", "guest").ok();
    cli.run(&["pull", "-q", &name]).ok();
    cli.run(&["push", &name]).fails(1, &["denied"]);
    user(&["passwd", "--password-stdin", "guest"], "another").ok();
    cli.run(&["pull", &name]).fails(1, &["log in"]);
    login(&cli, &host, "guest", "another").ok();
    user(&["rm", "guest"], "").ok();
    cli.run(&["pull", &name]).fails(1, &["log in"]);
    assert_eq!(user(&["ls"], "").ok(), "me\n");
    for (args, input, words) in [
        (&["add", "--password-stdin", "me"][..], "x", &["me", "exists"][..]),
        (&["add", "--password-stdin", "a:b"], "x", &["a:b", "letters"]),
        (&["add", "--password-stdin", "new"], "", &["empty"]),
        (&["add", "new"], "x", &["--password-stdin"]),
        (&["add", "--password-stdin", "new", "--repository", "BAD"], "x", &["BAD", "lowercase"]),
        (&["rm", "nobody"], "", &["nobody"]),
        (&["passwd", "--password-stdin", "nobody"], "x", &["nobody"]),
    ] {
        user(args, input).fails(1, words);
    }
    assert_eq!(user(&["ls"], "").ok(), "me\n", "a failed command changed something");
    // A file that broke while serving changes nothing, and the log says so; starting with it fails.
    let text = fs::read_to_string(&rules).unwrap();
    fs::write(&rules, format!("{text}\n[[rules]]\nwho = \"nobody\"\n")).unwrap();
    login(&cli, &host, "me", "hush hush").ok();
    let said = serving.stop(Signal::INT);
    assert!(said.err.contains("no such user"), "the broken file was not told");
    for secret in ["hush", "bWU6aHVzaCBodXNo", "$2b$", "eyJ"] {
        assert!(!said.err.contains(secret) && !said.out.contains(secret), "{secret} is in the log");
    }
    let line = format!("line {}", text.lines().count() + 3);
    cli.run(&["registry", "serve", "--addr", "127.0.0.1:0", "--data", &data])
        .fails(1, &["rules.toml", &line, "who"]);
    cli.finish();
}

/// Sends a request without a body and returns the status of its answer.
fn status(serving: &Serving, method: &str, path: &str, logged_in: bool) -> String {
    let mut stream = TcpStream::connect(&serving.host).unwrap();
    let login = if logged_in { "Authorization: Basic bWU6cHc=\r\n" } else { "" };
    let host = &serving.host;
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: {host}\r\n{login}Content-Length: 0\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).unwrap();
    let mut said = String::new();
    stream.read_to_string(&mut said).unwrap();
    said.split(' ').nth(1).unwrap().to_owned()
}

#[test]
fn flags_are_in_a_file_the_environment_or_the_command_line() {
    require!("htpasswd");
    let cli = Cli::empty();
    let path = |name: &str| cli.path(name).display().to_string();
    let (data, config) = (path("data"), path("config.toml"));
    fs::write(path("users"), command("htpasswd", ["-Bbn", "-C", "5", "me", "pw"])).unwrap();
    fs::write(
        &config,
        format!(
            "# mine\naddr = \"127.0.0.1:0\"\ndata = {data:?}\nread-only = true\nhtpasswd = {:?}\n",
            path("users")
        ),
    )
    .unwrap();
    let serve = |args: &[&str], env: &[(&str, &str)]| {
        let mut command = cli.command(&[&["registry", "serve"], args].concat());
        command.envs(env.iter().copied());
        command
    };
    // The file's.
    let serving = Serving::run(serve(&["--config", &config], &[]));
    assert_eq!(status(&serving, "GET", "/v2/", false), "401");
    assert_eq!(status(&serving, "GET", "/v2/", true), "200");
    assert_eq!(status(&serving, "POST", "/v2/a/blobs/uploads/", true), "405");
    let said = serving.stop(Signal::INT);
    assert_eq!(said.code, 0, "{said:?}");
    assert!(fs::metadata(cli.path("data/registry.db")).is_ok());
    // The environment's before the file's, the command line's before both.
    let env = [("ENGINE_REGISTRY_CONFIG", config.as_str()), ("ENGINE_REGISTRY_READ_ONLY", "false")];
    let serving = Serving::run(serve(&["--auth", "none"], &env));
    assert_eq!(status(&serving, "POST", "/v2/a/blobs/uploads/", false), "202");
    drop(serving);
    let other = path("other");
    let env = [("ENGINE_REGISTRY_DATA", "/nowhere"), ("ENGINE_REGISTRY_CONFIG", config.as_str())];
    let serving = Serving::run(serve(&["--data", &other], &env));
    assert!(fs::metadata(cli.path("other/registry.db")).is_ok());
    drop(serving);

    for (text, words) in [
        ("addr = \"127.0.0.1:0\"\n\nadress = \"x\"", &["line 3", "adress", "no such key"][..]),
        ("read-only = \"yes\"", &["line 1", "read-only", "true or false"]),
        ("addr = true", &["line 1", "addr"]),
        ("addr = [\"127.0.0.1:0\"]", &["line 1", "addr"]),
        ("data = \"x\"\nauth = \"maybe\"", &["line 2", "auth", "maybe"]),
        ("[serve]\naddr = \"x\"", &["line 1", "serve"]),
        ("addr = ", &["line 1"]),
        ("config = \"x\"", &["line 1", "config"]),
    ] {
        fs::write(&config, text).unwrap();
        let said: Said = serve(&["--config", &config], &[]).output().unwrap().into();
        said.fails(125, words);
    }
    let said: Said = serve(&["--config", "/no/file"], &[]).output().unwrap().into();
    said.fails(125, &["/no/file"]);
    let said: Said = serve(&[], &[("ENGINE_REGISTRY_READ_ONLY", "maybe")]).output().unwrap().into();
    said.fails(125, &["ENGINE_REGISTRY_READ_ONLY"]);
    let said: Said = serve(&[], &[("ENGINE_REGISTRY_AUTH", "maybe")]).output().unwrap().into();
    said.fails(125, &["ENGINE_REGISTRY_AUTH", "maybe"]);
    cli.finish();
}

#[test]
fn ways_to_log_in_that_do_not_fit_are_refused() {
    let cli = Cli::empty();
    let data = cli.path("data").display().to_string();
    let serve = |args: &[&str]| {
        let all = ["registry", "serve", "--addr", "127.0.0.1:0", "--data", &data];
        cli.run(&[&all[..], args].concat())
    };
    serve(&["--auth", "token"]).fails(1, &["--rules", "registry init"]);
    serve(&["--auth", "basic"]).fails(1, &["--rules", "--htpasswd"]);
    serve(&["--rules", "/no/rules", "--htpasswd", "/no/users"]).fails(1, &["one of them"]);
    serve(&["--rules", "/no/rules"]).fails(1, &["/no/rules"]);
    serve(&["--external-url", "https://x"]).fails(1, &["--auth token"]);
    cli.run(&["registry", "user", "ls", "--data", &data]).fails(1, &["registry init"]);
    cli.feed(&["registry", "init", "me", "--password-stdin", "--data", &data], b"x").ok();
    serve(&["--external-url", "nonsense"]).fails(1, &["nonsense", "https://registry.example"]);
    let key = cli.path("data/token.key");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    serve(&[]).fails(1, &["token.key", "chmod 600"]);
    cli.finish();
}
