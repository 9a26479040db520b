//! Secrets: `secret …`, `run --secret`, and that nothing but the store has their content.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use engine_testkit::require;

use super::support::{Cli, until};

/// What nobody may find.
const CANARY: &str = "canary-3f9a-plaintext";

/// Returns the files beneath `dir` that have `text` in them.
fn files_with(dir: &Path, text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut todo = vec![dir.to_owned()];
    while let Some(dir) = todo.pop() {
        for entry in std::fs::read_dir(&dir).unwrap().flatten() {
            let kind = entry.file_type().unwrap();
            if kind.is_dir() {
                todo.push(entry.path());
            } else if kind.is_file() {
                let bytes = std::fs::read(entry.path()).unwrap_or_default();
                if bytes.windows(text.len()).any(|window| window == text.as_bytes()) {
                    found.push(entry.path().display().to_string());
                }
            }
        }
    }
    found
}

#[test]
fn d6_only_the_store_has_a_secrets_content() {
    require!(root, overlayfs);
    let cli = Cli::new();
    let id = cli.feed(&["secret", "create", "db", "-"], CANARY.as_bytes()).ok().trim().to_owned();
    let store = cli.root().join("secrets");
    assert_eq!(store.metadata().unwrap().permissions().mode() & 0o777, 0o700);
    assert_eq!(store.join(&id).metadata().unwrap().permissions().mode() & 0o777, 0o600);
    let script = "cat /run/secrets/db > /dev/null; echo ready; sleep 1000";
    let flags =
        ["--name", "app", "--secret", "db", "--secret", "db,type=env,target=TOKEN", "--log-opt", "env=TOKEN"];
    cli.start(&[&flags[..], &["--health-cmd", "true", "busybox", "sh", "-c", script]].concat());
    until("the log", || cli.run(&["logs", "app"]).out.contains("ready"));
    let exec = |command: &str| cli.run(&["exec", "app", "sh", "-c", command]).ok();
    assert_eq!(exec("cat /run/secrets/db; echo \" $TOKEN\""), format!("{CANARY} {CANARY}\n"));
    // A file that cannot be written, on memory.
    let written = cli.run(&["exec", "app", "sh", "-c", "echo x > /run/secrets/db"]);
    assert!(written.code != 0 && written.err.contains("Read-only"), "{written:?}");
    assert_eq!(exec("stat -c %a:%u:%g /run/secrets/db"), "444:0:0\n");
    assert!(exec("grep /run/secrets/db /proc/mounts").contains("tmpfs"), "it is on memory");
    let fork = cli.run(&["container", "fork", "--name", "fork", "app"]).ok();
    assert!(!fork.is_empty());
    cli.run(&["commit", "app", "made"]).ok();
    let archive = cli.path("export.tar");
    cli.run(&["export", "-o", archive.to_str().unwrap(), "app"]).ok();
    cli.run(&["save", "-o", cli.path("save.tar").to_str().unwrap(), "made"]).ok();
    let said: String = [
        &["inspect", "app", "fork", "made"][..],
        &["secret", "inspect", "db"],
        &["secret", "ls"],
        &["logs", "--details", "app"],
        &["events", "--since", "1", "--until", "0s"],
        &["ps", "-a", "--no-trunc", "--format", "json"],
        &["diff", "app"],
        &["history", "--no-trunc", "made"],
        &["system", "df", "-v"],
        &["--debug", "--log-level", "trace", "start", "fork"],
        &["top", "app"],
    ]
    .iter()
    .map(|args| {
        let said = cli.run(args);
        assert_eq!(said.code, 0, "{args:?}: {said:?}");
        said.out + &said.err
    })
    .collect();
    assert!(!said.contains(CANARY), "{said}");
    assert!(!cli.run(&["diff", "app"]).ok().contains("secrets"), "its mount points are no changes");
    assert_eq!(exec_in(&cli, "fork"), CANARY, "a fork has what its source has");
    let holders = files_with(cli.dir.path(), CANARY);
    assert_eq!(holders, [store.join(&id).display().to_string()]);
    // Removed, it stays with its containers, and goes with the last.
    assert_eq!(cli.run(&["secret", "rm", "db"]).ok().trim(), id);
    cli.run(&["stop", "-t", "0", "app"]).ok();
    cli.run(&["start", "app"]).ok();
    assert_eq!(exec_in(&cli, "app"), CANARY);
    cli.run(&["rm", "-f", "app"]).ok();
    assert!(store.join(&id).exists());
    cli.run(&["rm", "-f", "fork"]).ok();
    assert!(files_with(cli.dir.path(), CANARY).is_empty());
    cli.run(&["rmi", "made"]).ok();
    cli.finish();
}

