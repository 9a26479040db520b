//! Namespaces of its own, of another container, of the host; user namespaces; limits.

use engine_core::oci_spec::runtime::{
    LinuxIdMappingBuilder, LinuxMemoryBuilder, LinuxNamespaceBuilder, LinuxNamespaceType, LinuxResources,
};
use engine_core::{ContainerId, ContainerStatus, ErrorKind, LaunchSpec, Runtime as _};

use crate::support::{Bench, PATIENCE, scoped};

/// Changes one namespace: joined at a path, or left out.
fn namespace(spec: &mut LaunchSpec, kind: LinuxNamespaceType, path: Option<String>) {
    let mut linux = spec.oci.linux().clone().unwrap();
    let mut list = linux.namespaces().clone().unwrap();
    list.retain(|namespace| namespace.typ() != kind);
    if let Some(path) = path {
        list.push(LinuxNamespaceBuilder::default().typ(kind).path(path).build().unwrap());
    }
    linux.set_namespaces(Some(list));
    if kind == LinuxNamespaceType::Network {
        linux.set_sysctl(None);
    }
    spec.oci.set_linux(Some(linux));
}

#[tokio::test]
async fn another_containers_namespaces_are_joined() {
    let bench = Bench::new().await;
    let id = bench.start(&["sleep", "1000"], |_| ()).await;
    let pid = bench.runtime.state(&id).await.unwrap().pid.unwrap();
    for (kind, name) in [
        (LinuxNamespaceType::Network, "net"),
        (LinuxNamespaceType::Ipc, "ipc"),
        (LinuxNamespaceType::Pid, "pid"),
    ] {
        let path = format!("/proc/{pid}/ns/{name}");
        let inode = std::fs::read_link(&path).unwrap().display().to_string();
        let link = format!("/proc/self/ns/{name}");
        let join = |spec: &mut LaunchSpec| namespace(spec, kind, Some(path.clone()));
        assert_eq!(bench.run_with(&["readlink", &link], join).await.out.trim(), inode);
        let joined = bench.start(&["sleep", "1000"], join).await;
        assert_eq!(bench.exec(&joined, &["readlink", &link]).await.out.trim(), inode);
        bench.runtime.delete(&joined).await.unwrap();
    }
    let gone =
        |spec: &mut LaunchSpec| namespace(spec, LinuxNamespaceType::Network, Some("/proc/1/none".to_owned()));
    let other = ContainerId::random();
    let mut spec = bench.spec(&other, &["true"]);
    gone(&mut spec);
    let error = bench.runtime.create(&other, &spec).await.unwrap_err();
    assert!(error.to_string().contains("/proc/1/none"), "{error}");
    bench.runtime.delete(&id).await.unwrap();
}

#[tokio::test]
async fn the_hosts_namespaces_can_be_used_and_what_is_left_there_is_killed() {
    let bench = Bench::new().await;
    for kind in [
        LinuxNamespaceType::Network,
        LinuxNamespaceType::Ipc,
        LinuxNamespaceType::Uts,
        LinuxNamespaceType::Pid,
    ] {
        let outcome = bench
            .run_with(&["sh", "-c", "sleep 1234567 & echo ok"], |spec| {
                namespace(spec, kind, None);
                if kind == LinuxNamespaceType::Uts {
                    spec.oci.set_hostname(None);
                }
            })
            .await;
        assert_eq!(outcome.out, "ok\n", "{kind:?}");
    }
    let left = std::fs::read_dir("/proc").unwrap().filter_map(|entry| {
        std::fs::read(entry.unwrap().path().join("cmdline")).ok().filter(|line| line == b"sleep\x001234567\0")
    });
    assert_eq!(left.count(), 0);
}

#[tokio::test]
async fn a_user_namespace_maps_root_to_somebody() {
    let bench = Bench::new().await;
    let change = |spec: &mut LaunchSpec| {
        let mut linux = spec.oci.linux().clone().unwrap();
        let map = || {
            LinuxIdMappingBuilder::default()
                .container_id(0_u32)
                .host_id(100_000_u32)
                .size(65_536_u32)
                .build()
                .unwrap()
        };
        let mut list = linux.namespaces().clone().unwrap();
        list.push(LinuxNamespaceBuilder::default().typ(LinuxNamespaceType::User).build().unwrap());
        linux.set_namespaces(Some(list));
        linux.set_uid_mappings(Some(vec![map()]));
        linux.set_gid_mappings(Some(vec![map()]));
        spec.oci.set_linux(Some(linux));
        spec.user = "user".to_owned();
    };
    let outcome = bench.run_with(&["sh", "-c", "id -u; cat /proc/self/uid_map | tr -s ' '; echo x > /dev/null && ls -ld /dev/shm | cut -c1-10"], change).await;
    assert_eq!(outcome.out, "1000\n 0 100000 65536\ndrwxrwxrwt\n", "{outcome:?}");
    let id = bench.start(&["sleep", "1000"], change).await;
    let pid = bench.runtime.state(&id).await.unwrap().pid.unwrap();
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    assert!(status.contains("Uid:\t101000\t101000"), "{status}");
    assert_eq!(bench.exec(&id, &["id", "-u"]).await.out, "1000\n");
    bench.runtime.delete(&id).await.unwrap();
}

