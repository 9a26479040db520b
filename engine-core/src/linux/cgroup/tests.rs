//! On the host's real hierarchies, whichever they are. Needs root and writable control groups.

use std::process::{Child, Command, Stdio};

use super::*;

/// A group that is gone when the test is, whatever happened.
struct Scratch {
    hierarchies: Hierarchies,
    path: PathBuf,
    cgroup: Cgroup,
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = self.cgroup.kill();
        let _ = self.cgroup.remove();
        prune(&self.hierarchies);
    }
}

/// Takes the parent away that all tests of this process share, unless another test uses it now.
fn prune(hierarchies: &Hierarchies) {
    for dir in Cgroup::open(hierarchies, path("x").parent().unwrap()).dirs() {
        let _ = std::fs::remove_dir(dir);
    }
}

/// `None`, said aloud, where control groups cannot be used; a failure in CI.
fn hierarchies() -> Option<Hierarchies> {
    let usable = nix::unistd::geteuid().is_root() && Hierarchies::detect().is_ok();
    if !usable {
        assert!(std::env::var_os("ENGINE_TEST_STRICT").is_none(), "needs root and control groups");
        eprintln!("skipped: needs root and control groups");
    }
    Hierarchies::detect().ok().filter(|_| usable)
}

fn path(id: &str) -> PathBuf {
    // A parent of its own, so that tests of other processes are not in the way.
    path_for(Some(&format!("/engine_test_{}", std::process::id())), "test", id).unwrap()
}

fn scratch(id: &str, resources: &str) -> Option<Scratch> {
    let hierarchies = hierarchies()?;
    let path = path(id);
    let cgroup = Cgroup::create(&hierarchies, &path, &spec(resources)).unwrap();
    Some(Scratch { hierarchies, path, cgroup })
}

fn spec(json: &str) -> LinuxResources {
    serde_json::from_str(json).unwrap()
}

