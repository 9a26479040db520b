//! A user namespace for every container that asks for none.

use engine_core::container_spec::{IdMappings, IdRange, NamespaceMode, UserNamespace};
use engine_core::oci_spec::runtime::LinuxNamespaceType;

use super::*;

fn maps() -> IdMappings {
    let range = IdRange { container: 0, host: 100_000, size: 65_536 };
    IdMappings { uids: vec![range], gids: vec![range] }
}

async fn remapped() -> (Parts, Engine, String) {
    let (parts, engine, image) = with_image().await;
    drop(engine);
    let engine = parts.builder(Engine::in_memory()).user_namespace(maps()).open().await.unwrap();
    let reference: Reference = image.parse().unwrap();
    engine.pull(&reference, PullOptions::default()).await.unwrap();
    (parts, engine, image)
}

/// The host's numbers of root in a container that was started, if it has a user namespace.
fn root_of(parts: &Parts, container: &engine_core::Container) -> Option<u32> {
    let oci = parts.runtime.launch_spec(container.id()).unwrap().oci;
    let linux = oci.linux().as_ref().unwrap();
    let is_user = |namespace: &engine_core::oci_spec::runtime::LinuxNamespace| {
        namespace.typ() == LinuxNamespaceType::User
    };
    let mapped = linux.uid_mappings().as_ref().map(|maps| maps[0].host_id());
    assert_eq!(linux.namespaces().iter().flatten().any(is_user), mapped.is_some());
    mapped
}

#[tokio::test]
async fn every_container_gets_it_unless_it_says_otherwise() {
    let (parts, engine, image) = remapped().await;
    let forever = || ContainerSpec::command(["sleep", "1000"]);
    for _ in 0..2 {
        let container = engine.create(&image, forever()).await.unwrap();
        container.start().await.unwrap();
        assert_eq!(root_of(&parts, &container), Some(100_000), "the same for all");
    }
    let mut spec = forever();
    spec.user_namespace = Some(UserNamespace::Host);
    let host = engine.create(&image, spec.clone()).await.unwrap();
    host.start().await.unwrap();
    assert_eq!(root_of(&parts, &host), None);
    assert_eq!(host.inspect().await.unwrap().spec.user_namespace, Some(UserNamespace::Host), "as asked for");
    spec.user_namespace = Some(UserNamespace::Auto { size: Some(100) });
    let own = engine.create(&image, spec).await.unwrap();
    own.start().await.unwrap();
    assert_eq!(root_of(&parts, &own), Some(0x7000_0000));
}

#[tokio::test]
async fn what_needs_the_hosts_rights_is_refused_without_them() {
    let (parts, engine, image) = remapped().await;
    let mut specs = vec![ContainerSpec::command(["true"]); 4];
    specs[0].privileged = true;
    specs[1].network = NetworkMode::Host;
    specs[2].pid_mode = NamespaceMode::Host;
    specs[3].cgroup_mode = NamespaceMode::Host;
    for mut spec in specs {
        let error = engine.create(&image, spec.clone()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument);
        assert!(error.report().contains("--userns=host"), "{}", error.report());
        spec.user_namespace = Some(UserNamespace::Host);
        assert!(engine.create(&image, spec).await.unwrap().run().await.unwrap().success());
    }
    for container in engine.containers().await.unwrap() {
        let container = engine.container(container.id.as_str()).await.unwrap();
        container.remove(RemoveOptions::default()).await.unwrap();
    }
    parts.assert_no_containers().await;
}

#[tokio::test]
async fn who_shares_a_namespace_of_another_shares_its_user_namespace() {
    let (_parts, engine, image) = remapped().await;
    let spec = || ContainerSpec::command(["sleep", "1000"]);
    engine.create(&image, spec().with_name("one".parse().unwrap())).await.unwrap();
    let mut host = spec().with_name("host".parse().unwrap());
    host.user_namespace = Some(UserNamespace::Host);
    engine.create(&image, host).await.unwrap();
    for (peer, wanted) in [("one", Some(UserNamespace::Container("one".to_owned()))), ("host", None)] {
        let sharing = spec().with_network(NetworkMode::Container(peer.to_owned()));
        let made = engine.create(&image, sharing).await.unwrap();
        assert_eq!(made.inspect().await.unwrap().spec.user_namespace, wanted);
    }
}

#[tokio::test]
async fn maps_that_make_no_user_namespace_are_refused() {
    let parts = Parts::new();
    let mut overlapping = maps();
    overlapping.uids.push(IdRange { container: 1, host: 5, size: 5 });
    for maps in [IdMappings::default(), overlapping] {
        let error = parts.builder(Engine::in_memory()).user_namespace(maps).open().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    }
}
