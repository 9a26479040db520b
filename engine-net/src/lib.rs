//! Networks for `engine-core`.
//!
//! [`LocalNetworks`] is the [`Network`](engine_core::Network) of this host, with Docker's drivers `bridge`, `macvlan` and
//! `ipvlan`: give it to [`EngineBuilder::network`](engine_core::EngineBuilder::network). [`parse_port`] reads Docker's notation of published
//! ports. The modes `none`, `host` and `container:ID` are the engine's own and need no network implementation.

mod conntrack;
mod local;
mod nft;

pub use engine_core::network::parse_port;
pub use local::{AddressPool, DEFAULT_NETWORK, LocalNetworks};
