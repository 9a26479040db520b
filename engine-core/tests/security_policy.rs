//! What a container may do, looked at from inside real ones: SECURITY rows B1, B2, B4, B5, B6 and B7.
//!
//! Needs root, overlayfs, cgroups and busybox-static.

#![allow(clippy::unwrap_used, reason = "tests")]
#![cfg(feature = "linux")]

use std::collections::BTreeSet;
use std::os::unix::fs::FileTypeExt as _;

use engine_core::launch::LaunchSpec;
use engine_core::oci_spec::runtime::{Capability, LinuxCapabilities};
use engine_core::policy::{CapabilitySet, defaults};
use engine_core::{ContainerId, ExecSpec, Runtime as _};

#[path = "runtime/support.rs"]
#[allow(dead_code, unreachable_pub, reason = "shared with the tests of the runtime")]
mod support;

use support::Bench;

/// The five sets in the order of /proc/<pid>/status: inheritable, permitted, effective, bounding, ambient.
const CAPS: [&str; 2] = ["sh", "grep ^Cap /proc/self/status | sed 's/.*\\t//'"];

fn sets(out: &str) -> Vec<u64> {
    out.split_whitespace().map(|hex| u64::from_str_radix(hex, 16).unwrap()).collect()
}

fn give(spec: &mut LaunchSpec, set: CapabilitySet) {
    let names = |set: CapabilitySet| -> std::collections::HashSet<Capability> {
        set.names().map(|name| serde_json::from_value(name.into()).unwrap()).collect()
    };
    let mut capabilities = LinuxCapabilities::default();
    capabilities
        .set_bounding(Some(names(set)))
        .set_effective(Some(names(set)))
        .set_permitted(Some(names(set)))
        .set_inheritable(None)
        .set_ambient(None);
    spec.oci.process_mut().as_mut().unwrap().set_capabilities(Some(capabilities));
}

#[tokio::test]
async fn b1_capability_sets_are_exactly_those_of_the_table() {
    engine_testkit::require!(root, overlayfs);
    let bench = Bench::new().await;
    let base = CapabilitySet::default_set();
    let rules = |add: &[&str], drop: &[&str], all| CapabilitySet::resolve(base, add, drop, all).unwrap();
    for (what, set) in [
        ("default", base),
        ("add", rules(&["NET_ADMIN", "net_raw"], &["CHOWN"], false)),
        ("drop all", rules(&[], &["ALL"], false)),
        ("privileged", rules(&[], &[], true)),
    ] {
        let bits = set.bits();
        let [root, other] = [vec![0, bits, bits, bits, 0], vec![0, 0, 0, bits, 0]];
        for (user, expected) in [("", &root), ("1000", &other), ("user", &other), ("0:1001", &root)] {
            let out = bench
                .run_with(&[CAPS[0], "-c", CAPS[1]], |spec| {
                    spec.user = user.to_owned();
                    give(spec, set);
                })
                .await;
            assert_eq!(&sets(&out.out), expected, "run, {what}, user {user:?}: {out:?}");
        }
        let id = bench.start(&["sleep", "100"], |spec| give(spec, set)).await;
        for (user, privileged, expected) in [
            (None, false, &root),
            (Some("1000"), false, &other),
            (Some("user"), false, &other),
            // Never more than the container's bounding set.
            (None, true, &root),
        ] {
            let mut spec = ExecSpec::new([CAPS[0], "-c", CAPS[1]]).with_privileged(privileged);
            spec.user = user.map(str::to_owned);
            let out = bench.exec_spec(&id, &spec).await;
            assert_eq!(&sets(&out.out), expected, "exec, {what}, user {user:?} {privileged}: {out:?}");
        }
        bench.runtime.delete(&id).await.unwrap();
    }
}

