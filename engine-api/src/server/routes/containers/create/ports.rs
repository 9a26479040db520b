//! Published ports: `PortBindings`.

use std::collections::{BTreeMap, HashSet};
use std::net::{IpAddr, Ipv4Addr, TcpListener, UdpSocket};

use engine_core::network::{PortMapping, Protocol};
use engine_core::{ContainerSpec, Engine};
use tokio::task::spawn_blocking;

use crate::models::{ContainerCreateBody, HostConfig, PortBinding};
use crate::notation;
use crate::server::error::{ApiError, Result};

use super::{bad, text};

const FIELD: &str = "HostConfig.PortBindings";
/// Most ports that are looked at for one container, and most of those that are tried with a socket.
const LOOKS: usize = 2_000_000;
const TRIES: usize = 100_000;

/// A port that is to be published at any of a range.
#[derive(Clone, Copy, Debug)]
struct Choice {
    /// Which of the spec's ports it is.
    index: usize,
    first: u16,
    last: u16,
}

/// Whether a port of the host is to be chosen.
pub(super) fn are_chosen(body: &ContainerCreateBody) -> bool {
    let bindings = body.host_config.iter().flat_map(|host| host.port_bindings.iter().flatten());
    bindings
        .flat_map(|(_, bindings)| bindings.iter().flatten())
        .any(|binding| binding.host_port.as_ref().is_some_and(|port| port.contains('-')))
}

pub(super) async fn apply(spec: &mut ContainerSpec, engine: &Engine, host: &HostConfig) -> Result<()> {
    // In an order that is always the same.
    let bindings: BTreeMap<_, _> = host.port_bindings.iter().flatten().collect();
    let mut choices = Vec::new();
    for (port, bindings) in bindings {
        publish(spec, &mut choices, port, bindings.as_deref().unwrap_or_default())?;
    }
    if choices.is_empty() {
        return Ok(());
    }
    let others = engine.containers().await?;
    let taken = others
        .iter()
        .flat_map(|info| &info.spec.ports)
        .chain(&spec.ports)
        .map(|port| (port.host_port, port.protocol))
        .collect();
    let ports = std::mem::take(&mut spec.ports);
    // Each try is a socket.
    spec.ports = spawn_blocking(move || choose(ports, &choices, taken))
        .await
        .map_err(|error| ApiError::conflict(format!("no port was chosen: {error}")))??;
    Ok(())
}

/// Publishes one port of the container, or exposes it if it is published nowhere.
fn publish(
    spec: &mut ContainerSpec,
    choices: &mut Vec<Choice>,
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
            match first == last {
                true => mapping.host_port = first,
                false => choices.push(Choice { index: spec.ports.len(), first, last }),
            }
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

/// Finds a port of the host for each that is to be chosen: one that nothing listens at and no other container is to have. Docker
/// chooses at each start; here it is chosen once, at the creation.
fn choose(
    mut ports: Vec<PortMapping>,
    choices: &[Choice],
    mut taken: HashSet<(u16, Protocol)>,
) -> Result<Vec<PortMapping>> {
    let (mut looks, mut tries) = (0, 0);
    for &Choice { index, first, last } in choices {
        let mapping = &mut ports[index];
        let address = mapping.host_ip.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        let protocol = mapping.protocol;
        let is_free = |port: &u16| {
            looks += 1;
            if looks <= LOOKS && taken.contains(&(*port, protocol)) {
                return false;
            }
            tries += 1;
            looks > LOOKS
                || tries > TRIES
                || match protocol {
                    Protocol::Tcp => TcpListener::bind((address, *port)).is_ok(),
                    Protocol::Udp => UdpSocket::bind((address, *port)).is_ok(),
                    // The standard library has none, and hardly anybody else.
                    Protocol::Sctp => true,
                }
        };
        // Port 0 is none that can be asked for.
        let found = (first.max(1)..=last).find(is_free);
        if looks > LOOKS || tries > TRIES {
            return Err(bad(FIELD, "too many ports were tried in its ranges: give fewer, or smaller ones"));
        }
        mapping.host_port = found.ok_or_else(|| {
            ApiError::conflict(format!("all ports of {first}-{last}/{protocol} are allocated"))
        })?;
        taken.insert((mapping.host_port, protocol));
    }
    Ok(ports)
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

    #[test]
    fn e7_ports_that_are_chosen_differ_and_are_not_looked_for_without_end() {
        let local = |last: u16, count: usize| {
            let mapping = |_| {
                let mut mapping = PortMapping::new(80);
                mapping.host_ip = Some(IpAddr::V4(Ipv4Addr::LOCALHOST));
                mapping
            };
            let ports: Vec<_> = (0..count).map(mapping).collect();
            let choices: Vec<_> = (0..count).map(|index| Choice { index, first: 30_000, last }).collect();
            choose(ports, &choices, HashSet::from([(30_000, Protocol::Tcp)]))
        };
        let chosen = local(30_100, 3).unwrap();
        let numbers: HashSet<u16> = chosen.iter().map(|port| port.host_port).collect();
        assert!(numbers.len() == 3 && !numbers.contains(&30_000), "{numbers:?}");
        assert_eq!(local(30_001, 3).unwrap_err().status.as_u16(), 409);
        // None of these can be had: the first of the two takes most of what may be tried.
        let foreign = |_| {
            let mut mapping = PortMapping::new(80);
            mapping.host_ip = Some(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)));
            mapping
        };
        let choices: Vec<_> = (0..2).map(|index| Choice { index, first: 1, last: u16::MAX }).collect();
        let refused = choose((0..2).map(foreign).collect(), &choices, HashSet::new()).unwrap_err();
        assert_eq!(refused.status.as_u16(), 409);
        let sctp = |count: usize| {
            let choices: Vec<_> =
                (0..count).map(|index| Choice { index, first: 1, last: u16::MAX }).collect();
            let mapping = |_| PortMapping::new(80).with_protocol(Protocol::Sctp);
            choose((0..count).map(mapping).collect(), &choices, HashSet::new())
        };
        assert!(sctp(1000).is_ok());
        assert_eq!(sctp(60_000).unwrap_err().status.as_u16(), 400);
    }
}
