//! Who makes the control groups of containers, and beneath which.
//!
//! Choices of whoever opens an engine; what a runtime makes of them is its own business.

use std::path::PathBuf;

/// How the embedded runtime makes control groups. By default it makes them itself, beneath the hierarchies' roots.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct CgroupOptions {
    /// Who makes them. Default: [`CgroupDriver::Cgroupfs`].
    pub driver: CgroupDriver,
    /// The group, as a path in the hierarchies, beneath which all others are made: one that was delegated to this engine, by
    /// systemd's `Delegate=yes` or by a change of its owner. Parents that containers name are beneath it too. Default: the
    /// root of the hierarchies, or where that cannot be written, the topmost group above this process that can. For
    /// [`CgroupDriver::Cgroupfs`] only: systemd has places of its own.
    pub root: Option<PathBuf>,
}

impl CgroupOptions {
    /// Sets who makes control groups.
    #[must_use]
    pub fn with_driver(mut self, driver: CgroupDriver) -> Self {
        self.driver = driver;
        self
    }

    /// Sets the group beneath which all others are made.
    #[must_use]
    pub fn with_root(mut self, root: impl Into<PathBuf>) -> Self {
        self.root = Some(root.into());
        self
    }
}

/// Who makes the control groups of containers: Docker's `native.cgroupdriver`.
///
/// Containers that run stay where they are, whatever an engine is opened with later.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub enum CgroupDriver {
    /// The engine writes the kernel's files.
    #[default]
    Cgroupfs,
    /// systemd makes a scope for each container and delegates it to the engine. With cgroup v2 only. A container's parent,
    /// if it names one, is a slice, as in Docker.
    Systemd(SystemdInstance),
}

impl CgroupDriver {
    /// Returns the driver's name: `cgroupfs`, `systemd`.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Cgroupfs => "cgroupfs",
            Self::Systemd(_) => "systemd",
        }
    }
}

/// Which systemd to ask.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub enum SystemdInstance {
    /// That of the system, by `/run/systemd/private` or the system bus. Scopes are in `system.slice`.
    #[default]
    System,
    /// That of a user, by the sockets in this directory, which is `$XDG_RUNTIME_DIR`. Scopes are in its `user.slice`.
    User(PathBuf),
}
