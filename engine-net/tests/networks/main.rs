//! Networks of a host with real traffic, each test in a host of its own: a network namespace.

#![expect(clippy::unwrap_used, reason = "a test's helpers may fail as the test does")]

mod beside;
mod contract;
mod docker;
mod flows;
mod isolation;
mod kills;
mod ports;
mod repair;
mod support;
mod traffic;
mod vlan;
