//! Ports of the host: sockets that are bound keep them from everybody else.
//!
//! Rules of the kernel lead to the container before any of them sees a client. Some do see those whom no rule can lead: of an
//! IP version that the container does not have, and at ::1, which has no way off the loopback interface. Those clients are
//! relayed.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;

use engine_core::network::{NetworkInfo, PortMapping, Protocol};
use engine_core::runtime::Kept;
use engine_core::{Error, ErrorKind, Result};
use rustix::net::{AddressFamily, SocketFlags, SocketType, ipproto, sockopt};

/// How often a port that the kernel chose for one protocol family is tried with the other.
const TRIES: usize = 64;
/// How many clients may wait for a relay.
const BACKLOG: i32 = 4096;

/// A published port with what holds it.
#[derive(Debug)]
pub(in crate::local) struct Reserved {
    pub(in crate::local) mapping: PortMapping,
    sockets: Vec<(IpAddr, OwnedFd)>,
    reach: Reach,
}

/// Which IP versions the containers of a network have.
#[derive(Clone, Copy, Debug)]
pub(in crate::local) struct Reach {
    v4: bool,
    v6: bool,
}

impl Reach {
    pub(in crate::local) fn of(network: &NetworkInfo) -> Self {
        let has = |v6| network.options.subnets.iter().any(|one| one.subnet.is_ipv6() == v6);
        Self { v4: has(false), v6: has(true) }
    }

    /// Whether clients at this address of the host must be relayed.
    fn relays(self, protocol: Protocol, host: IpAddr) -> bool {
        let direct = if host.is_ipv6() { self.v6 } else { self.v4 };
        let whole = !(host.is_ipv6() && (host.is_unspecified() || host.is_loopback()));
        protocol != Protocol::Sctp && (self.v4 || self.v6) && !(direct && whole)
    }
}

impl Reserved {
    /// What is to be kept for an endpoint with these addresses.
    pub(in crate::local) fn into_kept(self, addresses: &[IpAddr]) -> impl Iterator<Item = Kept> {
        let Self { mapping, sockets, reach } = self;
        sockets.into_iter().map(move |(host, socket)| {
            let kept = Kept::new(socket);
            let same = addresses.iter().find(|address| address.is_ipv6() == host.is_ipv6());
            match same.or(addresses.first()) {
                Some(address) if reach.relays(mapping.protocol, host) => {
                    kept.with_relay(SocketAddr::new(*address, mapping.container_port))
                }
                _ => kept,
            }
        })
    }
}

/// Reserves the port, on any number if it is 0. `default` is where a mapping without an address is published; everywhere
/// without it.
pub(in crate::local) fn reserve(
    mapping: &PortMapping,
    default: Option<IpAddr>,
    reach: Reach,
) -> Result<Reserved> {
    let mut mapping = mapping.clone();
    mapping.host_ip = mapping.host_ip.or(default);
    let tries = if mapping.host_port == 0 { TRIES } else { 1 };
    let mut last = None;
    for _ in 0..tries {
        match bind_all(&mapping, reach) {
            Ok((port, sockets)) => {
                mapping.host_port = port;
                return Ok(Reserved { mapping, sockets, reach });
            }
            Err(error) => last = Some(error),
        }
    }
    Err(refused(&mapping, last.unwrap_or_else(|| io::Error::from(io::ErrorKind::AddrInUse))))
}

/// Binds every address that the mapping means to one port.
fn bind_all(mapping: &PortMapping, reach: Reach) -> io::Result<(u16, Vec<(IpAddr, OwnedFd)>)> {
    let addresses = match mapping.host_ip {
        Some(address) => vec![address],
        None => vec![IpAddr::from(Ipv4Addr::UNSPECIFIED), IpAddr::from(Ipv6Addr::UNSPECIFIED)],
    };
    let (mut port, mut sockets) = (mapping.host_port, Vec::new());
    for address in addresses {
        let relays = reach.relays(mapping.protocol, address);
        match bind(mapping.protocol, SocketAddr::new(address, port), relays) {
            Ok((socket, bound)) => {
                port = bound;
                sockets.push((address, socket));
            }
            // No IPv6 on this host, or no SCTP: then nobody else has the port there, either.
            Err(rustix::io::Errno::AFNOSUPPORT | rustix::io::Errno::ADDRNOTAVAIL)
                if mapping.host_ip.is_none() && address.is_ipv6() => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok((port, sockets))
}

fn bind(protocol: Protocol, address: SocketAddr, relays: bool) -> rustix::io::Result<(OwnedFd, u16)> {
    let family = if address.is_ipv6() { AddressFamily::INET6 } else { AddressFamily::INET };
    let (kind, number) = match protocol {
        Protocol::Tcp => (SocketType::STREAM, ipproto::TCP),
        Protocol::Udp => (SocketType::DGRAM, ipproto::UDP),
        Protocol::Sctp => (SocketType::STREAM, ipproto::SCTP),
    };
    let socket = rustix::net::socket_with(family, kind, SocketFlags::CLOEXEC, Some(number))?;
    if address.is_ipv6() {
        sockopt::set_ipv6_v6only(&socket, true)?;
    }
    if relays && protocol == Protocol::Tcp {
        // Connections of an earlier relay may not be over for the kernel (tcp(7), TIME_WAIT). Who listens has the port alone
        // all the same.
        sockopt::set_socket_reuseaddr(&socket, true)?;
        rustix::net::bind(&socket, &address)?;
        rustix::net::listen(&socket, BACKLOG)?;
    } else {
        rustix::net::bind(&socket, &address)?;
    }
    let bound = SocketAddr::try_from(rustix::net::getsockname(&socket)?)?;
    Ok((socket, bound.port()))
}

fn refused(mapping: &PortMapping, error: io::Error) -> Error {
    let address = mapping.host_ip.map_or_else(|| "0.0.0.0".to_owned(), |address| address.to_string());
    let what = format!("{address}:{}/{}", mapping.host_port, mapping.protocol);
    let known = error.kind();
    let has_protocol = error.raw_os_error() != Some(rustix::io::Errno::PROTONOSUPPORT.raw_os_error());
    let failed = Error::from_io("publish port", error).with("port", &what);
    match known {
        _ if !has_protocol => failed
            .with_kind(ErrorKind::Unsupported)
            .with_message(format!("the kernel has no {}", mapping.protocol))
            .with_hint("load its module, for example modprobe sctp, or publish by tcp or udp"),
        io::ErrorKind::AddrInUse => {
            let holder =
                super::holder::of(mapping).map_or_else(String::new, |holder| format!(" by {holder}"));
            failed
                .with_kind(ErrorKind::Conflict)
                .with_message(format!(
                    "Bind for {address}:{} failed: port is already allocated{holder}",
                    mapping.host_port
                ))
                .with_hint("publish another port of the host, or stop what has it")
        }
        io::ErrorKind::PermissionDenied => failed
            .with_message("the port is privileged, and this program may not have it")
            .with_hint("publish a port above 1023, or see the sysctl net.ipv4.ip_unprivileged_port_start"),
        io::ErrorKind::AddrNotAvailable => failed
            .with_kind(ErrorKind::InvalidArgument)
            .with_message("the host has no such address")
            .with_hint("publish on an address of the host (ip address), or leave the address out"),
        _ => failed,
    }
}
