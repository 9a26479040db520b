//! Networks through the facade: made, found and removed; containers on them, from start to end.

use std::net::{IpAddr, Ipv4Addr};

use engine_core::container_spec::HOST_GATEWAY;
use engine_core::engine::{LabelFilter, PruneOptions};
use engine_core::mount::MountKind;
use engine_core::network::{EndpointOptions, NetworkOptions, PortMapping, Protocol, Subnet};
use engine_core::{Container, ContainerInfo, Event, Name};

use super::*;

/// An engine with an image and a default network, in `dir` or in memory.
async fn world(builder: EngineBuilder) -> (Parts, Engine, String) {
    let parts = Parts::new();
    let reference = parts.publish("net", "registry.example/net:1");
    let engine = parts.builder(builder).default_network(name("bridge")).open().await.unwrap();
    engine.pull(&reference, PullOptions::default()).await.unwrap();
    (parts, engine, reference.to_string())
}

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

fn on(networks: &[(&str, EndpointOptions)]) -> NetworkMode {
    NetworkMode::Networks(networks.iter().map(|(text, options)| (name(text), options.clone())).collect())
}

fn lan(text: &str) -> NetworkOptions {
    NetworkOptions::default().with_subnet(text.parse::<Subnet>().unwrap())
}

async fn start(engine: &Engine, image: &str, text: &str, network: NetworkMode) -> Container {
    let spec = ContainerSpec::command(["sleep", "1000"]).with_name(name(text)).with_network(network);
    let container = engine.create(image, spec).await.unwrap();
    container.start().await.unwrap();
    container
}

/// The addresses of a container by network.
fn addresses(info: &ContainerInfo) -> Vec<(String, Vec<IpAddr>)> {
    let of = |used: &engine_core::engine::ContainerNetwork| {
        let endpoint = used.endpoint.as_ref();
        (used.name.to_string(), endpoint.map(|endpoint| endpoint.addresses.clone()).unwrap_or_default())
    };
    info.networks.iter().map(of).collect()
}

fn fails<T: std::fmt::Debug>(result: engine_core::Result<T>, kind: ErrorKind, words: &str) {
    let error = result.unwrap_err();
    assert_eq!(error.kind(), kind, "{}", error.report());
    assert!(error.report().contains(words), "{words:?} is not in {}", error.report());
}

#[tokio::test]
async fn networks_are_made_found_and_removed() {
    let (_parts, engine, _) = world(Engine::in_memory()).await;
    let made = engine.create_network(&name("lan"), &lan("10.7.0.0/24")).await.unwrap();
    let names: Vec<_> = engine.networks().await.unwrap().into_iter().map(|info| info.name).collect();
    assert_eq!(names, ["bridge", "host", "lan", "none"].map(name));
    for text in ["lan", &made.id, &made.id[..12]] {
        assert_eq!(engine.network(text).await.unwrap(), made, "{text}");
    }
    assert_eq!(engine.network("none").await.unwrap().options.driver.as_deref(), Some("null"));
    let host = engine.network("host").await.unwrap();
    assert_eq!(engine.network(&host.id[..12]).await.unwrap().name, name("host"));
    fails(engine.network("nosuch").await, ErrorKind::NotFound, "network nosuch not found");
    fails(engine.network("").await, ErrorKind::NotFound, "not found");
    let again = engine.create_network(&name("lan"), &NetworkOptions::default()).await;
    fails(again, ErrorKind::AlreadyExists, "network with name lan already exists");
    let over = engine.create_network(&name("over"), &lan("10.7.0.128/25")).await;
    fails(over, ErrorKind::Conflict, "Pool overlaps with other one on this address space");
    for text in ["host", "none", "bridge", "default"] {
        let made = engine.create_network(&name(text), &NetworkOptions::default()).await;
        fails(made, ErrorKind::InvalidArgument, "operation is not permitted on predefined");
    }
    for text in ["host", "none", "bridge"] {
        let words = format!("{text} is a pre-defined network and cannot be removed");
        fails(engine.remove_network(text).await, ErrorKind::InvalidArgument, &words);
    }
    engine.remove_network(&made.id[..12]).await.unwrap();
    fails(engine.remove_network("lan").await, ErrorKind::NotFound, "network lan not found");
}

