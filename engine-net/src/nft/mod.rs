//! nf_tables over netlink: what is wanted goes to the kernel in one transaction, all of it or none (nft(8)).
//!
//! This module owns the wire format and the transaction; which rules there are is for its users to say. The messages are
//! written here because no library that can be linked writes the expressions that are needed: address translation from
//! maps, connection tracking, routing lookups.

mod attributes;
mod expression;
mod object;
mod others;
mod transaction;

pub(crate) use attributes::Attributes;
pub(crate) use expression::{Direction, Expression, Register, Verdict, interface_name};
pub(crate) use object::{Chain, Element, Family, Hook, Kind, Set, Table, find};
pub(crate) use others::{FoundChain, Place, chains};
pub(crate) use transaction::{Nft, Transaction};
