//! What a container's life needs of control groups: made before it, joined by its shim, shown inside it.

use std::path::{Path, PathBuf};

use crate::error::Result;
use crate::id::ContainerId;
use crate::launch::LaunchSpec;
use crate::linux::plan::{LaunchPlan, MountStep};

/// The host's control groups.
#[derive(Debug)]
pub(super) struct Host {
}

impl Host {
    pub(super) fn detect(_root: &Path) -> Self {
        Self {}
    }
    pub(super) fn name(&self) -> String { "none".to_owned() }
    pub(super) fn is_there(&self) -> bool { false }
    pub(super) fn create(&self, _id: &ContainerId, _launch: &LaunchSpec) -> Result<()> { Ok(()) }
    pub(super) fn remove(&self, _id: &ContainerId) {}
    pub(super) fn is_frozen(&self, _id: &ContainerId) -> bool { false }
    pub(super) fn plan(&self, _id: &ContainerId, _launch: &LaunchSpec, _plan: &mut LaunchPlan) {}
    pub(super) fn mounts(&self, _step: MountStep, _plan: &mut LaunchPlan) {}
}
#[allow(dead_code)]
type P = PathBuf;
