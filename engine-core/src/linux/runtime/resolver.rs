//! The resolver of a container: its port in the launch plan, and the file that the shim reads at each question.
//!
//! What is in it and how it answers is the shim's matter (`shim/names`); the format is [`names`]'.

use std::path::{Path, PathBuf};

use super::Inner;
use super::container::not_running;
use super::translate::{NEWNET, invalid};
use crate::error::{Error, ErrorKind, Result};
use crate::id::ContainerId;
use crate::launch::LaunchSpec;
use crate::network::names::{self, ResolverConfig};

const OPERATION: &str = "configure resolver";

/// Where the shim of the container whose run directory is `dir` has its configuration.
fn path(dir: &Path) -> PathBuf {
    dir.join("resolver")
}

/// The port for the launch plan.
pub(super) fn port(launch: &LaunchSpec, namespaces: u64) -> Result<Option<u16>> {
    match &launch.resolver {
        None => Ok(None),
        Some(_) if namespaces & NEWNET == 0 => {
            Err(invalid("names are answered in a network namespace of the container's own, and it has none"))
        }
        Some(config) => config.encode().map(|_| Some(names::PORT)),
    }
}

/// Puts the first configuration in place, or takes that of an earlier start away.
pub(super) fn configure(dir: &Path, launch: &LaunchSpec) -> Result<()> {
    let path = path(dir);
    match &launch.resolver {
        Some(config) => config.write(&path),
        None => match std::fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(Error::from_io(OPERATION, error).with("path", path.display()))
            }
            _ => Ok(()),
        },
    }
}

impl Inner {
    pub(super) fn set_resolver(&self, id: &ContainerId, config: &ResolverConfig) -> Result<()> {
        config.encode()?;
        if !self.state_file(OPERATION, id)?.shim_is_alive() {
            return Err(not_running(OPERATION, id));
        }
        let path = path(&self.dirs(id).run);
        if !path.exists() {
            return Err(Error::new(ErrorKind::Conflict, OPERATION)
                .with("container", id)
                .with_message("the container was created without a resolver"));
        }
        config.write(&path)
    }
}
