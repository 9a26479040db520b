//! Bytes, connections and names: servers and clients on threads in the namespaces of containers and of the host.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd as _;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use engine_core::linux::netlink::in_namespace;

use super::{Subject, print};

/// Ports of the server's two services: one that swallows, one that answers a byte with a byte.
const SINK: u16 = 7001;
const ECHO: u16 = 7002;
/// How long and how often each is measured.
const MOMENT: Duration = Duration::from_secs(1);
const TIMES: usize = 3;
const PATIENCE: Duration = Duration::from_secs(10);

/// The rows of the table, and the figures they are made of.
pub(super) const ROWS: [(&str, &str); 10] = [
    ("MB/s, container to container", "bytes container"),
    ("MB/s, host to the container's address", "bytes direct"),
    ("MB/s, host to a published port at 127.0.0.1", "bytes loopback"),
    ("MB/s, host to a published port at the bridge's address", "bytes bridge"),
    ("connections / s, container to container", "connections container"),
    ("connections / s, host to the container's address", "connections direct"),
    ("connections / s, host to a published port at 127.0.0.1", "connections loopback"),
    ("connections / s, host to a published port at the bridge's address", "connections bridge"),
    ("names / s, one question at a time", "names one"),
    ("names / s, 16 questions at a time", "names many"),
];

pub(super) fn measure(subject: &dyn Subject) -> Result<()> {
    let server = subject.start("server", &[SINK, ECHO])?;
    let client = subject.start("client", &[])?;
    serve(&server.namespace)?;
    let own = File::open("/proc/thread-self/ns/net")?;
    for (way, from, address) in [
        ("container", &client.namespace, server.address),
        ("direct", &own, server.address),
        ("loopback", &own, Ipv4Addr::LOCALHOST),
        ("bridge", &own, server.gateway),
    ] {
        for _ in 0..TIMES {
            let bytes = in_namespace(from.as_fd(), || throughput((address, SINK).into()));
            figure(&format!("bytes {way}"), bytes.map(|bytes| bytes / 1e6));
            figure(
                &format!("connections {way}"),
                in_namespace(from.as_fd(), || connections((address, ECHO).into())),
            );
        }
    }
    let resolver = subject.resolver(&client);
    for _ in 0..TIMES {
        for (key, window) in [("names one", 1), ("names many", 16)] {
            figure(key, in_namespace(client.namespace.as_fd(), || names(resolver, window, server.address)));
        }
    }
    subject.remove("client")?;
    subject.remove("server")
}

/// Prints a figure. An engine with which one way does not work is measured in all else.
fn figure(key: &str, figure: std::io::Result<f64>) {
    match figure {
        Ok(figure) => print(key, figure),
        Err(error) => print(key, format!("none ({})", error.kind())),
    }
}

/// Serves both services for as long as this process lives.
fn serve(namespace: &File) -> Result<()> {
    let bind = |port| TcpListener::bind((Ipv4Addr::UNSPECIFIED, port));
    let (sink, echo) = in_namespace(namespace.as_fd(), || Ok((bind(SINK)?, bind(ECHO)?)))?;
    thread::spawn(move || {
        let mut bytes = vec![0; 256 * 1024];
        while let Ok((mut stream, _)) = sink.accept() {
            while matches!(stream.read(&mut bytes), Ok(1..)) {}
            let _ = stream.write_all(b"!");
        }
    });
    thread::spawn(move || {
        while let Ok((mut stream, _)) = echo.accept() {
            let mut byte = [0];
            let _ = stream.read_exact(&mut byte).and_then(|()| stream.write_all(&byte));
        }
    });
    Ok(())
}

fn connect(address: SocketAddr) -> std::io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// Bytes per second of one connection, until all of them have arrived.
fn throughput(address: SocketAddr) -> std::io::Result<f64> {
    let mut stream = connect(address)?;
    let bytes = vec![0x55; 256 * 1024];
    let (begun, mut sent) = (Instant::now(), 0_usize);
    while begun.elapsed() < MOMENT {
        stream.write_all(&bytes)?;
        sent += bytes.len();
    }
    stream.shutdown(std::net::Shutdown::Write)?;
    stream.read_exact(&mut [0])?;
    Ok(sent as f64 / begun.elapsed().as_secs_f64())
}

/// Connections per second, each with a byte there and a byte back, one after another.
fn connections(address: SocketAddr) -> std::io::Result<f64> {
    let (begun, mut count) = (Instant::now(), 0_u32);
    while begun.elapsed() < MOMENT {
        let mut stream = connect(address)?;
        stream.write_all(b"?")?;
        stream.read_exact(&mut [0])?;
        // The port is free again at once: so many would else be used up.
        rustix::net::sockopt::set_socket_linger(&stream, Some(Duration::ZERO))?;
        count += 1;
    }
    Ok(f64::from(count) / begun.elapsed().as_secs_f64())
}

/// Answered questions per second, with so many on their way at any time.
fn names(resolver: SocketAddr, window: usize, expected: Ipv4Addr) -> std::io::Result<f64> {
    let socket = UdpSocket::bind((IpAddr::from(Ipv4Addr::UNSPECIFIED), 0))?;
    socket.connect(resolver)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    // A question for the address of "server" (RFC 1035).
    let question = b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x06server\x00\x00\x01\x00\x01";
    let mut answer = [0; 512];
    for _ in 0..window {
        socket.send(question)?;
    }
    let (begun, mut count) = (Instant::now(), 0_u32);
    while begun.elapsed() < MOMENT {
        let length = socket.recv(&mut answer)?;
        let right = || -> Result<()> {
            ensure!(answer[..length].windows(4).any(|octets| octets == expected.octets()), "a wrong answer");
            Ok(())
        };
        right().map_err(std::io::Error::other)?;
        socket.send(question)?;
        count += 1;
    }
    Ok(f64::from(count) / begun.elapsed().as_secs_f64())
}