#[tokio::test]
async fn a_beginning_that_several_ids_have_names_none() {
    let (_parts, engine, _) = world(Engine::in_memory()).await;
    // Of seventeen ids, two begin with the same digit.
    for number in 0..17 {
        engine.create_network(&name(&format!("net{number}")), &NetworkOptions::default()).await.unwrap();
    }
    let mut digits: Vec<_> = engine.networks().await.unwrap().iter().map(|n| n.id[..1].to_owned()).collect();
    digits.sort();
    let twice = digits.windows(2).find(|pair| pair[0] == pair[1]).unwrap()[0].clone();
    fails(engine.network(&twice).await, ErrorKind::InvalidArgument, "is ambiguous");
}

#[tokio::test]
async fn a_container_is_on_its_networks_while_it_runs() {
    let (parts, engine, image) = world(Engine::in_memory()).await;
    engine.create_network(&name("aa"), &lan("10.7.0.0/24")).await.unwrap();
    engine.create_network(&name("inside"), &lan("10.8.0.0/24").with_internal(true)).await.unwrap();
    let mut last = EndpointOptions::default().with_aliases(["web"]);
    last.gateway_priority = 5;
    let mut inside = EndpointOptions::default();
    inside.gateway_priority = 9;
    let mut spec = ContainerSpec::command(["sleep", "1000"])
        .with_name(name("one"))
        .with_hostname("own")
        .with_ports([PortMapping::new(80).with_host_port(8080)])
        .with_network(on(&[("bridge", EndpointOptions::default()), ("inside", inside), ("aa", last)]));
    spec.exposed_ports = vec![(53, Protocol::Udp), (80, Protocol::Tcp)];
    spec.publish_all_ports = true;
    let container = engine.create(&image, spec).await.unwrap();
    assert!(container.inspect().await.unwrap().networks.iter().all(|used| used.endpoint.is_none()));
    container.start().await.unwrap();
    let info = container.inspect().await.unwrap();
    let listed = engine.containers().await.unwrap().remove(0);
    assert_eq!(listed.networks, info.networks);
    let order: Vec<_> = info.networks.iter().map(|used| used.name.as_str()).collect();
    assert_eq!(order, ["bridge", "inside", "aa"]);
    let endpoint = |at: usize| info.networks[at].endpoint.clone().unwrap();
    assert_eq!(endpoint(2).addresses, ["10.7.0.2".parse::<IpAddr>().unwrap()]);
    assert_eq!(endpoint(2).options.names, ["one", container.id().short(), "own"]);
    assert_eq!(endpoint(2).options.aliases, ["web"]);
    let ports: Vec<_> =
        endpoint(2).ports.iter().map(|port| (port.container_port, port.protocol, port.host_port)).collect();
    assert_eq!(ports[0], (80, Protocol::Tcp, 8080));
    assert_eq!((ports[1].0, ports[1].1, ports.len()), (53, Protocol::Udp, 2));
    assert!(endpoint(0).ports.is_empty() && endpoint(1).ports.is_empty());
    let words = format!("has active endpoints (name:\"one\" id:{:?})", container.id().short());
    fails(engine.remove_network("aa").await, ErrorKind::Conflict, &words);
    container.stop(None).await.unwrap();
    assert!(container.inspect().await.unwrap().networks.iter().all(|used| used.endpoint.is_none()));
    for text in order {
        assert!(
            engine
                .local()
                .unwrap()
                .network_driver()
                .inspect(&name(text))
                .await
                .unwrap()
                .unwrap()
                .endpoints
                .is_empty()
        );
    }
    engine.remove_network("aa").await.unwrap();
    fails(container.start().await, ErrorKind::NotFound, "network aa not found");
    assert_eq!(container.inspect().await.unwrap().state.status, ContainerStatus::Exited);
    container.remove(RemoveOptions::default()).await.unwrap();
    parts.assert_no_containers().await;
}

