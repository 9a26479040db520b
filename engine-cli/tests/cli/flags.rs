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
    assert_eq!(inside(&["--dns-option", "ndots:3"], "grep options /etc/resolv.conf"), "options ndots:3");
    assert_eq!(inside(&["--domainname", "example.org"], "cat /proc/sys/kernel/domainname"), "example.org");
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
fn labels_annotations_and_standard_streams() {
    require!(root, overlayfs);
    let cli = Cli::new();
    let labels = cli.path("labels");
    std::fs::write(&labels, "# comment\nfrom.file=1\nboth=file\n").unwrap();
    let flags =
        ["--label-file", labels.to_str().unwrap(), "-l", "both=flag", "--annotation", "org.example.a=b"];
    cli.run(&[&["create", "--name", "one"], &flags[..], &["busybox", "true"]].concat()).ok();
    let shown = |format: &str| cli.run(&["inspect", "-f", format, "one"]).ok();
    assert_eq!(shown("{{index .Config.Labels \"from.file\"}} {{.Config.Labels.both}}"), "1 flag\n");
    assert_eq!(shown("{{index .HostConfig.Annotations \"org.example.a\"}}"), "b\n");
    // Only the streams that are asked for; the others go to the log alone.
    let script = "echo out; echo err >&2";
    let said = cli.run(&["run", "--name", "two", "-a", "stderr", "busybox", "sh", "-c", script]);
    assert_eq!((said.code, &*said.out, &*said.err), (0, "", "err\n"));
    assert_eq!(cli.run(&["logs", "two"]).ok(), "out\n");
    cli.run(&["run", "--rm", "-a", "nonsense", "busybox", "true"]).fails(125, &["nonsense"]);
    cli.finish();
}

/// Each number is read from the kernel's own file, under its name in both versions of cgroups.
#[test]
fn limits_arrive_in_the_kernel() {
    require!(root, overlayfs);
    let mut cli = Cli::new();
    let inside = |flags: &[&str], files: &str| {
        let script = format!("cd /sys/fs/cgroup; cat {files} 2>/dev/null | tr '\\n' ' '");
        let args: Vec<&str> =
            ["run", "--rm"].iter().chain(flags).chain(&["busybox", "sh", "-c", &script]).copied().collect();
        cli.run(&args).ok().trim_end().to_owned()
    };
    let half = inside(&["--cpus", "0.5"], "cpu.max cpu/cpu.cfs_quota_us cpu/cpu.cfs_period_us");
    assert_eq!(half, "50000 100000");
    let quota = ["--cpu-quota", "20000", "--cpu-period", "40000"];
    assert_eq!(inside(&quota, "cpu.max cpu/cpu.cfs_quota_us cpu/cpu.cfs_period_us"), "20000 40000");
    let shares = inside(&["--cpu-shares", "512"], "cpu.weight cpu/cpu.shares");
    // A weight is 1 to 10000 where shares are 2 to 262144.
    assert!(["512", "20", "59"].contains(&&*shares), "{shares}");
    let places =
        inside(&["--cpuset-cpus", "0", "--cpuset-mems", "0"], "cpuset*/cpuset.cpus cpuset*/cpuset.mems");
    let places = if places.is_empty() {
        inside(&["--cpuset-cpus", "0", "--cpuset-mems", "0"], "cpuset.cpus cpuset.mems")
    } else {
        places
    };
    assert_eq!(places, "0 0");
    let reserved =
        inside(&["-m", "64m", "--memory-reservation", "32m"], "memory.low memory/memory.soft_limit_in_bytes");
    assert_eq!(reserved, (32 << 20).to_string());
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
