//! An embeddable container engine for Linux.
//!
//! # Core concepts
//!
//! Five traits are the joints of the engine; each has a contract in its documentation, an in-memory
//! implementation in [`memory`] and a conformance suite in [`testing`] (feature `testing`):
//!
//! | trait | owns |
//! | --- | --- |
//! | [`ImageStore`] | blobs, names, unpacked layers; describes root file systems as [`Mount`]s |
//! | [`Runtime`] | processes in containers |
//! | [`Network`] | networks, endpoints, published ports |
//! | [`VolumeDriver`] | named storage that outlives containers |
//! | [`RegistryClient`] | content in registries |

pub mod container_spec;
pub mod database;
pub mod descriptor;
pub mod digest;
pub mod engine;
pub mod error;
pub mod id;
pub mod image_config;
pub mod image_store;
pub mod io;
pub mod launch;
#[cfg(feature = "linux")]
pub mod linux;
pub mod logs;
pub mod manifest;
pub mod mount;
pub mod network;
pub mod platform;
pub mod policy;
pub mod reference;
pub mod registry_client;
pub mod resources;
pub mod runtime;
pub mod signal;
pub mod state;
pub mod time;
pub mod volume_driver;

pub use container_spec::ContainerSpec;
pub use descriptor::{Descriptor, media_type};
pub use digest::Digest;
pub use engine::{Container, ContainerInfo, Engine, EngineBuilder, ScopedContainer};
pub use error::{Error, ErrorKind, Result};
pub use id::{ContainerId, ExecId, Name};
pub use image_config::ImageConfig;
pub use image_store::ImageStore;
pub use launch::{ExecSpec, LaunchSpec};
pub use manifest::Manifest;
pub use mount::Mount;
pub use network::Network;
pub use platform::Platform;
pub use reference::Reference;
pub use registry_client::RegistryClient;
pub use resources::Resources;
pub use runtime::Runtime;
pub use state::{ContainerStatus, ExitStatus};
pub use volume_driver::VolumeDriver;

pub use oci_spec;