/// A shell in the group that runs `script`: it joins first, as the shim does.
fn spawn(cgroup: &Cgroup, script: &str) -> Child {
    let joins: Vec<String> =
        cgroup.join_files().iter().map(|file| format!("echo 0 > '{}' || exit 99", file.display())).collect();
    let script = format!("{}; {script}", joins.join("; "));
    Command::new("/bin/sh").args(["-c", &script]).stdin(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

fn code(cgroup: &Cgroup, script: &str) -> Option<i32> {
    spawn(cgroup, script).wait().unwrap().code()
}

fn has(cgroup: &Cgroup, controller: &str) -> bool {
    let found = cgroup.with(controller).is_some();
    if !found {
        eprintln!("part skipped: no {controller} controller on this {} host", cgroup.version());
    }
    found
}

fn shows(cgroup: &Cgroup, controller: &str, v1: &str, v2: &str) -> String {
    let group = cgroup.with(controller).unwrap();
    files::read(&group.dir, if group.mount.unified { v2 } else { v1 }).unwrap().unwrap()
}

#[test]
fn paths_are_beneath_a_parent_and_carry_the_owner() {
    assert_eq!(path_for(None, "e1", "abc").unwrap(), Path::new("/engine/e1-abc"));
    assert_eq!(path_for(Some("a/b/"), "e1", "abc").unwrap(), Path::new("/a/b/e1-abc"));
    for (parent, owner, id) in [
        (Some("../x"), "e", "a"),
        (Some("/a/../../b"), "e", "a"),
        (Some("/a/./b"), "e", "a"),
        (Some("/a\n"), "e", "a"),
        (None, "e-1", "a"),
        (None, "", "a"),
        (None, "e", "../a"),
        (None, "e", ""),
    ] {
        assert!(path_for(parent, owner, id).is_err(), "{parent:?} {owner:?} {id:?}");
    }
}

#[test]
fn b5_a_group_in_every_hierarchy_holds_its_processes() {
    let Some(scratch) = scratch("everywhere", "{}") else { return };
    let cgroup = &scratch.cgroup;
    assert_eq!(cgroup.dirs().len(), scratch.hierarchies.mounts().len());
    assert!(cgroup.dirs().iter().all(|dir| dir.is_dir()));
    let again = Cgroup::create(&scratch.hierarchies, &scratch.path, &spec("{}")).unwrap_err();
    assert_eq!(again.kind(), ErrorKind::AlreadyExists);
    assert!(cgroup.exists(), "the attempt removed nothing of the first");
    // After joining, every line of /proc/self/cgroup ends in our path.
    let script = format!("grep -v '{}$' /proc/self/cgroup && exit 1; exit 7", scratch.path.display());
    assert_eq!(code(cgroup, &script), Some(7));
}

#[test]
fn limits_reach_the_kernel_and_can_be_changed() {
    let Some(scratch) = scratch("limits", r#"{"pids":{"limit":17}}"#) else { return };
    let cgroup = &scratch.cgroup;
    if has(cgroup, "pids") {
        assert_eq!(shows(cgroup, "pids", "pids.max", "pids.max"), "17");
        cgroup.update(&spec(r#"{"pids":{"limit":-1}}"#)).unwrap();
        assert_eq!(shows(cgroup, "pids", "pids.max", "pids.max"), "max");
    }
    if has(cgroup, "cpu") {
        cgroup.update(&spec(r#"{"cpu":{"shares":512,"quota":150000,"period":100000}}"#)).unwrap();
        assert_eq!(
            shows(cgroup, "cpu", "cpu.shares", "cpu.weight"),
            if cgroup.version() == Version::V2 { "59" } else { "512" }
        );
        let quota = shows(cgroup, "cpu", "cpu.cfs_quota_us", "cpu.max");
        assert!(quota == "150000" || quota == "150000 100000", "{quota}");
        cgroup.update(&spec(r#"{"cpu":{"quota":20000,"period":50000}}"#)).unwrap();
        cgroup.update(&spec(r#"{"cpu":{"quota":-1}}"#)).unwrap();
        let quota = shows(cgroup, "cpu", "cpu.cfs_quota_us", "cpu.max");
        assert!(quota == "-1" || quota == "max 50000", "{quota}");
    }
    if has(cgroup, "cpuset") {
        cgroup.update(&spec(r#"{"cpu":{"cpus":"0","mems":"0"}}"#)).unwrap();
        assert_eq!(shows(cgroup, "cpuset", "cpuset.cpus", "cpuset.cpus"), "0");
        let error = cgroup.update(&spec(r#"{"cpu":{"cpus":"9000"}}"#)).unwrap_err();
        assert!(error.report().contains("9000"), "{}", error.report());
    }
    if has(cgroup, "hugetlb") {
        cgroup.update(&spec(r#"{"hugepageLimits":[{"pageSize":"2MB","limit":4194304}]}"#)).unwrap();
        assert_eq!(shows(cgroup, "hugetlb", "hugetlb.2MB.limit_in_bytes", "hugetlb.2MB.max"), "4194304");
        let bad = spec(r#"{"hugepageLimits":[{"pageSize":"../x","limit":1}]}"#);
        assert_eq!(cgroup.update(&bad).unwrap_err().kind(), ErrorKind::InvalidArgument);
    }
    for file in ["cgroup.procs", "../memory.max", "memory", ""] {
        let bad = spec(&format!(r#"{{"unified":{{"{file}":"1"}}}}"#));
        assert_eq!(cgroup.update(&bad).unwrap_err().kind(), ErrorKind::InvalidArgument, "{file}");
    }
}

#[test]
fn memory_and_swap_grow_and_shrink_in_any_order() {
    let mib = |n: u64| n << 20;
    let resources =
        format!(r#"{{"memory":{{"limit":{},"swap":{},"reservation":{}}}}}"#, mib(64), mib(96), mib(32));
    let Some(hierarchies) = hierarchies() else { return };
    if !hierarchies.controllers().contains(&"memory") {
        let error = Cgroup::create(&hierarchies, &path("nomemory"), &spec(&resources)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        prune(&hierarchies);
        return;
    }
    let Some(scratch) = scratch("memory", &resources) else { return };
    let cgroup = &scratch.cgroup;
    let limit = || shows(cgroup, "memory", "memory.limit_in_bytes", "memory.max");
    let swap = || {
        let group = cgroup.with("memory").unwrap();
        files::read(
            &group.dir,
            if group.mount.unified { "memory.swap.max" } else { "memory.memsw.limit_in_bytes" },
        )
        .unwrap()
    };
    // v2 counts swap alone. A kernel without swap accounting shows nothing.
    let expect = |memory: u64, both: u64| {
        assert_eq!(limit(), memory.to_string());
        let shown = if cgroup.version() == Version::V2 { both - memory } else { both };
        assert!(swap().is_none_or(|swap| swap == shown.to_string()), "{:?} {shown}", swap());
    };
    expect(mib(64), mib(96));
    for (memory, both) in [(128, 256), (16, 16), (512, 1024), (300, 400), (32, 4096)] {
        cgroup
            .update(&spec(&format!(r#"{{"memory":{{"limit":{},"swap":{}}}}}"#, mib(memory), mib(both))))
            .unwrap();
        expect(mib(memory), mib(both));
    }
    cgroup.update(&spec(r#"{"memory":{"limit":-1,"swap":-1}}"#)).unwrap();
    assert_eq!(cgroup.stats().unwrap().memory_limit, None);
    for bad in
        [r#"{"memory":{"limit":67108864,"swap":1048576}}"#, r#"{"memory":{"limit":-1,"swap":1048576}}"#]
    {
        assert_eq!(cgroup.update(&spec(bad)).unwrap_err().kind(), ErrorKind::InvalidArgument, "{bad}");
    }
    if cgroup.version() != Version::V2 {
        let bad = spec(r#"{"memory":{"swappiness":101}}"#);
        assert_eq!(cgroup.update(&bad).unwrap_err().kind(), ErrorKind::InvalidArgument);
    }
}

#[test]
fn a_greedy_process_is_killed_and_counted() {
    let Some(hierarchies) = hierarchies() else { return };
    if !hierarchies.controllers().contains(&"memory") {
        return;
    }
    let limits = r#"{"memory":{"limit":16777216,"swap":16777216}}"#;
    let Some(scratch) = scratch("greedy", limits) else { return };
    assert_eq!(scratch.cgroup.oom_kills().unwrap(), 0);
    // The shell's variable grows until the kernel has enough of it.
    let greedy = "x=0123456789abcdef; while :; do x=$x$x; done";
    let status = spawn(&scratch.cgroup, greedy).wait().unwrap();
    assert!(!status.success());
    assert!(scratch.cgroup.oom_kills().unwrap() >= 1);
    let counter = std::fs::read_to_string(scratch.cgroup.oom_counter().unwrap()).unwrap();
    assert!(files::keyed(&counter, "oom_kill").unwrap() >= 1);
}

#[test]
fn b5_only_the_default_devices_can_be_opened() {
    let Some(scratch) = scratch("devices", "{}") else { return };
    let dir = tempfile::tempdir().unwrap();
    let node = |name: &str, kind, major, minor| {
        let path = dir.path().join(name);
        let mode = rustix::fs::Mode::from_raw_mode(0o666);
        rustix::fs::mknodat(rustix::fs::CWD, &path, kind, mode, rustix::fs::makedev(major, minor)).unwrap();
        path
    };
    let character = rustix::fs::FileType::CharacterDevice;
    // A device that is there and denied (EPERM), not one that is missing (ENXIO): kmsg, mem, the first loop device.
    let mut denied = vec![node("kmsg", character, 1, 11), node("mem", character, 1, 1)];
    denied.push(node("loop-control", character, 10, 237));
    for minor in 0..27 {
        denied.push(node(&format!("block{minor}"), rustix::fs::FileType::BlockDevice, 7, minor));
    }
    assert_eq!(denied.len(), 30);
    let null = node("null", character, 1, 3);
    assert_eq!(code(&scratch.cgroup, &format!("exec 3<>'{}'", null.display())), Some(0));
    for path in denied {
        // Permission denied and "not permitted" are told apart by the message of the shell.
        let script =
            format!("( exec 3<'{}' ) 2>&1 | grep -q 'not permitted' && exit 7; exit 1", path.display());
        assert_eq!(code(&scratch.cgroup, &script), Some(7), "{}", path.display());
    }
    let mknod = format!("mknod '{}' c 1 3", dir.path().join("new").display());
    assert_ne!(code(&scratch.cgroup, &mknod), Some(0), "no node can be made, not even of an allowed device");
    let open = scratch_with_all();
    let script = format!("exec 3<'{}'", dir.path().join("kmsg").display());
    assert_eq!(code(&open.cgroup, &script), Some(0), "a privileged container may");
}

fn scratch_with_all() -> Scratch {
    scratch("privileged", r#"{"devices":[{"allow":true,"access":"rwm"}]}"#).unwrap()
}

#[test]
fn processes_freeze_and_thaw() {
    let Some(scratch) = scratch("freeze", "{}") else { return };
    let mut child = spawn(&scratch.cgroup, "while :; do :; done");
    // It joins one hierarchy after the other.
    while scratch.cgroup.join_files().iter().any(|file| std::fs::read(file).unwrap().is_empty()) {
        std::thread::sleep(Duration::from_millis(1));
    }
    assert!(!scratch.cgroup.is_frozen().unwrap());
    scratch.cgroup.freeze().unwrap();
    assert!(scratch.cgroup.is_frozen().unwrap());
    let used = |file: &str| std::fs::read_to_string(format!("/proc/{}/{file}", child.id())).unwrap();
    let before = used("schedstat");
    std::thread::sleep(Duration::from_millis(30));
    assert_eq!(used("schedstat"), before, "it ran while it was frozen");
    scratch.cgroup.thaw().unwrap();
    scratch.cgroup.thaw().unwrap();
    assert!(!scratch.cgroup.is_frozen().unwrap());
    scratch.cgroup.freeze().unwrap();
    // Frozen processes die as well.
    scratch.cgroup.kill().unwrap();
    assert!(!child.wait().unwrap().success());
    assert_eq!(scratch.cgroup.processes(), Vec::<u32>::new());
}

#[test]
fn kill_reaches_groups_beneath_and_remove_takes_them_away() {
    let Some(scratch) = scratch("nested", "{}") else { return };
    let mut children = vec![spawn(&scratch.cgroup, "sleep 100 & sleep 100 & sleep 100")];
    for dir in scratch.cgroup.dirs() {
        std::fs::create_dir(dir.join("inner")).unwrap();
        let cpuset = dir.join("inner/cpuset.cpus");
        if cpuset.exists() && scratch.cgroup.version() != Version::V2 {
            for file in ["cpuset.cpus", "cpuset.mems"] {
                let _ = std::fs::copy(dir.join(file), dir.join("inner").join(file));
            }
        }
    }
    let inner = Cgroup::open(&scratch.hierarchies, &scratch.path.join("inner"));
    children.push(spawn(&inner, "sleep 100"));
    // Three sleeps and one or two shells, depending on whether a shell runs its last command by itself.
    let deadline = Instant::now() + Duration::from_secs(30);
    while scratch.cgroup.processes().len() < 4 || inner.processes().is_empty() {
        assert!(Instant::now() < deadline, "{:?}", scratch.cgroup.processes());
        std::thread::sleep(Duration::from_millis(1));
    }
    let busy = remove_tree(&scratch.cgroup.dirs()[0], Instant::now()).unwrap_err();
    assert_eq!(busy.kind(), ErrorKind::Conflict);
    scratch.cgroup.kill().unwrap();
    for child in &mut children {
        child.wait().unwrap();
    }
    scratch.cgroup.remove().unwrap();
    assert!(!scratch.cgroup.exists());
    scratch.cgroup.remove().unwrap();
    scratch.cgroup.kill().unwrap();
    assert_eq!(scratch.cgroup.stats().unwrap_err().kind(), ErrorKind::NotFound);
}

#[test]
fn statistics_count_what_is_used() {
    let Some(scratch) = scratch("stats", r#"{"pids":{"limit":50}}"#) else { return };
    let cgroup = &scratch.cgroup;
    let dir = tempfile::tempdir().unwrap();
    let ready = dir.path().join("ready");
    // dd holds one block of 8 MiB at a time.
    let work =
        "i=0; while [ $i -lt 30000 ]; do i=$((i+1)); done; dd if=/dev/zero of=/dev/null bs=8388608 count=4";
    let mut child = spawn(cgroup, &format!("{work}; : > '{}'; sleep 100; exit 1", ready.display()));
    let deadline = Instant::now() + Duration::from_secs(60);
    while !ready.exists() {
        assert!(Instant::now() < deadline, "the work never ends");
        std::thread::sleep(Duration::from_millis(5));
    }
    let stats = cgroup.stats().unwrap();
    if has(cgroup, "cpu") {
        assert!(stats.cpu_time > Duration::from_millis(5), "{stats:?}");
        assert!(
            stats.cpu_user_time > Duration::ZERO && stats.cpu_user_time <= stats.cpu_time * 2,
            "{stats:?}"
        );
    }
    if has(cgroup, "memory") {
        assert!(stats.memory > 16 << 10 && stats.memory < 64 << 20, "{stats:?}");
        assert_eq!(stats.memory_limit, None);
        assert!(stats.memory_peak.is_none_or(|peak| peak > 8 << 20), "{stats:?}");
    }
    if has(cgroup, "pids") {
        assert!(stats.pids >= 1, "{stats:?}");
        assert_eq!(stats.pids_limit, Some(50));
    }
    if let Some(pressure) = cgroup.pressure("cpu").unwrap() {
        assert!(pressure.some_avg10 >= 0.0);
    }
    assert!(cgroup.pressure("../x").unwrap().is_none());
    cgroup.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn a_failed_creation_leaves_nothing() {
    let Some(hierarchies) = hierarchies() else { return };
    let path = path("failed");
    for bad in
        [r#"{"cpu":{"cpus":"nonsense"}}"#, r#"{"rdma":{"x":{}}}"#, r#"{"unified":{"no.such.file":"1"}}"#]
    {
        Cgroup::create(&hierarchies, &path, &spec(bad)).unwrap_err();
        assert!(!Cgroup::open(&hierarchies, &path).exists(), "{bad}");
    }
    prune(&hierarchies);
}

#[test]
fn sweep_takes_what_is_the_owners_and_not_kept() {
    let Some(hierarchies) = hierarchies() else { return };
    let parent = format!("/engine_sweep_{}", std::process::id());
    let make = |owner: &str, id: &str| {
        let path = path_for(Some(&parent), owner, id).unwrap();
        Cgroup::create(&hierarchies, &path, &spec("{}")).unwrap()
    };
    let (kept, gone, other) = (make("mine", "kept"), make("mine", "gone"), make("other", "gone"));
    let mut child = spawn(&gone, "sleep 100");
    while gone.processes().is_empty() {
        std::thread::sleep(Duration::from_millis(1));
    }
    // The parent of our child reaps it meanwhile, as init would.
    let reaper = std::thread::spawn(move || child.wait().unwrap());
    assert_eq!(sweep(&hierarchies, Some(&parent), "mine", &|id| id == "kept").unwrap(), ["gone"]);
    reaper.join().unwrap();
    assert!(kept.exists() && other.exists() && !gone.exists());
    assert_eq!(sweep(&hierarchies, Some(&parent), "mine", &|_| false).unwrap(), ["kept"]);
    other.remove().unwrap();
    for mount in hierarchies.mounts() {
        let _ = std::fs::remove_dir(mount.point.join(parent.trim_start_matches('/')));
    }
    assert!(sweep(&hierarchies, Some(&parent), "mine", &|_| false).unwrap().is_empty());
}
