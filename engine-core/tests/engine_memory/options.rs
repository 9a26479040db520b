//! Options of containers, and changes of containers that are there, as the runtime gets to see them.

use engine_core::container_spec::{IdMappings, IdRange, NetworkMode, UserNamespace};
use engine_core::engine::{IdPool, SpecPatch};
use engine_core::launch::LaunchSpec;
use engine_core::oci_spec::runtime::LinuxNamespaceType;
use engine_core::{Container, Error, Name, Resources};

use super::*;

async fn created(parts: &Parts, engine: &Engine, spec: ContainerSpec) -> engine_core::Result<Container> {
    let reference = parts.publish("options", "registry.example/options:1");
    engine.pull(&reference, PullOptions::default()).await?;
    engine.create(&reference.to_string(), spec).await
}

fn launched(parts: &Parts, container: &Container) -> LaunchSpec {
    parts.runtime.launch_spec(container.id()).unwrap()
}

#[tokio::test]
async fn patches_come_last_in_line_and_are_not_kept() {
    let parts = Parts::new();
    let everywhere = SpecPatch::new(|_, spec| {
        spec.set_hostname(Some("patched".to_owned()));
        Ok(())
    });
    let engine = parts.builder(Engine::in_memory()).spec_patch(everywhere).open().await.unwrap();
    let container = created(&parts, &engine, ContainerSpec::command(["sleep", "1000"])).await.unwrap();
    let once = SpecPatch::new(|id, spec| {
        spec.set_domainname(Some(id.short().to_owned()));
        Ok(())
    });
    container.start_patched(once).await.unwrap();
    let spec = launched(&parts, &container).oci;
    assert_eq!(spec.hostname().as_deref(), Some("patched"));
    assert_eq!(spec.domainname().as_deref(), Some(container.id().short()));
    container.stop(Some(Duration::ZERO)).await.unwrap();
    container.start().await.unwrap();
    assert_eq!(launched(&parts, &container).oci.domainname(), &None);
    container.stop(Some(Duration::ZERO)).await.unwrap();
    let refusal = SpecPatch::new(|_, _| Err(Error::new(ErrorKind::PermissionDenied, "patch")));
    let refused = container.start_patched(refusal).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::PermissionDenied);
}

#[tokio::test]
async fn interfaces_of_the_host_reach_the_runtime_unless_the_network_is_anothers() {
    let parts = Parts::new();
    let engine = parts.open().await;
    let spec = ContainerSpec::command(["sleep", "1000"])
        .with_network_device("enp3s0", "data0")
        .with_network_device("enp4s0", "data%d");
    let container = created(&parts, &engine, spec.clone()).await.unwrap();
    container.start().await.unwrap();
    let linux = launched(&parts, &container).oci.linux().clone().unwrap();
    let devices = linux.net_devices().clone().unwrap();
    let name = |host: &str| devices[host].name().clone();
    assert_eq!(devices.len(), 2);
    assert_eq!((name("enp3s0").as_deref(), name("enp4s0").as_deref()), (Some("data0"), Some("data%d")));
    let other = NetworkMode::Container(container.id().to_string());
    for network in [NetworkMode::Host, other] {
        let error = created(&parts, &engine, spec.clone().with_network(network)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error:?}");
        assert!(error.to_string().contains("network namespace of the container's own"), "{error}");
    }
}

#[tokio::test]
async fn the_images_architecture_reaches_the_runtime() {
    let parts = Parts::new();
    let engine = parts.open().await;
    let container = created(&parts, &engine, ContainerSpec::command(["sleep", "1000"])).await.unwrap();
    container.start().await.unwrap();
    let architecture = engine_core::Platform::host().architecture;
    assert_eq!(launched(&parts, &container).architecture, Some(architecture));
}

