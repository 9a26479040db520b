//! The Docker Engine API over any engine.
//!
//! [`documents`] are what the API shows of things, as `docker inspect` does. With the feature `server`, [`server`] is the
//! whole API: a stock Docker client cannot tell it from Docker's daemon. With the feature `client`, [`client`] is an engine that such
//! a server serves, as an engine in this process.
//!
//! ```no_run
//! # #[cfg(feature = "server")]
//! # async fn example(engine: engine_core::Engine) -> engine_core::Result<()> {
//! use engine_api::server::{ApiServer, Listener};
//!
//! let listener = Listener::unix("/run/my-tool/docker.sock", 0o660, None)?;
//! ApiServer::new(engine).serve(listener).await?;
//! # Ok(())
//! # }
//! ```

#[cfg(feature = "client")]
pub mod client;
mod detach;
pub mod documents;
#[cfg(any(feature = "client", feature = "server"))]
mod keepalive;
pub mod listing;
pub mod notation;
#[cfg(any(feature = "client", feature = "server"))]
mod pem;
#[cfg(feature = "server")]
pub mod server;
#[cfg(any(feature = "client", feature = "server"))]
#[cfg_attr(
    not(all(feature = "client", feature = "server")),
    allow(dead_code, unused_imports, reason = "each side uses its half")
)]
mod wire;

pub use bollard_stubs::models;
pub use detach::DetachKeys;
pub use documents::*;
