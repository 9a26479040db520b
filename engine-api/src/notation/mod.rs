//! What people and clients write, in Docker's notations: read here, whether it comes from a flag or in a document.
//!
//! Invariant: what is wrong is told with the text it is wrong in.

mod glob;
mod hosts;
mod logs;
mod mounts;
mod security;
mod words;

pub use glob::matches_glob;
pub use hosts::{check_shared_network, exposed_ports, extra_host, name_server};
pub use logs::log_options;
pub use mounts::{octal, propagation, tmpfs, tmpfs_at, volume, volume_driver, volumes_from};
pub use security::{id_range, is_cdi_device, namespace_mode, security_option, user_namespace};
pub use words::{ago, duration, parse_duration, parse_size, parse_time};

use std::fmt;

use engine_core::{Error, ErrorKind};

/// Says why `text`, which is to be `what`, is not: `invalid volume "x": why`.
pub(crate) fn wrong(what: &'static str, text: &str, why: impl fmt::Display) -> Error {
    let key = what.rsplit(' ').next().unwrap_or(what);
    Error::new(ErrorKind::InvalidArgument, format!("invalid {what}"))
        .with(key, text)
        .with_message(why.to_string())
}