#[tokio::test]
async fn who_asks_for_none_is_on_the_default_network() {
    let (_parts, engine, image) = world(Engine::in_memory()).await;
    let container = start(&engine, &image, "one", NetworkMode::Default).await;
    let info = container.inspect().await.unwrap();
    assert_eq!(info.spec.network, on(&[("bridge", EndpointOptions::default())]));
    assert_eq!(addresses(&info)[0].1.len(), 1);
    for mode in [NetworkMode::None, NetworkMode::Host] {
        let other = engine.create(&image, ContainerSpec::command(["true"]).with_network(mode)).await.unwrap();
        other.run().await.unwrap();
        assert!(other.inspect().await.unwrap().networks.is_empty());
    }
    let aliased = on(&[("bridge", EndpointOptions::default().with_aliases(["x"]))]);
    let asking = on(&[("bridge", EndpointOptions::default().with_ipv4(Ipv4Addr::LOCALHOST))]);
    for (mode, words) in [(aliased, "network-scoped alias is supported only"), (asking, "user specified IP")]
    {
        let spec = ContainerSpec::command(["true"]).with_network(mode);
        let wrong = engine.create(&image, spec).await.unwrap();
        fails(wrong.start().await, ErrorKind::InvalidArgument, words);
    }
}

#[tokio::test]
async fn networks_come_and_go_while_a_container_runs() {
    let (_parts, engine, image) = world(Engine::in_memory()).await;
    let lan = engine.create_network(&name("lan"), &lan("10.7.0.0/24")).await.unwrap();
    let container = start(&engine, &image, "one", NetworkMode::Default).await;
    let asking = EndpointOptions::default().with_ipv4("10.7.0.9".parse().unwrap()).with_aliases(["db"]);
    container.connect(&lan.id[..12], asking.clone()).await.unwrap();
    let info = container.inspect().await.unwrap();
    assert_eq!(addresses(&info)[1], ("lan".to_owned(), vec!["10.7.0.9".parse().unwrap()]));
    let on_lan = engine.network("lan").await.unwrap().endpoints.remove(0);
    assert_eq!(on_lan.options.names, ["one", container.id().short()]);
    let again = container.connect("lan", EndpointOptions::default()).await;
    fails(again, ErrorKind::AlreadyExists, "endpoint with name one already exists in network lan");

    // One whose address is taken is not put on it, now or later.
    let two = start(&engine, &image, "two", NetworkMode::Default).await;
    assert_eq!(two.connect("lan", asking.clone()).await.unwrap_err().kind(), ErrorKind::Conflict);
    assert_eq!(two.inspect().await.unwrap().networks.len(), 1);

    // Names follow.
    container.rename(&name("uno")).await.unwrap();
    let names: Vec<_> =
        engine.network("lan").await.unwrap().endpoints.into_iter().flat_map(|e| e.options.names).collect();
    assert_eq!(names, ["uno", container.id().short()]);

    container.disconnect("lan", false).await.unwrap();
    assert!(engine.network("lan").await.unwrap().endpoints.is_empty());
    let gone = container.disconnect("lan", false).await;
    fails(gone, ErrorKind::Conflict, "is not connected to network lan");
    two.connect("lan", asking).await.unwrap();

    // Stopped ones are put on it at their next start.
    container.stop(None).await.unwrap();
    container.connect("lan", EndpointOptions::default()).await.unwrap();
    container.disconnect("bridge", true).await.unwrap();
    assert_eq!(engine.network("lan").await.unwrap().endpoints.len(), 1);
    container.start().await.unwrap();
    assert_eq!(
        addresses(&container.inspect().await.unwrap()),
        [("lan".to_owned(), vec!["10.7.0.2".parse().unwrap()])]
    );
}

#[tokio::test]
async fn modes_are_no_networks_to_be_put_on() {
    let (_parts, engine, image) = world(Engine::in_memory()).await;
    engine.create_network(&name("lan"), &NetworkOptions::default()).await.unwrap();
    let plain = start(&engine, &image, "plain", NetworkMode::Default).await;
    let words = "cannot be disconnected from host network or connected to host network";
    fails(plain.connect("host", EndpointOptions::default()).await, ErrorKind::InvalidArgument, words);
    fails(plain.disconnect("host", true).await, ErrorKind::InvalidArgument, words);
    fails(
        plain.connect("nosuch", EndpointOptions::default()).await,
        ErrorKind::NotFound,
        "network nosuch not found",
    );
    for (text, mode, words) in [
        ("on-host", NetworkMode::Host, words),
        ("alone", NetworkMode::None, "private (none) mode"),
        ("shares", NetworkMode::Container("plain".to_owned()), "sharing network namespace"),
    ] {
        let container = start(&engine, &image, text, mode).await;
        fails(container.connect("lan", EndpointOptions::default()).await, ErrorKind::InvalidArgument, words);
    }
    let shown = engine.network("host").await.unwrap().endpoints;
    assert_eq!(shown.len(), 1);
    assert_eq!(shown[0].options.names, ["on-host"]);
}

