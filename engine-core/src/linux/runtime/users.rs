//! Who a container's process is: looked up in the image's own files, before there is a container.
//!
//! The root file system is mounted for the look-up, read-only and detached: no path leads to it, and it goes with its
//! descriptor. Answers are kept by image, since layers never change; a container that brings its own `/etc` is looked
//! up afresh.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags};

use super::translate::invalid;
use crate::error::{Error, Result};
use crate::launch::LaunchSpec;
use crate::linux::rootfd::RootFd;
use crate::linux::users::{ResolvedUser, resolve};
use crate::mount::MountKind;

/// How many answers are kept.
const KEPT: usize = 256;

/// Looks up users, and remembers.
#[derive(Debug, Default)]
pub(super) struct Cache {
    known: Mutex<HashMap<Key, ResolvedUser>>,
}

/// Layers, user and added groups.
type Key = (Vec<PathBuf>, String, Vec<String>);

impl Cache {
    /// Resolves the user of a container.
    pub(super) fn resolve(&self, launch: &LaunchSpec) -> Result<ResolvedUser> {
        let root = launch.rootfs.first().ok_or_else(|| invalid("a container needs a root file system"))?;
        match &root.kind {
            MountKind::Overlay { lower, upper } => {
                let upper = upper.as_ref().map(|upper| upper.upper.as_path());
                let own = upper.filter(|upper| upper.join("etc").symlink_metadata().is_ok());
                let key = (lower.clone(), launch.user.clone(), launch.group_add.clone());
                if own.is_none()
                    && let Some(user) = self.known.lock().unwrap_or_else(PoisonError::into_inner).get(&key)
                {
                    return Ok(user.clone());
                }
                let mounted = overlay(own, lower).and_then(RootFd::from_fd).map_err(|error| {
                    Error::from_io("look up user", error).with_message("cannot mount the image")
                })?;
                let user = resolve(&mounted, &launch.user, &launch.group_add)?;
                if own.is_none() {
                    let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
                    if known.len() >= KEPT {
                        known.clear();
                    }
                    known.insert(key, user.clone());
                }
                Ok(user)
            }
            MountKind::Bind { source, .. } => {
                let opened = RootFd::open(source).map_err(|error| {
                    Error::from_io("open root file system", error).with("path", source.display())
                })?;
                resolve(&opened, &launch.user, &launch.group_add)
            }
            MountKind::Tmpfs { .. } => Err(invalid("a root file system on a tmpfs has no program to run")),
            MountKind::Filesystem { .. } => Err(invalid("a root file system is one of an image store")),
        }
    }
}

/// The layers as one tree, read-only and attached nowhere.
fn overlay(own: Option<&Path>, lower: &[PathBuf]) -> io::Result<OwnedFd> {
    let layers: Vec<&Path> = own.into_iter().chain(lower.iter().map(PathBuf::as_path)).collect();
    if let [only] = layers[..] {
        let flags = rustix::fs::OFlags::PATH | rustix::fs::OFlags::DIRECTORY | rustix::fs::OFlags::CLOEXEC;
        return Ok(rustix::fs::open(only, flags, rustix::fs::Mode::empty())?);
    }
    let context = rustix::mount::fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
    for layer in layers {
        rustix::mount::fsconfig_set_string(context.as_fd(), "lowerdir+", layer)?;
    }
    rustix::mount::fsconfig_create(context.as_fd())?;
    let attributes = MountAttrFlags::MOUNT_ATTR_RDONLY
        | MountAttrFlags::MOUNT_ATTR_NODEV
        | MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    Ok(rustix::mount::fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes)?)
}
