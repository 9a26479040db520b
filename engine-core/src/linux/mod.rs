//! The embedded Linux implementations.
//!
//! Everything here uses only what the rest of the crate makes public, so that moving it to a crate of its own stays a
//! move of files.

pub mod cgroup;
pub mod image_store;
pub mod rootfd;
pub mod seccomp;
pub mod users;
pub mod volumes;

mod host;
pub use host::{check_host, diagnose};
pub(crate) mod tar;