#[tokio::test]
async fn what_ended_unseen_is_in_nobodys_way() {
    let (parts, engine, image) = world(Engine::in_memory()).await;
    engine.create_network(&name("lan"), &lan("10.7.0.0/24")).await.unwrap();
    let asking = EndpointOptions::default()
        .with_ipv4("10.7.0.9".parse().unwrap())
        .with_ports([PortMapping::new(80).with_host_port(8080)]);
    let one = start(&engine, &image, "one", on(&[("lan", asking.clone())])).await;
    let two = ContainerSpec::command(["sleep", "1000"]).with_network(on(&[("lan", asking)]));
    let two = engine.create(&image, two).await.unwrap();
    assert_eq!(two.start().await.unwrap_err().kind(), ErrorKind::Conflict);
    // Nobody asks the engine how it ended.
    parts.runtime.stop(one.id(), 9).await.unwrap();
    parts.runtime.wait(one.id()).await.unwrap();
    two.start().await.unwrap();
    let endpoints = engine.network("lan").await.unwrap().endpoints;
    assert_eq!(endpoints.iter().map(|e| &e.container).collect::<Vec<_>>(), [two.id()]);
    parts.runtime.stop(two.id(), 9).await.unwrap();
    parts.runtime.wait(two.id()).await.unwrap();
    engine.remove_network("lan").await.unwrap();
}

#[tokio::test]
async fn unused_networks_are_pruned() {
    let (_parts, engine, image) = world(Engine::in_memory()).await;
    let mut labeled = NetworkOptions::default();
    labeled.labels.insert("keep".to_owned(), String::new());
    engine.create_network(&name("kept"), &labeled).await.unwrap();
    for text in ["used", "idle"] {
        engine.create_network(&name(text), &NetworkOptions::default()).await.unwrap();
    }
    start(&engine, &image, "one", on(&[("used", EndpointOptions::default())])).await;
    let options = PruneOptions::default().with_until(std::time::SystemTime::UNIX_EPOCH);
    assert_eq!(engine.prune_networks(&options).await.unwrap().removed, []);
    let options = PruneOptions::default().with_label(LabelFilter::parse("keep", false));
    assert_eq!(engine.prune_networks(&options).await.unwrap().removed, [name("idle")]);
    let left: Vec<_> = engine.networks().await.unwrap().into_iter().map(|info| info.name).collect();
    assert_eq!(left, ["bridge", "host", "kept", "none", "used"].map(name));
    // The default network is made anew when it is needed; while it is used, it stays.
    let bridge =
        || async { engine.local().unwrap().network_driver().inspect(&name("bridge")).await.unwrap() };
    let two = start(&engine, &image, "two", NetworkMode::Default).await;
    assert_eq!(engine.prune_networks(&PruneOptions::default()).await.unwrap().removed, [name("kept")]);
    assert_eq!(bridge().await.unwrap().endpoints.len(), 1);
    two.stop(None).await.unwrap();
    assert_eq!(engine.prune_networks(&PruneOptions::default()).await.unwrap().removed, []);
    assert_eq!(bridge().await, None);
    two.start().await.unwrap();
    assert_eq!(bridge().await.unwrap().endpoints.len(), 1);
}

