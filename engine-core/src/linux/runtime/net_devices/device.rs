//! One interface on its way between two network namespaces.
//!
//! The kernel keeps what the interface itself has (hardware address, MTU, queues) and drops what refers to it: its state,
//! addresses, the bridge it is a port of, routes. What is to be on the other side is put there again; routes are not.

use std::os::fd::{AsRawFd as _, BorrowedFd};

use crate::error::{Error, ErrorKind, Result};
use crate::linux::netlink::packet::RouteNetlinkMessage;
use crate::linux::netlink::packet::address::{
    AddressAttribute, AddressFlags, AddressHeaderFlags, AddressMessage, AddressScope,
};
use crate::linux::netlink::packet::link::{LinkAttribute, LinkFlags, LinkMessage};
use crate::linux::netlink::{Route, flag, link_name};

/// An interface as it was where it came from.
#[derive(Debug)]
pub(super) struct Device {
    name: String,
    index: u32,
    up: bool,
    /// The bridge or bond it was a port of.
    controller: Option<u32>,
    addresses: Vec<AddressMessage>,
    /// Its number where it is.
    inside: u32,
    /// Its name there.
    inside_name: String,
}

impl Device {
    /// Reads an interface as it is.
    pub(super) fn read(route: &mut Route, name: &str) -> Result<Self> {
        let link = route.link(name)?;
        let controller = link.attributes.iter().find_map(|attribute| match attribute {
            LinkAttribute::Controller(index) => Some(*index),
            _ => None,
        });
        let name = link_name(&link).unwrap_or(name).to_owned();
        Ok(Self {
            inside_name: name.clone(),
            name,
            index: link.header.index,
            up: link.header.flags.contains(LinkFlags::Up),
            controller: controller.filter(|index| *index != 0),
            addresses: route.addresses(link.header.index)?,
            inside: 0,
        })
    }

    /// Moves it from the namespace `home` into another, where it is called `name`. On failure it is where it was, as it was.
    pub(super) fn enter(
        mut self,
        host: &mut Route,
        inside: &mut Route,
        (home, namespace): (BorrowedFd<'_>, BorrowedFd<'_>),
        name: &str,
    ) -> Result<Self> {
        self.inside = free_index(inside, self.index)?;
        let moved = transfer(host, self.index, namespace, self.inside, name).and_then(|()| {
            let link = by_index(inside, self.inside)?;
            Ok(link_name(&link).unwrap_or(name).to_owned())
        });
        match moved {
            Ok(name) => {
                self.inside_name = name;
                Ok(self)
            }
            Err(mut error) => {
                // The kernel moves first: a name that somebody took a moment ago is refused to an interface that has moved.
                if by_index(host, self.index).is_err()
                    && by_index(inside, self.inside).is_ok()
                    && let Err(later) = self.leave(inside, host, home)
                {
                    error.suppress(later);
                }
                Err(error)
            }
        }
    }

    /// Brings it up where it has been moved to, with the addresses that the specification wants kept: permanent ones of
    /// global scope.
    pub(super) fn set_up(&self, inside: &mut Route) -> Result<()> {
        let kept = self.addresses.iter().filter(|address| {
            address.header.scope == AddressScope::Universe && flags(address).contains(AddressFlags::Permanent)
        });
        let mut batch = vec![(RouteNetlinkMessage::SetLink(up(self.inside)), flag::NONE)];
        batch.extend(kept.map(|address| {
            let address = self.again(address, self.inside, &self.inside_name);
            (RouteNetlinkMessage::NewAddress(address), flag::CREATE | flag::REPLACE)
        }));
        Ok(inside.batch(&batch)?)
    }

    /// Moves it back, and makes it what it was.
    pub(super) fn leave(&self, inside: &mut Route, host: &mut Route, home: BorrowedFd<'_>) -> Result<()> {
        let index = free_index(host, self.index)?;
        transfer(inside, self.inside, home, index, &self.name)?;
        let mut batch = Vec::new();
        if let Some(controller) = self.controller {
            let mut port = LinkMessage::default();
            port.header.index = index;
            port.attributes.push(LinkAttribute::Controller(controller));
            batch.push((RouteNetlinkMessage::SetLink(port), flag::NONE));
        }
        if self.up {
            batch.push((RouteNetlinkMessage::SetLink(up(index)), flag::NONE));
        }
        batch.extend(self.addresses.iter().map(|address| {
            let address = self.again(address, index, &self.name);
            (RouteNetlinkMessage::NewAddress(address), flag::CREATE | flag::REPLACE)
        }));
        Ok(host.batch(&batch)?)
    }

