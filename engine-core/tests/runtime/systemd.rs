//! Containers in scopes of a real systemd: one of the test's own, as a user's, in a group that is delegated to it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use engine_core::cgroups::{CgroupDriver, CgroupOptions, SystemdInstance};
use engine_core::oci_spec::runtime::{LinuxBuilder, LinuxResources};
use engine_core::{
    ContainerId, ContainerStatus, ErrorKind, LaunchSpec, Resources, RestartPolicy, Runtime as _,
};
use engine_testkit::{Systemd, require};

use crate::support::{Bench, PATIENCE};

const CGROUPS: &str = "/sys/fs/cgroup";
const SHIM_MEMORY: u64 = 16 << 20;

fn options(systemd: &Systemd) -> CgroupOptions {
    let instance = SystemdInstance::User(systemd.runtime_dir().to_owned());
    CgroupOptions::default().with_driver(CgroupDriver::Systemd(instance))
}

fn assert_empty(systemd: &Systemd) {
    assert_eq!(systemd.groups("user.slice"), Vec::<PathBuf>::new());
    // A scope that went with its processes: systemd takes its group away first, and forgets the unit when it is idle.
    wait_for(|| systemd.scopes().is_empty());
}

fn wait_for(mut done: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < end, "it does not happen");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn limited(json: &str) -> impl FnOnce(&mut LaunchSpec) {
    let resources: LinuxResources = serde_json::from_str(json).unwrap();
    move |spec| {
        let mut linux = spec.oci.linux().clone().unwrap();
        linux.set_resources(Some(resources));
        spec.oci.set_linux(Some(linux));
    }
}

/// The group that a process is in.
fn group_of(pid: u32) -> PathBuf {
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    Path::new(CGROUPS).join(text.trim_end().strip_prefix("0::/").unwrap())
}

fn read(dir: &Path, file: &str) -> String {
    fs::read_to_string(dir.join(file)).unwrap_or_else(|error| panic!("{file}: {error}")).trim().to_owned()
}

async fn pid_of(bench: &Bench, id: &ContainerId) -> u32 {
    bench.runtime.state(id).await.unwrap().pid.unwrap()
}

#[tokio::test]
async fn a_container_is_a_scope_and_the_engines_own_beneath_it() {
    require!(root, overlayfs, cgroup_v2, "systemd");
    let systemd = Systemd::start();
    let bench = Bench::with_cgroups(options(&systemd)).await;
    assert_eq!(bench.runtime.capabilities().cgroup_driver, "systemd");
    let limits = r#"{"memory":{"limit":67108864,"swap":67108864},"pids":{"limit":20},
        "cpu":{"shares":512,"quota":50500,"period":100000,"cpus":"0","mems":"0"}}"#;
    let id = bench.start(&["sleep", "1000"], limited(limits)).await;
    let container = group_of(pid_of(&bench, &id).await);
    let scope = container.parent().unwrap();
    assert_eq!(systemd.groups("user.slice"), [scope]);
    let unit = scope.file_name().unwrap().to_str().unwrap().to_owned();
    assert!(unit.starts_with("engine-") && unit.ends_with(&format!("-{id}.scope")), "{unit}");
    assert_eq!(systemd.scopes(), std::slice::from_ref(&unit));
    assert!(container.ends_with("container"), "{container:?}");
    let shim: u32 = read(&scope.join("shim"), "cgroup.procs").parse().unwrap();
    assert_eq!(read(Path::new(&format!("/proc/{shim}")), "comm"), "engine-shim");
    // What is in force for the container, and what systemd has for both.
    for (file, inside, beside) in [
        ("memory.max", (64 << 20).to_string(), ((64 << 20) + SHIM_MEMORY).to_string()),
        ("memory.swap.max", "0".to_owned(), "0".to_owned()),
        ("pids.max", "20".to_owned(), "84".to_owned()),
        ("cpu.weight", "59".to_owned(), "59".to_owned()),
        ("cpu.max", "50500 100000".to_owned(), "51000 100000".to_owned()),
        ("cpuset.cpus", "0".to_owned(), "0".to_owned()),
    ] {
        assert_eq!((read(&container, file), read(scope, file)), (inside, beside), "{file}");
    }
    // Its own namespace begins with its own group, and execs are in it.
    let seen = bench.exec(&id, &["cat", "/proc/self/cgroup"]).await;
    assert_eq!((seen.out.as_str(), seen.err.as_str()), ("0::/\n", ""));
    assert!(bench.runtime.stats(&id).await.unwrap().pids >= 1);
    bench.runtime.pause(&id).await.unwrap();
    assert_eq!(bench.runtime.state(&id).await.unwrap().status, ContainerStatus::Paused);
    assert_eq!(read(scope, "cgroup.freeze"), "0", "the shim is not frozen");
    bench.runtime.resume(&id).await.unwrap();
    // Limits change in both, from another program too; not by one that has no systemd to tell.
    let mut change = Resources::default();
    (change.memory, change.memory_swap, change.pids_limit) = (Some(96 << 20), Some(128 << 20), Some(30));
    bench.reopen().await.update(&id, &change).await.unwrap();
    for (file, inside, beside) in [
        ("memory.max", 96 << 20, (96 << 20) + SHIM_MEMORY),
        ("memory.swap.max", 32 << 20, 32 << 20),
        ("pids.max", 30, 94),
    ] {
        assert_eq!(
            (read(&container, file), read(scope, file)),
            (inside.to_string(), beside.to_string()),
            "{file}"
        );
    }
    let without = bench.reopen_with(CgroupOptions::default()).await;
    assert_eq!(without.update(&id, &change).await.unwrap_err().kind(), ErrorKind::Conflict);
    bench.runtime.delete(&id).await.unwrap();
    assert_empty(&systemd);
    // One that ends by itself leaves nothing either, whether somebody looks or not.
    let id = bench.start(&["true"], |_| ()).await;
    assert!(bench.runtime.wait(&id).await.unwrap().success());
    wait_for(|| systemd.groups("user.slice").is_empty() && systemd.scopes().is_empty());
    bench.runtime.delete(&id).await.unwrap();
}

