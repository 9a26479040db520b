//! Hosts and containers made of network namespaces, and what they say to each other.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use engine_core::ContainerId;
use engine_core::linux::netlink::in_namespace;
use engine_core::runtime::Sandbox;
use engine_net::LocalNetworks;
use nix::sched::{CloneFlags, setns, unshare};

/// Long enough on a loaded machine for what is to come, and what is not to come is waited for this long.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);
pub(crate) const MOMENT: Duration = Duration::from_millis(400);

/// A network namespace that lives as long as this.
#[derive(Debug)]
pub(crate) struct Space(File);

impl Space {
    /// Makes one, with its loopback interface up.
    pub(crate) fn new() -> Self {
        let made = std::thread::spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).expect("make a network namespace");
            File::open("/proc/thread-self/ns/net").expect("open it")
        });
        let space = Self(made.join().unwrap());
        space.ip("link set lo up");
        space
    }

    pub(crate) fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }

    pub(crate) fn path(&self) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), self.0.as_raw_fd())
    }

    /// Does something in it.
    pub(crate) fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        in_namespace(self.as_fd(), || Ok(work())).unwrap()
    }

    /// Runs a program in it and returns what it prints.
    pub(crate) fn command(&self, program: &str, arguments: &str) -> String {
        let output = self.run(|| Command::new(program).args(arguments.split_whitespace()).output().unwrap());
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        assert!(output.status.success(), "{program} {arguments}: {}", text(&output.stderr));
        text(&output.stdout)
    }

    pub(crate) fn ip(&self, arguments: &str) -> String {
        self.command("ip", arguments)
    }

    /// Answers each connection, or datagram, to `port` with the address that it comes from, until the test ends.
    pub(crate) fn echo(&self, address: &str) {
        let address: SocketAddr = address.parse().unwrap();
        let (tcp, udp) =
            self.run(|| (TcpListener::bind(address).unwrap(), UdpSocket::bind(address).unwrap()));
        std::thread::spawn(move || {
            while let Ok((mut stream, peer)) = tcp.accept() {
                let _ = stream.write_all(peer.ip().to_string().as_bytes());
            }
        });
        std::thread::spawn(move || {
            let mut bytes = [0; 16];
            while let Ok((_, peer)) = udp.recv_from(&mut bytes) {
                let _ = udp.send_to(peer.ip().to_string().as_bytes(), peer);
            }
        });
    }

    /// What `echo` there answers over TCP.
    pub(crate) fn ask(&self, address: &str) -> io::Result<String> {
        self.ask_for(address, PATIENCE)
    }

    /// Whether nothing answers there.
    pub(crate) fn is_refused(&self, address: &str) -> bool {
        self.ask_for(address, MOMENT).is_err()
    }

    fn ask_for(&self, address: &str, patience: Duration) -> io::Result<String> {
        let address: SocketAddr = address.parse().unwrap();
        self.run(|| {
            let mut stream = TcpStream::connect_timeout(&address, patience)?;
            stream.set_read_timeout(Some(patience))?;
            let mut text = String::new();
            stream.read_to_string(&mut text)?;
            Ok(text)
        })
    }

    /// What `echo` there answers over UDP.
    pub(crate) fn ask_udp(&self, address: &str) -> io::Result<String> {
        let address: SocketAddr = address.parse().unwrap();
        let any: IpAddr =
            if address.is_ipv6() { "::".parse().unwrap() } else { Ipv4Addr::UNSPECIFIED.into() };
        self.run(|| {
            let socket = UdpSocket::bind((any, 0))?;
            socket.set_read_timeout(Some(PATIENCE))?;
            socket.connect(address)?;
            socket.send(b"?")?;
            let mut bytes = [0; 64];
            let length = socket.recv(&mut bytes)?;
            Ok(String::from_utf8_lossy(&bytes[..length]).into_owned())
        })
    }
}

/// A host with an engine's networks.
pub(crate) struct Host {
    pub(crate) space: Arc<Space>,
    pub(crate) dir: tempfile::TempDir,
    runtime: tokio::runtime::Runtime,
}

impl Host {
    pub(crate) fn new() -> Self {
        let space = Arc::new(Space::new());
        let dir = tempfile::Builder::new().prefix("engine-net-").tempdir().unwrap();
        let entered = Arc::clone(&space);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            // All that the engine does here, it does in this host.
            .on_thread_start(move || setns(entered.as_fd(), CloneFlags::CLONE_NEWNET).unwrap())
            .enable_all()
            .build()
            .unwrap();
        Self { space, dir, runtime }
    }

    /// Runs a test to its end in this host.
    pub(crate) fn run<T: Send + 'static>(&self, work: impl Future<Output = T> + Send + 'static) -> T {
        self.runtime.block_on(self.runtime.spawn(work)).unwrap()
    }

    pub(crate) fn open(&self) -> LocalNetworks {
        let (root, run_root) = (self.dir.path().join("root"), self.dir.path().join("run"));
        LocalNetworks::new(root, run_root)
    }

    /// Connects another host to this one: 192.0.2.1 here, 192.0.2.2 there, which has a way to everything by this one.
    pub(crate) fn neighbour(&self) -> Space {
        let other = Space::new();
        self.space.ip(&format!("link add lan0 type veth peer name lan0 netns {}", other.path()));
        for (space, host) in [(&*self.space, 1), (&other, 2)] {
            space.ip(&format!("addr add 192.0.2.{host}/24 dev lan0"));
            space.ip(&format!("addr add 2001:db8::{host}/64 dev lan0 nodad"));
            space.ip("link set lan0 up");
        }
        other.ip("route add default via 192.0.2.1");
        other.ip("-6 route add default via 2001:db8::1");
        other
    }

    /// What an engine left in this host: interfaces, rules.
    pub(crate) fn left(&self) -> String {
        let links = self.space.ip("-o link show");
        let names = links.lines().filter_map(|line| line.split(": ").nth(1));
        let links: Vec<_> =
            names.filter(|name| !matches!(*name, "lo") && !name.starts_with("lan0@")).collect();
        links.join("\n") + &self.space.command("nft", "list ruleset")
    }
}

/// A container: its namespace, and how the engine sees it.
pub(crate) struct Container {
    pub(crate) space: Space,
    pub(crate) sandbox: Sandbox,
}

impl Container {
    pub(crate) fn new() -> Self {
        let space = Space::new();
        let path = space.path();
        Self { space, sandbox: Sandbox::new(ContainerId::random(), std::process::id(), Some(path.into())) }
    }
}
