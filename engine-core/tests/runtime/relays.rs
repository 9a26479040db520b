//! Relays: clients of kept sockets are passed on by the shim's child.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use engine_core::runtime::Kept;
use engine_core::{ContainerId, Runtime as _};

use crate::support::{Bench, PATIENCE};

const ANY: (Ipv6Addr, u16) = (Ipv6Addr::LOCALHOST, 0);

/// Serves each connection by `serve`, until the first one that says so.
fn server(serve: impl Fn(TcpStream) -> bool + Send + 'static) -> (SocketAddr, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let thread = std::thread::spawn(move || while serve(listener.accept().unwrap().0) {});
    (address, thread)
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Keeps a socket for connections that are passed on to `target`.
async fn relay(bench: &Bench, id: &ContainerId, target: SocketAddr) -> SocketAddr {
    let listener = TcpListener::bind(ANY).unwrap();
    let address = listener.local_addr().unwrap();
    bench.runtime.keep(id, "ports", vec![Kept::new(listener).with_relay(target)]).await.unwrap();
    address
}

/// The processes beside the first one that the container's shim has.
fn relays_of(first: u32) -> Vec<i32> {
    let stat = std::fs::read_to_string(format!("/proc/{first}/stat")).unwrap();
    let shim: u32 = stat.rsplit(')').next().unwrap().split_whitespace().nth(1).unwrap().parse().unwrap();
    let children = std::fs::read_to_string(format!("/proc/{shim}/task/{shim}/children")).unwrap();
    children
        .split_whitespace()
        .filter_map(|pid| pid.parse().ok())
        .filter(|pid| *pid != first as i32)
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_are_passed_on() {
    let bench = Bench::new().await;
    let id = bench.start(&["sleep", "1000"], |_| ()).await;
    let first = bench.runtime.state(&id).await.unwrap().pid.unwrap();
    // Says back what it heard, once it has heard everything.
    let (target, thread) = server(|mut stream| {
        let mut heard = Vec::new();
        stream.read_to_end(&mut heard).unwrap();
        stream.write_all(&heard).unwrap();
        heard != b"end"
    });
    let address = relay(&bench, &id, target).await;
    assert_eq!(relays_of(first), [] as [i32; 0], "without clients nothing is there");
    let ask = move |text: Vec<u8>| {
        let mut stream = connect(address);
        stream.write_all(&text).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        assert!(answer == text, "{} of {} bytes", answer.len(), text.len());
    };
    let everything = move || {
        ask(b"something".to_vec());
        ask(Vec::new());
        // More than all the buffers on the way hold.
        ask((0..20_000_000_u32).map(|at| (at / 7) as u8).collect());
        let clients: Vec<TcpStream> = (0..100).map(|_| connect(address)).collect();
        for (mut client, number) in clients.into_iter().zip(0..) {
            client.write_all(&[number]).unwrap();
            client.shutdown(Shutdown::Write).unwrap();
            let mut answer = Vec::new();
            client.read_to_end(&mut answer).unwrap();
            assert_eq!(answer, [number]);
        }
    };
    tokio::task::spawn_blocking(everything).await.unwrap();
    // One that is killed is not the last.
    let [relay] = relays_of(first)[..] else { panic!("one relay") };
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(relay), nix::sys::signal::Signal::SIGKILL).unwrap();
    tokio::task::spawn_blocking(move || {
        ask(b"once more".to_vec());
        ask(b"end".to_vec());
        thread.join().unwrap();
        // Nobody listens there any more: a failure, and not an answer without anything.
        let mut stream = connect(address);
        let answer = stream.read(&mut [0]);
        assert_eq!(answer.unwrap_err().kind(), ErrorKind::ConnectionReset);
    })
    .await
    .unwrap();
    bench.runtime.keep(&id, "ports", Vec::new()).await.unwrap();
    assert_eq!(relays_of(first), [] as [i32; 0]);
    assert_eq!(TcpStream::connect(address).unwrap_err().kind(), ErrorKind::ConnectionRefused);
    bench.runtime.stop(&id, 9).await.unwrap();
    bench.runtime.wait(&id).await.unwrap();
    bench.runtime.delete(&id).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_ends_with_its_container() {
    let bench = Bench::new().await;
    let id = bench.start(&["sleep", "1000"], |_| ()).await;
    let (target, thread) = server(|mut stream| {
        stream.write_all(b"x").unwrap();
        // Until the client is gone.
        drop(stream.read(&mut [0]));
        false
    });
    let address = relay(&bench, &id, target).await;
    let mut client = tokio::task::spawn_blocking(move || {
        let mut stream = connect(address);
        stream.read_exact(&mut [0]).unwrap();
        stream
    })
    .await
    .unwrap();
    bench.runtime.stop(&id, 9).await.unwrap();
    bench.runtime.wait(&id).await.unwrap();
    // The connections are over, and the port is free.
    tokio::task::spawn_blocking(move || {
        assert!(!matches!(client.read(&mut [0]), Ok(1..)));
        thread.join().unwrap();
        let end = Instant::now() + PATIENCE;
        while TcpListener::bind(address).is_err() {
            assert!(Instant::now() < end);
            std::thread::sleep(Duration::from_millis(2));
        }
    })
    .await
    .unwrap();
    bench.runtime.delete(&id).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn datagrams_are_passed_on() {
    let bench = Bench::new().await;
    let id = bench.start(&["sleep", "1000"], |_| ()).await;
    let target = UdpSocket::bind("127.0.0.1:0").unwrap();
    let to = target.local_addr().unwrap();
    // On every address: an answer comes from the one that was asked.
    let socket = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0)).unwrap();
    let address = SocketAddr::from((Ipv6Addr::LOCALHOST, socket.local_addr().unwrap().port()));
    bench.runtime.keep(&id, "ports", vec![Kept::new(socket).with_relay(to)]).await.unwrap();
    tokio::task::spawn_blocking(move || {
        target.set_read_timeout(Some(PATIENCE)).unwrap();
        let clients: Vec<UdpSocket> = (0..10)
            .map(|_| {
                let client = UdpSocket::bind(ANY).unwrap();
                client.set_read_timeout(Some(PATIENCE)).unwrap();
                client.connect(address).unwrap();
                client
            })
            .collect();
        let long = vec![7; 40_000];
        for text in [&b"a"[..], b"", &long] {
            let mut bytes = vec![0; 65_536];
            let mut peers = std::collections::BTreeSet::new();
            for client in &clients {
                client.send(text).unwrap();
                let (length, peer) = target.recv_from(&mut bytes).unwrap();
                assert!(&bytes[..length] == text && peers.insert(peer));
                target.send_to(&bytes[..length], peer).unwrap();
                assert!(client.recv(&mut bytes).unwrap() == text.len() && bytes.starts_with(text));
            }
        }
    })
    .await
    .unwrap();
    bench.runtime.stop(&id, 9).await.unwrap();
    bench.runtime.wait(&id).await.unwrap();
    bench.runtime.delete(&id).await.unwrap();
}
