//! The daemon as a process of its own, with clients of Docker's API that nobody changed: the `docker` command line, docker-py,
//! Compose.
//!
//! Each daemon is in a network namespace of its own, which is a host without a network but its own bridges.

#![expect(clippy::unwrap_used, reason = "the helpers of tests are tests")]

mod build;
mod compose;
mod docker;
mod dockerd;
mod fixtures;
mod oracle;
mod orchestrator;
mod process;
mod support;
