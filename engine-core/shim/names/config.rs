//! What a container's resolver goes by: which zones, and who is asked for the rest.
//!
//! Lines of `KEY VALUE`, written by `engine_core::network::names`. Pure: engine-core compiles this file too (by `#[path]`),
//! for its tests. A line that says nothing is passed over.

use core::net::SocketAddr;

/// Largest file.
pub const MAX_CONFIG: usize = 16 * 1024;

/// A configuration in its file's form.
#[derive(Clone, Copy, Debug)]
pub struct Config<'a>(pub &'a [u8]);

impl<'a> Config<'a> {
    fn all(self, key: &'static [u8]) -> impl Iterator<Item = &'a [u8]> {
        self.0.split(|&byte| byte == b'\n').filter_map(move |line| line.strip_prefix(key)?.strip_prefix(b" "))
    }

    /// The zones in the order in which they are searched: the network's name, and the path of the file.
    pub fn zones(self) -> impl Iterator<Item = (&'a [u8], &'a [u8])> {
        self.all(b"zone").filter_map(|value| {
            let at = value.iter().position(|&byte| byte == b' ')?;
            Some((&value[..at], &value[at + 1..]))
        })
    }

    /// The names in the zone of `network` that `alias` stands for.
    pub fn targets<'b>(
        self,
        network: &'b [u8],
        alias: &'b [u8],
    ) -> impl Iterator<Item = &'a [u8]> + use<'a, 'b> {
        self.all(b"alias").filter_map(move |value| {
            let mut words = value.splitn(3, |&byte| byte == b' ');
            let is = words.next()? == network && words.next()?.eq_ignore_ascii_case(alias);
            words.next().filter(|_| is)
        })
    }

    /// Who is asked for names that no zone has, in this order.
    pub fn upstreams(self) -> impl Iterator<Item = SocketAddr> {
        self.all(b"upstream").filter_map(|value| core::str::from_utf8(value).ok()?.parse().ok())
    }

    fn is(self, key: &'static [u8]) -> bool {
        self.all(key).next() == Some(b"1")
    }

    /// Whether anybody else is asked at all.
    pub fn forwards(self) -> bool {
        self.is(b"forward")
    }

    /// Whether that goes for names of a single label as well.
    pub fn forwards_single_labels(self) -> bool {
        self.is(b"forward-single-labels")
    }
}
