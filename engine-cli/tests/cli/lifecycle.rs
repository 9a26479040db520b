//! `start`, `stop`, `restart`, `kill`, `pause`, `rm`, `wait`, and the group forms.

use std::time::Instant;

use engine_testkit::require;

use crate::support::Cli;

#[test]
fn a_container_goes_through_its_life() {
    require!(root, overlayfs);
    let cli = Cli::new();
    let id = cli
        .run(&["container", "create", "--name", "one", "busybox", "sh", "-c", "echo started; sleep 100"])
        .ok();
    let id = id.trim();
    assert_eq!(id.len(), 64);
    assert_eq!(cli.inspect("one", "{{.State.Status}}"), "created");
    assert_eq!(cli.run(&["start", "one"]).ok(), "one\n");
    assert_eq!(cli.inspect(&id[..12], "{{.State.Running}}"), "true");
    // Starting what runs is no error, as in Docker.
    cli.run(&["start", "one"]).ok();
    assert_eq!(cli.run(&["pause", "one"]).ok(), "one\n");
    assert!(cli.run(&["ps"]).ok().contains("(Paused)"));
    cli.run(&["exec", "one", "true"]).fails(1, &["paused", "unpause"]);
    cli.run(&["unpause", "one"]).ok();
    let before = Instant::now();
    assert_eq!(cli.run(&["stop", "-t", "1", "one"]).ok(), "one\n");
    // `sh` as process 1 has no handler for SIGTERM: it takes the whole second.
    assert!(before.elapsed().as_secs() < 9, "{:?}", before.elapsed());
    assert_eq!(cli.inspect("one", "{{.State.Status}} {{.State.ExitCode}}"), "exited 137");
    assert_eq!(cli.run(&["wait", "one"]).ok(), "137\n");
    cli.run(&["restart", "-t", "0", "one"]).ok();
    assert_eq!(cli.inspect("one", "{{.State.Status}}"), "running");
    cli.run(&["rm", "one"]).fails(1, &["running", "stop it first"]);
    assert_eq!(cli.run(&["rm", "-f", "one"]).ok(), "one\n");
    cli.run(&["rm", "one"]).fails(1, &["one", "no such container", "ps -a"]);
    cli.finish();
}

#[test]
fn stop_uses_the_stop_signal_and_waits_for_its_handler() {
    require!(root, overlayfs);
    let cli = Cli::new();
    let script = "trap 'exit 5' USR1; while :; do sleep 0.05; done";
    cli.start(&["--name", "handler", "--stop-signal", "USR1", "busybox", "sh", "-c", script]);
    cli.run(&["stop", "handler"]).ok();
    assert_eq!(cli.inspect("handler", "{{.State.ExitCode}}"), "5");
    cli.run(&["start", "handler"]).ok();
    cli.run(&["kill", "--signal", "SIGUSR1", "handler"]).ok();
    assert_eq!(cli.run(&["wait", "handler"]).ok(), "5\n");
    cli.run(&["kill", "handler"]).fails(1, &["not running"]);
    cli.run(&["kill", "-s", "BOGUS", "handler"]).fails(1, &["BOGUS", "SIGTERM"]);
    cli.finish();
}

#[test]
fn start_attached_ends_with_the_exit_code() {
    require!(root, overlayfs);
    let cli = Cli::new();
    cli.run(&["create", "-i", "--name", "cat", "busybox", "sh", "-c", "cat; exit 4"]).ok();
    let said = cli.feed(&["start", "-ai", "cat"], b"over\n");
    assert_eq!((said.code, said.out.as_str()), (4, "over\n"), "{said:?}");
    cli.finish();
}

#[test]
fn several_at_once_and_one_that_is_not_there() {
    require!(root, overlayfs);
    let cli = Cli::new();
    cli.start(&["--name", "a1", "busybox", "sleep", "100"]);
    cli.start(&["--name", "a2", "busybox", "sleep", "100"]);
    let said = cli.run(&["kill", "a1", "nope", "a2"]);
    assert_eq!((said.code, said.out.as_str()), (1, "a1\na2\n"));
    assert!(said.err.contains("nope"), "{said:?}");
    assert_eq!(cli.run(&["wait", "a1", "a2"]).ok(), "137\n137\n");
    cli.finish();
}

#[test]
fn a_detached_container_with_rm_is_gone_after_its_end() {
    require!(root, overlayfs);
    let mut cli = Cli::new();
    cli.start(&["--rm", "--name", "brief", "busybox", "sleep", "2"]);
    cli.run(&["wait", "brief"]).ok();
    cli.finish_clean();
}
