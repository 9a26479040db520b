//! What an engine is made of, as data.

use std::path::PathBuf;
use std::sync::LazyLock;

use serde::{Deserialize, Serialize};

use crate::image_store::ImageStoreCapabilities;
use crate::runtime::RuntimeCapabilities;

use super::LocalEngine;

/// What an engine is made of.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[non_exhaustive]
pub struct EngineInfo {
    /// Its directory, if it has one.
    pub root: Option<PathBuf>,
    /// What its image store can do.
    pub image_store: ImageStoreCapabilities,
    /// What its runtime can do.
    pub runtime: RuntimeCapabilities,
    /// The name of its volume driver.
    pub volume_driver: String,
    /// The machine it works on.
    pub host: HostInfo,
}

/// The machine that an engine works on.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[non_exhaustive]
pub struct HostInfo {
    /// The release of its kernel.
    pub kernel: String,
    /// Its architecture, in Rust's words: `x86_64`.
    pub architecture: String,
    /// How many processors an engine may use there.
    pub cpus: usize,
    /// Its memory, in bytes.
    pub memory: u64,
}

impl HostInfo {
    /// Returns what this machine is.
    #[must_use]
    pub fn of_this() -> Self {
        let info = rustix::system::sysinfo();
        #[allow(clippy::useless_conversion, reason = "its type is the machine's word")]
        let units = u64::from(info.totalram);
        Self {
            kernel: rustix::system::uname().release().to_string_lossy().into_owned(),
            architecture: std::env::consts::ARCH.to_owned(),
            cpus: std::thread::available_parallelism().map_or(1, usize::from),
            memory: units * u64::from(info.mem_unit),
        }
    }
}

impl LocalEngine {
    pub(super) fn info(&self) -> EngineInfo {
        // As it is when it is first asked for, as with Docker.
        static HOST: LazyLock<HostInfo> = LazyLock::new(HostInfo::of_this);
        EngineInfo {
            root: self.inner.root.clone(),
            image_store: self.inner.images.capabilities(),
            runtime: self.inner.runtime.capabilities(),
            volume_driver: self.inner.volumes.name().to_owned(),
            host: HOST.clone(),
        }
    }
}
