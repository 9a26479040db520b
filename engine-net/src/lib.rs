//! Networks for `engine-core`.
//!
//! [`BridgeNetwork`] is the [`Network`](engine_core::Network) of Docker's driver `bridge`: give it to
//! [`EngineBuilder::network`](engine_core::EngineBuilder::network). [`parse_port`] reads Docker's notation of published
//! ports. The modes `none`, `host` and `container:ID` are the engine's own and need no network implementation.

mod bridge;
mod nft;
mod ports;

pub use bridge::{BridgeNetwork, DEFAULT_NETWORK};
pub use ports::parse_port;
