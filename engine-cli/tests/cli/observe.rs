//! `rename`, `update`, `top`, `stats`, `ps --filter`: containers looked at and changed while they are there.

use engine_testkit::require;

use crate::support::Cli;

#[test]
fn containers_are_renamed() {
    require!(root, overlayfs);
    let cli = Cli::new();
    let id = cli.start(&["--name", "one", "busybox", "sleep", "1000"]);
    cli.run(&["create", "--name", "two", "busybox"]).ok();
    assert_eq!(cli.run(&["rename", "one", "three"]).ok(), "");
    assert_eq!(cli.inspect("three", "{{.ID}}"), id);
    cli.run(&["container", "rename", "three", "one"]).ok();
    cli.run(&["rename", "one", "two"]).fails(1, &["in use"]);
    cli.run(&["rename", "one", "one"]).fails(1, &["same name"]);
    cli.run(&["rename", "nobody", "xx"]).fails(1, &["nobody", "no such container"]);
    cli.run(&["rename", "one", "../x"]).fails(125, &["../x"]);
    cli.finish();
}

#[test]
fn limits_are_updated_live() {
    require!(root, overlayfs);
    let cli = Cli::new();
    cli.start(&["--name", "na", "-m", "32m", "--memory-swap", "48m", "busybox", "sleep", "1000"]);
    let inside = |script: &str| cli.run(&["exec", "na", "sh", "-c", script]).ok().trim().to_owned();
    let read = |v2: &str, v1: &str| {
        inside(&format!("cat /sys/fs/cgroup/{v2} /sys/fs/cgroup/{v1} 2>/dev/null | head -1"))
    };
    let memory = || read("memory.max", "memory/memory.limit_in_bytes");
    let pids = || read("pids.max", "pids/pids.max");
    assert_eq!(memory(), (32 << 20).to_string());
    // Up: the sum first; down: memory first.
    assert_eq!(
        cli.run(&["update", "-m", "64m", "--memory-swap", "96m", "--pids-limit", "50", "na"]).ok(),
        "na\n"
    );
    assert_eq!((memory(), pids()), ((64 << 20).to_string(), "50".to_owned()));
    cli.run(&["update", "-m", "16m", "--memory-swap", "16m", "na"]).ok();
    assert_eq!((memory(), pids()), ((16 << 20).to_string(), "50".to_owned()));
    cli.run(&["update", "-m", "128m", "na"]).fails(1, &["memory and swap"]);
    assert_eq!(memory(), (16 << 20).to_string(), "nothing changed");
    cli.run(&["update", "--cpus", "0.5", "--restart", "always", "na"]).ok();
    let quota = || {
        inside(
            "cat /sys/fs/cgroup/cpu.max /sys/fs/cgroup/cpu/cpu.cfs_quota_us /sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us 2>/dev/null | head -1",
        )
    };
    assert_eq!(quota().split(' ').next(), Some("50000"));
    assert_eq!(
        cli.inspect("na", "{{.HostConfig.NanoCpus}} {{.HostConfig.RestartPolicy.Name}}"),
        "500000000 always"
    );
    // Of a paused one, and of one that does not run: at its next start.
    cli.run(&["pause", "na"]).ok();
    cli.run(&["update", "--pids-limit", "60", "na"]).ok();
    cli.run(&["unpause", "na"]).ok();
    assert_eq!(pids(), "60");
    cli.run(&["stop", "-t", "0", "na"]).ok();
    cli.run(&["update", "--pids-limit", "70", "-m", "24m", "--memory-swap", "-1", "na"]).ok();
    cli.run(&["start", "na"]).ok();
    assert_eq!((memory(), pids()), ((24 << 20).to_string(), "70".to_owned()));
    for (flags, word) in [
        (&["-m", "1k"][..], "6 MiB"),
        (&["--cpuset-cpus", "x"], "0-2,7"),
        (&["--cpu-quota", "5"], "quota"),
        (&["--blkio-weight", "5"], "10 to 1000"),
        (&["--cpu-period", "20000"], "together"),
    ] {
        cli.run(&[&["update"], flags, &["na"]].concat()).fails(1, &[word]);
    }
    cli.run(&["update", "na"]).fails(1, &["one or more flags"]);
    cli.run(&["update", "--pids-limit", "5", "nobody"]).fails(1, &["nobody"]);
    cli.finish();
}

#[test]
fn e4_processes_are_the_hosts_view() {
    require!(root, overlayfs);
    let cli = Cli::new();
    // A ps of its own would be run by an engine that looks from the inside.
    let script = "printf '#!/bin/sh\\ntouch /ran' > /bin/ps; chmod 755 /bin/ps; sleep 1000 & exec sleep 2000";
    cli.start(&["--name", "na", "-u", "0", "busybox", "sh", "-c", script]);
    crate::support::until("both run", || cli.run(&["top", "na", "-o", "args"]).out.contains("sleep 1000"));
    let full = cli.run(&["top", "na"]).ok();
    let titles: Vec<&str> = full.lines().next().unwrap().split_whitespace().collect();
    assert_eq!(titles, ["UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD"]);
    let chosen = cli.run(&["top", "na", "-o", "user,comm,args"]).ok();
    let lines: Vec<Vec<&str>> = chosen.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(lines[0], ["USER", "COMMAND", "COMMAND"]);
    assert_eq!(lines[1], ["root", "sleep", "sleep", "2000"]);
    assert_eq!((lines.len(), &lines[2][2..]), (3, &["sleep", "1000"][..]));
    assert!(cli.run(&["container", "top", "na", "aux"]).ok().starts_with("USER"));
    // The host's number of the first is what inspect says.
    let pid = cli.inspect("na", "{{.State.Pid}}");
    assert_eq!(cli.run(&["top", "na", "-o", "pid"]).ok().lines().nth(1), Some(&*pid));
    assert_ne!(cli.run(&["exec", "na", "ls", "/ran"]).code, 0, "the container's own ps was run");
    cli.run(&["top", "na", "--bogus"]).fails(1, &["bogus", "-ef"]);
    cli.run(&["stop", "-t", "0", "na"]).ok();
    cli.run(&["top", "na"]).fails(1, &["not running"]);
    cli.run(&["top", "nobody"]).fails(1, &["nobody"]);
    cli.finish();
}

