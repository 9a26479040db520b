//! The Docker Engine API, served from an [`Engine`](engine_core::Engine).
//!
//! # Core concepts
//! - An [`ApiServer`] is an engine and what clients share: the processes they began by `exec`, and the end of the server.
//! - A [`Listener`] is where clients come from: a unix socket, TCP with certificates on both sides, or a socket that was
//!   opened by somebody else. One server may serve several.
//! - Every path is there with and without a version (`/v1.47/containers/json`); what a version shows differently is decided where it is
//!   shown, by [`ApiVersion`].
//!
//! A client has the host in its hand: who may open the socket may do what root may.

mod accept;
mod api;
mod body;
mod connection;
mod defaults;
mod error;
mod execs;
mod failures;
mod filters;
mod gone;
mod heads;
mod hijack;
mod host;
mod keeper;
mod left;
mod limits;
mod listen;
mod metrics;
mod native;
mod params;
mod pending;
mod progress;
mod prune;
mod pump;
mod raw;
mod registry_auth;
mod reply;
mod routes;
mod server_info;
mod starts;
#[expect(unsafe_code, reason = "rustix has no name for this ioctl")]
mod sys;
mod temp;
mod times;
mod tls;
mod unasked;
mod unread;
mod version;

pub use api::ApiServer;
pub use defaults::ContainerDefaults;
pub use limits::Limits;
pub use listen::Listener;
pub use server_info::ServerInfo;
pub use temp::TempServer;
pub use tls::MutualTls;
pub use version::ApiVersion;
