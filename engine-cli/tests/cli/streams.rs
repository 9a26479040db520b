//! `logs`, `exec`, `attach` and standard input, without a terminal.

use std::io::Read;
use std::process::Stdio;

use engine_testkit::require;

use crate::support::{Cli, exists, until};

#[test]
fn standard_streams_go_where_they_belong() {
    require!(root, overlayfs);
    let mut cli = Cli::new();
    let said = cli.run(&["run", "--rm", "busybox", "sh", "-c", "echo out; echo err >&2"]);
    assert_eq!((said.code, said.out.as_str(), said.err.as_str()), (0, "out\n", "err\n"));
    // A large stream arrives whole, and its end ends the command.
    let input: Vec<u8> = (0..3_000_000_u32).map(|n| (n % 251) as u8).collect();
    let mut child = cli.spawn(cli.command(&["run", "--rm", "-i", "busybox", "cat"]).stdin(Stdio::piped()));
    let mut stdin = child.stdin.take().unwrap();
    let copy = input.clone();
    let writer = std::thread::spawn(move || std::io::Write::write_all(&mut stdin, &copy));
    let mut output = Vec::new();
    child.stdout.take().unwrap().read_to_end(&mut output).unwrap();
    writer.join().unwrap().unwrap();
    assert!(child.wait().unwrap().success());
    assert!(output == input, "{} of {} bytes", output.len(), input.len());
    // Without -i there is no input.
    assert_eq!(cli.feed(&["run", "--rm", "busybox", "cat"], b"").ok(), "");
    // -a chooses.
    let said = cli.run(&["run", "--rm", "-a", "stderr", "busybox", "sh", "-c", "echo out; echo err >&2"]);
    assert_eq!((said.out.as_str(), said.err.as_str()), ("", "err\n"));
    cli.finish_clean();
}

#[test]
fn logs_are_kept_cut_stamped_and_followed() {
    require!(root, overlayfs);
    let cli = Cli::new();
    let script = "for i in 1 2 3; do echo line $i; done; echo bad >&2; until [ -e /go ]; do sleep 0.05; done; echo last";
    cli.start(&["--name", "talks", "busybox", "sh", "-c", script]);
    until("its output", || cli.run(&["logs", "talks"]).err == "bad\n");
    assert_eq!(cli.run(&["logs", "talks"]).ok(), "line 1\nline 2\nline 3\n");
    let said = cli.run(&["logs", "--tail", "2", "talks"]);
    assert_eq!((said.out.as_str(), said.err.as_str()), ("line 3\n", "bad\n"));
    let stamped = cli.run(&["logs", "-t", "-n", "all", "talks"]).ok();
    let stamp = stamped.lines().next().unwrap().split(' ').next().unwrap();
    assert!(stamp.len() == 30 && stamp.ends_with('Z'), "{stamped}");
    assert_eq!(cli.run(&["logs", "--since", "1h", "talks"]).ok().lines().count(), 3);
    assert_eq!(cli.run(&["logs", "--until", "1h", "talks"]).ok(), "");
    let follower = cli.spawn(&mut cli.command(&["logs", "-f", "talks"]));
    cli.run(&["exec", "talks", "touch", "/go"]).ok();
    let output = follower.wait_with_output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "line 1\nline 2\nline 3\nlast\n");
    cli.run(&["logs", "--tail", "x", "talks"]).fails(1, &["--tail"]);
    cli.run(&["run", "--name", "mute", "--log-driver", "none", "busybox", "echo", "gone"]).ok();
    cli.run(&["logs", "mute"]).fails(1, &["log"]);
    cli.finish();
}

#[test]
fn exec_joins_the_container_and_not_the_host() {
    require!(root, overlayfs);
    let cli = Cli::new();
    let marker = cli.path("on-the-host");
    std::fs::write(&marker, "").unwrap();
    cli.start(&["--name", "box", "-h", "box", "-e", "A=1", "busybox", "sleep", "1000"]);
    let exec = |args: &[&str]| {
        let args: Vec<&str> = ["exec"].iter().chain(args).copied().collect();
        cli.run(&args)
    };
    assert_eq!(exec(&["box", "hostname"]).ok(), "box\n");
    assert_eq!(
        exec(&["-e", "B=2", "-w", "/tmp", "-u", "worker", "box", "sh", "-c", "echo $A$B $PWD $(id -u)"]).ok(),
        "12 /tmp 1000\n"
    );
    // Its root is the container's, and so is every mount it sees.
    assert_eq!(exec(&["box", "test", "-e", marker.to_str().unwrap()]).code, 1);
    let mounts = exec(&["box", "cat", "/proc/self/mountinfo"]).ok();
    let roots = mounts.lines().filter(|line| line.split(' ').nth(4) == Some("/")).count();
    assert_eq!(roots, 1, "{mounts}");
    assert_eq!(exec(&["box", "sh", "-c", "exit 9"]).code, 9);
    exec(&["box", "no-such-command"]).fails(127, &["no-such-command"]);
    exec(&["box", "/etc/passwd"]).fails(126, &["permission denied"]);
    assert_eq!(cli.feed(&["exec", "-i", "box", "cat"], b"typed").ok(), "typed");
    assert_eq!(exec(&["-d", "box", "sh", "-c", "touch /done; sleep 1000"]).ok(), "");
    until("the detached command", || exec(&["box", "test", "-e", "/done"]).code == 0);
    cli.run(&["stop", "-t", "0", "box"]).ok();
    exec(&["box", "true"]).fails(1, &["not running", "start it first"]);
    exec(&["nope", "true"]).fails(1, &["nope"]);
    assert!(exists(&marker));
    cli.finish();
}

#[test]
fn attach_sees_what_comes_and_ends_with_the_exit_code() {
    require!(root, overlayfs);
    let cli = Cli::new();
    cli.start(&["-i", "--name", "echo", "busybox", "sh", "-c", "read line; echo got $line; exit 6"]);
    let said = cli.feed(&["attach", "echo"], b"this\n");
    assert_eq!((said.code, said.out.as_str()), (6, "got this\n"), "{said:?}");
    cli.run(&["attach", "echo"]).fails(1, &["not running"]);
    cli.finish();
}