/// The files of names that a container was started with, and the text of one of them.
fn mounted(parts: &Parts, container: &Container, target: &str) -> Option<String> {
    let spec = parts.runtime.launch_spec(container.id()).unwrap();
    let mount = spec.mounts.into_iter().find(|mount| mount.target.to_str() == Some(target))?;
    match mount.kind {
        MountKind::Bind { source, .. } => Some(std::fs::read_to_string(source).unwrap()),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn files_of_names_follow_the_networks() {
    let dir = tempfile::tempdir().unwrap();
    let (parts, engine, image) = world(Engine::builder(dir.path())).await;
    engine.create_network(&name("lan"), &lan("10.7.0.0/24")).await.unwrap();
    engine.create_network(&name("more"), &lan("10.8.0.0/24")).await.unwrap();
    let mut spec = ContainerSpec::command(["sleep", "1000"]);
    spec.extra_hosts = vec![("up".to_owned(), HOST_GATEWAY.to_owned())];
    spec.dns = vec!["192.0.2.1".to_owned()];
    let container = engine.create(&image, spec).await.unwrap();
    container.start().await.unwrap();
    let short = container.id().short().to_owned();
    let hosts = || mounted(&parts, &container, "/etc/hosts").unwrap();
    let resolv = || mounted(&parts, &container, "/etc/resolv.conf").unwrap();
    let bridge = engine.network("bridge").await.unwrap();
    let (gateway, own) = (bridge.endpoints[0].gateways[0], bridge.endpoints[0].addresses[0]);
    assert!(hosts().ends_with(&format!("{gateway}\tup\n{own}\t{short}\n")), "{}", hosts());
    assert!(resolv().starts_with("nameserver 192.0.2.1\n"), "{}", resolv());
    container.connect("lan", EndpointOptions::default()).await.unwrap();
    container.connect("more", EndpointOptions::default()).await.unwrap();
    assert!(
        hosts().ends_with(&format!("{own}\t{short}\n10.7.0.2\t{short}\n10.8.0.2\t{short}\n")),
        "{}",
        hosts()
    );
    assert!(resolv().starts_with("nameserver 127.0.0.11\n") && resolv().contains("ndots:0"), "{}", resolv());
    container.disconnect("lan", false).await.unwrap();
    assert!(hosts().ends_with(&format!("{own}\t{short}\n10.8.0.2\t{short}\n")), "{}", hosts());
    // Who shares the network shares the names.
    let spec = ContainerSpec::command(["sleep", "1000"]).with_network(NetworkMode::Container(short.clone()));
    let sharing = engine.create(&image, spec).await.unwrap();
    sharing.start().await.unwrap();
    assert_eq!(mounted(&parts, &sharing, "/etc/hosts").unwrap(), hosts());
    // One without networks has them in memory.
    let spec = ContainerSpec::command(["sleep", "1000"]).with_network(NetworkMode::None);
    let alone = engine.create(&image, spec).await.unwrap();
    alone.start().await.unwrap();
    assert_eq!(mounted(&parts, &alone, "/etc/hosts"), None);
    for container in [sharing, alone, container] {
        container.remove(RemoveOptions::default().with_force(true)).await.unwrap();
    }
    let left: Vec<_> = std::fs::read_dir(dir.path().join("containers")).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
}

#[tokio::test]
async fn networks_tell_what_happens_to_them() {
    use engine_core::events::{EventQuery, ObjectKind};
    let (_parts, engine, image) = world(Engine::in_memory()).await;
    let since = EventQuery::default().with_since(std::time::SystemTime::UNIX_EPOCH);
    let lan = engine.create_network(&name("lan"), &lan("10.7.0.0/24")).await.unwrap();
    let one = start(&engine, &image, "one", on(&[("lan", EndpointOptions::default())])).await;
    one.connect("bridge", EndpointOptions::default()).await.unwrap();
    one.disconnect("bridge", false).await.unwrap();
    one.stop(None).await.unwrap();
    engine.remove_network("lan").await.unwrap();
    engine.prune_networks(&PruneOptions::default()).await.unwrap();
    let events = engine.events(since.with_until(std::time::SystemTime::now())).await.unwrap();
    let events: Vec<Event> = events.try_collect().await.unwrap();
    let of_networks: Vec<_> = events.iter().filter(|event| event.object == ObjectKind::Network).collect();
    let told: Vec<_> = of_networks
        .iter()
        .map(|event| {
            let name = event.attributes.get("name").map_or("", String::as_str);
            let container = event.attributes.get("container").is_some_and(|id| id == one.id().as_str());
            (event.action.as_str(), name, container)
        })
        .collect();
    let expected = [
        ("create", "lan", false),
        ("connect", "lan", true),
        ("connect", "bridge", true),
        ("disconnect", "bridge", true),
        ("disconnect", "lan", true),
        ("destroy", "lan", false),
        ("prune", "", false),
    ];
    assert_eq!(told, expected);
    assert_eq!((&of_networks[0].id, of_networks[0].attributes["type"].as_str()), (&lan.id, "memory"));
    assert_eq!(of_networks[6].attributes["reclaimed"], "0");
}