    /// An address as it was, for the interface of another number and name.
    fn again(&self, old: &AddressMessage, index: u32, name: &str) -> AddressMessage {
        let old_flags = flags(old);
        let mut kept = old_flags
            & (AddressFlags::Nodad
                | AddressFlags::Homeaddress
                | AddressFlags::Managetempaddr
                | AddressFlags::Noprefixroute
                | AddressFlags::Mcautojoin);
        if !old_flags.intersects(AddressFlags::Tentative | AddressFlags::Dadfailed) {
            // It was found to be nobody else's on this very interface, and the program may use it at once.
            kept |= AddressFlags::Nodad;
        }
        let mut address = old.clone();
        address.header.index = index;
        address.header.flags = AddressHeaderFlags::empty();
        address.attributes.retain_mut(|attribute| match attribute {
            AddressAttribute::Flags(_) => false,
            AddressAttribute::Label(label) => match label.strip_prefix(&self.name) {
                // A label is the name of the interface, and more of it after a colon (ip-address(8)).
                Some(rest) if name.len() + rest.len() < 16 => {
                    *label = format!("{name}{rest}");
                    true
                }
                _ => false,
            },
            _ => true,
        });
        address.attributes.push(AddressAttribute::Flags(kept));
        address
    }
}

fn flags(address: &AddressMessage) -> AddressFlags {
    let long = address.attributes.iter().find_map(|attribute| match attribute {
        AddressAttribute::Flags(flags) => Some(*flags),
        _ => None,
    });
    long.unwrap_or_else(|| AddressFlags::from_bits_retain(address.header.flags.bits().into()))
}

fn up(index: u32) -> LinkMessage {
    let mut link = LinkMessage::default();
    link.header.index = index;
    (link.header.flags, link.header.change_mask) = (LinkFlags::Up, LinkFlags::Up);
    link
}

fn by_index(route: &mut Route, index: u32) -> Result<LinkMessage> {
    let mut link = LinkMessage::default();
    link.header.index = index;
    match route.get(&RouteNetlinkMessage::GetLink(link))? {
        RouteNetlinkMessage::NewLink(link) => Ok(link),
        _ => Err(Error::new(ErrorKind::Corrupt, "find interface").with("interface", index)),
    }
}

/// `wanted`, or a number that no interface has. So the interface is found on the other side, whatever its name is there.
fn free_index(route: &mut Route, wanted: u32) -> Result<u32> {
    let taken: Vec<u32> = route.links()?.iter().map(|link| link.header.index).collect();
    if taken.contains(&wanted) {
        return Ok(taken.iter().max().map_or(1, |last| last.saturating_add(1)));
    }
    Ok(wanted)
}

/// Moves an interface and names it, in one step.
fn transfer(route: &mut Route, index: u32, to: BorrowedFd<'_>, number: u32, name: &str) -> Result<()> {
    let mut link = LinkMessage::default();
    link.header.index = index;
    link.attributes.extend([
        LinkAttribute::NetNsFd(to.as_raw_fd()),
        LinkAttribute::NewIfIndex(i32::try_from(number).unwrap_or_default()),
        LinkAttribute::IfName(name.to_owned()),
    ]);
    route.request(&RouteNetlinkMessage::SetLink(link), flag::NONE)
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::fd::AsFd as _;

    use engine_testkit::require;

    use super::*;
    use crate::linux::netlink::tests::{NEW, alone, names, veth};

    /// The kernel moves an interface before it refuses the name. A name is taken between our look and the move.
    #[test]
    fn an_interface_that_has_moved_when_its_name_is_refused_comes_back() {
        require!(root, network_namespaces);
        let namespace = alone(|| {
            Route::open().unwrap().request(&veth("taken", "other"), NEW).unwrap();
            File::open("/proc/thread-self/ns/net").unwrap()
        });
        alone(|| {
            let home = File::open("/proc/thread-self/ns/net").unwrap();
            let (mut host, mut inside) = (Route::open().unwrap(), Route::open_in(namespace.as_fd()).unwrap());
            host.request(&veth("one", "two"), NEW).unwrap();
            let before = host.link("one").unwrap().header;
            let device = Device::read(&mut host, "one").unwrap();
            let way = (home.as_fd(), namespace.as_fd());
            let error = device.enter(&mut host, &mut inside, way, "taken").unwrap_err();
            assert_eq!(error.kind(), ErrorKind::AlreadyExists, "{error:?}");
            assert!(error.suppressed().is_empty(), "{error:?}");
            assert_eq!(names(&mut host), ["lo", "one", "two"]);
            assert_eq!(names(&mut inside), ["lo", "other", "taken"]);
            assert_eq!(host.link("one").unwrap().header, before);
            // Another name is fine, and so is a number that is taken there.
            let device = Device::read(&mut host, "one").unwrap();
            let device = device.enter(&mut host, &mut inside, way, "free").unwrap();
            device.set_up(&mut inside).unwrap();
            assert_eq!(names(&mut inside), ["free", "lo", "other", "taken"]);
            device.leave(&mut inside, &mut host, home.as_fd()).unwrap();
            assert_eq!(host.link("one").unwrap().header, before);
        });
    }
}
