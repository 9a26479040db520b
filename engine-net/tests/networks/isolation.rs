//! What networks keep apart (SECURITY E9, E10).

use engine_core::Network as _;
use engine_core::network::{EndpointOptions, NetworkOptions, PortMapping};

use crate::support::{Container, Host};

#[test]
fn networks_do_not_reach_each_other() {
    let host = Host::new();
    let world = host.neighbour();
    let network = host.open();
    let (one, two) = (Container::new(), Container::new());
    let (first, second) = (one.sandbox.clone(), two.sandbox.clone());
    let kept = host.run(async move {
        let (a, b) = ("net-a".parse().unwrap(), "net-b".parse().unwrap());
        for name in [&a, &b] {
            network.create(name, &NetworkOptions::default().with_ipv6(true)).await.unwrap();
        }
        let port = PortMapping::new(80).with_host_port(8080);
        let first = network.attach(&a, &first, &EndpointOptions::default().with_ports([port])).await.unwrap();
        (first, network.attach(&b, &second, &EndpointOptions::default()).await.unwrap())
    });
    one.space.echo("[::]:80");
    one.space.echo("[::]:81");
    let [v4, v6] = [0, 1].map(|index| kept.0.endpoint.addresses[index]);
    for port in [80, 81] {
        for address in [format!("{v4}:{port}"), format!("[{v6}]:{port}")] {
            assert!(two.space.is_refused(&address), "another network reaches {address}");
            assert!(world.is_refused(&address), "another host reaches {address}");
            // Only this host does.
            host.space.ask(&address).unwrap();
        }
    }
    world.ask("192.0.2.1:8080").unwrap();
}

#[test]
fn without_icc_only_the_world_is_reached() {
    let host = Host::new();
    let world = host.neighbour();
    world.echo("0.0.0.0:7");
    let network = host.open();
    let (one, two) = (Container::new(), Container::new());
    let (first, second) = (one.sandbox.clone(), two.sandbox.clone());
    let endpoint = host.run(async move {
        let name = "apart".parse().unwrap();
        let options =
            NetworkOptions::default().with_driver_option("com.docker.network.bridge.enable_icc", "false");
        network.create(&name, &options).await.unwrap();
        network.attach(&name, &second, &EndpointOptions::default()).await.unwrap();
        network.attach(&name, &first, &EndpointOptions::default()).await.unwrap().endpoint
    });
    one.space.echo("0.0.0.0:80");
    assert!(two.space.is_refused(&format!("{}:80", endpoint.addresses[0])));
    assert_eq!(two.space.ask("192.0.2.2:7").unwrap(), "192.0.2.1");
}

#[test]
fn e9_ipv6_is_off_unless_asked_for_and_routers_are_not_believed() {
    let host = Host::new();
    let network = host.open();
    let (four, six) = (Container::new(), Container::new());
    let (first, second) = (four.sandbox.clone(), six.sandbox.clone());
    let bridges = host.run(async move {
        let mut bridges = Vec::new();
        for (name, v6, sandbox) in [("four", false, &first), ("six", true, &second)] {
            let name = name.parse().unwrap();
            let info = network.create(&name, &NetworkOptions::default().with_ipv6(v6)).await.unwrap();
            network.attach(&name, sandbox, &EndpointOptions::default()).await.unwrap();
            bridges.push(format!("br-{}", &info.id[..12]));
        }
        bridges
    });
    assert_eq!(four.space.ip("-6 addr show dev eth0"), "");
    assert_eq!(host.space.ip(&format!("-6 addr show dev {}", bridges[0])), "");
    assert!(six.space.ip("-6 addr show dev eth0").contains("scope global"));
    for (space, interface) in [
        (&*host.space, &*bridges[0]),
        (&*host.space, &*bridges[1]),
        (&four.space, "eth0"),
        (&six.space, "eth0"),
    ] {
        let path = format!("/proc/sys/net/ipv6/conf/{interface}/accept_ra");
        let value = space.run(|| std::fs::read_to_string(&path).unwrap());
        assert_eq!(value.trim(), "0", "{path}");
    }
}
