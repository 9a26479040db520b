//! Docker's flags of `run`, `create` and `exec`, and the [`ContainerSpec`](engine_core::ContainerSpec) they mean.
//!
//! Only translation: what a value means is the library's business, and so are the checks that an orchestrator
//! would want as well.

pub(crate) mod container;
pub(crate) mod env;
pub(crate) mod filter;
pub(crate) mod health;
mod later;
pub(crate) mod list;
pub(crate) mod mounts;
pub(crate) mod network;
pub(crate) mod resources;
pub(crate) mod secrets;
pub(crate) mod security;

pub(crate) use later::Later;
