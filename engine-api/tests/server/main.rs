//! The API of an engine in this process: as the real `docker` command line uses it, and as bytes on a socket.
//!
//! Each test ends with the leak check.

#![expect(clippy::unwrap_used, reason = "the helpers of tests are tests")]

mod abuse;
mod create;
mod fuzz;
mod images;
mod inspect;
mod lifecycle;
mod lists;
mod memory;
mod networks;
mod policy;
mod random;
mod registry;
mod remote;
mod requests;
mod streams;
mod support;
mod system;
mod volumes;
