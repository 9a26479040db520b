//! The driver bridge: a bridge of the host for each network, a pair of interfaces for each endpoint, published ports.

mod holder;
pub(super) mod links;
mod options;
pub(super) mod reserve;
pub(super) mod rules;

pub(super) use options::BridgeOptions;
