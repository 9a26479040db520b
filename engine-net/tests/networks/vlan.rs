//! macvlan and ipvlan: containers are neighbours of who is on the parent's network. This kernel may have no ipvlan and no
//! VLANs; the guest's has both.

use engine_core::network::{
    Attachment, EndpointOptions, Network as _, NetworkInfo, NetworkOptions, PortMapping, Subnet,
    SubnetOptions,
};
use engine_core::{Error, ErrorKind, Result};
use engine_testkit::{Requirement, require};

use crate::support::{Container, Host};

/// A network on the interface that leads to the neighbour, with addresses of the neighbour's network.
fn on_lan(driver: &str) -> NetworkOptions {
    let mut options = NetworkOptions::default().with_driver_option("parent", "lan0");
    options.driver = Some(driver.to_owned());
    for (subnet, gateway, range) in [
        ("192.0.2.0/24", "192.0.2.2", "192.0.2.128/25"),
        ("2001:db8::/64", "2001:db8::2", "2001:db8::8000/113"),
    ] {
        let mut wanted = SubnetOptions::from(subnet.parse::<Subnet>().unwrap());
        wanted.gateway = Some(gateway.parse().unwrap());
        wanted.ip_range = Some(range.parse().unwrap());
        options = options.with_subnet(wanted);
    }
    options
}

fn without_parent(driver: &str) -> NetworkOptions {
    let mut options = NetworkOptions::default();
    options.driver = Some(driver.to_owned());
    options
}

/// A host with one network, `lan`.
struct Lan {
    host: Host,
    network: engine_net::LocalNetworks,
}

impl Lan {
    fn new(host: Host, options: NetworkOptions) -> (Self, NetworkInfo) {
        let network = host.open();
        let lan = Self { host, network };
        let info = lan.create("lan", options).unwrap();
        (lan, info)
    }

    fn create(&self, name: &str, options: NetworkOptions) -> Result<NetworkInfo> {
        let (network, name) = (self.network.clone(), name.parse().unwrap());
        self.host.run(async move { network.create(&name, &options).await })
    }

    fn attach(&self, container: &Container, options: EndpointOptions) -> Result<Attachment> {
        self.attach_to("lan", container, options)
    }

    fn attach_to(&self, name: &str, container: &Container, options: EndpointOptions) -> Result<Attachment> {
        let (network, name) = (self.network.clone(), name.parse().unwrap());
        let sandbox = container.sandbox.clone();
        self.host.run(async move { network.attach(&name, &sandbox, &options).await })
    }

    /// Attaches two containers, which answer at port 80.
    fn two(&self) -> [(Container, Attachment); 2] {
        [(); 2].map(|()| {
            let container = Container::new();
            let made = self.attach(&container, EndpointOptions::default()).unwrap();
            container.space.echo("[::]:80");
            (container, made)
        })
    }

    fn detach(&self, container: &Container) {
        let (network, id) = (self.network.clone(), container.sandbox.id.clone());
        self.host.run(async move { network.detach(&"lan".parse().unwrap(), &id).await }).unwrap();
        assert_eq!(container.space.ip("-o link show").lines().count(), 1);
    }

    fn remove(&self, name: &str) {
        let (network, name) = (self.network.clone(), name.parse().unwrap());
        self.host.run(async move { network.remove(&name).await }).unwrap();
    }
}

fn at(made: &Attachment, index: usize) -> String {
    std::net::SocketAddr::new(made.endpoint.addresses[index], 80).to_string()
}

fn addresses(made: &Attachment) -> [String; 2] {
    [0, 1].map(|index| made.endpoint.addresses[index].to_string())
}

fn text(error: &Error) -> String {
    format!("{error} {:?}", error.hint())
}

