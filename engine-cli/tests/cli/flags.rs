//! Flags that a container feels: each is looked at from the inside.

use engine_testkit::require;

use crate::support::Cli;

#[test]
fn identity_environment_and_files() {
    require!(root, overlayfs);
    let mut cli = Cli::new();
    let env = cli.path("env");
    std::fs::write(&env, "# comment\nFROM_FILE=1\n").unwrap();
    let inside = |flags: &[&str], script: &str| {
        let args: Vec<&str> =
            ["run", "--rm"].iter().chain(flags).chain(&["busybox", "sh", "-c", script]).copied().collect();
        cli.run(&args).ok().trim_end().to_owned()
    };
    assert_eq!(inside(&["--env-file", env.to_str().unwrap(), "-e", "B=2"], "echo $FROM_FILE$B"), "12");
    assert_eq!(
        inside(&["-h", "box", "--add-host", "db:10.0.0.9"], "hostname; grep db /etc/hosts | tr '\\t' ' '"),
        "box\n10.0.0.9 db"
    );
    assert!(
        inside(&["--dns", "9.9.9.9", "--dns-search", "example.org"], "cat /etc/resolv.conf")
            .contains("nameserver 9.9.9.9")
    );
    assert_eq!(inside(&["-u", "worker", "--group-add", "wheel"], "id -u; id -G"), "1000\n1000 10");
    assert_eq!(inside(&["-w", "/made/here"], "pwd"), "/made/here");
    assert_eq!(inside(&["--entrypoint", "echo"], "x"), "sh -c x");
    assert_eq!(inside(&["--init"], "cat /proc/1/comm").lines().count(), 1);
    assert_eq!(
        inside(&["--read-only", "--tmpfs", "/t:size=1m"], "touch /x 2>/dev/null || touch /t/x && echo ok"),
        "ok"
    );
    assert_eq!(inside(&["--shm-size", "1m"], "df /dev/shm | tail -1 | awk '{print $2}'"), "1024");
    cli.finish_clean();
}

#[test]
fn limits_and_privileges() {
    require!(root, overlayfs);
    let mut cli = Cli::new();
    let inside = |flags: &[&str], script: &str| {
        let args: Vec<&str> =
            ["run", "--rm"].iter().chain(flags).chain(&["busybox", "sh", "-c", script]).copied().collect();
        cli.run(&args).ok().trim_end().to_owned()
    };
    let memory =
        "cat /sys/fs/cgroup/memory.max /sys/fs/cgroup/memory/memory.limit_in_bytes 2>/dev/null | head -1";
    assert_eq!(inside(&["-m", "32m"], memory), (32 << 20).to_string());
    let pids = "cat /sys/fs/cgroup/pids.max /sys/fs/cgroup/pids/pids.max 2>/dev/null | head -1";
    assert_eq!(inside(&["--pids-limit", "77"], pids), "77");
    assert_eq!(inside(&[], pids), "2048");
    assert_eq!(inside(&["--ulimit", "nofile=100:200"], "ulimit -n; ulimit -Hn"), "100\n200");
    assert_eq!(inside(&["--oom-score-adj", "500"], "cat /proc/self/oom_score_adj"), "500");
    let status = |key: &str| format!("grep {key} /proc/self/status | awk '{{print $2}}'");
    assert_eq!(inside(&["--cap-drop", "ALL"], &status("CapEff")), "0000000000000000");
    assert_eq!(inside(&["--cap-drop", "ALL", "--cap-add", "CHOWN"], &status("CapEff")), "0000000000000001");
    assert_eq!(inside(&[], &status("NoNewPrivs")), "1");
    assert_eq!(inside(&["--security-opt", "no-new-privileges=false"], &status("NoNewPrivs")), "0");
    assert_eq!(inside(&["--security-opt", "seccomp=unconfined"], &status("Seccomp:")), "0");
    assert_eq!(
        inside(&["--sysctl", "net.ipv4.ip_default_ttl=42"], "cat /proc/sys/net/ipv4/ip_default_ttl"),
        "42"
    );
    assert_eq!(inside(&["--network", "none"], "ls /sys/class/net | tr '\\n' ' '"), "lo");
    assert_eq!(inside(&["--userns", "0:0:65536"], "cat /proc/self/uid_map | tr -s ' '"), " 0 0 65536");
    cli.finish_clean();
}

#[test]
fn namespaces_of_the_host_and_of_other_containers() {
    require!(root, overlayfs);
    let cli = Cli::new();
    let id = |kind: &str| std::fs::read_link(format!("/proc/self/ns/{kind}")).unwrap().display().to_string();
    let inside = |flags: &[&str], kind: &str| {
        let path = format!("/proc/self/ns/{kind}");
        let args: Vec<&str> =
            ["run", "--rm"].iter().chain(flags).chain(&["busybox", "readlink", &path]).copied().collect();
        cli.run(&args).ok().trim_end().to_owned()
    };
    for (flag, kind) in
        [("--network", "net"), ("--pid", "pid"), ("--ipc", "ipc"), ("--uts", "uts"), ("--cgroupns", "cgroup")]
    {
        assert_eq!(inside(&[flag, "host"], kind), id(kind), "{flag}");
        assert_ne!(inside(&[], kind), id(kind), "{flag}");
    }
    cli.start(&["--name", "peer", "busybox", "sleep", "1000"]);
    for (flag, kind) in [("--network", "net"), ("--pid", "pid"), ("--ipc", "ipc")] {
        let peers = cli.run(&["exec", "peer", "readlink", &format!("/proc/self/ns/{kind}")]).ok();
        assert_eq!(inside(&[flag, "container:peer"], kind), peers.trim(), "{flag}");
    }
    // One /dev/shm for both, as their other means of communication are one.
    cli.run(&["exec", "peer", "sh", "-c", "echo shared > /dev/shm/file"]).ok();
    let said = cli.run(&["run", "--rm", "--ipc", "container:peer", "busybox", "cat", "/dev/shm/file"]);
    assert_eq!(said.ok(), "shared\n");
    cli.finish();
}
