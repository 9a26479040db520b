//! `--device` and its like, and flags about cgroups that only some kernels can follow.

use engine_testkit::require;

use crate::support::Cli;

#[test]
fn devices_and_their_rules() {
    require!(root, overlayfs);
    let mut cli = Cli::new();
    let run = |flags: &[&str], script: &str| {
        let args: Vec<&str> =
            ["run", "--rm"].iter().chain(flags).chain(&["busybox", "sh", "-c", script]).copied().collect();
        cli.run(&args)
    };
    assert_eq!(run(&["--device", "/dev/null:/dev/hole:rw"], "echo x > /dev/hole && echo ok").ok(), "ok\n");
    // A directory is all devices in it.
    let dir = cli.path("devices");
    std::fs::create_dir_all(dir.join("more")).unwrap();
    for name in ["a", "more/b"] {
        let made =
            std::process::Command::new("mknod").arg(dir.join(name)).args(["c", "1", "7"]).status().unwrap();
        assert!(made.success());
    }
    let all = format!("{}:/dev/all", dir.display());
    assert_eq!(
        run(&["--device", &all], "ls /dev/all /dev/all/more").ok(),
        "/dev/all:\na\nmore\n\n/dev/all/more:\nb\n"
    );
    // A rule allows what nothing else does: to make and to open 10:229, which is /dev/fuse.
    let node = "mknod /tmp/fuse c 10 229 && : < /tmp/fuse && echo opened";
    let mknod = ["--cap-add", "MKNOD", "--device-cgroup-rule"];
    let allowed = run(&[&mknod[..], &["c 10:229 rwm"]].concat(), node);
    // Without such a device in the kernel, opening it is another error.
    assert!(allowed.out == "opened\n" || allowed.err.contains("No such device"), "{allowed:?}");
    let denied = run(&[&mknod[..], &["c 10:230 rwm"]].concat(), node);
    assert!(denied.code != 0 && denied.err.contains("not permitted"), "{denied:?}");
    assert_eq!(run(&["--ipc", "none"], "[ -e /dev/shm ] || echo none").ok(), "none\n");
    for (flags, word) in [
        (&["--device", "/dev/nothing-here"][..], "nothing-here"),
        (&["--device", "/etc/passwd"], "device"),
        (&["--device", "/dev/null:/dev/x:q"], "invalid device"),
        (&["--device-cgroup-rule", "bogus"], "c 1:3 rwm"),
        (&["--device", "vendor.example/class=name"], "vendor.example/class=name"),
        (&["--gpus", "some"], "--gpus"),
        (&["--gpus", "all"], "nvidia.com/gpu=all"),
        (&["--security-opt", "apparmor=docker-default"], "apparmor"),
        (&["--security-opt", "label=type:x"], "selinux"),
        (&["--security-opt", "bogus"], "seccomp="),
        (&["--blkio-weight-device", "/dev/null:5"], "10 to 1000"),
        (&["--oom-kill-disable"], "limit of memory"),
        (&["--cgroup-conf", "x"], "FILE=VALUE"),
        (&["--cgroup-conf", "cgroup.procs=1"], "cgroup"),
        (&["--ulimit", "nofile=10:5"], "above"),
        (&["--oom-score-adj", "2000"], "-1000"),
        (&["--cgroup-parent", "/../x"], "cgroup"),
        (&["--ipc", "bogus"], "--ipc"),
    ] {
        run(flags, "true").fails(125, &[word]);
    }
    cli.finish_clean();
}
