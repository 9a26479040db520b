//! SECURITY group B: identity, privileges, kernel surface, in running containers.

use std::collections::HashSet;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};

use engine_core::oci_spec::runtime::{Capability, LinuxCapabilitiesBuilder};
use engine_core::policy::CapabilitySet;
use engine_core::{ExecSpec, LaunchSpec, Runtime as _};

use crate::support::{Bench, as_nobody};

const SETS: [&str; 5] = ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"];
const LIST: [&str; 3] = ["grep", "Cap", "/proc/self/status"];

/// Sets the bounding set.
fn bounding(spec: &mut LaunchSpec, set: CapabilitySet) {
    let names: HashSet<Capability> =
        set.names().map(|name| serde_json::from_value(serde_json::Value::String(name)).unwrap()).collect();
    let capabilities = LinuxCapabilitiesBuilder::default()
        .bounding(names.clone())
        .effective(names.clone())
        .permitted(names)
        .inheritable(HashSet::new())
        .ambient(HashSet::new())
        .build()
        .unwrap();
    let mut process = spec.oci.process().clone().unwrap();
    process.set_capabilities(Some(capabilities));
    spec.oci.set_process(Some(process));
}

fn table(text: &str) -> Vec<u64> {
    let line = |name: &&str| {
        let line =
            text.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("{name} in {text:?}"));
        u64::from_str_radix(line.split_whitespace().nth(1).unwrap(), 16).unwrap()
    };
    SETS.iter().map(line).collect()
}

#[tokio::test]
async fn b1_capability_sets_are_exactly_those_of_the_table() {
    let bench = Bench::new().await;
    let default = CapabilitySet::default_set();
    let none: [&str; 0] = [];
    let all = CapabilitySet::resolve(default, &none, &none, true).unwrap();
    let added = CapabilitySet::resolve(default, &["NET_ADMIN"], &none, false).unwrap();
    for set in [default, added, CapabilitySet::EMPTY, all] {
        let bits = set.intersection(CapabilitySet::available()).bits();
        for (user, root) in [("", true), ("0", true), ("1000", false), ("user", false)] {
            let change = |spec: &mut LaunchSpec| {
                spec.user = user.to_owned();
                bounding(spec, set);
            };
            let own = if root { bits } else { 0 };
            let expected = vec![0, own, own, bits, 0];
            assert_eq!(table(&bench.run_with(&LIST, change).await.out), expected, "{user:?}");
            let id = bench.start(&["sleep", "1000"], change).await;
            assert_eq!(table(&bench.exec(&id, &LIST).await.out), expected, "exec, {user:?}");
            for (user, own) in [("0", bits), ("1000", 0)] {
                let outcome = bench.exec_spec(&id, &ExecSpec::new(LIST).with_user(user)).await;
                assert_eq!(table(&outcome.out), [0, own, own, bits, 0], "exec as {user}");
            }
            // Privileged means all of the container's own, never more.
            let outcome =
                bench.exec_spec(&id, &ExecSpec::new(LIST).with_user("0").with_privileged(true)).await;
            assert_eq!(table(&outcome.out), [0, bits, bits, bits, 0]);
            bench.runtime.delete(&id).await.unwrap();
        }
    }
}

#[tokio::test]
async fn b2_groups_are_those_of_the_user_and_no_others() {
    let bench = Bench::new().await;
    for (user, add, expected) in [
        ("", vec![], "0 0 0"),
        ("user", vec![], "1000 1001 1001 2000"),
        ("1000", vec![], "1000 1001 1001 2000"),
        ("user:2000", vec![], "1000 2000 2000"),
        ("1000:5", vec![], "1000 5 5"),
        ("4711", vec![], "4711 0 0"),
        ("4711:4712", vec![], "4711 4712 4712"),
        ("user", vec!["3000"], "1000 1001 1001 2000 3000"),
        ("", vec!["extra", "7"], "0 0 0 2000 7"),
    ] {
        let change = |spec: &mut LaunchSpec| {
            spec.user = user.to_owned();
            spec.group_add = add.iter().map(|group: &&str| (*group).to_owned()).collect();
        };
        let command = ["sh", "-c", "echo $(id -u) $(id -g) $(id -G)"];
        let sorted = |text: &str| {
            let mut words: Vec<String> = text.split_whitespace().map(str::to_owned).collect();
            words[2..].sort();
            words
        };
        let outcome = bench.run_with(&command, change).await;
        assert_eq!(sorted(&outcome.out), sorted(expected), "{user:?} {add:?} {outcome:?}");
        let id = bench.start(&["sleep", "1000"], change).await;
        assert_eq!(sorted(&bench.exec(&id, &command).await.out), sorted(expected), "exec {user:?} {add:?}");
        bench.runtime.delete(&id).await.unwrap();
    }
}

