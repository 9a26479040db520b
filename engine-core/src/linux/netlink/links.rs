//! Looking up interfaces and their addresses.

use super::packet::RouteNetlinkMessage;
use super::packet::address::AddressMessage;
use super::packet::link::{LinkAttribute, LinkMessage};
use super::route::Route;
use crate::error::{Error, ErrorKind, Result};

/// Longest name of an interface, in bytes: IFNAMSIZ without its final zero.
const LONGEST_NAME: usize = 15;

/// The name of the interface that `link` describes.
#[must_use]
pub fn link_name(link: &LinkMessage) -> Option<&str> {
    link.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::IfName(name) => Some(name.as_str()),
        _ => None,
    })
}

/// Checks that an interface can have this name, as the kernel does.
///
/// # Errors
/// [`InvalidArgument`](ErrorKind::InvalidArgument), with the reason.
pub fn check_link_name(name: &str) -> Result<()> {
    let wrong = if name.is_empty() {
        "an interface needs a name"
    } else if name.len() > LONGEST_NAME {
        "the name of an interface has at most 15 bytes"
    } else if matches!(name, "." | "..") {
        "an interface cannot have this name"
    } else if name.bytes().any(|byte| matches!(byte, b'/' | b':' | 0 | 0x0b) || byte.is_ascii_whitespace()) {
        "the name of an interface has no slash, colon or white space"
    } else {
        return Ok(());
    };
    let error = Error::new(ErrorKind::InvalidArgument, "check interface name");
    Err(error.with("name", name).with_message(wrong))
}

impl Route {
    /// Looks an interface up by its name, or by one of its alternative names.
    ///
    /// # Errors
    /// [`NotFound`](ErrorKind::NotFound) if there is none; as [`check_link_name`] for what is no name.
    pub fn link(&mut self, name: &str) -> Result<LinkMessage> {
        check_link_name(name)?;
        let mut wanted = LinkMessage::default();
        wanted.attributes.push(LinkAttribute::IfName(name.to_owned()));
        let found = self.get(&RouteNetlinkMessage::GetLink(wanted)).map_err(|error| match error.kind() {
            ErrorKind::NotFound => error.with_message("there is no such interface"),
            _ => error,
        })?;
        match found {
            RouteNetlinkMessage::NewLink(link) => Ok(link),
            _ => Err(Error::new(ErrorKind::Corrupt, "find interface")
                .with("interface", name)
                .with_message("the kernel answers with something else")),
        }
    }

    /// Lists the interfaces.
    ///
    /// # Errors
    /// As [`dump`](Self::dump).
    pub fn links(&mut self) -> Result<Vec<LinkMessage>> {
        let all = self.dump(&RouteNetlinkMessage::GetLink(LinkMessage::default()))?;
        let links = all.into_iter().filter_map(|message| match message {
            RouteNetlinkMessage::NewLink(link) => Some(link),
            _ => None,
        });
        Ok(links.collect())
    }

    /// Lists the addresses of the interface with this index.
    ///
    /// # Errors
    /// As [`dump`](Self::dump); [`NotFound`](ErrorKind::NotFound) if there is no such interface.
    pub fn addresses(&mut self, index: u32) -> Result<Vec<AddressMessage>> {
        let mut wanted = AddressMessage::default();
        wanted.header.index = index;
        let all = self.dump(&RouteNetlinkMessage::GetAddress(wanted))?;
        let addresses = all.into_iter().filter_map(|message| match message {
            RouteNetlinkMessage::NewAddress(address) => Some(address),
            _ => None,
        });
        Ok(addresses.collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked_as_the_kernel_does() {
        for good in ["eth0", "a", "br-1234567890ab", "eth%d", "wlan0.7", "ö"] {
            check_link_name(good).unwrap();
        }
        for bad in ["", ".", "..", "0123456789abcdef", "a/b", "a:b", "a b", "a\tb", "a\u{b}b", "a\0b"] {
            let error = check_link_name(bad).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{bad:?}");
        }
    }
}
