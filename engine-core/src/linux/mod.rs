//! The embedded Linux implementations.
//!
//! Everything here uses only what the rest of the crate makes public, so that moving it to a crate of its own stays a
//! move of files.

pub mod cgroup;
mod detached;
pub mod files;
pub mod image_store;
#[cfg(test)]
mod names;
pub mod netlink;
mod plan;
pub mod rootfd;
mod runtime;
pub mod seccomp;
mod shim;
pub mod users;
pub mod volumes;
mod walk;

mod host;
pub use host::{check_host, diagnose};

pub use image_store::LocalImageStore;
pub use runtime::LinuxRuntime;
pub use volumes::LocalVolumes;
