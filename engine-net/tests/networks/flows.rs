//! Clients of UDP that go on sending from one socket reach whoever has the port, and nobody else's connections are touched.

use std::io;
use std::net::UdpSocket;

use engine_core::Network as _;
use engine_core::network::{Attachment, EndpointOptions, PortMapping, Protocol};
use engine_net::LocalNetworks;

use crate::support::{Container, Host, PATIENCE, Space};

/// Answers each datagram to port 80 with a word.
fn serve(container: &Container, word: &'static str) {
    let socket = container.space.run(|| UdpSocket::bind("[::]:80").unwrap());
    std::thread::spawn(move || {
        let mut bytes = [0; 16];
        while let Ok((_, peer)) = socket.recv_from(&mut bytes) {
            let _ = socket.send_to(word.as_bytes(), peer);
        }
    });
}

fn client(space: &Space, to: &str) -> UdpSocket {
    let any = if to.starts_with('[') { "[::]:0" } else { "0.0.0.0:0" };
    let socket = space.run(|| UdpSocket::bind(any).unwrap());
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.connect(to).unwrap();
    socket
}

/// Sends, and returns the answer. What the host said of earlier ones comes first.
fn ask(socket: &UdpSocket) -> io::Result<String> {
    let mut bytes = [0; 64];
    loop {
        let answer = socket.send(b"?").and_then(|_| socket.recv(&mut bytes));
        match answer {
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {}
            answer => return Ok(String::from_utf8_lossy(&bytes[..answer?]).into_owned()),
        }
    }
}

fn attach(
    host: &Host,
    network: &LocalNetworks,
    container: &Container,
    ports: Vec<PortMapping>,
) -> Attachment {
    let (network, sandbox) = (network.clone(), container.sandbox.clone());
    host.run(async move {
        let options = EndpointOptions::default().with_ports(ports);
        network.attach(&"six".parse().unwrap(), &sandbox, &options).await.unwrap()
    })
}

fn udp() -> Vec<PortMapping> {
    vec![PortMapping::new(80).with_host_port(8080).with_protocol(Protocol::Udp)]
}

/// The connections that the host knows, without what changes.
fn connections(host: &Host) -> String {
    host.space.run(|| std::fs::read_to_string("/proc/thread-self/net/nf_conntrack").unwrap())
}

#[test]
fn a_client_of_udp_reaches_who_has_the_port() {
    let host = Host::new();
    let world = host.neighbour();
    let network = host.open();
    let opened = network.clone();
    host.run(async move {
        let options = engine_core::network::NetworkOptions::default().with_ipv6(true);
        opened.create(&"six".parse().unwrap(), &options).await.unwrap();
    });
    let [idle, one, two, three] = [(); 4].map(|()| Container::new());
    // From now on, the host tracks connections.
    attach(&host, &network, &idle, Vec::new());
    for (container, word) in [(&one, "one"), (&two, "two"), (&three, "three")] {
        serve(container, word);
    }
    // Others' connections: to a server of the host, and through the host to the same port elsewhere.
    let beyond = Space::new();
    host.space.ip(&format!("link add lan1 type veth peer name lan1 netns {}", beyond.path()));
    for (space, number) in [(&*host.space, 1), (&beyond, 2)] {
        space.ip(&format!("addr add 198.51.100.{number}/24 dev lan1"));
        space.ip("link set lan1 up");
    }
    beyond.ip("route add default via 198.51.100.1");
    beyond.echo("0.0.0.0:8080");
    host.space.echo("0.0.0.0:9000");
    let others = [client(&world, "198.51.100.2:8080"), client(&world, "192.0.2.1:9000")];
    others.iter().for_each(|other| assert_eq!(ask(other).unwrap(), "192.0.2.2"));

    // Nobody is there yet.
    let clients = [client(&world, "192.0.2.1:8080"), client(&world, "[2001:db8::1]:8080")];
    for client in &clients {
        client.send(b"?").unwrap();
        client.set_nonblocking(false).unwrap();
    }
    let all = |word: &str| clients.iter().for_each(|client| assert_eq!(ask(client).unwrap(), word));
    let held = attach(&host, &network, &one, udp());
    all("one");
    drop(held);
    let (opened, id) = (network.clone(), one.sandbox.id.clone());
    host.run(async move { opened.detach(&"six".parse().unwrap(), &id).await.unwrap() });
    let known = connections(&host);
    let ours = |line: &&str| line.contains("dst=192.0.2.1 ") && line.contains("dport=8080 ");
    assert_eq!(known.lines().find(ours), None);
    let held = attach(&host, &network, &two, udp());
    all("two");
    // Swept after its end instead, by another program.
    drop(held);
    let opened = host.open();
    host.run(async move {
        let info = opened.inspect(&"six".parse().unwrap()).await.unwrap().unwrap();
        let gone: Vec<_> = info.endpoints.into_iter().filter(|one| !one.ports.is_empty()).collect();
        assert_eq!(gone.len(), 1);
        opened.sweep(&gone).await.unwrap();
    });
    let _held = attach(&host, &network, &three, udp());
    all("three");
    let known = connections(&host);
    for other in ["dst=198.51.100.2 ", "dport=9000 "] {
        assert!(known.contains(other), "{other} is forgotten: {known}");
    }
}

#[test]
fn an_sctp_port_is_published_where_the_kernel_has_sctp() {
    let host = Host::new();
    let network = host.open();
    let opened = network.clone();
    host.run(async move {
        opened.create(&"six".parse().unwrap(), &Default::default()).await.unwrap();
    });
    let container = Container::new();
    let (opened, sandbox) = (network.clone(), container.sandbox.clone());
    let attached = host.run(async move {
        let port = PortMapping::new(80).with_host_port(8080).with_protocol(Protocol::Sctp);
        let options = EndpointOptions::default().with_ports([port]);
        opened.attach(&"six".parse().unwrap(), &sandbox, &options).await
    });
    let rules = host.space.command("nft", "list ruleset");
    let has_sctp = std::path::Path::new("/proc/net/sctp").exists();
    match attached {
        Ok(attachment) => {
            let address = attachment.endpoint.addresses[0];
            assert!(rules.contains(&format!("sctp . 8080 : {address} . 80")), "{rules}");
        }
        Err(error) => {
            assert!(!has_sctp, "{}", error.report());
            assert_eq!(error.kind(), engine_core::ErrorKind::Unsupported, "{}", error.report());
            assert!(!rules.contains("8080"), "{rules}");
        }
    }
}
