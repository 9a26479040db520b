//! Containers of a network reach each other and the world.

use engine_core::Network as _;
use engine_core::network::names::{self, Zone};
use engine_core::network::{EndpointOptions, NetworkOptions};

use crate::support::{Container, Host};

#[test]
fn containers_of_a_network_reach_each_other() {
    let host = Host::new();
    let network = host.open();
    let (one, two) = (Container::new(), Container::new());
    let (first, second) = (one.sandbox.clone(), two.sandbox.clone());
    let (a, b) = host.run(async move {
        let name = "both".parse().unwrap();
        let options = NetworkOptions::default().with_ipv6(true);
        network.create(&name, &options).await.unwrap();
        let options = EndpointOptions::default();
        let a = network.attach(&name, &first, &options).await.unwrap().endpoint;
        let b = network.attach(&name, &second, &options).await.unwrap().endpoint;
        (a, b)
    });
    assert_eq!((a.interface.as_str(), b.interface.as_str()), ("eth0", "eth0"));
    for (index, listen) in ["0.0.0.0:80", "[::]:81"].into_iter().enumerate() {
        two.space.echo(listen);
        let address = std::net::SocketAddr::new(b.addresses[index], 80 + index as u16).to_string();
        assert_eq!(one.space.ask(&address).unwrap(), a.addresses[index].to_string());
        assert_eq!(one.space.ask_udp(&address).unwrap(), a.addresses[index].to_string());
        // And from the host.
        assert_eq!(host.space.ask(&address).unwrap(), a.gateways[index].to_string());
    }
}

#[test]
fn the_world_sees_the_hosts_address() {
    let host = Host::new();
    let world = host.neighbour();
    world.echo("0.0.0.0:7");
    let network = host.open();
    let (inside, hidden) = (Container::new(), Container::new());
    let (first, second) = (inside.sandbox.clone(), hidden.sandbox.clone());
    let hidden_endpoint = host.run(async move {
        network.attach(&"bridge".parse().unwrap(), &first, &EndpointOptions::default()).await.unwrap();
        let name = "hidden".parse().unwrap();
        network.create(&name, &NetworkOptions::default().with_internal(true)).await.unwrap();
        network.attach(&name, &second, &EndpointOptions::default()).await.unwrap().endpoint
    });
    assert_eq!(inside.space.ask("192.0.2.2:7").unwrap(), "192.0.2.1");
    assert_eq!(inside.space.ask_udp("192.0.2.2:7").unwrap(), "192.0.2.1");
    assert!(hidden_endpoint.gateways.is_empty());
    assert_eq!(hidden.space.ip("route show default"), "");
    // Also with a route of its own making.
    let gateway = hidden_endpoint.addresses[0].to_string().rsplit_once('.').unwrap().0.to_owned() + ".1";
    hidden.space.ip(&format!("route add default via {gateway}"));
    assert!(hidden.space.is_refused("192.0.2.2:7"));
}

#[test]
fn packets_leave_by_the_endpoint_of_the_highest_priority() {
    let host = Host::new();
    let network = host.open();
    let container = Container::new();
    let sandbox = container.sandbox.clone();
    let (first, second) = host.run(async move {
        let mut endpoints = Vec::new();
        for (name, priority) in [("low", 0), ("high", 1)] {
            let name = name.parse().unwrap();
            network.create(&name, &NetworkOptions::default()).await.unwrap();
            let mut options = EndpointOptions::default();
            options.gateway_priority = priority;
            endpoints.push(network.attach(&name, &sandbox, &options).await.unwrap().endpoint);
        }
        let second = endpoints.pop().unwrap();
        (endpoints.pop().unwrap(), second)
    });
    assert_eq!((first.interface.as_str(), second.interface.as_str()), ("eth0", "eth1"));
    let way = || container.space.ip("route show default");
    assert!(way().starts_with(&format!("default via {} dev eth1", second.gateways[0])), "{}", way());
    let network = host.open();
    let id = container.sandbox.id.clone();
    host.run(async move { network.detach(&"high".parse().unwrap(), &id).await.unwrap() });
    assert!(way().starts_with(&format!("default via {} dev eth0", first.gateways[0])), "{}", way());
    assert!(!container.space.ip("link show").contains("eth1"));
}

#[test]
fn names_of_a_network_are_written_and_asked_for_at_port_53() {
    let host = Host::new();
    let network = host.open();
    let (one, two) = (Container::new(), Container::new());
    let (first, second) = (one.sandbox.clone(), two.sandbox.clone());
    let (opened, id) = (network.clone(), second.id.clone());
    let (zone, endpoint) = host.run(async move {
        let name = "names".parse().unwrap();
        opened.create(&name, &NetworkOptions::default()).await.unwrap();
        let mut options = EndpointOptions::default().with_aliases(["db"]);
        options.names = vec!["two".to_owned()];
        opened.attach(&name, &first, &EndpointOptions::default()).await.unwrap();
        let attachment = opened.attach(&name, &second, &options).await.unwrap();
        (attachment.names.unwrap(), attachment.endpoint)
    });
    let addresses = |name: &str| {
        let zone: Zone = std::fs::read_to_string(&zone).unwrap().parse().unwrap();
        zone.addresses(name).collect::<Vec<_>>()
    };
    assert_eq!((addresses("two"), addresses("db")), (endpoint.addresses.clone(), endpoint.addresses.clone()));
    // What is asked of port 53 comes to the resolver, over both transports; here `echo` is in its place.
    one.space.echo(&format!("{}:{}", names::ADDRESS, names::PORT));
    assert_eq!(one.space.ask("127.0.0.11:53").unwrap(), "127.0.0.1");
    assert_eq!(one.space.ask_udp("127.0.0.11:53").unwrap(), "127.0.0.1");
    // And a server of the container's own can have port 53 of all addresses.
    one.space.echo("0.0.0.0:53");
    let (opened, changed) = (network.clone(), id.clone());
    host.run(async move {
        opened.rename(&"names".parse().unwrap(), &changed, &["three".to_owned()]).await.unwrap();
    });
    assert_eq!((addresses("two").len(), addresses("three").len(), addresses("db").len()), (0, 1, 1));
    host.run(async move { network.detach(&"names".parse().unwrap(), &id).await.unwrap() });
    assert_eq!(addresses("db"), Vec::<std::net::IpAddr>::new());
}
