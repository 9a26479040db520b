//! Beside iptables rules of Docker's kind: packets of ours pass, nothing of Docker's is opened, and what the administrator
//! says goes before both.

use std::time::{Duration, Instant};

use engine_core::Network as _;
use engine_core::network::{Endpoint, EndpointOptions, NetworkOptions, PortMapping};

use crate::support::{Container, Host, MOMENT, PATIENCE, Space};

/// The rules as Docker's daemon makes them where it switches forwarding on itself, with one container on `docker0`.
struct Docker {
    container: Space,
}

impl Docker {
    fn new(host: &Host) -> Self {
        for rule in [
            "-P FORWARD DROP",
            "-N DOCKER",
            "-N DOCKER-USER",
            "-A DOCKER-USER -j RETURN",
            "-A FORWARD -j DOCKER-USER",
            "-A FORWARD -o docker0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
            "-A FORWARD -o docker0 -j DOCKER",
            "-A FORWARD -i docker0 ! -o docker0 -j ACCEPT",
            "-A DOCKER -d 10.99.0.2/32 ! -i docker0 -o docker0 -p tcp --dport 80 -j ACCEPT",
        ] {
            host.space.command("iptables", rule);
        }
        let container = Space::new();
        host.space.ip("link add docker0 type bridge");
        host.space.ip("addr add 10.99.0.1/24 dev docker0");
        host.space.ip(&format!("link add veth-docker type veth peer name eth0 netns {}", container.path()));
        host.space.ip("link set veth-docker master docker0 up");
        host.space.ip("link set docker0 up");
        container.ip("addr add 10.99.0.2/24 dev eth0");
        container.ip("link set eth0 up");
        container.ip("route add default via 10.99.0.1");
        container.echo("0.0.0.0:80");
        container.echo("0.0.0.0:81");
        Self { container }
    }
}

fn rules(host: &Host) -> String {
    host.space.command("iptables", "-S")
}