fn exec_in(cli: &Cli, name: &str) -> String {
    cli.run(&["exec", name, "cat", "/run/secrets/db"]).ok()
}

#[test]
fn secrets_are_there_after_a_restart_by_policy() {
    require!(root, overlayfs);
    let cli = Cli::new();
    cli.feed(&["secret", "create", "db", "-"], CANARY.as_bytes()).ok();
    let script = "cat /run/secrets/db; echo; test -e /tmp/twice && exec sleep 1000; touch /tmp/twice; exit 1";
    let flags = ["--name", "app", "--restart", "always", "--secret", "db"];
    cli.start(&[&flags[..], &["busybox", "sh", "-c", script]].concat());
    cli.run(&["secret", "rm", "-a"]).ok();
    let twice = format!("{CANARY}\n{CANARY}\n");
    until("two runs", || cli.run(&["logs", "app"]).ok() == twice);
    cli.finish();
}

#[test]
fn owners_modes_and_targets() {
    require!(root, overlayfs);
    let cli = Cli::new();
    let file = cli.path("content");
    std::fs::write(&file, "text").unwrap();
    cli.run(&["secret", "create", "key", file.to_str().unwrap()]).ok();
    let run = |secret: &str, user: &str, script: &str| {
        cli.run(&["run", "--rm", "--secret", secret, "-u", user, "busybox", "sh", "-c", script])
    };
    let look = "stat -c %a:%u:%g /etc/deep/key; cat /etc/deep/key";
    assert_eq!(run("key,target=/etc/deep/key,uid=5,gid=6,mode=0440", "5", look).ok(), "440:5:6\ntext");
    assert_eq!(run("key,mode=400", "5", "cat /run/secrets/key").code, 1, "it is root's alone");
    assert_eq!(run("source=key,type=mount,target=sub/k", "5", "cat /run/secrets/sub/k").ok(), "text");
    assert_eq!(run("key,type=env", "5", "echo $key").ok(), "text\n");
    if engine_testkit::Requirement::ShiftedLayers.is_met() {
        let args = ["run", "--rm", "--userns", "auto", "--secret", "key,uid=7", "busybox"];
        let said = cli.run(&[&args[..], &["stat", "-c", "%u", "/run/secrets/key"]].concat());
        assert_eq!(said.ok(), "7\n", "owners are the container's");
    }
    let host = cli.path("host");
    std::fs::create_dir(&host).unwrap();
    // A link of the image's leads to nothing but its own root.
    let bind = format!("{}:/h", host.display());
    let args = ["run", "--rm", "--secret", "key,target=/h/../../etc/x"];
    cli.run(&[&args[..], &["-v", &bind, "busybox", "true"]].concat()).fails(125, &[".."]);
    for (secret, word) in [
        ("none", "no such secret"),
        ("key,target=/", "target"),
        ("key,mode=2755", "777"),
        ("key,mode=9", "octal"),
        ("key,type=env,target=A=B", "variable"),
        ("key,type=env,uid=1", "type=mount"),
        ("key,bogus=1", "keys"),
        ("", "NAME"),
    ] {
        run(secret, "0", "true").fails(125, &[word]);
    }
    cli.run(&["secret", "rm", "key"]).ok();
    cli.finish();
}

