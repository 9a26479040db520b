//! Mounts as data: where image stores, volume drivers and runtimes meet.
//!
//! A store or a volume driver *describes* mounts; only a runtime performs them, inside the container's own
//! mount namespace. So nothing here touches the host's mount table, and nothing has to be unmounted after a
//! crash.

use std::path::{Component, Path, PathBuf};

use serde::{Deserialize, Serialize};

/// One mount: what appears at `target`, and how.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Mount {
    /// The absolute path inside the container. A root file system's mount has `/`.
    pub target: PathBuf,
    /// What is mounted.
    pub kind: MountKind,
    /// Shows only this part of it: a relative path, resolved when it is mounted and never out of what `kind`
    /// describes, whatever links are on the way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subpath: Option<PathBuf>,
    /// Flags of the mount.
    pub options: MountOptions,
}

/// What a [`Mount`] shows.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum MountKind {
    /// A file or directory of the host.
    Bind {
        /// The absolute path on the host.
        source: PathBuf,
        /// Whether mounts beneath the source come along.
        recursive: bool,
    },
    /// Layers stacked by overlayfs.
    Overlay {
        /// The read-only layers, **topmost first**, as overlayfs orders them. Never empty.
        lower: Vec<PathBuf>,
        /// The writable layer; without it the mount is read-only.
        upper: Option<OverlayUpper>,
    },
    /// A fresh memory file system.
    Tmpfs {
        /// The size limit in bytes; the kernel's default (half of memory) without it.
        size: Option<u64>,
        /// The mode of its root directory.
        mode: u32,
        /// The owner of its root directory.
        uid: u32,
        /// The group of its root directory.
        gid: u32,
    },
    /// A file system of a device or of another machine, made anew for the container.
    Filesystem {
        /// Its type, as mount(8) has it: `nfs`, `ext4`.
        kind: String,
        /// Its source: a device, `HOST:/PATH`.
        source: String,
        /// Its options in order; an empty value is a flag.
        options: Vec<(String, String)>,
    },
}

/// The writable part of an overlay mount. Both directories are on one file system.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct OverlayUpper {
    /// Receives changes.
    pub upper: PathBuf,
    /// The kernel's scratch directory.
    pub work: PathBuf,
}

/// The flags of a mount. The default is writable, with devices and set-user-ID honoured.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct MountOptions {
    /// Refuses writes.
    pub read_only: bool,
    /// Refuses writes in mounts beneath as well (mount_setattr(2) with `AT_RECURSIVE`).
    pub recursive_read_only: bool,
    /// Ignores set-user-ID bits and file capabilities.
    pub nosuid: bool,
    /// Ignores device nodes.
    pub nodev: bool,
    /// Refuses to execute files.
    pub noexec: bool,
    /// How mounts made later on either side propagate.
    pub propagation: Propagation,
    /// Creates the source directory on the host if it is missing (Docker's `-v`, unlike `--mount`).
    pub create_source: bool,
    /// Copies what the root file system has at the target into a tmpfs, at each start and each run by policy: directories,
    /// files, links and FIFOs, with owner and mode. Nothing else can be filled so.
    #[serde(default)]
    pub copy_up: bool,
    /// Shows a bind's owners through the id maps of the container's user namespace: what is user 0's on the host is
    /// root's inside (mount_setattr(2)). Without it, they are who they are on the host.
    #[serde(default)]
    pub id_mapped: bool,
}

/// Mount propagation, see mount_namespaces(7). The `r` forms apply to the whole tree.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Propagation {
    /// Recursively private: Docker's default.
    #[default]
    Rprivate,
    /// Private.
    Private,
    /// Recursively shared.
    Rshared,
    /// Shared.
    Shared,
    /// Recursively slave.
    Rslave,
    /// Slave.
    Slave,
}

/// Returns the path in a container that a mount at `target` covers, in the one form in which two are the same. Links are not looked at.
#[must_use]
pub fn covered(target: &Path) -> PathBuf {
    let mut clean = PathBuf::from("/");
    for component in target.components() {
        match component {
            Component::Normal(name) => clean.push(name),
            Component::ParentDir => drop(clean.pop()),
            _ => {}
        }
    }
    clean
}

impl Mount {
    /// Creates a recursive bind mount of `source` at `target`.
    pub fn bind(source: impl Into<PathBuf>, target: impl Into<PathBuf>) -> Self {
        Self {
            target: target.into(),
            kind: MountKind::Bind { source: source.into(), recursive: true },
            subpath: None,
            options: MountOptions::default(),
        }
    }

    /// Creates an overlay mount of `lower`, topmost first, at `/`.
    #[must_use]
    pub fn overlay(lower: Vec<PathBuf>, upper: Option<OverlayUpper>) -> Self {
        Self {
            target: "/".into(),
            kind: MountKind::Overlay { lower, upper },
            subpath: None,
            options: MountOptions::default(),
        }
    }

    /// Creates an empty tmpfs at `target` with Docker's defaults: mode 1777, nosuid, nodev, noexec.
    pub fn tmpfs(target: impl Into<PathBuf>) -> Self {
        Self {
            target: target.into(),
            kind: MountKind::Tmpfs { size: None, mode: 0o1777, uid: 0, gid: 0 },
            subpath: None,
            options: MountOptions { nosuid: true, nodev: true, noexec: true, ..MountOptions::default() },
        }
    }

    /// Shows only the part `subpath`.
    #[must_use]
    pub fn with_subpath(mut self, subpath: impl Into<PathBuf>) -> Self {
        self.subpath = Some(subpath.into());
        self
    }

    /// Makes the mount read-only.
    #[must_use]
    pub fn read_only(mut self) -> Self {
        self.options.read_only = true;
        self
    }
}