#[tokio::test]
async fn a_scope_stays_between_two_runs_and_goes_with_the_last() {
    require!(root, overlayfs, cgroup_v2, "systemd");
    let systemd = Systemd::start();
    let bench = Bench::with_cgroups(options(&systemd)).await;
    let id = bench
        .start(&["sh", "-c", "echo run; exit 3"], |spec| {
            spec.restart = RestartPolicy::OnFailure { max_retries: 2 }
        })
        .await;
    let scope = systemd.groups("user.slice").pop();
    let status = bench.runtime.wait(&id).await.unwrap();
    assert_eq!(status.code, 3);
    wait_for(|| systemd.groups("user.slice").is_empty());
    let state = bench.runtime.state(&id).await.unwrap();
    assert_eq!((state.restart_count, scope.is_some()), (2, true));
    bench.runtime.delete(&id).await.unwrap();
    assert_empty(&systemd);
}

#[tokio::test]
async fn what_a_killed_shim_left_is_taken_away() {
    require!(root, overlayfs, cgroup_v2, "systemd");
    let systemd = Systemd::start();
    let bench = Bench::with_cgroups(options(&systemd)).await;
    let id = bench.start(&["sleep", "1000"], |_| ()).await;
    let scope = systemd.groups("user.slice").pop().unwrap();
    // A process that outlives both, and so keeps the scope: of a container without a pid namespace, say.
    let procs = scope.join("container/cgroup.procs");
    let script = format!("echo 0 > {} && exec sleep 1000", procs.display());
    let mut left = Command::new("/bin/sh").args(["-c", &script]).spawn().unwrap();
    wait_for(|| {
        read(&scope.join("container"), "cgroup.procs").lines().any(|pid| pid == left.id().to_string())
    });
    let shim: i32 = read(&scope.join("shim"), "cgroup.procs").parse().unwrap();
    Command::new("kill").args(["-9", &shim.to_string()]).status().unwrap();
    let reaped = std::thread::spawn(move || left.wait());
    bench.runtime.wait(&id).await.unwrap();
    reaped.join().unwrap().unwrap();
    assert_empty(&systemd);
    // The same container runs again.
    let spec = bench.spec(&id, &["sleep", "1000"]);
    bench.runtime.create(&id, &spec).await.unwrap();
    assert_eq!(systemd.scopes().len(), 1);
    bench.runtime.delete(&id).await.unwrap();
    assert_empty(&systemd);
}

