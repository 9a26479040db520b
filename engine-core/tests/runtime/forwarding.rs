//! What a container's resolver asks others: when, whom, and what becomes of their answers (SECURITY E11).

use engine_core::Runtime as _;
use engine_core::network::names::ResolverConfig;

use crate::dns::{NO_ERROR, NO_SUCH_NAME, SERVER_FAILURE, Server, question, receive_name};
use crate::support::Bench;

const A: u16 = 1;
const FIRST: [u8; 4] = [192, 0, 2, 1];
const SECOND: [u8; 4] = [192, 0, 2, 2];

/// A configuration with one name, and these servers.
fn asking(bench: &Bench, servers: &[&Server]) -> ResolverConfig {
    let mut config = bench.resolver(&[("web", &["10.0.0.1"])]);
    config.forward = true;
    config.upstreams = servers.iter().map(|server| server.address).collect();
    config
}

#[tokio::test]
async fn servers_on_the_hosts_loopback_are_asked() {
    let bench = Bench::new().await;
    let server = Server::new(FIRST);
    let (id, inside) = bench.start_with_names(asking(&bench, &[&server])).await;
    let right = (NO_ERROR, vec!["192.0.2.1".to_owned()]);
    assert_eq!(inside.udp("some.example", A), right);
    assert_eq!(inside.tcp("some.example", A), right);
    assert_eq!(server.questions(), (1, 1));
    // Several on one connection, and one of ours between them.
    let mut connection = inside.connect();
    connection.send(&["a.example", "web", "b.example", "gone"], A);
    assert_eq!(connection.receive(), right);
    assert_eq!(connection.receive().1, ["10.0.0.1"]);
    assert_eq!(connection.receive(), right);
    assert_eq!(connection.receive(), (NO_SUCH_NAME, vec![]));
    assert_eq!(server.questions(), (1, 3));
    // A cut answer is passed on, and asked for once more by connection.
    assert_eq!(inside.udp_cut("cut.example", A), (true, vec![]));
    assert_eq!(inside.tcp("cut.example", A), right);
    // What is not the answer to our question is none.
    assert_eq!(inside.udp("forged.example", A), right);
    assert_eq!(inside.udp("fail.example", A).0, SERVER_FAILURE);
    assert_eq!(inside.tcp("fail.example", A).0, SERVER_FAILURE);
    assert_eq!(inside.tcp("half.example", A).0, SERVER_FAILURE);
    assert_eq!(inside.udp("half.example", A), right);
    bench.runtime.delete(&id).await.unwrap();
}

#[tokio::test]
async fn e11_nothing_leaves_an_internal_network() {
    let bench = Bench::new().await;
    let server = Server::new(FIRST);
    let mut config = asking(&bench, &[&server]);
    config.forward = false;
    let (id, inside) = bench.start_with_names(config.clone()).await;
    for name in ["some.example", "gone.net", "com", "9.0.0.10.in-addr.arpa"] {
        for kind in [A, 28, 12, 15, 255] {
            assert_ne!(inside.udp(name, kind).0, NO_ERROR, "{name} {kind}");
            assert_ne!(inside.tcp(name, kind).0, NO_ERROR, "{name} {kind}");
        }
    }
    assert_eq!(inside.udp("web", 15), (NO_ERROR, vec![]));
    assert_eq!(server.questions(), (0, 0));
    // On others, names that could be containers' do not.
    config.forward = true;
    bench.runtime.set_resolver(&id, &config).await.unwrap();
    assert_eq!(inside.udp("gone", A), (NO_SUCH_NAME, vec![]));
    assert_eq!(inside.udp("web", 28), (NO_ERROR, vec![]));
    assert_eq!(server.questions(), (0, 0));
    config.forward_single_labels = true;
    bench.runtime.set_resolver(&id, &config).await.unwrap();
    assert_eq!(inside.udp("gone", A).1, ["192.0.2.1"]);
    assert_eq!(server.questions(), (1, 0));
    bench.runtime.delete(&id).await.unwrap();
}

#[tokio::test]
async fn the_next_server_is_asked_when_one_fails() {
    let bench = Bench::new().await;
    let (first, second) = (Server::new(FIRST), Server::new(SECOND));
    let mut config = asking(&bench, &[&first, &second]);
    let (id, inside) = bench.start_with_names(config.clone()).await;
    assert_eq!(inside.udp("some.example", A).1, ["192.0.2.1"]);
    assert_eq!(inside.udp("fail.example", A).0, SERVER_FAILURE);
    assert_eq!(inside.tcp("fail.example", A).0, SERVER_FAILURE);
    assert_eq!((first.questions(), second.questions()), ((2, 1), (1, 1)));
    // Nobody is at the first address, and the second one says nothing.
    let silent = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let listens = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let nobody = std::net::UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let silent_addresses = [silent.local_addr().unwrap(), listens.local_addr().unwrap()];
    config.upstreams = [&[nobody][..], &silent_addresses, &[second.address]].concat();
    bench.runtime.set_resolver(&id, &config).await.unwrap();
    assert_eq!(inside.udp("some.example", A).1, ["192.0.2.2"]);
    assert_eq!(inside.tcp("some.example", A).1, ["192.0.2.2"]);
    config.upstreams = vec![nobody];
    bench.runtime.set_resolver(&id, &config).await.unwrap();
    assert_eq!(inside.udp("some.example", A).0, SERVER_FAILURE);
    assert_eq!(inside.tcp("some.example", A).0, SERVER_FAILURE);
    bench.runtime.delete(&id).await.unwrap();
}

#[tokio::test]
async fn e11_a_slow_server_holds_up_nobody_else() {
    let bench = Bench::new().await;
    let server = Server::new(FIRST);
    let (id, inside) = bench.start_with_names(asking(&bench, &[&server])).await;
    let slow = inside.socket();
    let mut stuck = inside.connect();
    for _ in 0..20 {
        slow.send(&question("slow.example", A)).unwrap();
    }
    stuck.send(&["slow.example", "web"], A);
    assert_eq!(inside.udp("web", A).1, ["10.0.0.1"]);
    assert_eq!(inside.udp("some.example", A).1, ["192.0.2.1"]);
    assert_eq!(inside.tcp("some.example", A).1, ["192.0.2.1"]);
    // More than can be under way are refused at once, and what is not asked elsewhere is none of them.
    for _ in 0..60 {
        slow.send(&question("slower.slow.example", A)).unwrap();
        slow.send(&question("slow.more.example", A)).unwrap();
    }
    slow.send(&question("web", A)).unwrap();
    let seen: Vec<(String, u8)> =
        std::iter::repeat_with(|| receive_name(&slow)).take_while(|(name, _)| name != "web").collect();
    let refused = seen.iter().filter(|(_, code)| *code == SERVER_FAILURE).count();
    assert!(refused >= 16, "{refused} of 80 questions were refused");
    // And all that were under way end in time.
    for _ in 0..140 - seen.len() {
        receive_name(&slow);
    }
    assert_eq!(stuck.receive().0, SERVER_FAILURE);
    assert_eq!(stuck.receive().1, ["10.0.0.1"]);
    assert_eq!(inside.udp("some.example", A).1, ["192.0.2.1"]);
    bench.runtime.delete(&id).await.unwrap();
}