#[tokio::test]
async fn b2_groups_of_the_process_are_those_of_the_image_and_the_caller() {
    engine_testkit::require!(root, overlayfs);
    let bench = Bench::new().await;
    let groups =
        |out: &str| -> BTreeSet<u32> { out.split_whitespace().map(|id| id.parse().unwrap()).collect() };
    let cases: [(&str, &[&str], u32, &[u32]); 16] = [
        ("", &[], 0, &[0]),
        ("0", &[], 0, &[0]),
        ("root", &[], 0, &[0]),
        ("user", &[], 1000, &[1001, 2000]),
        ("1000", &[], 1000, &[1001, 2000]),
        ("1000:", &[], 1000, &[1001, 2000]),
        ("user:user", &[], 1000, &[1001]),
        ("user:0", &[], 1000, &[0]),
        ("1000:77", &[], 1000, &[77]),
        ("4321", &[], 4321, &[0]),
        ("4321:5", &[], 4321, &[5]),
        ("4321:extra", &[], 4321, &[2000]),
        ("", &["extra"], 0, &[0, 2000]),
        ("user", &["9", "9", "extra"], 1000, &[9, 1001, 2000]),
        ("user:5", &["extra"], 1000, &[5, 2000]),
        ("2147483647:2147483647", &["2147483646"], 2147483647, &[2147483646, 2147483647]),
    ];
    for (user, add, uid, expected) in cases {
        let out = bench
            .run_with(
                &["sh", "-c", "id -u; grep ^Groups: /proc/self/status | sed s/Groups://; id -G"],
                |spec| {
                    spec.user = user.to_owned();
                    spec.group_add = add.iter().map(|group| (*group).to_owned()).collect();
                },
            )
            .await;
        let lines: Vec<&str> = out.out.lines().collect();
        assert_eq!(lines[0], uid.to_string(), "{user:?}: {out:?}");
        let expected: BTreeSet<u32> = expected.iter().copied().collect();
        assert_eq!(groups(lines[1]), expected, "setgroups(2), {user:?} {add:?}: {out:?}");
        assert_eq!(groups(lines[2]), expected, "id -G, {user:?} {add:?}: {out:?}");
    }
    let id = bench
        .start(&["sleep", "100"], |spec| {
            spec.user = "user".to_owned();
            spec.group_add = vec!["9".to_owned()];
        })
        .await;
    for (user, expected) in [
        ("root", &[0][..]),
        ("0:5", &[5]),
        ("user", &[1001, 2000]),
        ("1000:7", &[7]),
        ("4321", &[0]),
        ("4321:extra", &[2000]),
        ("1000", &[1001, 2000]),
    ] {
        let out = bench.exec_spec(&id, &ExecSpec::new(["id", "-G"]).with_user(user)).await;
        let found = groups(&out.out);
        assert!(expected.iter().all(|group| found.contains(group)), "exec as {user:?}: {out:?}");
        assert!(
            found.iter().all(|group| expected.contains(group) || *group == 9),
            "exec as {user:?}: {out:?}"
        );
    }
    bench.runtime.delete(&id).await.unwrap();
}

#[tokio::test]
async fn b3_a_user_that_does_not_exist_starts_nothing() {
    engine_testkit::require!(root, overlayfs);
    let bench = Bench::new().await;
    for user in ["nobody", "-1", "0x0", " 0", "2147483648", "4294967295", "user:nogroup", ":0", "root "] {
        let id = ContainerId::random();
        let mut spec = bench.spec(&id, &["true"]);
        spec.user = user.to_owned();
        let error = bench.runtime.create(&id, &spec).await.expect_err(user);
        assert_eq!(error.kind(), engine_core::ErrorKind::InvalidArgument, "{user:?}: {error:?}");
    }
}