#[test]
fn macvlan_containers_are_neighbours_of_other_hosts() {
    let host = Host::new();
    let world = host.neighbour();
    world.echo("[::]:7");
    let (lan, info) = Lan::new(host, on_lan("macvlan"));
    assert_eq!(info.options.driver.as_deref(), Some("macvlan"));
    let [(one, a), (two, b)] = lan.two();
    assert_eq!(addresses(&a), ["192.0.2.129", "2001:db8::8001"]);
    let link = one.space.ip("-d -o link show dev eth0");
    assert!(link.contains("macvlan mode bridge"), "{link}");
    assert!(link.contains(&a.endpoint.mac.unwrap().to_string()), "{link}");
    let routes = one.space.ip("route show default") + &one.space.ip("-6 route show default");
    assert!(routes.contains("via 192.0.2.2 dev eth0") && routes.contains("via 2001:db8::2"), "{routes}");
    for (index, world_address) in [(0, "192.0.2.2:7"), (1, "[2001:db8::2]:7")] {
        let seen = two.space.ask(&at(&a, index)).unwrap();
        assert!(seen.ends_with(&addresses(&b)[index]), "{seen}");
        // The other host sees the container's own address, and asks it at any port.
        let seen = one.space.ask(world_address).unwrap();
        assert!(seen.ends_with(&addresses(&a)[index]), "{seen}");
        world.ask(&at(&b, index)).unwrap();
    }
    // The host itself is no neighbour: that is how the kernel's macvlan is.
    assert!(lan.host.space.is_refused(&at(&a, 0)));
    lan.detach(&one);
    assert!(world.is_refused(&at(&a, 0)));
    world.ask(&at(&b, 0)).unwrap();
    lan.detach(&two);
    lan.remove("lan");
    assert_eq!(lan.host.left(), "");
    assert!(lan.host.space.ip("link show").contains("lan0"), "the parent is the host's");
}

#[test]
fn nothing_is_published_and_names_are_told_on_macvlan() {
    let host = Host::new();
    let _world = host.neighbour();
    let (lan, info) = Lan::new(host, on_lan("macvlan"));
    let container = Container::new();
    let port = PortMapping::new(80).with_host_port(8080);
    let mut options = EndpointOptions::default().with_ports([port]).with_aliases(["www"]);
    options.names = vec!["web".to_owned()];
    let made = lan.attach(&container, options).unwrap();
    assert!(made.endpoint.ports.is_empty() && made.reserved.is_empty(), "{made:?}");
    assert_eq!(lan.host.space.command("nft", "list ruleset"), "");
    lan.host.space.run(|| std::net::TcpListener::bind("0.0.0.0:8080").unwrap());
    assert_eq!(info.names, made.names);
    let zone: engine_core::network::names::Zone =
        std::fs::read_to_string(made.names.unwrap()).unwrap().parse().unwrap();
    for name in ["web", "www"] {
        assert_eq!(zone.addresses(name).collect::<Vec<_>>(), made.endpoint.addresses);
    }
    container.space.echo("127.0.0.11:41153");
    container.space.ask("127.0.0.11:53").unwrap();
}

#[test]
fn macvlan_modes_say_who_reaches_whom() {
    for (mode, shown) in [("private", "mode private"), ("vepa", "mode vepa")] {
        let host = Host::new();
        let world = host.neighbour();
        world.echo("[::]:7");
        let (lan, _) = Lan::new(host, on_lan("macvlan").with_driver_option("macvlan_mode", mode));
        let [(one, a), (two, _)] = lan.two();
        assert!(one.space.ip("-d link show dev eth0").contains(shown));
        one.space.ask("192.0.2.2:7").unwrap();
        // Nobody on the other side sends back what it is for another container.
        assert!(two.space.is_refused(&at(&a, 0)), "{mode}");
    }
}

