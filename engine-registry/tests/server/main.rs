//! The registry server, over real http on loopback: what the specification asks for, what hostile clients try, what real
//! clients do.

#![expect(clippy::unwrap_used, reason = "a test's helpers may fail as the test does")]

mod abuse;
#[cfg(feature = "object-store")]
mod buckets;
mod cache;
mod client;
mod clients;
mod discover;
mod kills;
mod large;
mod observe;
mod page;
mod pull;
mod push;
mod rules;
mod secure;
mod storages;
mod tokens;
mod upkeep;
