//! What the tests of every crate of this workspace share.
//!
//! This crate owns the means of testing and no test of the engine: [`require!`] (what a test needs of the machine),
//! [`LeakCheck`] (nothing may stay behind), [`Sentinel`] (a tree nobody may touch), [`image`] (images made
//! without any engine), [`Registry`] (a real registry on loopback), [`debian`] (a real root filesystem).
//! It knows nothing of `engine-core`, so its second opinions stay second opinions, and it is a dev-dependency only.
//!
//! Everything panics with a sentence instead of returning errors: a test has nobody to hand them to.

pub mod debian;
mod http;
pub mod image;
mod leak;
mod registry;
mod require;
mod s3;
mod said;
mod sentinel;
mod systemd;
mod tools;

pub use leak::{LeakCheck, Leaks};
pub use registry::{Registry, RegistryMode};
pub use require::{Requirement, missing};
pub use s3::S3;
pub use said::Said;
pub use sentinel::{Entry, Sentinel};
pub use systemd::Systemd;
pub use tools::{cache_dir, command, free_port, workspace_dir};
