//! Networks for `engine-core`.
//!
//! Today this crate holds what is known about published ports: [`parse_port`] reads Docker's notation. Bridges,
//! addresses and names come on top. Without them the engine has the modes `none`, `host` and `container:ID`, which need
//! no network implementation.

mod ports;

pub use ports::parse_port;