#[tokio::test]
async fn b5_cgroups_are_private_read_only_and_joined_before_exec() {
    let bench = Bench::new().await;
    let script = "cut -d: -f3 /proc/self/cgroup | sort -u; \
                  find /sys/fs/cgroup -type f 2>/dev/null | while read f; do echo 1 2>/dev/null > $f && echo wrote $f; done; \
                  mkdir /sys/fs/cgroup/x 2>/dev/null && echo made; grep -c cgroup /proc/self/mountinfo";
    let outcome = bench.run(&["sh", "-c", &script.replace("cut -d: -f3", "awk -F: '{print $3}'")]).await;
    let lines: Vec<_> = outcome.out.lines().collect();
    assert_eq!(lines[0], "/", "{outcome:?}");
    assert_eq!(lines.len(), 2, "{outcome:?}");
    // Seen from outside: run and exec are in the container's group in every hierarchy.
    let id = bench.start(&["sleep", "1000"], |_| ()).await;
    let mut process = bench
        .runtime
        .exec(&id, &ExecSpec::new(["sleep", "1000"]), engine_core::io::AttachOptions::default())
        .await
        .unwrap();
    let _ = process.streams.stdin.take();
    for pid in [bench.runtime.state(&id).await.unwrap().pid.unwrap(), process.pid.unwrap()] {
        let groups = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
        // What has no group of ours is a hierarchy that is not mounted here.
        let outside: Vec<_> = groups.lines().filter(|line| !line.contains(id.as_str())).collect();
        assert!(outside.is_empty(), "{outside:?}");
    }
    bench.runtime.delete(&id).await.unwrap();
}

#[tokio::test]
async fn b5_devices_are_denied_unless_listed() {
    let bench = Bench::new().await;
    let id = bench.start(&["sleep", "1000"], |_| ()).await;
    // Nodes made from outside, as a volume or a layer could bring them.
    let dev = format!("/proc/{}/root/dev", bench.runtime.state(&id).await.unwrap().pid.unwrap());
    let mut made = 0;
    for (major, minor) in (0..16).map(|minor| (1, minor)).chain((0..16).map(|minor| (10, 224 + minor))) {
        if matches!((major, minor), (1, 3 | 5 | 7 | 8 | 9)) {
            continue;
        }
        let path = format!("{dev}/x{major}-{minor}");
        let (mode, device) = (rustix::fs::Mode::from_raw_mode(0o666), rustix::fs::makedev(major, minor));
        rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::CharacterDevice, mode, device)
            .unwrap();
        assert!(std::fs::metadata(&path).unwrap().file_type().is_char_device());
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o666)).unwrap();
        made += 1;
    }
    let script = "for d in /dev/x*; do (: < $d) 2>&1 | grep -q 'Operation not permitted' || echo open $d; done; \
                  for d in null zero full random urandom; do head -c 0 /dev/$d || echo closed $d; done; \
                  mknod /dev/y c 1 1 2>/dev/null && echo made; echo done";
    assert!(made >= 27, "{made}");
    assert_eq!(bench.exec(&id, &["sh", "-c", script]).await.out, "done\n");
    bench.runtime.delete(&id).await.unwrap();
}

#[tokio::test]
async fn b7_the_default_filter_is_on_in_run_and_exec() {
    let bench = Bench::new().await;
    let script = "grep -E 'Seccomp:|NoNewPrivs:' /proc/self/status; mount -t tmpfs x /tmp 2>&1 | grep -c 'not permitted\\|denied'";
    let expected = "NoNewPrivs:\t1\nSeccomp:\t2\n1\n";
    assert_eq!(bench.run(&["sh", "-c", script]).await.out, expected);
    let id = bench.start(&["sleep", "1000"], |_| ()).await;
    assert_eq!(bench.exec(&id, &["sh", "-c", script]).await.out, expected);
    bench.runtime.delete(&id).await.unwrap();
    // Without no_new_privs, the filter is loaded before the capabilities go.
    let outcome = bench
        .run_with(&["grep", "-E", "Seccomp:|NoNewPrivs:", "/proc/self/status"], |spec| {
            let mut process = spec.oci.process().clone().unwrap();
            process.set_no_new_privileges(Some(false));
            spec.oci.set_process(Some(process));
            spec.user = "user".to_owned();
        })
        .await;
    assert_eq!(outcome.out, "NoNewPrivs:\t0\nSeccomp:\t2\n", "{outcome:?}");
}