#[test]
fn a_parent_in_mode_passthru_is_one_containers() {
    let host = Host::new();
    let world = host.neighbour();
    world.echo("[::]:7");
    let options = on_lan("macvlan").with_driver_option("macvlan_mode", "passthru");
    let (lan, _) = Lan::new(host, options);
    let (one, two) = (Container::new(), Container::new());
    let mut wish = EndpointOptions::default();
    wish.mac = Some("02:00:00:00:00:07".parse().unwrap());
    assert_eq!(lan.attach(&one, wish).unwrap_err().kind(), ErrorKind::InvalidArgument);
    let made = lan.attach(&one, EndpointOptions::default()).unwrap();
    let mac = made.endpoint.mac.unwrap().to_string();
    for space in [&one.space, &*lan.host.space] {
        assert!(space.ip("-o link show").contains(&mac));
    }
    one.space.ask("192.0.2.2:7").unwrap();
    let error = lan.attach(&two, EndpointOptions::default()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert!(text(&error).contains("one container has the parent interface"), "{}", text(&error));
    // Nor another network.
    let mut other = without_parent("macvlan").with_driver_option("parent", "lan0");
    other = other.with_subnet("10.77.0.0/24".parse::<Subnet>().unwrap());
    let error = lan.create("other", other).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    lan.detach(&one);
    lan.attach(&two, EndpointOptions::default()).unwrap();
}

#[test]
fn without_a_parent_containers_have_each_other_alone() {
    let host = Host::new();
    let world = host.neighbour();
    world.echo("[::]:7");
    let (lan, info) = Lan::new(host, without_parent("macvlan").with_ipv6(true));
    assert!(info.options.internal && info.options.subnets[0].gateway.is_none(), "{info:?}");
    let [(one, a), (two, b)] = lan.two();
    assert!(a.endpoint.gateways.is_empty());
    assert_eq!(one.space.ip("route show default"), "");
    for index in [0, 1] {
        two.space.ask(&at(&a, index)).unwrap();
        one.space.ask(&at(&b, index)).unwrap();
    }
    // Also with a route of its own making.
    lan.host.space.echo("[::]:9");
    one.space.ip("route add default dev eth0");
    assert!(one.space.is_refused("192.0.2.2:7") && one.space.is_refused("192.0.2.1:9"));
    let parent = format!("dm-{}", &info.id[..12]);
    assert!(lan.host.left().starts_with(&parent), "{}", lan.host.left());
    lan.detach(&one);
    lan.detach(&two);
    lan.remove("lan");
    assert_eq!(lan.host.left(), "");
}

#[test]
fn an_address_is_free_with_its_container() {
    let host = Host::new();
    let _world = host.neighbour();
    let (lan, _) = Lan::new(host, on_lan("macvlan"));
    for _ in 0..10 {
        let container = Container::new();
        let options = EndpointOptions::default().with_ipv4("192.0.2.200".parse().unwrap());
        let endpoint = lan.attach(&container, options).unwrap().endpoint;
        // The namespace goes, and what was in it some time later.
        drop(container);
        let network = lan.network.clone();
        lan.host.run(async move { network.sweep(&[endpoint]).await }).unwrap();
    }
}

#[test]
fn what_a_dead_program_attached_is_removed_from_a_namespace_that_lives() {
    let host = Host::new();
    let (lan, _) = Lan::new(host, without_parent("macvlan"));
    let container = Container::new();
    let endpoint = lan.attach(&container, EndpointOptions::default()).unwrap().endpoint;
    container.space.ip("link set eth0 down");
    container.space.ip("link set eth0 name other");
    let network = lan.host.open();
    lan.host.run(async move { network.sweep(&[endpoint]).await }).unwrap();
    assert_eq!(container.space.ip("-o link show").lines().count(), 1);
    // As after the loss of the engine's files.
    std::fs::remove_dir_all(lan.host.dir.path().join("root")).unwrap();
    let network = lan.host.open();
    lan.host.run(async move { network.sweep(&[]).await }).unwrap();
    assert_eq!(lan.host.left(), "");
}

#[test]
fn parents_are_checked_and_a_lost_one_is_named() {
    let host = Host::new();
    let _world = host.neighbour();
    let (lan, _) = Lan::new(host, on_lan("macvlan"));
    for (parent, part) in [
        ("nosuch", "no such interface"),
        ("nosuch.10", "no interface nosuch"),
        ("lan0.4095", "between 1-4094"),
        ("lo", "loopback interface"),
        ("a/b", "no slash"),
    ] {
        let options = without_parent("macvlan").with_driver_option("parent", parent);
        let error = lan.create("other", options).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{parent}");
        assert!(text(&error).contains(part), "{parent}: {}", text(&error));
    }
    let error = lan.create("other", without_parent("overlay")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    // A second network on the same parent is fine, as in Docker.
    let second = without_parent("macvlan").with_driver_option("parent", "lan0");
    lan.create("second", second.with_subnet("10.77.0.0/24".parse::<Subnet>().unwrap())).unwrap();
    let container = Container::new();
    lan.attach_to("second", &container, EndpointOptions::default()).unwrap();
    lan.host.space.ip("link delete lan0");
    let error = lan.attach(&container, EndpointOptions::default()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(text(&error).contains("parent interface lan0 was not found"), "{}", text(&error));
    // Its containers have lost their interfaces, and are taken off all the same.
    let (network, id) = (lan.network.clone(), container.sandbox.id.clone());
    lan.host.run(async move { network.detach(&"second".parse().unwrap(), &id).await }).unwrap();
    lan.remove("second");
    lan.remove("lan");
    assert_eq!(lan.host.left(), "");
}

#[test]
fn a_kernel_without_the_driver_is_told_what_it_lacks() {
    if Requirement::Ipvlan.is_met() && Requirement::Vlan.is_met() {
        // Every other test here shows what it does then.
        return;
    }
    let host = Host::new();
    let _world = host.neighbour();
    let (lan, _) = Lan::new(host, on_lan("macvlan"));
    for (need, driver, parent, option) in [
        (Requirement::Ipvlan, "ipvlan", "lan0", "CONFIG_IPVLAN"),
        (Requirement::Vlan, "macvlan", "lan0.50", "CONFIG_VLAN_8021Q"),
    ] {
        if need.is_met() {
            continue;
        }
        let error = lan.create("other", without_parent(driver).with_driver_option("parent", parent));
        let error = error.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(text(&error).contains(option), "{}", text(&error));
    }
}

#[test]
fn ipvlan_containers_share_the_parents_hardware_address() {
    require!(root, ipvlan);
    let host = Host::new();
    let world = host.neighbour();
    world.echo("[::]:7");
    let (lan, _) = Lan::new(host, on_lan("ipvlan"));
    let [(one, a), (two, b)] = lan.two();
    assert_eq!(a.endpoint.mac, None);
    assert!(one.space.ip("-d link show dev eth0").contains("ipvlan  mode l2 bridge"));
    for (index, world_address) in [(0, "192.0.2.2:7"), (1, "[2001:db8::2]:7")] {
        let seen = two.space.ask(&at(&a, index)).unwrap();
        assert!(seen.ends_with(&addresses(&b)[index]), "{seen}");
        let seen = one.space.ask(world_address).unwrap();
        assert!(seen.ends_with(&addresses(&a)[index]), "{seen}");
        world.ask(&at(&b, index)).unwrap();
    }
    let mut wish = EndpointOptions::default();
    wish.mac = Some("02:00:00:00:00:07".parse().unwrap());
    let error = lan.attach(&Container::new(), wish).unwrap_err();
    assert!(text(&error).contains("do not support custom mac address"), "{}", text(&error));
    let second = without_parent("ipvlan").with_driver_option("parent", "lan0");
    let error = lan.create("second", second).unwrap_err();
    assert!(text(&error).contains("already using parent interface lan0"), "{}", text(&error));
    // Either of the two is on a parent at a time.
    let second = without_parent("macvlan").with_driver_option("parent", "lan0");
    lan.create("second", second).unwrap();
    let error = lan.attach_to("second", &Container::new(), EndpointOptions::default()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert!(text(&error).contains("macvlan and ipvlan at a time"), "{}", text(&error));
    // The address of a namespace that is just going is free.
    for _ in 0..2 {
        let short = Container::new();
        let wish = EndpointOptions::default().with_ipv4("192.0.2.200".parse().unwrap());
        let gone = lan.attach(&short, wish).unwrap().endpoint;
        drop(short);
        let network = lan.network.clone();
        lan.host.run(async move { network.sweep(&[gone]).await }).unwrap();
    }
}

#[test]
fn ipvlan_l3_leaves_by_the_interface() {
    require!(root, ipvlan);
    let host = Host::new();
    let world = host.neighbour();
    world.echo("0.0.0.0:7");
    let options = without_parent("ipvlan")
        .with_driver_option("parent", "lan0")
        .with_driver_option("ipvlan_mode", "l3")
        .with_driver_option("ipvlan_flag", "private")
        .with_subnet("10.77.0.0/24".parse::<Subnet>().unwrap());
    let (lan, info) = Lan::new(host, options);
    assert_eq!(info.options.subnets[0].gateway, None);
    let [(one, a), (two, b)] = lan.two();
    assert!(a.endpoint.gateways.is_empty());
    assert_eq!(a.endpoint.addresses[0].to_string(), "10.77.0.1");
    let route = one.space.ip("route show default");
    assert!(route.starts_with("default dev eth0 scope link"), "{route}");
    // The network beyond has a route to the containers, as an administrator gives it one.
    world.ip("route add 10.77.0.0/24 via 192.0.2.1");
    assert_eq!(one.space.ask("192.0.2.2:7").unwrap(), "10.77.0.1");
    world.ask(&at(&b, 0)).unwrap();
    assert!(two.space.is_refused(&at(&a, 0)), "the flag is private");
}

#[test]
fn ipvlan_containers_without_a_parent_have_each_other_alone() {
    require!(root, ipvlan);
    let options = without_parent("ipvlan").with_driver_option("ipvlan_mode", "l3s");
    let (lan, info) = Lan::new(Host::new(), options);
    assert!(info.options.internal);
    let [(one, a), (two, _)] = lan.two();
    two.space.ask(&at(&a, 0)).unwrap();
    assert_eq!(one.space.ip("route show default"), "");
    lan.detach(&one);
    lan.detach(&two);
    lan.remove("lan");
    assert_eq!(lan.host.left(), "");
}

#[test]
fn a_vlan_is_made_and_goes_with_its_last_network() {
    require!(root, vlan);
    let host = Host::new();
    let world = host.neighbour();
    world.ip("link add link lan0 name tagged type vlan id 50");
    world.ip("addr add 10.50.0.1/24 dev tagged");
    world.ip("link set tagged up");
    world.echo("0.0.0.0:7");
    let on_vlan = |subnet: &str| {
        let options = without_parent("macvlan").with_driver_option("parent", "lan0.50");
        options.with_subnet(subnet.parse::<Subnet>().unwrap())
    };
    let (lan, _) = Lan::new(host, on_vlan("10.50.0.0/24"));
    lan.create("second", on_vlan("10.51.0.0/24")).unwrap();
    let container = Container::new();
    lan.attach(&container, EndpointOptions::default()).unwrap();
    // Only what has the tag comes to that interface of the other host.
    assert_eq!(container.space.ask("10.50.0.1:7").unwrap(), "10.50.0.2");
    let link = lan.host.space.ip("-d link show dev lan0.50");
    assert!(link.contains("vlan protocol 802.1Q id 50") && !link.contains("inet6"), "{link}");
    lan.detach(&container);
    lan.remove("lan");
    // It is the other network's now, also after a look at what nobody knows.
    let network = lan.host.open();
    lan.host.run(async move { network.sweep(&[]).await }).unwrap();
    assert!(lan.host.space.ip("link show").contains("lan0.50@lan0"));
    lan.remove("second");
    assert!(!lan.host.space.ip("link show").contains("lan0.50"));
    // One that was there stays.
    lan.host.space.ip("link add link lan0 name lan0.50 type vlan id 50");
    lan.create("lan", on_vlan("10.50.0.0/24")).unwrap();
    lan.attach(&container, EndpointOptions::default()).unwrap();
    lan.detach(&container);
    lan.remove("lan");
    assert!(lan.host.space.ip("link show").contains("lan0.50@lan0"));
}
