//! `run` and `create`: exit codes, pull policies, what is left.

use std::os::unix::process::CommandExt;

use engine_testkit::require;

use crate::support::{Cli, exists, until};

#[test]
fn the_embedded_image_runs_offline_and_reports_what_it_sees() {
    require!(root, overlayfs);
    let mut cli = Cli::empty();
    let report = cli
        .run(&["run", "--rm", "--hostname", "box", "--memory", "64m", "--user", "7:8", "localhost/hello"])
        .ok();
    for line in [
        "pid 1,",
        "host name      box",
        "uid 7, gid 8",
        "memory 67108864 bytes",
        "seccomp        filter",
        "network        lo eth0\n",
    ] {
        assert!(report.contains(line), "{line:?} is not in\n{report}");
    }
    for name in ["cgroup", "ipc", "mnt", "net", "pid", "uts"] {
        let host = std::fs::read_link(format!("/proc/self/ns/{name}")).unwrap().display().to_string();
        let id = host.trim_start_matches(|c| c != '[').trim_matches(['[', ']']);
        assert!(!report.contains(&format!("{name} {id}")), "{name} is the host's:\n{report}");
    }
    assert!(report.contains("root file system overlay (rw)"), "{report}");
    assert!(cli.run(&["images"]).ok().contains("localhost/hello   latest"));
    cli.finish_clean();
}

#[test]
fn exit_codes_are_dockers() {
    require!(root, overlayfs);
    let mut cli = Cli::new();
    for (code, command) in [
        (0, vec!["true"]),
        (1, vec!["false"]),
        (7, vec!["sh", "-c", "exit 7"]),
        (255, vec!["sh", "-c", "exit 255"]),
        // A program that a signal ends: 128 + n. Process 1 must ask for it by its own default, so a child does.
        (143, vec!["sh", "-c", "sh -c 'kill -TERM $$' 2>/dev/null; exit $?"]),
    ] {
        let args: Vec<&str> = ["run", "--rm", "busybox"].into_iter().chain(command).collect();
        let said = cli.run(&args);
        assert_eq!((said.code, said.err.as_str()), (code, ""), "{args:?}");
    }
    cli.run(&["run", "--rm", "busybox", "no-such-command"]).fails(127, &["no-such-command", "not found"]);
    cli.run(&["run", "--rm", "busybox", "/etc/passwd"]).fails(126, &["/etc/passwd", "permission denied"]);
    cli.run(&["run", "--bogus-flag", "busybox"]).fails(125, &["--bogus-flag", "--help"]);
    cli.run(&["run", "--rm", "localhost/busybox:nope"]).fails(125, &["localhost/busybox:nope"]);
    cli.finish_clean();
}

#[test]
fn a_container_killed_by_a_signal_exits_with_128_plus_its_number() {
    require!(root, overlayfs);
    let cli = Cli::new();
    let mut child = cli.spawn(&mut cli.command(&["run", "--name", "sleeper", "busybox", "sleep", "100"]));
    until("it runs", || cli.run(&["ps", "-q"]).out.len() == 13);
    cli.run(&["kill", "sleeper"]).ok();
    assert_eq!(child.wait().unwrap().code(), Some(137));
    assert_eq!(cli.inspect("sleeper", "{{.State.Status}} {{.State.ExitCode}}"), "exited 137");
    cli.finish();
}

#[test]
fn a_failed_run_leaves_nothing_even_without_rm() {
    require!(root, overlayfs);
    let mut cli = Cli::new();
    let cidfile = cli.path("cid").display().to_string();
    cli.run(&["run", "--cidfile", &cidfile, "busybox", "no-such-command"]).fails(127, &[]);
    assert!(!exists(&cli.path("cid")));
    cli.run(&["run", "-d", "busybox", "no-such-command"]).fails(127, &[]);
    cli.run(&["run", "-u", "nobody-here", "busybox", "true"]).fails(125, &["nobody-here", "/etc/passwd"]);
    cli.finish_clean();
}

#[test]
fn pull_never_says_what_is_missing_and_a_cidfile_is_not_overwritten() {
    require!(root, overlayfs);
    let mut cli = Cli::new();
    cli.run(&["run", "--pull", "never", "nothing-here", "true"]).fails(125, &["nothing-here", "pull"]);
    let cidfile = cli.path("cid").display().to_string();
    let id = cli.run(&["create", "--cidfile", &cidfile, "busybox", "true"]).ok();
    assert_eq!(std::fs::read_to_string(cli.path("cid")).unwrap(), id.trim());
    cli.run(&["create", "--cidfile", &cidfile, "busybox"]).fails(125, &["exists", "delete the file"]);
    cli.run(&["rm", id.trim()]).ok();
    cli.finish_clean();
}

#[test]
fn a_scoped_container_goes_with_its_command() {
    require!(root, overlayfs);
    let mut cli = Cli::new();
    assert_eq!(cli.run(&["run", "--scoped", "busybox", "sh", "-c", "exit 3"]).code, 3);
    assert_eq!(cli.run(&["ps", "-aq"]).ok(), "");
    // SIGKILL of the command, which can do nothing about it.
    let mut child = cli.spawn(cli.command(&["run", "--scoped", "busybox", "sleep", "100"]).process_group(0));
    until("it runs", || cli.run(&["ps", "-q"]).out.len() == 13);
    child.kill().unwrap();
    child.wait().unwrap();
    until("it is gone", || cli.run(&["ps", "-aq"]).out.is_empty());
    cli.finish_clean();
}

#[test]
fn signals_reach_the_container_of_a_foreground_run() {
    require!(root, overlayfs);
    let mut cli = Cli::new();
    let script = "trap 'echo got; exit 9' TERM; echo ready; while :; do sleep 0.1; done";
    let child = cli.spawn(&mut cli.command(&["run", "--rm", "busybox", "sh", "-c", script]));
    until("it runs", || cli.run(&["ps", "-q"]).out.len() == 13);
    let id = cli.run(&["ps", "-q"]).ok();
    until("it is ready", || cli.run(&["logs", id.trim()]).out == "ready\n");
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), &*output.stdout), (Some(9), &b"ready\ngot\n"[..]));
    cli.finish_clean();
}

#[test]
fn debug_tells_the_phases_aside() {
    require!(root, overlayfs);
    let mut cli = Cli::empty();
    let said = cli.run(&["--debug", "run", "--rm", "localhost/hello"]);
    assert!(said.err.contains("engine_core") && said.err.contains("close"), "{said:?}");
    assert!(said.out.starts_with("Hello"), "{said:?}");
    cli.finish_clean();
}
