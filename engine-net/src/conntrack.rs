//! Connections that the kernel tracks (ctnetlink): those of a published port are forgotten when it comes or goes.
//!
//! A packet of UDP belongs to a known connection as long as its client goes on sending, and where that leads was decided with
//! the first one. So a client that has once sent to a port would never reach who has the port now. What has an end of its own,
//! as TCP, is left alone.
//!
//! Invariant: what is deleted was looked at before, and is named by its addresses, its zone and its id. So nobody else's goes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use engine_core::{ErrorKind, Result};
use netlink_packet_core::NlasIterator;

use crate::nft::{Attributes, Nft, find};

/// NFNL_SUBSYS_CTNETLINK with IPCTNL_MSG_CT_GET and IPCTNL_MSG_CT_DELETE.
const GET: u16 = 1 << 8 | 1;
const DELETE: u16 = 1 << 8 | 2;
// Attributes of a connection, see linux/netfilter/nfnetlink_conntrack.h.
const ORIGINAL: u16 = 1;
const REPLY: u16 = 2;
const ID: u16 = 12;
const ZONE: u16 = 18;
const FILTER: u16 = 25;
/// Of what is filtered, the number of the protocol and the destination's port.
const BY_PROTOCOL: u32 = 1 << 3;
const BY_PORT: u32 = 1 << 5;
/// More ports than this are looked for in one pass over everything of UDP.
const FEW: usize = 4;
const UDP: u8 = 17;

/// A tracked connection of UDP, by the packets that its client sends and by those that answer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Flow {
    /// Where the client sends to.
    pub(crate) to: (IpAddr, u16),
    /// Where it is answered from: elsewhere, if the destination was translated.
    pub(crate) answered_by: (IpAddr, u16),
}

impl Flow {
    fn of(connection: &[u8]) -> Option<Self> {
        let to = Tuple::of(find(connection, ORIGINAL)?)?;
        let back = Tuple::of(find(connection, REPLY)?)?;
        (to.protocol == UDP).then_some(Self { to: to.destination, answered_by: back.source })
    }
}

#[derive(Debug)]
struct Tuple {
    protocol: u8,
    source: (IpAddr, u16),
    destination: (IpAddr, u16),
}

impl Tuple {
    fn of(attributes: &[u8]) -> Option<Self> {
        let (addresses, protocol) = (find(attributes, 1)?, find(attributes, 2)?);
        let address = |v4: u16, v6: u16| {
            let four = find(addresses, v4).and_then(|bytes| <[u8; 4]>::try_from(bytes).ok());
            let six = find(addresses, v6).and_then(|bytes| <[u8; 16]>::try_from(bytes).ok());
            four.map(|octets| IpAddr::from(Ipv4Addr::from(octets)))
                .or_else(|| six.map(|octets| IpAddr::from(Ipv6Addr::from(octets))))
        };
        let port = |kind: u16| find(protocol, kind)?.first_chunk().map(|bytes| u16::from_be_bytes(*bytes));
        Some(Self {
            protocol: *find(protocol, 1)?.first()?,
            source: (address(1, 3)?, port(2)?),
            destination: (address(2, 4)?, port(3)?),
        })
    }
}

/// What to ask for: everything of UDP, or to one port.
fn question(port: Option<u16>) -> Attributes {
    let mut protocol = Attributes::new().bytes(1, &[UDP]);
    let mut flags = BY_PROTOCOL;
    if let Some(port) = port {
        protocol = protocol.bytes(3, &port.to_be_bytes());
        flags |= BY_PORT;
    }
    // Unlike what is on the wire, the flags are in the host's order.
    let filter = Attributes::new().bytes(1, &flags.to_ne_bytes());
    Attributes::new().nested(ORIGINAL, &Attributes::new().nested(2, &protocol)).nested(FILTER, &filter)
}

/// Forgets the connections of UDP to these ports that `is_stale` says are to be forgotten. Returns how many they were.
pub(crate) fn forget(
    nft: &mut Nft,
    v6: bool,
    ports: &[u16],
    is_stale: impl Fn(&Flow) -> bool,
) -> Result<usize> {
    let questions: Vec<_> = match ports {
        few if few.len() <= FEW => few.iter().map(|port| question(Some(*port))).collect(),
        _ => vec![question(None)],
    };
    let family = if v6 { 10 } else { 2 };
    let mut stale = Vec::new();
    for question in questions {
        nft.dump_each(GET, family, &question, |message| {
            let Some(connection) = message.get(4..) else { return };
            let flow = Flow::of(connection);
            if flow.is_some_and(|flow| ports.contains(&flow.to.1) && is_stale(&flow)) {
                stale.push(names(connection));
            }
        })?;
    }
    let mut forgotten = 0;
    for connection in stale {
        match nft.request(DELETE, family, &connection) {
            Ok(()) => forgotten += 1,
            // It ended by itself.
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(forgotten)
}

/// What names a connection, of all that the kernel tells of it.
fn names(connection: &[u8]) -> Attributes {
    let mut names = Attributes::new();
    for attribute in NlasIterator::new(connection).flatten() {
        names = match attribute.kind() {
            ORIGINAL => names.bytes(ORIGINAL | 1 << 15, attribute.value()),
            kind @ (ID | ZONE) => names.bytes(kind, attribute.value()),
            _ => names,
        };
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tuple(source: ([u8; 4], u16), destination: ([u8; 4], u16), protocol: u8) -> Attributes {
        let addresses = Attributes::new().bytes(1, &source.0).bytes(2, &destination.0);
        let ports = Attributes::new()
            .bytes(1, &[protocol])
            .bytes(2, &source.1.to_be_bytes())
            .bytes(3, &destination.1.to_be_bytes());
        Attributes::new().nested(1, &addresses).nested(2, &ports)
    }

    #[test]
    fn a_connection_is_read_and_named() {
        let to = tuple(([192, 0, 2, 2], 4000), ([192, 0, 2, 1], 53), UDP);
        let back = tuple(([10, 0, 0, 2], 5353), ([192, 0, 2, 2], 4000), UDP);
        let connection =
            Attributes::new().nested(ORIGINAL, &to).nested(REPLY, &back).number(3, 8).number(ID, 77);
        let flow = Flow::of(connection.as_bytes()).unwrap();
        assert_eq!(flow.to, ("192.0.2.1".parse().unwrap(), 53));
        assert_eq!(flow.answered_by, ("10.0.0.2".parse().unwrap(), 5353));
        let named = Attributes::new().nested(ORIGINAL, &to).number(ID, 77);
        assert_eq!(names(connection.as_bytes()).as_bytes(), named.as_bytes());
        let tcp = tuple(([192, 0, 2, 2], 4000), ([192, 0, 2, 1], 53), 6);
        assert_eq!(Flow::of(Attributes::new().nested(ORIGINAL, &tcp).nested(REPLY, &back).as_bytes()), None);
        for end in 0..connection.as_bytes().len() {
            let _ = Flow::of(&connection.as_bytes()[..end]);
        }
    }
}
