//! An engine elsewhere, as an engine.
//!
//! ```no_run
//! # async fn example() -> engine_core::Result<()> {
//! use engine_api::client::{ConnectOptions, RemoteEngine};
//! use engine_core::Engine;
//!
//! let host = "unix:///run/my-tool/docker.sock".parse()?;
//! let engine = Engine::from(RemoteEngine::connect(&host, ConnectOptions::default()).await?);
//! println!("{} containers", engine.containers().await?.len());
//! # Ok(())
//! # }
//! ```
//!
//! # Core concepts
//! - A [`RemoteEngine`] has the operations of an engine, carried to an [`ApiServer`](../server/index.html) by a protocol of our own, which
//!   loses nothing: results and errors are those of the engine there.
//! - A [`Host`] is where it listens. Who may connect may do there what root may.
//! - To drop a future, a stream or the streams of a process closes its connection, and there does what dropping it here would.
//! - Both outputs of a process come by one connection. Who asks for two reads both: one that is not read holds the other back as soon as a
//!   few hundred kB of it wait.

mod artifacts;
mod call;
mod connect;
mod descriptor;
mod dial;
mod flows;
mod frames;
mod host;
mod operations;
mod options;
mod remote;
mod scoped;
mod session;
mod ssh;
#[expect(unsafe_code, reason = "what a child does before it executes a program")]
mod sys;
mod tls;
mod transport;
mod upload;

pub use dial::relay;
pub use host::Host;
pub use options::{ClientTls, ConnectOptions};
pub use remote::RemoteEngine;
