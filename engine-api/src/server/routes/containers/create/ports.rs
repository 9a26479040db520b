//! Published ports: `PortBindings`.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, TcpListener, UdpSocket};

use engine_core::network::{PortMapping, Protocol};
use engine_core::{ContainerSpec, Engine};

use crate::models::{HostConfig, PortBinding};
use crate::notation;
use crate::server::error::{ApiError, Result};

use super::{bad, text};

const FIELD: &str = "HostConfig.PortBindings";

pub(super) async fn apply(spec: &mut ContainerSpec, engine: &Engine, host: &HostConfig) -> Result<()> {
    // In an order that is always the same.
    let bindings: BTreeMap<_, _> = host.port_bindings.iter().flatten().collect();
    for (port, bindings) in bindings {
        publish(spec, engine, port, bindings.as_deref().unwrap_or_default()).await?;
    }
    Ok(())
}

/// Publishes one port of the container, or exposes it if it is published nowhere.
async fn publish(
    spec: &mut ContainerSpec,
    engine: &Engine,
    port: &str,
    bindings: &[PortBinding],
) -> Result<()> {
    let ports = notation::exposed_ports(port).map_err(|error| bad(FIELD, error.report()))?;
    let [(number, protocol)] = ports[..] else {
        return Err(bad(FIELD, format!("{port:?} is more than one port")));
    };
    if bindings.is_empty() && !spec.exposed_ports.contains(&(number, protocol)) {
        spec.exposed_ports.push((number, protocol));
    }
    for binding in bindings {
        let mut mapping = PortMapping::new(number).with_protocol(protocol);
        if let Some(address) = text(binding.host_ip.as_ref()) {
            let bare = address.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(&address);
            let address: IpAddr = bare
                .parse()
                .map_err(|_| bad(FIELD, format!("invalid IP address {address:?} of port {port}")))?;
            mapping.host_ip = Some(address);
        }
        if let Some(wanted) = text(binding.host_port.as_ref()) {
            let (first, last) = range(&wanted).ok_or_else(|| wrong(port, &wanted))?;
            mapping.host_port = match first == last {
                true => first,
                false => free(spec, engine, &mapping, first, last).await?,
            };
        }
        spec.ports.push(mapping);
    }
    Ok(())
}

fn wrong(port: &str, wanted: &str) -> ApiError {
    bad(
        FIELD,
        format!("invalid port specification: {wanted:?} of port {port}: give a port or a range of them"),
    )
}

fn range(text: &str) -> Option<(u16, u16)> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?;
    let (first, last) = (number(first)?, number(last)?);
    (first <= last).then_some((first, last))
}

/// Finds a port of the host in a range: one that nothing listens at and no other container is to have. Docker chooses at each
/// start; here it is chosen once, at the creation.
async fn free(
    spec: &ContainerSpec,
    engine: &Engine,
    mapping: &PortMapping,
    first: u16,
    last: u16,
) -> Result<u16> {
    let others = engine.containers().await?;
    let taken: Vec<(u16, Protocol)> = others
        .iter()
        .flat_map(|info| &info.spec.ports)
        .chain(&spec.ports)
        .map(|port| (port.host_port, port.protocol))
        .collect();
    let address = (mapping.host_ip.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED)), mapping.protocol);
    let is_free = |port: &u16| {
        !taken.contains(&(*port, mapping.protocol))
            && match address {
                (address, Protocol::Tcp) => TcpListener::bind((address, *port)).is_ok(),
                (address, Protocol::Udp) => UdpSocket::bind((address, *port)).is_ok(),
                // The standard library has none, and hardly anybody else.
                (_, Protocol::Sctp) => true,
            }
    };
    (first..=last).find(is_free).ok_or_else(|| {
        ApiError::conflict(format!("all ports of {first}-{last}/{} are allocated", mapping.protocol))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_of_the_host_are_one_or_a_range() {
        assert_eq!(range("80"), Some((80, 80)));
        assert_eq!(range("8000-8010"), Some((8000, 8010)));
        for wrong in ["", "-", "80-", "+80", "90-80", "99999", "x"] {
            assert_eq!(range(wrong), None, "{wrong}");
        }
    }
}