#[tokio::test]
async fn running_out_of_memory_is_told() {
    let bench = Bench::new().await;
    let outcome = bench
        .run_with(&["sh", "-c", "dd if=/dev/zero of=/dev/null bs=200M count=1"], |spec| {
            let mut linux = spec.oci.linux().clone().unwrap();
            let mut resources = linux.resources().clone().unwrap_or_else(LinuxResources::default);
            resources.set_memory(Some(
                LinuxMemoryBuilder::default().limit(16_i64 << 20).swap(16_i64 << 20).build().unwrap(),
            ));
            linux.set_resources(Some(resources));
            spec.oci.set_linux(Some(linux));
        })
        .await;
    assert!(outcome.status.oom_killed && outcome.status.code == 137, "{outcome:?}");
}

#[tokio::test]
async fn a_created_container_waits_and_can_be_thrown_away() {
    let bench = Bench::new().await;
    let id = ContainerId::random();
    bench.runtime.create(&id, &bench.spec(&id, &["echo", "never"])).await.unwrap();
    assert_eq!(bench.runtime.state(&id).await.unwrap().status, ContainerStatus::Created);
    let again = bench.runtime.create(&id, &bench.spec(&id, &["true"])).await.unwrap_err();
    assert_eq!(again.kind(), ErrorKind::AlreadyExists);
    bench.runtime.delete(&id).await.unwrap();
    assert_eq!(bench.runtime.state(&id).await.unwrap_err().kind(), ErrorKind::NotFound);
    // Started by another instance than the one that created it.
    bench.runtime.create(&id, &bench.spec(&id, &["sh", "-c", "exit 3"])).await.unwrap();
    let other = bench.reopen().await;
    other.start(&id).await.unwrap();
    assert_eq!(bench.runtime.start(&id).await.unwrap_err().kind(), ErrorKind::Conflict);
    assert_eq!(other.wait(&id).await.unwrap().code, 3);
    other.delete(&id).await.unwrap();
    // A scoped one that nobody starts ends with its creator.
    let id = ContainerId::random();
    let mut spec = bench.spec(&id, &["true"]);
    scoped(&mut spec);
    bench.runtime.create(&id, &spec).await.unwrap();
    let Bench { runtime, dir, .. } = bench;
    drop(runtime);
    let gone = async {
        while other.state(&id).await.is_ok() {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, gone).await.unwrap();
    drop(dir);
}

#[tokio::test]
async fn what_fails_names_the_thing_and_leaves_nothing() {
    let bench = Bench::new().await;
    let check =
        engine_testkit::LeakCheck::begin(&bench.dir.path().join("root"), &bench.dir.path().join("run"));
    type Change = fn(&mut LaunchSpec);
    let cases: [(Change, &str); 4] = [
        (|spec| spec.mounts.push(engine_core::Mount::bind("/no/such/source", "/data")), "/no/such/source"),
        (|spec| spec.user = "nobody-here".to_owned(), "nobody-here"),
        (
            |spec| {
                let mut linux = spec.oci.linux().clone().unwrap();
                linux.set_sysctl(Some([("net.ipv4.no_such_thing".to_owned(), "1".to_owned())].into()));
                spec.oci.set_linux(Some(linux));
            },
            "net.ipv4.no_such_thing",
        ),
        (|spec| spec.mounts.push(engine_core::Mount::bind("/etc/passwd", "/tmp")), "/tmp"),
    ];
    for (change, named) in cases {
        let id = ContainerId::random();
        let mut spec = bench.spec(&id, &["true"]);
        change(&mut spec);
        let error = bench.runtime.create(&id, &spec).await.unwrap_err();
        assert!(error.to_string().contains(named), "{error}");
        assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error}");
        assert_eq!(bench.runtime.state(&id).await.unwrap_err().kind(), ErrorKind::NotFound);
    }
    for _ in 0..3 {
        assert!(bench.run(&["true"]).await.status.success());
    }
    check.finish();
}
