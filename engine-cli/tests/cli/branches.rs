//! `container fork`, `container snapshot …`.

use engine_testkit::require;

use crate::support::Cli;

#[test]
fn a_container_is_forked() {
    require!(root, overlayfs);
    let cli = Cli::new();
    cli.run(&["run", "--name", "one", "busybox", "sh", "-c", "touch /n; cat /n; echo 1 >> /n"]).ok();
    let id = cli.run(&["container", "fork", "--name", "two", "one"]).ok();
    assert_eq!(cli.inspect("two", "{{.Id}} {{.State.Status}}"), format!("{} created", id.trim()));
    assert_eq!(cli.run(&["start", "-a", "two"]).ok(), "1\n");
    assert_eq!(cli.run(&["start", "-a", "two"]).ok(), "1\n1\n");
    assert_eq!(cli.run(&["start", "-a", "one"]).ok(), "1\n");
    cli.run(&["container", "fork", "--name", "two", "one"]).fails(1, &["two", "in use"]);
    cli.run(&["container", "fork", "none"]).fails(1, &["no such container"]);
    cli.run(&["rm", "one"]).ok();
    assert_eq!(cli.run(&["start", "-a", "two"]).ok(), "1\n1\n1\n");
    cli.finish();
}

#[test]
fn snapshots_are_taken_compared_and_restored() {
    require!(root, overlayfs);
    let cli = Cli::new();
    cli.start(&["--name", "one", "busybox", "sleep", "1000"]);
    let snapshot = |args: &[&str]| {
        let args: Vec<&str> = ["container", "snapshot"].iter().chain(args).copied().collect();
        cli.run(&args)
    };
    assert_eq!(snapshot(&["create", "one", "before"]).ok(), "before\n");
    cli.run(&["exec", "one", "sh", "-c", "echo 1 > /made"]).ok();
    assert_eq!(snapshot(&["diff", "one", "before"]).ok(), "A /made\n");
    assert_eq!(snapshot(&["create", "one"]).ok(), "snapshot-2\n");
    assert_eq!(snapshot(&["ls", "-q", "one"]).ok(), "before\nsnapshot-2\n");
    assert!(snapshot(&["ls", "one"]).ok().starts_with("SNAPSHOT "));
    snapshot(&["restore", "one", "before"]).fails(1, &["running", "stop it first"]);
    cli.run(&["stop", "-t", "0", "one"]).ok();
    assert_eq!(snapshot(&["restore", "one", "before"]).ok(), "before\n");
    assert_eq!(cli.run(&["diff", "one"]).ok(), "");
    snapshot(&["create", "one", "before"]).fails(1, &["before", "one of this name"]);
    snapshot(&["diff", "one", "none"]).fails(1, &["none", "no such snapshot"]);
    assert_eq!(snapshot(&["rm", "one", "before", "snapshot-2"]).ok(), "before\nsnapshot-2\n");
    snapshot(&["rm", "one", "before"]).fails(1, &["before", "no such snapshot"]);
    assert_eq!(snapshot(&["ls", "-q", "one"]).ok(), "");
    cli.finish();
}

#[test]
fn execs_keep_what_they_found() {
    require!(root, overlayfs);
    let cli = Cli::new();
    cli.start(&["--name", "one", "busybox", "sleep", "1000"]);
    let snapshot = |args: &[&str]| {
        let args: Vec<&str> = ["container", "snapshot"].iter().chain(args).copied().collect();
        cli.run(&args)
    };
    cli.run(&["exec", "one", "sh", "-c", "echo 1 > /f"]).ok();
    let change = ["one", "sh", "-c", "cat /f; echo 2 > /f; echo 2 > /new"];
    let exec = |flags: &[&str]| cli.run(&[&["exec"], flags, &change].concat());
    assert_eq!(exec(&["--snapshot=before"]).ok(), "1\n");
    assert_eq!(snapshot(&["diff", "one", "before"]).ok(), "C /f\nA /new\n");
    exec(&["--snapshot=before"]).fails(1, &["before", "one of this name"]);
    // A name of bad form, none behind the sign, and both wishes at once are errors of usage.
    for wrong in ["--snapshot=a/b", "--snapshot=-x", "--snapshot=", "--snapshot=x"] {
        exec(&[wrong]).fails(125, &["--snapshot"]);
    }
    exec(&["--snapshot", "--no-snapshot"]).fails(125, &["--no-snapshot"]);
    let failed = cli.run(&["exec", "--snapshot=never", "one", "no-such-command"]);
    failed.fails(127, &["no-such-command"]);
    assert_eq!(snapshot(&["ls", "-q", "one"]).ok(), "before\n");
    // Without a name it has the exec's, as events have it too.
    assert_eq!(exec(&["--snapshot"]).ok(), "2\n");
    let listed = snapshot(&["ls", "--format", "{{.Name}} {{.Exec}}", "one"]).ok();
    let (name, id) = listed.lines().last().unwrap().split_once(' ').unwrap();
    assert_eq!((name, id.len()), (&*format!("exec-{id}"), 12));
    let begin = cli.run(&["events", "--since", "0", "--until", "0s", "--format", "{{json .}}"]).ok();
    let of = |word: &str| begin.lines().filter(|line| line.contains(word) && line.contains(id)).count();
    assert_eq!((of(name), of("exec_start")), (1, 1), "{begin}");
    cli.run(&["stop", "-t", "0", "one"]).ok();
    snapshot(&["restore", "one", "before"]).ok();
    assert_eq!(cli.run(&["diff", "one"]).ok(), "A /f\n");
    snapshot(&["rm", "one", "before", name]).ok();
    // For every exec of a container, if that was asked for at its creation.
    cli.start(&["--name", "two", "--snapshot-execs", "busybox", "sleep", "1000"]);
    for flags in [&["-d"][..], &[], &["--no-snapshot"], &["--snapshot=mine"]] {
        cli.run(&[&["exec"], flags, &["two", "true"]].concat()).ok();
    }
    let listed = snapshot(&["ls", "-q", "two"]).ok();
    let names: Vec<&str> = listed.lines().collect();
    assert!(names.len() == 3 && names[..2].iter().all(|name| name.starts_with("exec-")), "{names:?}");
    assert_eq!(names[2], "mine");
    cli.finish();
}