#[tokio::test]
async fn b4_host_information_is_hidden_and_read_only() {
    engine_testkit::require!(root, overlayfs);
    let bench = Bench::new().await;
    // One line for each path that shows anything or takes anything.
    let mut script = String::new();
    for path in defaults::masked_paths() {
        script.push_str(&format!(
            "p='{path}'; if [ -d $p ]; then [ -z \"$(ls -A $p)\" ] || echo lists $p; touch $p/x 2>/dev/null && echo creates $p; \
             elif [ -e $p ]; then [ -z \"$(head -c 10 $p 2>/dev/null)\" ] || echo reads $p; fi\n"
        ));
    }
    for path in defaults::READONLY_PATHS {
        script.push_str(&format!(
            "p='{path}'; if [ -d $p ]; then for f in $(find $p -type f | head -n 300); do true 2>/dev/null >> $f && echo opens $f; done; \
             elif [ -e $p ]; then true 2>/dev/null >> $p && echo opens $p; fi\n"
        ));
    }
    script.push_str("touch /sys/x 2>/dev/null && echo creates /sys; for f in $(find /sys -type f -maxdepth 4 | head -n 500); do true 2>/dev/null >> $f && echo opens $f; done\n");
    // Everything else at the top of /proc that says it can be written.
    script.push_str("find /proc -maxdepth 1 -type f -perm /222 | sed 's/^/writable /'; true\n");
    let out = bench.run(&["sh", "-c", &script]).await;
    assert!(out.status.success(), "{out:?}");
    // The first is one of the read-only paths; the second takes writes from CAP_SYS_ADMIN only (mtrr_write).
    let known = ["writable /proc/sysrq-trigger", "writable /proc/mtrr"];
    let found: Vec<&str> = out.out.lines().filter(|line| !known.contains(line)).collect();
    assert_eq!(found, Vec::<&str>::new());
}

#[tokio::test]
async fn b5_control_groups_are_private_and_read_only() {
    engine_testkit::require!(root, overlayfs);
    let bench = Bench::new().await;
    let script = "for f in $(find /sys/fs/cgroup -type f); do true 2>/dev/null >> $f && echo opens $f; done; \
        mkdir /sys/fs/cgroup/x 2>/dev/null && echo creates; for d in /sys/fs/cgroup/*; do [ -d $d ] && mkdir $d/x 2>/dev/null && echo creates $d; done; \
        sed 's/[^:]*:[^:]*://' /proc/self/cgroup | sort -u; find /sys/fs/cgroup -name cgroup.procs | wc -l";
    let out = bench.run(&["sh", "-c", script]).await;
    let lines: Vec<&str> = out.out.lines().collect();
    assert_eq!(lines[0], "/", "every path is the root of the container's own namespace: {out:?}");
    assert_eq!(lines.len(), 2, "{out:?}");
    assert!(lines[1].parse::<u32>().unwrap() >= 1, "the hierarchies are shown: {out:?}");

    // From outside: container and exec are in the container's group in every hierarchy.
    let id = bench.start(&["sleep", "100"], |_| ()).await;
    let sleep = ExecSpec::new(["sleep", "100"]);
    let attach = engine_core::io::AttachOptions::piped(false);
    let process = bench.runtime.exec(&id, &sleep, attach).await.unwrap();
    let init = bench.runtime.state(&id).await.unwrap().pid.unwrap();
    for pid in [init, process.pid.unwrap()] {
        let groups = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
        assert!(groups.lines().all(|line| line.ends_with(&format!("-{id}"))), "{pid}: {groups}");
    }
    bench.runtime.delete(&id).await.unwrap();
}