#[test]
fn secrets_are_listed_shown_and_removed() {
    let mut cli = Cli::empty();
    let create = |args: &[&str]| cli.feed(&[&["secret", "create"], args].concat(), b"text");
    let id = create(&["-l", "env=prod", "first", "-"]).ok().trim().to_owned();
    assert_eq!(id.len(), 25);
    let mut command = cli.command(&["secret", "create", "--env", "second", "SECRET_OF_TEST"]);
    let second: super::support::Said = command.env("SECRET_OF_TEST", "from env").output().unwrap().into();
    let second = second.ok().trim().to_owned();
    let list = cli.run(&["secret", "ls"]).ok();
    let lines: Vec<&str> = list.lines().collect();
    assert!(lines[0].starts_with("ID ") && lines[0].contains("DRIVER") && lines[0].contains("UPDATED"));
    assert!(lines[1].starts_with(&id) && lines[1].contains("first") && lines.len() == 3, "{list}");
    assert_eq!(cli.run(&["secret", "ls", "-n"]).ok().lines().count(), 2);
    assert_eq!(cli.run(&["secret", "ls", "-q", "--filter", "label=env=prod"]).ok().trim(), id);
    let by_name = ["secret", "ls", "--format", "{{.Name}}", "-f", "name=sec", "-f", "name=none"];
    assert_eq!(cli.run(&by_name).ok(), "second\n");
    cli.run(&["secret", "ls", "-f", "bogus=1"]).fails(1, &["driver, id, label and name"]);
    let shown = cli.run(&["secret", "inspect", "first"]).ok();
    assert!(shown.contains("\"env\": \"prod\"") && !shown.contains("SecretData"), "{shown}");
    let reveal = ["secret", "inspect", "--showsecret", "--format", "{{.Spec.Name}} {{.SecretData}}", &second];
    assert_eq!(cli.run(&reveal).ok(), "second from env\n");
    create(&["first", "-"]).fails(1, &["there is a secret of this name"]);
    assert_eq!(create(&["--ignore", "first", "-"]).ok().trim(), id);
    let replaced = create(&["--replace", "first", "-"]).ok();
    assert_ne!(replaced.trim(), id);
    for (args, word) in [
        (&["a/b", "-"][..], "name"),
        (&["--driver", "pass", "other", "-"], "file"),
        (&["other", "/nonexistent"], "cannot read"),
        (&["--env", "other", "NOT_SET_ANYWHERE"], "environment"),
    ] {
        let said = create(args);
        assert!(said.code != 0 && said.err.contains(word), "{args:?}: {said:?}");
    }
    cli.feed(&["secret", "create", "other", "-"], b"").fails(1, &["0 bytes"]);
    cli.feed(&["secret", "create", "other", "-"], &vec![0; 512_000]).fails(1, &["512000"]);
    assert_eq!(cli.run(&["secret", "exists", "second"]).code, 0);
    assert_eq!(cli.run(&["secret", "exists", "other"]).code, 1);
    cli.run(&["secret", "rm", "other", "second"]).fails(1, &["no such secret"]);
    assert_eq!(cli.run(&["secret", "exists", "second"]).code, 1, "the others are removed");
    assert_eq!(cli.run(&["secret", "rm", "-i", "other"]).ok(), "");
    cli.run(&["secret", "rm", "-a"]).ok();
    assert_eq!(cli.run(&["secret", "ls", "-q"]).ok(), "");
    let events = cli.run(&["events", "--since", "1", "--until", "0s", "--filter", "type=secret"]).ok();
    let told = |word: &str| events.lines().filter(|line| line.contains(word)).count();
    assert_eq!((told("secret create"), told("secret update"), told("secret remove")), (2, 1, 2), "{events}");
    cli.finish_clean();
}