/// Waits until the rules are as wanted.
fn wait_for(host: &Host, what: &str, is_right: impl Fn(&str) -> bool) {
    let end = Instant::now() + PATIENCE;
    loop {
        let rules = rules(host);
        if is_right(&rules) {
            return;
        }
        assert!(Instant::now() < end, "{what}: {rules}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn attach(host: &Host, network: &engine_net::LocalNetworks, container: &Container, port: u16) -> Endpoint {
    let (network, sandbox) = (network.clone(), container.sandbox.clone());
    let attachment = host.run(async move {
        let port = PortMapping::new(80).with_host_port(port);
        let options = EndpointOptions::default().with_ports([port]);
        network.attach(&"bridge".parse().unwrap(), &sandbox, &options).await.unwrap()
    });
    container.space.echo("0.0.0.0:80");
    container.space.echo("0.0.0.0:81");
    attachment.endpoint
}

#[test]
fn e10_beside_docker_both_keep_working() {
    let host = Host::new();
    let world = host.neighbour();
    world.echo("0.0.0.0:7");
    host.space.command("sysctl", "-qw net.ipv4.ip_forward=1");
    let docker = Docker::new(&host);
    let before = rules(&host);
    let network = host.open();
    let (one, two) = (Container::new(), Container::new());
    let endpoint = attach(&host, &network, &one, 8080);
    attach(&host, &network, &two, 8081);
    let works = || {
        assert_eq!(world.ask("192.0.2.1:8080").unwrap(), "192.0.2.2");
        assert_eq!(one.space.ask("192.0.2.2:7").unwrap(), "192.0.2.1");
        // Its own address, where the host filters bridged packets and so sees what comes back.
        let seen = one.space.ask("192.0.2.1:8081").unwrap();
        assert!(
            [endpoint.gateways[0], endpoint.addresses[0]].iter().any(|ip| ip.to_string() == seen),
            "{seen}"
        );
        // Docker's container has its way to the world and to what we publish.
        assert_eq!(docker.container.ask("192.0.2.2:7").unwrap(), "10.99.0.2");
        assert_eq!(docker.container.ask("192.0.2.1:8080").unwrap(), "10.99.0.2");
        // And what Docker has published is for ours, too.
        assert_eq!(one.space.ask("10.99.0.2:80").unwrap(), "10.99.0.1");
    };
    world.ip("route replace 10.99.0.0/24 via 192.0.2.1");
    works();
    // What was closed stays closed: ours to others and theirs to ours.
    let closed = || {
        assert!(world.is_refused(&format!("{}:81", endpoint.addresses[0])));
        assert!(docker.container.is_refused(&format!("{}:81", endpoint.addresses[0])));
        assert!(one.space.is_refused("10.99.0.2:81"));
    };
    closed();
    // iptables can show them, who lists them sees whose they are, and the administrator's come first.
    let ours = rules(&host);
    assert!(ours.contains(&format!("-j engine-{}", owner(&ours))), "{ours}");
    let listed = host.space.command("iptables", "-nvL");
    assert!(
        !listed.contains("incompatible") && listed.contains(&format!("/* engine-{} ", owner(&ours))),
        "{listed}"
    );
    host.space.command("iptables", "-I DOCKER-USER -s 192.0.2.2 -j DROP");
    assert!(world.is_refused("192.0.2.1:8080"));
    host.space.command("iptables", "-D DOCKER-USER -s 192.0.2.2 -j DROP");
    works();

    // Docker makes its chain anew, or a network.
    host.space.command("iptables", "-F DOCKER-USER");
    host.space.command("iptables", "-A DOCKER-USER -j RETURN");
    wait_for(&host, "flushed", |rules| rules.matches("-A DOCKER-USER -").count() == 3);
    works();
    // Its end comes when ours are there already.
    host.space.command("iptables", "-I DOCKER-USER -j RETURN");
    wait_for(&host, "a new end", |rules| {
        let first = rules.lines().find(|line| line.starts_with("-A DOCKER-USER"));
        first.is_some_and(|rule| rule.contains("engine-"))
    });
    works();
    host.space.command("iptables", "-D DOCKER-USER -j RETURN");
    host.space.command("iptables", "-A FORWARD -o br-docker1 -j DOCKER");
    wait_for(&host, "another network", |rules| rules.matches("br-docker1 ").count() == 3);
    // No longer needed, needed again.
    host.space.command("iptables", "-P FORWARD ACCEPT");
    wait_for(&host, "policy accept", |rules| !rules.contains("engine-"));
    host.space.command("iptables", "-P FORWARD DROP");
    wait_for(&host, "policy drop", |rules| rules.matches("-A DOCKER-USER -").count() == 3);
    works();
    closed();

    // While nobody looks, then with the next that opens the networks.
    drop(network);
    host.space.command("iptables", "-F DOCKER-USER");
    std::thread::sleep(MOMENT);
    assert!(world.is_refused("192.0.2.1:8080"));
    let network = host.open();
    let opened = network.clone();
    host.run(async move { opened.sweep(&[]).await.unwrap() });
    assert_eq!(world.ask("192.0.2.1:8080").unwrap(), "192.0.2.2");

    host.run(async move {
        let name = "bridge".parse().unwrap();
        let info = network.inspect(&name).await.unwrap().unwrap();
        network.sweep(&info.endpoints).await.unwrap();
        network.remove(&name).await.unwrap();
    });
    let after = rules(&host);
    assert!(!after.contains("engine-"), "{after}");
    assert!(!host.space.command("nft", "list tables").contains("engine-"));
    host.space.command("iptables", "-D FORWARD -o br-docker1 -j DOCKER");
    host.space.command("iptables", "-A DOCKER-USER -j RETURN");
    assert_eq!(rules(&host), before);
    assert_eq!(docker.container.ask("192.0.2.2:7").unwrap(), "10.99.0.2");
}

#[test]
fn what_a_killed_program_left_beside_docker_is_swept() {
    let host = Host::new();
    host.space.command("sysctl", "-qw net.ipv4.ip_forward=1");
    Docker::new(&host);
    let before = rules(&host);
    let (network, container) = (host.open(), Container::new());
    attach(&host, &network, &container, 8080);
    assert!(rules(&host).contains("engine-"));
    // It had removed the last network's bridge, and nobody was there to see.
    let opened = network.clone();
    let bridge = host.run(async move {
        let name = "bridge".parse().unwrap();
        opened.detach(&name, &container.sandbox.id).await.unwrap();
        let info = opened.inspect(&name).await.unwrap().unwrap();
        info.options.driver_options["com.docker.network.bridge.name"].clone()
    });
    drop(network);
    host.space.ip(&format!("link del {bridge}"));
    assert!(rules(&host).contains("engine-"));
    let network = host.open();
    host.run(async move { network.sweep(&[]).await.unwrap() });
    assert_eq!(rules(&host), before);
    assert!(!host.space.command("nft", "list tables").contains("engine-"));
}

fn owner(rules: &str) -> &str {
    let (_, rest) = rules.split_once("-N engine-").unwrap_or_else(|| panic!("no chain of ours: {rules}"));
    rest.lines().next().unwrap()
}

#[test]
fn two_engines_beside_docker_leave_each_other_alone() {
    let (host, other) = (Host::new(), tempfile::tempdir().unwrap());
    host.space.command("sysctl", "-qw net.ipv4.ip_forward=1");
    let world = host.neighbour();
    Docker::new(&host);
    let before = rules(&host);
    let one = host.open();
    let two = engine_net::LocalNetworks::new(other.path().join("root"), other.path().join("run"));
    let (first, second) = (Container::new(), Container::new());
    attach(&host, &one, &first, 8080);
    let sandbox = second.sandbox.clone();
    let opened = two.clone();
    host.run(async move {
        let name = "two".parse().unwrap();
        opened.create(&name, &NetworkOptions::default()).await.unwrap();
        let options = EndpointOptions::default().with_ports([PortMapping::new(80).with_host_port(8081)]);
        opened.attach(&name, &sandbox, &options).await.unwrap();
    });
    second.space.echo("0.0.0.0:80");
    for port in [8080, 8081] {
        assert_eq!(world.ask(&format!("192.0.2.1:{port}")).unwrap(), "192.0.2.2");
    }
    assert_eq!(rules(&host).matches("-A DOCKER-USER -").count(), 5);
    for (network, name) in [(&one, "bridge"), (&two, "two")] {
        let network = network.clone();
        host.run(async move {
            let name = name.parse().unwrap();
            let info = network.inspect(&name).await.unwrap().unwrap();
            network.sweep(&info.endpoints).await.unwrap();
            network.remove(&name).await.unwrap();
        });
        if name == "bridge" {
            assert_eq!(world.ask("192.0.2.1:8081").unwrap(), "192.0.2.2");
        }
    }
    assert_eq!(rules(&host), before);
}

#[test]
fn what_stands_in_the_way_is_told() {
    let host = Host::new();
    let look = || host.run(engine_net::LocalNetworks::look());
    assert_eq!(look().verdict, engine_core::engine::Verdict::Works);
    host.space.command("nft", "add table inet mine");
    host.space.command(
        "nft",
        "add chain inet mine passing { type filter hook forward priority 0 ; policy drop ; }",
    );
    assert!(look().detail.contains("chain passing of table inet mine drops"), "{:?}", look());
    host.space.command("nft", "delete table inet mine");
    host.space.command("iptables-legacy", "-A FORWARD -s 192.0.2.7 -j DROP");
    assert_eq!(look().verdict, engine_core::engine::Verdict::Works);
    host.space.command("iptables-legacy", "-P FORWARD DROP");
    assert!(look().detail.contains("iptables-legacy"), "{:?}", look());
}
