//! Published ports: who reaches them, and what the container sees.

use std::net::{SocketAddr, TcpListener};

use engine_core::network::{Attachment, EndpointOptions, NetworkOptions, PortMapping, Protocol};
use engine_core::{ErrorKind, Network as _};

use crate::support::{Container, Host};

fn published(ports: impl IntoIterator<Item = PortMapping>) -> EndpointOptions {
    EndpointOptions::default().with_ports(ports)
}

#[test]
fn a_published_port_is_reached_from_everywhere() {
    let host = Host::new();
    let world = host.neighbour();
    let network = host.open();
    let (server, beside, elsewhere) = (Container::new(), Container::new(), Container::new());
    let sandboxes = [&server, &beside, &elsewhere].map(|container| container.sandbox.clone());
    let endpoints = host.run(async move {
        let (one, two) = ("one".parse().unwrap(), "two".parse().unwrap());
        for name in [&one, &two] {
            network.create(name, &NetworkOptions::default().with_ipv6(true)).await.unwrap();
        }
        let port = PortMapping::new(80).with_host_port(8080);
        let options = published([port.clone(), port.with_protocol(Protocol::Udp)]);
        let mut endpoints = Vec::new();
        for (name, sandbox, options) in [
            (&one, &sandboxes[0], &options),
            (&one, &sandboxes[1], &EndpointOptions::default()),
            (&two, &sandboxes[2], &EndpointOptions::default()),
        ] {
            endpoints.push(network.attach(name, sandbox, options).await.unwrap());
        }
        endpoints
    });
    server.space.echo("0.0.0.0:80");
    let gateway = endpoints[0].endpoint.gateways[0].to_string();
    // Other hosts, with their address.
    assert_eq!(world.ask("192.0.2.1:8080").unwrap(), "192.0.2.2");
    assert_eq!(world.ask_udp("192.0.2.1:8080").unwrap(), "192.0.2.2");
    // This host, on each of its addresses.
    assert_eq!(host.space.ask("192.0.2.1:8080").unwrap(), "192.0.2.1");
    assert_eq!(host.space.ask("127.0.0.1:8080").unwrap(), gateway);
    assert_eq!(host.space.ask_udp("127.0.0.1:8080").unwrap(), gateway);
    assert_eq!(host.space.ask(&format!("{gateway}:8080")).unwrap(), gateway);
    // Containers: itself, its neighbour, and one of another network.
    for (container, own) in [(&server, &endpoints[0]), (&beside, &endpoints[1])] {
        let own = own.endpoint.addresses[0].to_string();
        for address in [format!("{gateway}:8080"), "192.0.2.1:8080".to_owned()] {
            // Its own address, where the host filters bridged packets and so sees what comes back.
            let seen = container.space.ask(&address).unwrap();
            assert!(seen == gateway || (seen == own && !std::ptr::eq(container, &server)), "{seen}");
        }
    }
    let from_elsewhere = elsewhere.space.ask("192.0.2.1:8080").unwrap();
    assert_eq!(from_elsewhere, endpoints[2].endpoint.addresses[0].to_string());
}

#[test]
fn a_published_port_is_reached_by_ipv6() {
    let host = Host::new();
    let world = host.neighbour();
    let network = host.open();
    let server = Container::new();
    let sandbox = server.sandbox.clone();
    let attachment = host.run(async move {
        let name = "six".parse().unwrap();
        network.create(&name, &NetworkOptions::default().with_ipv6(true)).await.unwrap();
        let options = published([PortMapping::new(80).with_host_port(8080)]);
        network.attach(&name, &sandbox, &options).await.unwrap()
    });
    server.space.echo("[::]:80");
    assert_eq!(world.ask("[2001:db8::1]:8080").unwrap(), "2001:db8::2");
    let gateway = attachment.endpoint.gateways[1];
    assert_eq!(host.space.ask(&format!("[{gateway}]:8080")).unwrap(), gateway.to_string());
}

/// Where the sockets that keep a port pass their clients on to.
fn relays(attachment: &Attachment) -> Vec<(SocketAddr, SocketAddr)> {
    let relayed = attachment.reserved.iter().filter_map(|kept| Some((kept, kept.relay?)));
    relayed
        .map(|(kept, target)| {
            let bound = rustix::net::getsockname(&kept.descriptor).unwrap();
            (SocketAddr::try_from(bound).unwrap(), target)
        })
        .collect()
}