#[tokio::test]
async fn b10_cdi_devices_change_what_their_file_says_and_run_nothing() {
    let parts = Parts::new();
    let dir = tempfile::tempdir().unwrap();
    let marker = dir.path().join("ran");
    let file = serde_json::json!({
        "cdiVersion": "0.6.0",
        "kind": "example.com/thing",
        "devices": [{ "name": "one", "containerEdits": {
            "env": ["THING=one", "PATH=/vendor/bin"],
            "deviceNodes": [{ "path": "/dev/thing", "hostPath": "/dev/null", "permissions": "rw" }],
            "mounts": [{ "hostPath": "/etc", "containerPath": "/vendor", "options": ["ro", "bind"] }],
            "additionalGids": [4242],
            "hooks": [{ "hookName": "createRuntime", "path": "/bin/touch", "args": ["touch", marker] }],
        }}],
    });
    std::fs::write(dir.path().join("thing.json"), file.to_string()).unwrap();
    let engine = parts.builder(Engine::in_memory()).cdi_dirs([dir.path()]).open().await.unwrap();
    let mut spec = ContainerSpec::command(["sleep", "1000"]);
    spec.cdi_devices = vec!["example.com/thing=one".to_owned()];
    spec.device_cgroup_rules = vec!["c 10:* r".to_owned()];
    let container = created(&parts, &engine, spec.clone()).await.unwrap();
    container.start().await.unwrap();
    let launch = launched(&parts, &container);
    let process = launch.oci.process().as_ref().unwrap();
    let env = process.env().as_ref().unwrap();
    assert!(env.contains(&"THING=one".to_owned()) && env.contains(&"PATH=/vendor/bin".to_owned()), "{env:?}");
    assert_eq!(env.iter().filter(|variable| variable.starts_with("PATH=")).count(), 1);
    assert_eq!(process.user().additional_gids().as_deref(), Some(&[4242][..]));
    let linux = launch.oci.linux().as_ref().unwrap();
    assert!(
        linux.devices().iter().flatten().any(|node| node.path().ends_with("dev/thing") && node.minor() == 3)
    );
    let rules = linux.resources().as_ref().unwrap().devices().as_ref().unwrap();
    assert!(rules.iter().any(|rule| rule.major() == Some(10) && rule.minor().is_none() && rule.allow()));
    let mount = launch.mounts.iter().find(|mount| mount.target.ends_with("vendor")).unwrap();
    assert!(mount.options.read_only);
    assert!(launch.oci.hooks().is_none() && !marker.exists());
    for (device, kind) in
        [("example.com/thing=two", ErrorKind::NotFound), ("thing", ErrorKind::InvalidArgument)]
    {
        spec.cdi_devices = vec![device.to_owned()];
        assert_eq!(created(&parts, &engine, spec.clone()).await.unwrap_err().kind(), kind, "{device}");
    }
}

#[tokio::test]
async fn user_namespaces_get_maps_of_their_own() {
    let parts = Parts::new();
    let pool = IdPool::new(500_000, 2000).unwrap();
    let engine = parts.builder(Engine::in_memory()).id_pool(pool).open().await.unwrap();
    let with = |wish: UserNamespace| {
        let mut spec = ContainerSpec::command(["sleep", "1000"]);
        spec.user_namespace = Some(wish);
        spec
    };
    let auto = || with(UserNamespace::Auto { size: Some(1000) });
    let first = created(&parts, &engine, auto()).await.unwrap();
    let second = created(&parts, &engine, auto()).await.unwrap();
    let full = created(&parts, &engine, auto()).await.unwrap_err();
    assert_eq!(full.kind(), ErrorKind::ResourceExhausted);
    let mut hosts = Vec::new();
    for container in [&first, &second] {
        container.start().await.unwrap();
        let linux = launched(&parts, container).oci.linux().clone().unwrap();
        let maps = linux.uid_mappings().clone().unwrap();
        assert_eq!((maps.len(), maps[0].container_id(), maps[0].size()), (1, 0, 1000));
        assert!(linux.namespaces().iter().flatten().any(|one| one.typ() == LinuxNamespaceType::User));
        let range = linux.sysctl().as_ref().and_then(|all| all.get("net.ipv4.ping_group_range").cloned());
        assert_eq!(range.as_deref(), Some("0 999"));
        hosts.push(maps[0].host_id());
    }
    assert_eq!(hosts, [500_000, 501_000]);
    first.remove(RemoveOptions::default().with_force(true)).await.unwrap();
    created(&parts, &engine, auto()).await.unwrap();
    let range = |container, host, size| IdRange { container, host, size };
    for ranges in [vec![], vec![range(1, 5, 5)], vec![range(0, 5, 0)], vec![range(0, 5, 5), range(3, 50, 5)]]
    {
        let maps = IdMappings { uids: ranges.clone(), gids: ranges };
        let wrong = created(&parts, &engine, with(UserNamespace::Mapped(maps))).await.unwrap_err();
        assert_eq!(wrong.kind(), ErrorKind::InvalidArgument);
    }
    let mut privileged = auto();
    privileged.privileged = true;
    let refused = created(&parts, &engine, privileged).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::InvalidArgument);
}

