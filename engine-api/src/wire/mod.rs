//! The engine's own protocol, as both sides see it.
//!
//! Docker's API shows what Docker's documents have room for. This one carries the operations of
//! [`ContainerEngine`](engine_core::engine::ContainerEngine) as they are: `POST /engine/v1/{operation}`, the arguments as a line of
//! JSON, and behind it, for operations that take bytes, those. An answer is a document, a sequence of [frames](frame), or a connection
//! that is taken over, which has frames in both directions. A failure is an [`ErrorDocument`](engine_core::error::ErrorDocument).

pub(crate) mod build;
pub(crate) mod frame;
mod item;
pub(crate) mod secret;

pub(crate) use item::{
    AttachWanted, Began, Hello, Path, SentFile, Start, log_entry, log_entry_of, parsed, text,
};

/// What the header [`PROTOCOL`] of a server's answers says.
pub(crate) const VERSION: &str = "1";
/// Tells that a server speaks this protocol, and which version of it.
pub(crate) const PROTOCOL: &str = "engine-protocol";
/// Before the name of an operation.
pub(crate) const PATH: &str = "/engine/v1/";
/// The type of requests and answers. A page of the web cannot send it without being asked first (SECURITY E6).
pub(crate) const MEDIA_TYPE: &str = "application/vnd.engine.v1";
/// What a connection is taken over for.
pub(crate) const UPGRADE: &str = "engine-streams";