#[tokio::test]
async fn b8_the_shims_socket_is_a_path_that_only_root_reaches() {
    let bench = Bench::new().await;
    let id = bench.start(&["sleep", "1000"], |_| ()).await;
    let run = bench.dir.path().join("run/containers").join(id.as_str());
    let mode =
        |path: &std::path::Path| std::fs::symlink_metadata(path).unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode(&run.join("shim.sock")), 0o600);
    assert_eq!((mode(&run), mode(run.parent().unwrap())), (0o700, 0o700));
    let sockets = std::fs::read_to_string("/proc/net/unix").unwrap();
    assert!(!sockets.lines().any(|line| line.contains('@') && line.contains("shim")), "{sockets}");
    bench.runtime.delete(&id).await.unwrap();
    assert!(!run.exists());
}

#[tokio::test]
async fn b8_no_other_user_speaks_to_a_shim() {
    use rustix::io::Errno;
    use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketAddrUnix, SocketFlags, SocketType};
    let bench = Bench::new().await;
    let id = bench.start(&["sleep", "1000"], |_| ()).await;
    let open = |path: &std::path::Path, mode| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    // Shorter than what unix(7) allows.
    std::os::unix::fs::symlink(format!("run/containers/{id}"), bench.dir.path().join("short")).unwrap();
    let socket = bench.dir.path().join("short/shim.sock");
    let connect = move || {
        let path = socket.clone();
        as_nobody(move || {
            let flags = SocketFlags::CLOEXEC;
            let fd =
                rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).unwrap();
            rustix::net::connect(&fd, &SocketAddrUnix::new(path).unwrap()).map(|()| fd)
        })
    };
    // The way to our directory is open, the directory is not.
    open(bench.dir.path(), 0o755);
    assert_eq!(connect().unwrap_err(), Errno::ACCESS);
    // Nor is the socket in it, were the directories open.
    let run = bench.dir.path().join("run");
    for path in [run.clone(), run.join("containers"), run.join("containers").join(id.as_str())] {
        open(&path, 0o755);
    }
    assert_eq!(connect().unwrap_err(), Errno::ACCESS);
    // And who gets through all that is told nothing: the shim looks who it is.
    open(&run.join("containers").join(id.as_str()).join("shim.sock"), 0o666);
    let fd = connect().unwrap();
    let _ = rustix::net::send(&fd, &[0; 64], SendFlags::NOSIGNAL);
    let mut bytes = [0_u8; 64];
    let end = rustix::net::recv(&fd, &mut bytes, RecvFlags::empty()).map(|(count, _)| count);
    assert!(matches!(end, Ok(0) | Err(Errno::CONNRESET)), "{end:?}");
    assert!(bench.exec(&id, &["true"]).await.status.success());
    bench.runtime.delete(&id).await.unwrap();
}

#[tokio::test]
async fn b11_the_environment_is_what_the_specification_says_and_home() {
    // In a process of its own with 50 canaries in its environment, none of which may show.
    if std::env::var_os("ENGINE_CANARY_0").is_none() {
        let canaries = (0..50).map(|number| (format!("ENGINE_CANARY_{number}"), "sings"));
        let name = "privileges::b11_the_environment_is_what_the_specification_says_and_home";
        let test = std::env::current_exe().unwrap();
        let output =
            std::process::Command::new(test).args([name, "--exact"]).envs(canaries).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        return;
    }
    let bench = Bench::new().await;
    let mut expected = vec!["HOME=/root", "PATH=/usr/bin:/bin"];
    let list = |text: &str| {
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    assert_eq!(list(&bench.run(&["env"]).await.out), expected);
    let id = bench.start(&["sleep", "1000"], |_| ()).await;
    let outcome = bench.exec_spec(&id, &ExecSpec::new(["env"]).with_env(["A=b"])).await;
    expected.insert(0, "A=b");
    assert_eq!(list(&outcome.out), expected);
    bench.runtime.delete(&id).await.unwrap();
}