#[tokio::test]
async fn slices_are_parents_and_failures_leave_nothing() {
    require!(root, overlayfs, cgroup_v2, "systemd");
    let systemd = Systemd::start();
    let bench = Bench::with_cgroups(options(&systemd)).await;
    let beneath = |parent: &'static str| {
        move |spec: &mut LaunchSpec| {
            let mut linux = spec.oci.linux().clone().unwrap_or(LinuxBuilder::default().build().unwrap());
            linux.set_cgroups_path(Some(format!("{parent}/x").into()));
            spec.oci.set_linux(Some(linux));
        }
    };
    let id = bench.start(&["sleep", "1000"], beneath("/shop-front.slice")).await;
    let scope = group_of(pid_of(&bench, &id).await).parent().unwrap().to_owned();
    assert_eq!(systemd.groups("shop.slice/shop-front.slice"), [scope]);
    bench.runtime.delete(&id).await.unwrap();
    assert!(systemd.groups("shop.slice/shop-front.slice").is_empty());
    for parent in ["/shop", "/a/b.slice", "/a--b.slice"] {
        let mut spec = bench.spec(&id, &["true"]);
        beneath(parent)(&mut spec);
        let error = bench.runtime.create(&id, &spec).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{parent}");
        assert!(error.report().contains("xxx.slice"), "{}", error.report());
    }
    // Refused by the kernel once there is a scope, and by systemd.
    for bad in [
        r#"{"cpu":{"cpus":"4000"}}"#,
        r#"{"unified":{"no.such.file":"1"}}"#,
        r#"{"unified":{"cpu.weight":"20000"}}"#,
    ] {
        let mut spec = bench.spec(&id, &["true"]);
        limited(bad)(&mut spec);
        bench.runtime.create(&id, &spec).await.unwrap_err();
        assert_empty(&systemd);
    }
    assert_eq!(bench.run(&["true"]).await.status.code, 0);
    // A program that is not there is found out by the shim.
    let mut spec = bench.spec(&id, &["/no/such"]);
    spec.restart = RestartPolicy::No;
    bench.runtime.create(&id, &spec).await.unwrap();
    bench.runtime.start(&id).await.unwrap_err();
    bench.runtime.delete(&id).await.unwrap();
    assert_empty(&systemd);
}

#[tokio::test]
async fn systemd_is_found_on_a_bus_too() {
    require!(root, overlayfs, cgroup_v2, "systemd", "dbus-daemon");
    let systemd = Systemd::on_a_bus();
    // A directory where the bus alone is.
    let only_bus = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(systemd.runtime_dir().join("bus"), only_bus.path().join("bus")).unwrap();
    let instance = SystemdInstance::User(only_bus.path().to_owned());
    let by_bus = CgroupOptions::default().with_driver(CgroupDriver::Systemd(instance));
    let bench = Bench::with_cgroups(by_bus).await;
    let id = ContainerId::random();
    let spec = bench.spec(&id, &["sleep", "1000"]);
    // The bus is there first, and says until then that systemd is not.
    let end = Instant::now() + PATIENCE;
    while let Err(error) = bench.runtime.create(&id, &spec).await {
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
        assert!(Instant::now() < end, "{error:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(systemd.scopes().len(), 1);
    bench.runtime.delete(&id).await.unwrap();
    assert_empty(&systemd);
    // Nobody at all is told as that.
    drop(systemd);
    let error = bench.runtime.create(&id, &bench.spec(&id, &["true"])).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
}

/// `--ignored --nocapture` shows it.
#[tokio::test]
#[ignore = "a figure for people, and no promise"]
async fn the_price_of_a_scope() {
    require!(root, overlayfs, cgroup_v2, "systemd");
    const RUNS: u32 = 5;
    let systemd = Systemd::start();
    let mut times = Vec::new();
    for options in [CgroupOptions::default(), options(&systemd)] {
        let bench = Bench::with_cgroups(options).await;
        bench.run(&["true"]).await;
        let begin = Instant::now();
        for _ in 0..RUNS {
            assert_eq!(bench.run(&["true"]).await.status.code, 0);
        }
        times.push(begin.elapsed() / RUNS);
    }
    println!("true: {:?} with cgroupfs, {:?} with systemd", times[0], times[1]);
    assert_empty(&systemd);
}

#[tokio::test]
async fn hosts_without_cgroup_v2_alone_are_told_so() {
    require!(root, cgroup_v1);
    let dir = tempfile::tempdir().unwrap();
    let options = CgroupOptions::default().with_driver(CgroupDriver::Systemd(SystemdInstance::System));
    let opened = engine_core::linux::LinuxRuntime::open_with(dir.path(), dir.path(), options).await;
    let error = opened.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.report().contains("cgroup v2 alone"), "{}", error.report());
}
