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
