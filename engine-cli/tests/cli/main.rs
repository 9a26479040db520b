//! The built binary, as a user runs it: against a root of its own, with real containers.
//!
//! Each test ends with the leak check.

#![expect(clippy::unwrap_used, reason = "the helpers of tests are tests")]

mod archives;
mod branches;
mod build;
mod cgroups;
mod contexts;
mod daemons;
mod devices;
mod errors;
mod events;
mod files;
mod flags;
mod health;
mod lifecycle;
mod lists;
mod logs;
mod networks;
mod observe;
mod registry;
mod registry_clients;
mod registry_private;
mod registry_server;
mod run;
mod secrets;
mod streams;
mod support;
mod terminal;
mod userns;
mod volumes;
