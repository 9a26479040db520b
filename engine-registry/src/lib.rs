//! Pulls from and pushes to registries: [`OciRegistry`], the [`RegistryClient`](engine_core::registry_client::RegistryClient)
//! of the engine.
//!
//! ```no_run
//! use engine_core::registry_client::RegistryClient as _;
//! use engine_registry::OciRegistry;
//!
//! # async fn example() -> engine_core::error::Result<()> {
//! let registry = OciRegistry::builder()
//!     .with_docker_config("/root/.docker/config.json")
//!     .with_mirror("docker.io", "https://mirror.example")
//!     .build()?;
//! let image = registry.resolve(&"alpine:3".parse()?).await?;
//! println!("{} has {} bytes", image.digest, image.size);
//! # Ok(())
//! # }
//! ```
//!
//! # What comes from where
//! The protocol's types (error envelopes and codes, tokens, tag lists) are `oci-distribution`'s, connections are
//! `reqwest`'s, TLS is `rustls` with a configuration of our own. Requests are made here and not by `oci-distribution`'s client,
//! which follows redirects and realms wherever they lead, reads manifests without a limit, and neither resumes nor retries.
//!
//! # Core concepts
//! - A *registry* is what a reference names; an *endpoint* is where it, or a mirror of it, answers.
//! - Credentials belong to an *origin* (scheme, host, port). No redirect, upload location or token server takes them elsewhere.
//! - Plain http is for loopback registries, and for those that the program lists.
//!
//! [`OciRegistry`] also fetches files behind URLs for builds ([`UrlFetcher`](engine_core::UrlFetcher)), with the same proxy, authorities
//! and timeouts, and without any registry's credentials.
//!
//! With the feature `server`, `server::RegistryServer` is a registry of one's own.

mod auth;
mod blob_stream;
mod builder;
mod challenge;
mod client;
mod credentials;
mod docker_config;
mod endpoint;
mod fault;
mod fetch;
mod helper;
mod manifests;
mod origin;
mod push;
mod referrers;
mod retry;
mod secret;
#[cfg(feature = "server")]
pub mod server;
mod session;
mod tls;
mod transport;

pub use builder::RegistryBuilder;
pub use client::OciRegistry;
pub use docker_config::DockerConfig;
pub use retry::RetryPolicy;
pub use secret::Secret;
pub use transport::Timeouts;
