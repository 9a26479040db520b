//! The Docker Engine API over any engine.
//!
//! Today this crate holds the API's *documents*: what `docker inspect` shows of a container and an image, in
//! the types that `bollard-stubs` generates from Docker's own specification. The server and the client come
//! on top of them.

mod container;
mod health;
mod image;

pub use bollard_stubs::models;
pub use container::container_inspect;
pub use image::image_inspect;
