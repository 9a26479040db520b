//! Route netlink: asking the kernel about interfaces, addresses and routes, and changing them (rtnetlink(7)).
//!
//! This module owns the socket, the conversation over it and what the kernel's refusals mean as an [`Error`](crate::Error).
//! Which interfaces there ought to be is for its users to say: the runtime moves interfaces into containers, and a
//! [`Network`](crate::Network) makes them. Messages are those of [`packet`].
//!
//! Everything here blocks, for as long as the kernel works on it: call it beside the async workers.
//!
//! Invariant: an answer belongs to the message whose number it carries, so what a failed call left unread never answers
//! the next.
//!
//! ```no_run
//! use engine_core::linux::netlink::packet::RouteNetlinkMessage;
//! use engine_core::linux::netlink::packet::link::{LinkAttribute, LinkFlags, LinkMessage};
//! use engine_core::linux::netlink::{Route, flag};
//!
//! # fn main() -> engine_core::Result<()> {
//! let mut route = Route::open()?;
//! let mut up = LinkMessage::default();
//! up.header.index = route.link("eth0")?.header.index;
//! (up.header.flags, up.header.change_mask) = (LinkFlags::Up, LinkFlags::Up);
//! route.request(&RouteNetlinkMessage::SetLink(up), flag::NONE)?;
//! # Ok(())
//! # }
//! ```

mod answer;
mod describe;
mod links;
mod namespace;
mod route;
mod socket;
#[expect(unsafe_code, reason = "rustix has no options of netlink sockets")]
mod sys;
#[cfg(test)]
pub(in crate::linux) mod tests;

pub use answer::Refusal;
pub use links::{check_link_name, link_name};
pub use namespace::in_namespace;
pub use netlink_packet_route as packet;
pub use route::{BatchFailure, Route};
pub use socket::{Protocol, Socket};

/// What a request asks for beside what its message says, see netlink(7).
pub mod flag {
    /// Nothing: what the message names must be there.
    pub const NONE: u16 = 0;
    /// Makes it if it is not there.
    pub const CREATE: u16 = netlink_packet_core::NLM_F_CREATE;
    /// Fails if it is there.
    pub const EXCL: u16 = netlink_packet_core::NLM_F_EXCL;
    /// Replaces it if it is there.
    pub const REPLACE: u16 = netlink_packet_core::NLM_F_REPLACE;
    /// Adds it after those that are there.
    pub const APPEND: u16 = netlink_packet_core::NLM_F_APPEND;
}
