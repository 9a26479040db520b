//! Created, started, waited for, asked, deleted.

use std::time::Duration;

use engine_core::oci_spec::runtime::LinuxNamespaceType;
use engine_core::{ContainerId, ErrorKind, Runtime as _};

use crate::support::Bench;

#[tokio::test]
async fn true_ends_with_zero() {
    let bench = Bench::new().await;
    assert_eq!(bench.run(&["true"]).await.status.code, 0);
    assert_eq!(bench.run(&["sh", "-c", "exit 7"]).await.status.code, 7);
}

#[tokio::test]
async fn output_arrives_whole() {
    let bench = Bench::new().await;
    let outcome = bench.run(&["sh", "-c", "echo out; echo err >&2; hostname; id -u; echo $$"]).await;
    assert_eq!((outcome.out.as_str(), outcome.err.as_str()), ("out\nbox\n0\n1\n", "err\n"));
}

#[tokio::test]
async fn a_missing_command_is_not_found_and_exits_127() {
    let bench = Bench::new().await;
    for (command, kind, code) in [
        ("nonesuch", ErrorKind::CommandNotFound, 127),
        ("/nonesuch", ErrorKind::CommandNotFound, 127),
        ("/etc", ErrorKind::CommandNotExecutable, 126),
        ("/etc/passwd", ErrorKind::CommandNotExecutable, 126),
    ] {
        let id = ContainerId::random();
        let spec = bench.spec(&id, &[command]);
        bench.runtime.create(&id, &spec).await.unwrap();
        let error = bench.runtime.start(&id).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.to_string().contains(command), "{error}");
        assert_eq!(bench.runtime.wait(&id).await.unwrap().code, code);
        bench.runtime.delete(&id).await.unwrap();
    }
}

/// A host program killed amid `create` or `delete` leaves one of the two directories, or both without a state file.
#[tokio::test]
async fn what_is_half_made_is_listed_and_can_be_deleted() {
    let bench = Bench::new().await;
    let id = ContainerId::random();
    let run = bench.dir.path().join("run/containers").join(id.as_str());
    std::fs::create_dir(&run).unwrap();
    assert_eq!(bench.runtime.list().await.unwrap(), std::slice::from_ref(&id));
    assert_eq!(bench.runtime.state(&id).await.unwrap_err().kind(), ErrorKind::NotFound);
    bench.runtime.delete(&id).await.unwrap();
    assert!(!run.exists());
    assert_eq!(bench.runtime.list().await.unwrap(), []);
}

/// A host program killed while it made the groups of another run leaves the first ones; the state is of the last run.
#[tokio::test]
async fn groups_made_by_half_go_with_the_container() {
    let bench = Bench::new().await;
    let id = bench.start(&["true"], |_| ()).await;
    bench.runtime.wait(&id).await.unwrap();
    let state = bench.dir.path().join("root/containers").join(id.as_str()).join("state");
    let state = std::fs::read_to_string(state).unwrap();
    let group = state.lines().find_map(|line| line.strip_prefix("cgroup /")).unwrap();
    let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let first = table.lines().find(|line| line.contains(" - cgroup")).unwrap();
    let dir = std::path::Path::new(first.split(' ').nth(4).unwrap()).join(group);
    let end = std::time::Instant::now() + crate::support::PATIENCE;
    while dir.exists() {
        // The shim takes it away after it has told the end.
        assert!(std::time::Instant::now() < end, "{} stays", dir.display());
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    std::fs::create_dir_all(&dir).unwrap();
    bench.runtime.delete(&id).await.unwrap();
    assert!(!dir.exists(), "{}", dir.display());
    // The leak check knows this engine's groups by the owner in their names, also of a container that nobody remembers.
    let (owner, _) = group.rsplit('/').next().unwrap().split_once('-').unwrap();
    let stray = dir.with_file_name(format!("{owner}-stray"));
    std::fs::create_dir(&stray).unwrap();
    let found = bench.leaks().found("-stray");
    std::fs::remove_dir(&stray).unwrap();
    assert_eq!(found, [format!("cgroup: {}", stray.display())]);
}

/// What joins the container's mount namespace starts in the topmost mount on "/": nothing may lie over the root.
#[tokio::test]
async fn a1_nothing_of_the_host_is_left_in_the_mount_namespace() {
    let bench = Bench::new().await;
    std::fs::write(bench.layer().join("only-in-the-container"), "").unwrap();
    let mut ids = Vec::new();
    let with_files = |spec: &mut engine_core::LaunchSpec| {
        let (path, content) = ("/etc/hosts".into(), b"127.0.0.1 localhost\n".to_vec());
        spec.files = vec![engine_core::launch::InjectedFile { path, content, mode: 0o644 }];
    };
    ids.push(bench.start(&["sleep", "100"], |_| ()).await);
    ids.push(bench.start(&["sleep", "100"], with_files).await);
    for id in ids {
        let inside = bench.exec(&id, &["cat", "/proc/1/mountinfo"]).await.out;
        let roots = inside.lines().filter(|line| line.split(' ').nth(4) == Some("/")).count();
        assert_eq!(roots, 1, "{inside}");
        let outcome = bench.exec(&id, &["ls", "/only-in-the-container"]).await;
        assert_eq!(outcome.status.code, 0, "{}", outcome.err);
        bench.runtime.delete(&id).await.unwrap();
    }
}

#[tokio::test]
async fn b6_the_hosts_name_stays_when_its_namespace_is_shared() {
    let name = || std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    let bench = Bench::new().await;
    let before = name();
    let outcome = bench
        .run_with(&["cat", "/proc/sys/kernel/hostname"], |spec| {
            let mut linux = spec.oci.linux().clone().unwrap();
            let kept = linux
                .namespaces()
                .clone()
                .unwrap_or_default()
                .into_iter()
                .filter(|n| n.typ() != LinuxNamespaceType::Uts);
            let kept = kept.collect();
            linux.set_namespaces(Some(kept));
            spec.oci.set_linux(Some(linux));
            spec.oci.set_hostname(Some("not-the-hosts".to_owned()));
        })
        .await;
    assert_eq!((outcome.out, name()), (before.clone(), before));
}

#[tokio::test]
async fn a_shim_whose_descriptors_are_limited_waits_for_more() {
    let bench = Bench::new().await;
    let id = bench.start(&["sleep", "1000"], |_| ()).await;
    let init = bench.runtime.state(&id).await.unwrap().pid.unwrap();
    let status = std::fs::read_to_string(format!("/proc/{init}/status")).unwrap();
    let shim = status.lines().find_map(|line| line.strip_prefix("PPid:")).unwrap().trim();
    let pid = rustix::process::Pid::from_raw(shim.parse().unwrap());
    let limit = |current| {
        let limit = rustix::process::Rlimit { current: Some(current), maximum: Some(1024) };
        rustix::process::prlimit(pid, rustix::process::Resource::Nofile, limit).unwrap();
    };
    let ticks = || {
        let stat = std::fs::read_to_string(format!("/proc/{shim}/stat")).unwrap();
        let fields: Vec<_> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
        fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
    };
    limit(3);
    // Wakes it, so that it looks at its descriptors again.
    for signal in [rustix::process::Signal::STOP, rustix::process::Signal::CONT] {
        rustix::process::kill_process(pid.unwrap(), signal).unwrap();
    }
    let before = ticks();
    tokio::time::sleep(Duration::from_secs(1)).await;
    // A hundred of them are a second of a processor.
    assert!(ticks() - before < 20, "{} ticks", ticks() - before);
    limit(1024);
    bench.runtime.delete(&id).await.unwrap();
}
