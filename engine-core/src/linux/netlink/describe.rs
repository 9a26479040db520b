//! What a message is about, in the words of an error.

use std::net::IpAddr;

use super::packet::RouteNetlinkMessage;
use super::packet::address::{AddressAttribute, AddressMessage};
use super::packet::link::LinkMessage;
use super::packet::route::{RouteAddress, RouteAttribute, RouteMessage};
use super::{flag, links};

/// An operation and its subject.
pub(super) fn describe(
    message: &RouteNetlinkMessage,
    flags: u16,
) -> (&'static str, Option<(&'static str, String)>) {
    use RouteNetlinkMessage as M;
    let makes = flags & flag::CREATE != 0;
    match message {
        M::NewLink(link) if makes => ("add interface", subject(link)),
        M::NewLink(link) | M::SetLink(link) => ("change interface", subject(link)),
        M::DelLink(link) => ("remove interface", subject(link)),
        M::GetLink(link) => ("find interface", subject(link)),
        M::NewAddress(address) => ("add address", Some(("address", of_address(address)))),
        M::DelAddress(address) => ("remove address", Some(("address", of_address(address)))),
        M::GetAddress(_) => ("list addresses", None),
        M::NewRoute(route) => ("add route", Some(("route", of_route(route)))),
        M::DelRoute(route) => ("remove route", Some(("route", of_route(route)))),
        M::GetRoute(_) => ("list routes", None),
        M::NewNeighbour(_) => ("add neighbour", None),
        M::DelNeighbour(_) => ("remove neighbour", None),
        M::NewRule(_) => ("add routing rule", None),
        M::DelRule(_) => ("remove routing rule", None),
        _ => ("configure network", None),
    }
}

fn subject(link: &LinkMessage) -> Option<(&'static str, String)> {
    // An index names the interface; a name beside it is the one it is to get.
    match (link.header.index, links::link_name(link)) {
        (0, Some(name)) => Some(("interface", name.to_owned())),
        (0, None) => None,
        (index, _) => Some(("interface", index.to_string())),
    }
}

fn of_address(message: &AddressMessage) -> String {
    let address = message.attributes.iter().find_map(|attribute| match attribute {
        AddressAttribute::Local(address) | AddressAttribute::Address(address) => Some(*address),
        _ => None,
    });
    match address {
        Some(address) => format!("{address}/{}", message.header.prefix_len),
        None => "none".to_owned(),
    }
}

fn of_route(message: &RouteMessage) -> String {
    let destination = message.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Destination(RouteAddress::Inet(address)) => Some(IpAddr::from(*address)),
        RouteAttribute::Destination(RouteAddress::Inet6(address)) => Some(IpAddr::from(*address)),
        _ => None,
    });
    match destination {
        Some(address) => format!("{address}/{}", message.header.destination_prefix_length),
        None => "default".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::linux::netlink::packet::link::LinkAttribute;

    #[test]
    fn an_error_names_what_the_message_is_about() {
        let mut link = LinkMessage::default();
        assert_eq!(describe(&RouteNetlinkMessage::GetLink(link.clone()), 0), ("find interface", None));
        link.attributes.push(LinkAttribute::IfName("eth0".to_owned()));
        let named = Some(("interface", "eth0".to_owned()));
        let message = RouteNetlinkMessage::NewLink(link.clone());
        assert_eq!(describe(&message, flag::CREATE), ("add interface", named));
        link.header.index = 7;
        let numbered = Some(("interface", "7".to_owned()));
        assert_eq!(describe(&RouteNetlinkMessage::SetLink(link), 0), ("change interface", numbered));
        let mut address = AddressMessage::default();
        address.header.prefix_len = 24;
        address.attributes.push(AddressAttribute::Local([10, 0, 0, 1].into()));
        let message = RouteNetlinkMessage::NewAddress(address);
        assert_eq!(describe(&message, 0), ("add address", Some(("address", "10.0.0.1/24".to_owned()))));
        let message = RouteNetlinkMessage::NewRoute(RouteMessage::default());
        assert_eq!(describe(&message, 0), ("add route", Some(("route", "default".to_owned()))));
    }
}
