//! The Docker Engine API over any engine.
//!
//! Today this crate holds the API's *documents*: what `docker inspect` shows of a container, an image, a network and a volume, in
//! the types that `bollard-stubs` generates from Docker's own specification. The server and the client come
//! on top of them.

mod container;
mod health;
mod image;
mod network;
mod secret;
mod volume;

pub use bollard_stubs::models;
pub use container::container_inspect;
pub use image::image_inspect;
pub use network::{
    endpoint_settings, exposed_ports, network_inspect, network_settings, port_map, port_summaries,
};
pub use secret::{container_secrets, secret_inspect};
pub use volume::volume_inspect;
