//! An engine within a group that was delegated to it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::Instant;

use engine_core::cgroups::CgroupOptions;
use engine_core::linux::LinuxRuntime;
use engine_core::oci_spec::runtime::LinuxResources;
use engine_core::{ErrorKind, Runtime as _};
use engine_testkit::require;

use crate::support::{Bench, PATIENCE};

/// A group with all controllers, as `Delegate=yes` makes one.
struct Delegated {
    dir: PathBuf,
}

impl Delegated {
    fn new(name: &str) -> Self {
        let dir = Path::new("/sys/fs/cgroup").join(format!("test_{name}_{}", std::process::id()));
        fs::create_dir(&dir).unwrap();
        Self { dir }
    }

    fn options(&self) -> CgroupOptions {
        CgroupOptions::default().with_root(format!("/{}", self.dir.file_name().unwrap().display()))
    }

    /// A process in it, as its service would be.
    fn occupy(&self) -> Child {
        let procs = self.dir.join("cgroup.procs");
        let child = Command::new("sleep").arg("1000").spawn().unwrap();
        fs::write(procs, child.id().to_string()).unwrap();
        child
    }
}

impl Drop for Delegated {
    fn drop(&mut self) {
        let _ = fs::remove_dir(self.dir.join("engine"));
        let _ = fs::remove_dir(&self.dir);
    }
}

fn resources(json: &str) -> LinuxResources {
    serde_json::from_str(json).unwrap()
}

fn limited(spec: &mut engine_core::LaunchSpec, json: &str) {
    let mut linux = spec.oci.linux().clone().unwrap();
    linux.set_resources(Some(resources(json)));
    spec.oci.set_linux(Some(linux));
}

#[tokio::test]
async fn groups_are_made_beneath_what_was_delegated() {
    require!(root, overlayfs, cgroup_v2);
    let delegated = Delegated::new("beneath");
    let bench = Bench::with_cgroups(delegated.options()).await;
    let memory = r#"{"memory":{"limit":67108864}}"#;
    let id = bench.start(&["sleep", "1000"], |spec| limited(spec, memory)).await;
    let pid = bench.runtime.state(&id).await.unwrap().pid.unwrap();
    let group = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    let group = Path::new("/sys/fs/cgroup").join(group.trim_end().strip_prefix("0::/").unwrap());
    assert_eq!(group.parent().unwrap(), delegated.dir.join("engine"));
    assert_eq!(fs::read_to_string(group.join("memory.max")).unwrap(), "67108864\n");
    bench.runtime.delete(&id).await.unwrap();
    assert!(!group.exists());
    // A parent that the container names is beneath it as well.
    let beneath = |spec: &mut engine_core::LaunchSpec| {
        let mut linux = spec.oci.linux().clone().unwrap();
        linux.set_cgroups_path(Some("/team/x".into()));
        spec.oci.set_linux(Some(linux));
    };
    let id = bench.start(&["sleep", "1000"], beneath).await;
    assert_eq!(
        fs::read_dir(delegated.dir.join("team")).unwrap().flatten().filter(|e| e.path().is_dir()).count(),
        1
    );
    bench.runtime.delete(&id).await.unwrap();
    fs::remove_dir(delegated.dir.join("team")).unwrap();
}

#[tokio::test]
async fn processes_in_the_way_are_named() {
    require!(root, overlayfs, cgroup_v2);
    let delegated = Delegated::new("busy");
    let mut service = delegated.occupy();
    let bench = Bench::with_cgroups(delegated.options()).await;
    // Without limits it runs, as on any host that lacks the controllers.
    assert_eq!(bench.run(&["true"]).await.status.code, 0);
    let id = engine_core::ContainerId::random();
    let mut spec = bench.spec(&id, &["true"]);
    limited(&mut spec, r#"{"memory":{"limit":67108864}}"#);
    let error = bench.runtime.create(&id, &spec).await.unwrap_err();
    let report = error.report();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    let group = delegated.dir.display().to_string();
    assert!(report.contains(&group) && report.contains("processes of its own"), "{report}");
    assert!(report.contains("DelegateSubgroup"), "{report}");
    // Out of the way, as the hint has it.
    let main = delegated.dir.join("main");
    fs::create_dir(&main).unwrap();
    fs::write(main.join("cgroup.procs"), service.id().to_string()).unwrap();
    assert_eq!(bench.run_spec(&id, &spec).await.unwrap().status.code, 0);
    service.kill().unwrap();
    service.wait().unwrap();
    let end = Instant::now() + PATIENCE;
    while fs::remove_dir(&main).is_err() {
        assert!(Instant::now() < end, "the group stays");
    }
}

#[tokio::test]
async fn a_group_that_is_not_there_is_refused() {
    require!(root);
    let dir = tempfile::tempdir().unwrap();
    for (root, kind) in [
        ("/no/such/group", ErrorKind::NotFound),
        ("/a/../b", ErrorKind::InvalidArgument),
        ("..", ErrorKind::InvalidArgument),
    ] {
        let options = CgroupOptions::default().with_root(root);
        let error = LinuxRuntime::open_with(dir.path(), dir.path(), options).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{root}");
    }
}
