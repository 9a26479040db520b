//! The API's documents: what `docker inspect` shows of containers, images, networks and volumes, in the types that
//! `bollard-stubs` generates from Docker's own specification.

mod complete;
mod container;
mod dates;
mod dockerfile;
mod health;
mod host_config;
mod image;
mod network;
mod secret;
mod stats;
mod status;
mod summary;
mod volume;

pub use complete::{Shown, container_document, image_size};
pub use container::container_inspect;
pub use dockerfile::{check_document, outline_document, targets_document};
pub use host_config::RUNTIME;
pub use image::image_inspect;
pub use network::{
    endpoint_settings, exposed_ports, network_inspect, network_settings, port_map, port_summaries,
};
pub use secret::{container_secrets, secret_inspect};
pub use stats::{StatsSample, container_stats};
pub use status::{health_word, status_text};
pub use summary::{command_text, container_summary};
pub use volume::volume_inspect;
