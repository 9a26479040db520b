//! An embeddable container engine for Linux: link it, open a directory, run containers. No daemon.
//!
//! ```no_run
//! use engine_core::{ContainerSpec, Engine, Reference};
//! use engine_core::engine::PullOptions;
//!
//! # async fn example(registry: impl engine_core::RegistryClient) -> engine_core::Result<()> {
//! // Everything lies beneath this directory; `registry` is for instance engine_registry::OciRegistry.
//! let engine = Engine::builder("/var/lib/my-tool").registry(registry).open().await?;
//! let image: Reference = "registry.example/app:1.0".parse()?;
//! engine.pull(&image, PullOptions::default()).await?;
//!
//! let spec = ContainerSpec::command(["/app", "--once"]).with_memory_limit(64 << 20);
//! let container = engine.create_scoped(&image.to_string(), spec).await?;
//! println!("exited with {}", container.run().await?);
//! # Ok(())
//! # }
//! ```
//!
//! # Core concepts
//!
//! An [`Engine`] is a directory and five parts. A [`Container`] that it creates is *detached*: it outlives the
//! program, and the next program that opens the directory finds it, its log and its exit status. A
//! [`ScopedContainer`] ends with its handle and with the program, however that ends.
//!
//! Long operations ([`engine::Operation`]) are streams of progress with a result; dropping one cancels it and leaves
//! nothing half made. Errors ([`Error`]) have a kind to branch on and say what was wrong with which thing, why, and
//! what to do.
//!
//! The crate is a guest in your process: it prints nothing, reads no environment variable, installs no signal handler,
//! keeps no global state and forks nothing. Several engines in one program, and several programs over one
//! directory, do not disturb each other.
//!
//! # Replacing parts
//!
//! Five traits are the joints of the engine; each has a contract in its documentation, an in-memory
//! implementation in `memory` and a conformance suite in `testing` (feature `testing`):
//!
//! | trait | owns | default |
//! | --- | --- | --- |
//! | [`ImageStore`] | blobs, names, unpacked layers; describes root file systems as [`Mount`]s | files and overlayfs |
//! | [`Runtime`] | processes in containers | namespaces and cgroups, through a small helper per container |
//! | [`Network`] | networks, endpoints, published ports | none: the modes `none`, `host`, `container:ID` |
//! | [`VolumeDriver`] | named storage that outlives containers | directories |
//! | [`RegistryClient`] | content in registries | none; the crate `engine-registry` has one |
//! | [`UrlFetcher`] | files behind URLs, for builds | none; `engine-registry` has one |
//!
//! # Features
//!
//! - `linux` (default): the embedded defaults. Without it, an engine needs parts of yours.
//! - `testing`: the conformance suites.

pub mod cgroups;
pub mod container_spec;
pub mod database;
#[cfg_attr(
    not(feature = "linux"),
    allow(
        dead_code,
        unused_imports,
        reason = "the embedded store reads more of an archive than a load does"
    )
)]
mod decode;
pub mod descriptor;
pub mod digest;
pub mod dockerfile;
pub mod engine;
pub mod error;
pub mod events;
pub mod exact;
pub mod files;
pub mod health;
pub mod id;
pub mod image_changes;
pub mod image_config;
pub mod image_store;
pub mod io;
pub mod launch;
mod limit;
#[cfg(feature = "linux")]
pub mod linux;
pub mod logs;
pub mod manifest;
pub mod memory;
pub mod mount;
pub mod network;
mod pieces;
pub mod platform;
pub mod policy;
pub mod reference;
pub mod registry_client;
pub mod resources;
pub mod restart;
pub mod runtime;
pub mod secret;
pub mod signal;
pub mod state;
pub mod stats;
#[cfg_attr(
    not(feature = "linux"),
    allow(
        dead_code,
        unused_imports,
        reason = "the embedded store reads more of an archive than a load does"
    )
)]
mod tar;
#[cfg(feature = "testing")]
pub mod testing;
pub mod time;
pub mod top;
pub mod url_fetcher;
pub mod volume_driver;

pub use container_spec::ContainerSpec;
pub use descriptor::{Descriptor, media_type};
pub use digest::Digest;
pub use engine::{Container, ContainerInfo, Engine, EngineBuilder, ScopedContainer};
pub use error::{Error, ErrorKind, Result};
pub use events::Event;
pub use health::{Health, HealthCheck, HealthStatus};
pub use id::{ContainerId, ExecId, Name, SecretId, SnapshotId};
pub use image_config::ImageConfig;
pub use image_store::ImageStore;
pub use launch::{ExecSpec, LaunchSpec};
pub use limit::DEFAULT_MAX_BYTES;
pub use manifest::Manifest;
pub use mount::Mount;
pub use network::Network;
pub use platform::Platform;
pub use reference::Reference;
pub use registry_client::RegistryClient;
pub use resources::Resources;
pub use restart::RestartPolicy;
pub use runtime::Runtime;
pub use state::{ContainerStatus, ExitStatus};
pub use url_fetcher::UrlFetcher;
pub use volume_driver::VolumeDriver;

pub use oci_spec;