#[tokio::test]
async fn b5_device_nodes_of_an_image_open_nothing() {
    engine_testkit::require!(root, overlayfs);
    let bench = Bench::new().await;
    let extra = bench.dir.path().join("nodes");
    std::fs::create_dir_all(extra.join("nodes")).unwrap();
    let make = |name: String, kind: rustix::fs::FileType, major: u32, minor: u32| {
        let path = extra.join("nodes").join(name);
        let mode = rustix::fs::Mode::from_raw_mode(0o666);
        rustix::fs::mknodat(rustix::fs::CWD, &path, kind, mode, rustix::fs::makedev(major, minor)).unwrap();
        let kind = path.symlink_metadata().unwrap().file_type();
        assert!(kind.is_char_device() || kind.is_block_device());
    };
    let character = rustix::fs::FileType::CharacterDevice;
    for minor in [1, 2, 4, 11] {
        make(format!("mem{minor}"), character, 1, minor);
    }
    for minor in [229, 200, 232, 237] {
        make(format!("misc{minor}"), character, 10, minor);
    }
    for (n, major) in [7, 8, 252, 253, 254, 259].into_iter().enumerate() {
        for minor in 0..4 {
            make(format!("block{n}-{minor}"), rustix::fs::FileType::BlockDevice, major, minor);
        }
    }
    let script = "n=0; for f in /nodes/*; do n=$((n+1)); ( : < $f ) 2>&1 | grep -q -e permitted -e denied || echo opens $f; done; \
        mknod /tmp/null c 1 3 2>/dev/null && echo made; ( : <> /dev/null ) && ( : < /dev/zero ) && echo $n";
    let id = ContainerId::random();
    let mut spec = bench.spec(&id, &["sh", "-c", script]);
    spec.rootfs = bench.rootfs(&id, std::slice::from_ref(&extra));
    let out = bench.run_spec(&id, &spec).await.unwrap();
    assert_eq!(out.out, "32\n", "{out:?}");
}

#[tokio::test]
async fn b6_sysctls_stay_inside() {
    let names =
        ["net/ipv4/ip_unprivileged_port_start", "net/ipv4/ip_forward", "kernel/msgmax", "fs/mqueue/msg_max"];
    let host = || names.map(|name| std::fs::read_to_string(format!("/proc/sys/{name}")).unwrap());
    let before = host();
    engine_testkit::require!(root, overlayfs);
    let bench = Bench::new().await;
    let script = "cat /proc/sys/net/ipv4/ip_unprivileged_port_start /proc/sys/net/ipv4/ip_forward /proc/sys/kernel/msgmax";
    let out = bench
        .run_with(&["sh", "-c", script], |spec| {
            let sysctl = [
                ("net.ipv4.ip_unprivileged_port_start", "7"),
                ("net.ipv4.ip_forward", "1"),
                ("kernel.msgmax", "4321"),
            ];
            let sysctl =
                sysctl.map(|(name, value)| (name.to_owned(), value.to_owned())).into_iter().collect();
            spec.oci.linux_mut().as_mut().unwrap().set_sysctl(Some(sysctl));
        })
        .await;
    assert_eq!(out.out, "7\n1\n4321\n", "{out:?}");
    assert_eq!(host(), before);
}

#[tokio::test]
async fn b7_every_process_runs_under_the_filter() {
    engine_testkit::require!(root, overlayfs);
    let bench = Bench::new().await;
    let command = ["sh", "-c", "grep ^Seccomp: /proc/self/status; grep ^NoNewPrivs: /proc/self/status"];
    let expected = "Seccomp:\t2\nNoNewPrivs:\t1\n";
    assert_eq!(bench.run(&command).await.out, expected);
    let id = bench.start(&["sleep", "100"], |_| ()).await;
    assert_eq!(bench.exec(&id, &command).await.out, expected);
    let privileged = ExecSpec::new(command).with_privileged(true);
    assert!(bench.exec_spec(&id, &privileged).await.out.starts_with("Seccomp:\t"));
    bench.runtime.delete(&id).await.unwrap();
    let open =
        bench.run_with(&command, |spec| spec.seccomp = engine_core::launch::SeccompPolicy::Unconfined).await;
    assert!(open.out.starts_with("Seccomp:\t0"), "{open:?}");
    let own = r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["mkdir","mkdirat"],"action":"SCMP_ACT_ERRNO","errnoRet":95}]}"#;
    let own = bench
        .run_with(&["sh", "-c", "mkdir /tmp/x || echo refused"], |spec| {
            spec.seccomp = engine_core::launch::SeccompPolicy::Profile(own.into());
        })
        .await;
    assert!(own.out == "refused\n" && own.err.contains("not supported"), "{own:?}");
}
