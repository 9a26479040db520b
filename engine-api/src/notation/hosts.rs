//! Networks: `--expose` and `ExposedPorts`, `--add-host` and `ExtraHosts`, `--dns` and `Dns`.

use std::net::IpAddr;

use engine_core::container_spec::{ContainerSpec, HOST_GATEWAY};
use engine_core::network::{Protocol, parse_port};
use engine_core::{Error, ErrorKind, Result};

use super::wrong;

/// Reads a port that a container listens on, or a range of them: `80`, `8000-8080/udp`.
///
/// # Errors
/// For anything else.
pub fn exposed_ports(text: &str) -> Result<Vec<(u16, Protocol)>> {
    let wrong = |why: &str| wrong("range format for --expose", text, why);
    if text.contains(':') {
        return Err(wrong("an exposed port has no port of the host (see --publish)"));
    }
    let ports = parse_port(text).map_err(|_| wrong("give PORT[-PORT][/PROTOCOL]"))?;
    Ok(ports.into_iter().map(|port| (port.container_port, port.protocol)).collect())
}

/// Reads a line of `/etc/hosts`: `NAME:ADDRESS`.
///
/// # Errors
/// For anything else.
pub fn extra_host(text: &str) -> Result<(String, String)> {
    let wrong = || wrong("host", text, "give NAME:ADDRESS");
    // An IPv6 address has colons of its own, and may stand in brackets.
    let (name, address) = text.split_once('=').or_else(|| text.split_once(':')).ok_or_else(wrong)?;
    let address = address.trim_start_matches('[').trim_end_matches(']');
    if address == HOST_GATEWAY {
        return Ok((name.to_owned(), address.to_owned()));
    }
    let address: IpAddr = address.parse().map_err(|_| wrong())?;
    Ok((name.to_owned(), address.to_string()))
}

/// Reads the address of a name server.
///
/// # Errors
/// For anything else.
pub fn name_server(text: &str) -> Result<String> {
    let address: IpAddr = text.parse().map_err(|_| wrong("name server", text, "give an address"))?;
    Ok(address.to_string())
}

/// Refuses what a container that shares another's network has from that one: ports, names and addresses.
///
/// # Errors
/// In Docker's words.
pub fn check_shared_network(spec: &ContainerSpec) -> Result<()> {
    let taken = [
        (
            spec.publish_all_ports || !spec.ports.is_empty(),
            "port publishing and the container type network mode",
        ),
        (!spec.exposed_ports.is_empty(), "port exposing and the container type network mode"),
        (!spec.dns.is_empty(), "dns and the network mode"),
        (!spec.extra_hosts.is_empty(), "custom host-to-IP mapping and the network mode"),
    ];
    match taken.iter().find(|(is_asked, _)| *is_asked) {
        Some((_, what)) => {
            Err(Error::new(ErrorKind::InvalidArgument, "conflicting options").with_message(*what))
        }
        None => Ok(()),
    }
}
