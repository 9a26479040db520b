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
mod systemd;
pub mod users;
pub mod volumes;
mod walk;

mod host;
pub use host::{check_host, diagnose};

pub use image_store::LocalImageStore;
pub use runtime::LinuxRuntime;
pub use volumes::LocalVolumes;

/// The name of the engine at `root` in what it makes in the kernel: control groups, interfaces, rules. The same for every
/// program, so that each finds what another left, and different from that of other engines of the host.
#[must_use]
pub fn owner_id(root: &std::path::Path) -> String {
    use std::os::unix::ffi::OsStrExt as _;

    use sha2::Digest as _;
    let root = root.canonicalize().unwrap_or_else(|_| root.to_owned());
    hex::encode(&sha2::Sha256::digest(root.as_os_str().as_bytes())[..4])
}