#[tokio::test]
async fn a_container_is_renamed_in_any_state() {
    let parts = Parts::new();
    let engine = parts.open().await;
    let name = |text: &str| text.parse::<Name>().unwrap();
    let mut spec = ContainerSpec::command(["sleep", "1000"]).with_name(name("one"));
    let one = created(&parts, &engine, spec.clone()).await.unwrap();
    spec.name = Some(name("two"));
    created(&parts, &engine, spec).await.unwrap();
    one.rename(&name("three")).await.unwrap();
    one.start().await.unwrap();
    one.rename(&name("one")).await.unwrap();
    assert_eq!(one.inspect().await.unwrap().name, name("one"));
    assert_eq!(engine.container("three").await.unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(one.rename(&name("two")).await.unwrap_err().kind(), ErrorKind::AlreadyExists);
    assert_eq!(one.rename(&name("one")).await.unwrap_err().kind(), ErrorKind::InvalidArgument);
    one.remove(RemoveOptions::default().with_force(true)).await.unwrap();
    assert_eq!(one.rename(&name("four")).await.unwrap_err().kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn limits_change_in_any_state_and_only_together_if_they_fit() {
    let parts = Parts::new();
    let engine = parts.open().await;
    let container = created(&parts, &engine, ContainerSpec::command(["sleep", "1000"])).await.unwrap();
    let change = |change: fn(&mut Resources)| {
        let mut resources = Resources::default();
        change(&mut resources);
        resources
    };
    let memory = || change(|wish| (wish.memory, wish.memory_swap) = (Some(64 << 20), Some(80 << 20)));
    container.update(&memory()).await.unwrap();
    assert_eq!(container.inspect().await.unwrap().spec.resources.memory, Some(64 << 20));
    container.start().await.unwrap();
    container.update(&change(|wish| wish.pids_limit = Some(10))).await.unwrap();
    let now = container.inspect().await.unwrap().spec.resources;
    assert_eq!((now.memory, now.pids_limit), (Some(64 << 20), Some(10)));
    assert_eq!(parts.runtime.resources(container.id()).unwrap().pids_limit, Some(10));
    // More memory than memory and swap together were allowed.
    let too_much = container.update(&change(|wish| wish.memory = Some(100 << 20))).await.unwrap_err();
    assert_eq!(too_much.kind(), ErrorKind::InvalidArgument);
    container
        .update(&change(|wish| (wish.memory, wish.memory_swap) = (Some(100 << 20), Some(-1))))
        .await
        .unwrap();
    // Less again, with the swap that was asked for before.
    container.update(&change(|wish| wish.memory = Some(50 << 20))).await.unwrap();
    assert_eq!(parts.runtime.resources(container.id()).unwrap().memory_swap, Some(-1));
    // What the runtime refuses is not recorded.
    parts.faults.fail_always("runtime.update", ErrorKind::Conflict);
    let refused = container.update(&change(|wish| wish.pids_limit = Some(20))).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Conflict);
    parts.faults.clear();
    assert_eq!(container.inspect().await.unwrap().spec.resources.pids_limit, Some(10));
    let impossible = container.update(&change(|wish| wish.memory = Some(1))).await.unwrap_err();
    assert_eq!(impossible.kind(), ErrorKind::InvalidArgument);
}

#[tokio::test]
async fn statistics_stream_until_the_end() {
    let parts = Parts::new();
    let engine = parts.open().await;
    let container = created(&parts, &engine, ContainerSpec::command(["sleep", "1000"])).await.unwrap();
    let early = container.stats_stream(Duration::ZERO).await.err().unwrap();
    assert_eq!(early.kind(), ErrorKind::Conflict);
    assert_eq!(container.processes().await.unwrap_err().kind(), ErrorKind::Conflict);
    container.start().await.unwrap();
    assert_eq!(container.processes().await.unwrap()[0].args, ["sleep", "1000"]);
    let mut stream = container.stats_stream(Duration::from_millis(1)).await.unwrap();
    for _ in 0..3 {
        assert_eq!(stream.next().await.unwrap().unwrap().pids, 1);
    }
    container.stop(Some(Duration::ZERO)).await.unwrap();
    while let Some(stats) = stream.next().await {
        stats.unwrap();
    }
}

#[tokio::test]
async fn what_the_kernel_schedules_by_is_passed_on() {
    use engine_core::oci_spec::runtime::{
        IOPriorityClass, LinuxIOPriorityBuilder, LinuxSchedulerPolicy, LinuxTimeOffsetBuilder,
        SchedulerBuilder,
    };
    let parts = Parts::new();
    let engine = parts.open().await;
    let mut spec = ContainerSpec::command(["sleep", "1000"]);
    let batch = SchedulerBuilder::default().policy(LinuxSchedulerPolicy::SchedBatch).nice(3).build().unwrap();
    spec.scheduler = Some(batch.clone());
    let idle = LinuxIOPriorityBuilder::default().class(IOPriorityClass::IoprioClassIdle).priority(0_i64);
    spec.io_priority = Some(idle.build().unwrap());
    let hour = LinuxTimeOffsetBuilder::default().secs(3600_i64).build().unwrap();
    spec.time_offsets = [("boottime".to_owned(), hour)].into();
    let container = created(&parts, &engine, spec).await.unwrap();
    container.start().await.unwrap();
    let oci = launched(&parts, &container).oci;
    let process = oci.process().as_ref().unwrap();
    assert_eq!(process.scheduler().as_ref(), Some(&batch));
    assert!(process.io_priority().is_some() && process.exec_cpu_affinity().is_none());
    let linux = oci.linux().as_ref().unwrap();
    assert_eq!(linux.time_offsets().as_ref().map(|offsets| offsets.len()), Some(1));
    assert!(linux.namespaces().iter().flatten().any(|one| one.typ() == LinuxNamespaceType::Time));
    // The wishes are kept with the container.
    assert_eq!(container.inspect().await.unwrap().spec.scheduler, Some(batch));
}