#[test]
fn statistics_are_shown() {
    require!(root, overlayfs);
    let cli = Cli::new();
    cli.start(&["--name", "busy", "-m", "64m", "busybox", "sh", "-c", "while :; do :; done"]);
    cli.start(&["--name", "idle", "busybox", "sleep", "1000"]);
    cli.run(&["create", "--name", "new", "busybox"]).ok();
    let table = cli.run(&["stats", "--no-stream"]).ok();
    let heading = table.lines().next().unwrap();
    for word in
        ["CONTAINER ID", "NAME", "CPU %", "MEM USAGE / LIMIT", "MEM %", "NET I/O", "BLOCK I/O", "PIDS"]
    {
        assert!(heading.contains(word), "{heading}");
    }
    assert_eq!(table.lines().count(), 3, "{table}");
    let format = "{{.Name}} {{.CPUPerc}} {{.MemUsage}} {{.PIDs}}";
    let shown = cli.run(&["stats", "--no-stream", "--format", format, "busy", "idle", "new"]).ok();
    let lines: Vec<Vec<&str>> = shown.lines().map(|line| line.split(' ').collect()).collect();
    let share: f64 = lines[0][1].trim_end_matches('%').parse().unwrap();
    assert!(lines[0][0] == "busy" && share > 1.0, "{shown}");
    assert_eq!((lines[0][4], lines[0][5]), ("64MiB", "1"), "{shown}");
    assert_eq!((lines[1][0], lines[1][5]), ("idle", "1"), "{shown}");
    assert_eq!(lines[2], ["new", "--", "--", "/", "--", "--"], "{shown}");
    assert_eq!(cli.run(&["stats", "-a", "--no-stream", "--format", "json"]).ok().lines().count(), 3);
    let id = cli.inspect("idle", "{{.ID}}");
    assert_eq!(
        cli.run(&["stats", "--no-stream", "--no-trunc", "--format", "{{.ID}}", "idle"]).ok().trim(),
        id
    );
    cli.run(&["stats", "--no-stream", "nobody"]).fails(1, &["nobody"]);
    // A stream goes on until its reader is gone.
    let mut child = cli.spawn(&mut cli.command(&["stats", "--format", "{{.Name}}", "idle"]));
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(child.stdout.take().unwrap()));
    assert_eq!(lines.next().unwrap().unwrap(), "idle");
    assert_eq!(lines.next().unwrap().unwrap(), "idle");
    drop(lines);
    assert_eq!(child.wait().unwrap().code(), Some(141));
    cli.finish();
}

#[test]
fn filters_of_ps() {
    require!(root, overlayfs);
    let cli = Cli::new();
    let id = cli.start(&[
        "--name",
        "web1",
        "--label",
        "a=1",
        "--label",
        "b=2",
        "-v",
        "data:/data",
        "busybox",
        "sleep",
        "1000",
    ]);
    cli.run(&["run", "--name", "failed", "--network", "none", "busybox", "sh", "-c", "exit 3"]);
    cli.run(&["create", "--name", "other", "busybox"]).ok();
    let names = |filters: &[&str]| {
        let flags: Vec<&str> = filters.iter().flat_map(|filter| ["-f", filter]).collect();
        let args = [&["ps", "-a", "--format", "{{.Names}}"], &flags[..]].concat();
        let mut list: Vec<String> = cli.run(&args).ok().lines().map(str::to_owned).collect();
        list.sort();
        list.join(" ")
    };
    for (filters, expected) in [
        (&["name=web"][..], "web1"),
        (&["name=^/web1$"], "web1"),
        (&["name=^eb"], ""),
        (&[&format!("id={}", &id[..12])], "web1"),
        (&["label=a=1"], "web1"),
        (&["label=a", "label=b=3"], ""),
        (&["status=running", "status=created"], "other web1"),
        (&["exited=3"], "failed"),
        (&["exited=0"], ""),
        (&["ancestor=busybox", "status=exited"], "failed"),
        (&["before=failed"], "web1"),
        (&["since=failed"], "other"),
        (&["volume=data"], "web1"),
        (&["volume=/data"], "web1"),
        (&["network=none"], "failed"),
        (&["publish=80"], ""),
        (&["expose=80-90/udp"], ""),
    ] {
        assert_eq!(names(filters), expected, "{filters:?}");
    }
    for wrong in ["status=bogus", "exited=x", "publish=x", "is-task=maybe", "name", "before=nobody"] {
        assert_ne!(cli.run(&["ps", "-f", wrong]).code, 0, "{wrong}");
    }
    cli.finish();
}