#[test]
fn clients_that_no_rule_can_lead_are_relayed() {
    let host = Host::new();
    let _world = host.neighbour();
    let network = host.open();
    host.run(async move {
        let dual = NetworkOptions::default().with_ipv6(true);
        let mut six = dual.clone();
        six.ipv4 = false;
        for (name, options, at, expected) in [
            ("four", NetworkOptions::default(), None, vec!["[::]:8080"]),
            ("dual", dual.clone(), None, vec!["[::]:8080"]),
            ("six", six, None, vec!["0.0.0.0:8080", "[::]:8080"]),
            ("own", dual.clone(), Some("2001:db8::1"), vec![]),
            ("loop", dual, Some("::1"), vec!["[::1]:8080"]),
            ("alone", NetworkOptions::default(), Some("127.0.0.1"), vec![]),
        ] {
            let name = name.parse().unwrap();
            network.create(&name, &options).await.unwrap();
            for protocol in [Protocol::Tcp, Protocol::Udp] {
                let container = Container::new();
                let mut port = PortMapping::new(80).with_host_port(8080).with_protocol(protocol);
                port.host_ip = at.map(|at| at.parse().unwrap());
                let attachment = network.attach(&name, &container.sandbox, &published([port])).await.unwrap();
                let relays = relays(&attachment);
                let from: Vec<String> = relays.iter().map(|(from, _)| from.to_string()).collect();
                assert_eq!(from, expected, "{name} {protocol}");
                let addresses = &attachment.endpoint.addresses;
                for (from, to) in relays {
                    // To the address of the same version, where there is one.
                    let same = addresses.iter().find(|address| address.is_ipv6() == from.is_ipv6());
                    assert_eq!(to, SocketAddr::new(*same.unwrap_or(&addresses[0]), 80), "{name}");
                }
                network.detach(&name, &container.sandbox.id).await.unwrap();
            }
        }
    });
}

#[test]
fn one_address_of_the_host_is_not_the_others() {
    let host = Host::new();
    let world = host.neighbour();
    let network = host.open();
    let (server, beside) = (Container::new(), Container::new());
    let (sandbox, other) = (server.sandbox.clone(), beside.sandbox.clone());
    let attachment = host.run(async move {
        let port = PortMapping::new(80).with_host_port(8080).with_host_ip("127.0.0.1".parse().unwrap());
        network.attach(&"bridge".parse().unwrap(), &other, &EndpointOptions::default()).await.unwrap();
        network.attach(&"bridge".parse().unwrap(), &sandbox, &published([port])).await.unwrap()
    });
    server.space.echo("0.0.0.0:80");
    assert!(host.space.ask("127.0.0.1:8080").is_ok());
    assert!(host.space.is_refused("192.0.2.1:8080"));
    assert!(world.is_refused("192.0.2.1:8080"));
    // Nor is the loopback address reached through the host: neither from a container nor from another host.
    for space in [&world, &beside.space] {
        space.ip("route add 127.0.0.0/8 dev lo table local metric 9");
        let by = if std::ptr::eq(space, &world) {
            "via 192.0.2.1".to_owned()
        } else {
            format!("via {}", attachment.endpoint.gateways[0])
        };
        space.ip("addr flush dev lo");
        space.command("sysctl", "-qw net.ipv4.conf.all.route_localnet=1");
        space.ip("route flush table local type local exact 127.0.0.0/8");
        space.ip(&format!("route replace 127.0.0.1/32 {by}"));
        assert!(space.is_refused("127.0.0.1:8080"), "{by}");
    }
}

#[test]
fn a_taken_port_names_who_has_it() {
    let host = Host::new();
    let network = host.open();
    let holder = host.space.run(|| TcpListener::bind("127.0.0.1:0").unwrap());
    let taken = holder.local_addr().unwrap().port();
    let (one, two) = (Container::new(), Container::new());
    let (first, second) = (one.sandbox.clone(), two.sandbox.clone());
    let kept = host.run(async move {
        let name = "bridge".parse().unwrap();
        let error = network
            .attach(&name, &first, &published([PortMapping::new(80).with_host_port(taken)]))
            .await
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Conflict);
        let text = error.report();
        assert!(
            text.contains("port is already allocated")
                && text.contains(&format!("process {}", std::process::id())),
            "{text}"
        );
        // Any port, on all addresses; then nobody else can have it.
        let attachment = network.attach(&name, &first, &published([PortMapping::new(80)])).await.unwrap();
        let port = attachment.endpoint.ports[0].host_port;
        assert_ne!(port, 0);
        let again = published([PortMapping::new(80).with_host_port(port)]);
        let error = network.attach(&name, &second, &again).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Conflict, "{}", error.report());
        let missing = PortMapping::new(80).with_host_ip("203.0.113.9".parse().unwrap());
        let error = network.attach(&name, &second, &published([missing])).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{}", error.report());
        attachment
    });
    let port = kept.endpoint.ports[0].host_port;
    assert!(host.space.run(|| TcpListener::bind(("0.0.0.0", port))).is_err());
    drop(kept);
    // Whatever is being started meanwhile holds it until it executes its program.
    let begun = std::time::Instant::now();
    while let Err(error) = host.space.run(|| TcpListener::bind(("0.0.0.0", port))) {
        assert!(begun.elapsed() < std::time::Duration::from_secs(10), "{error}");
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
}
