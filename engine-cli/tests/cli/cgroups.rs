//! Who makes the cgroups, and where: `--cgroup-driver`, `--cgroup-root`, `--cgroup-parent`.

use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use engine_testkit::{Systemd, require};

use crate::support::{Cli, until};

/// Where a container's first process is.
fn group_of(cli: &Cli, name: &str) -> String {
    let pid = cli.inspect(name, "{{.State.Pid}}");
    let text = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    text.trim_end().strip_prefix("0::").unwrap().to_owned()
}

#[test]
fn drivers_have_dockers_names() {
    require!(root, overlayfs);
    let cli = Cli::empty();
    assert!(cli.run(&["info"]).ok().contains("\nCgroup Driver: cgroupfs\nCgroup Version: "));
    assert_eq!(cli.run(&["info", "--format", "{{.CgroupDriver}}"]).ok(), "cgroupfs\n");
    cli.run(&["--cgroup-driver", "lxc", "ps"]).fails(1, &["--cgroup-driver", "systemd"]);
    let both = ["--cgroup-driver", "systemd", "--cgroup-root", "/x", "ps"];
    cli.run(&both).fails(1, &["--cgroup-root"]);
    cli.run(&["--cgroup-root", "/no/such/group", "ps"]).fails(1, &["/no/such/group"]);
    cli.finish();
}

#[test]
fn systemd_needs_cgroup_v2_alone() {
    require!(root, overlayfs, cgroup_v1);
    let cli = Cli::empty();
    cli.run(&["--cgroup-driver", "systemd", "ps"]).fails(1, &["cgroup v2 alone", "cgroupfs"]);
    cli.finish();
}

#[test]
fn containers_are_scopes_of_systemd() {
    require!(root, overlayfs, cgroup_v2, "systemd");
    // That of a system, at its place: not where one is already.
    let place = Path::new("/run/systemd/private");
    if place.exists() {
        return;
    }
    let systemd = Systemd::start();
    symlink(systemd.runtime_dir().join("systemd/private"), place).unwrap();
    let cli = Cli::new();
    let with = |args: &[&str]| {
        let output = cli.command(args).env("ENGINE_CGROUP_DRIVER", "systemd").output().unwrap();
        crate::support::Said::from(output)
    };
    assert!(with(&["info"]).ok().contains("\nCgroup Driver: systemd\nCgroup Version: 2\n"));
    with(&["run", "-d", "--name", "box", "-m", "64m", "busybox", "sleep", "1000"]).ok();
    let group = group_of(&cli, "box");
    assert!(group.contains("/system.slice/engine-") && group.ends_with(".scope/container"), "{group}");
    assert_eq!(systemd.groups("system.slice").len(), 1);
    let limit = || {
        let file = format!("/sys/fs/cgroup{}/memory.max", Path::new(&group).parent().unwrap().display());
        std::fs::read_to_string(file).unwrap().trim().parse::<u64>().unwrap() >> 20
    };
    assert_eq!(limit(), 64 + 16);
    with(&["update", "-m", "80m", "--memory-swap", "-1", "box"]).ok();
    assert_eq!(limit(), 80 + 16);
    assert_eq!(with(&["exec", "box", "cat", "/sys/fs/cgroup/memory.max"]).ok(), "83886080\n");
    // Without a word about the driver, what systemd made is found and taken away all the same.
    cli.run(&["rm", "-f", "box"]).ok();
    until("the scope is gone", || systemd.groups("system.slice").is_empty() && systemd.scopes().is_empty());
    let parent = ["run", "--rm", "--cgroup-parent", "shop.slice", "busybox", "cat", "/proc/self/cgroup"];
    assert_eq!(with(&parent).ok(), "0::/\n");
    // Docker's rule, told when the container is created.
    for bad in ["/engine", ".slice"] {
        with(&["create", "--cgroup-parent", bad, "busybox"]).fails(125, &["slice"]);
    }
    std::fs::remove_file(place).unwrap();
    // Nobody there: said as that.
    with(&["run", "--rm", "busybox", "true"]).fails(125, &["/run/systemd/private", "cgroupfs"]);
    cli.finish();
}

#[test]
fn a_delegated_group_is_found_where_the_root_cannot_be_written() {
    require!(root, overlayfs, cgroup_v2);
    let cli = Cli::new();
    let group = format!("/test_delegated_{}", std::process::id());
    let dir = format!("/sys/fs/cgroup{group}");
    // As a service with Delegate=yes and DelegateSubgroup=main, which sees all but its own read-only.
    std::fs::create_dir_all(format!("{dir}/main")).unwrap();
    let run = cli.command(&["run", "--rm", "-m", "64m", "busybox", "cat", "/sys/fs/cgroup/memory.max"]);
    let words: Vec<_> = std::iter::once(run.get_program()).chain(run.get_args()).collect();
    let script = format!(
        "echo 0 > {dir}/main/cgroup.procs && mount --bind {dir} {dir} && \
         mount -o remount,bind,ro /sys/fs/cgroup && exec \"$@\""
    );
    let mut command = Command::new("unshare");
    command.args(["-m", "sh", "-c", &script, "sh"]).args(words);
    let said = crate::support::Said::from(command.output().unwrap());
    assert_eq!((said.code, said.out.as_str()), (0, "67108864\n"), "{said:?}");
    assert!(Path::new(&format!("{dir}/engine")).is_dir(), "the group was made elsewhere");
    // The same by name, from outside.
    let mut named = cli.command(&["run", "-d", "--name", "box", "busybox", "sleep", "1000"]);
    let said = crate::support::Said::from(named.env("ENGINE_CGROUP_ROOT", &group).output().unwrap());
    said.ok();
    assert!(group_of(&cli, "box").starts_with(&format!("{group}/engine/")));
    cli.run(&["rm", "-f", "box"]).ok();
    for gone in ["engine", "main", ""] {
        until("the group is empty", || std::fs::remove_dir(format!("{dir}/{gone}")).is_ok());
    }
    cli.finish();
}
