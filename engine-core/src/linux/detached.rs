//! A root file system to look at from the host, without a place in any mount table.
//!
//! The mount is made with the new mount API and never attached: nobody sees it, and the kernel ends it with the
//! descriptor, whatever happens to us. What is looked up in it goes through [`RootFd`], since an image's links lead
//! anywhere.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::mount::OpenTreeFlags;

use super::files::view::overlay;
use super::rootfd::RootFd;
use crate::mount::{Mount, MountKind};

/// Opens the root file system that `mounts` describe, read-only, or `None` where it is of a kind that holds no files of
/// an image. Its writable layer, if it has one, must not be mounted elsewhere meanwhile.
pub(crate) fn open_rootfs(mounts: &[Mount]) -> io::Result<Option<RootFd>> {
    let Some(root) = mounts.first() else { return Ok(None) };
    let fd = match &root.kind {
        MountKind::Bind { source, .. } => clone(source)?,
        MountKind::Overlay { lower, upper } => {
            // The writable layer is one more that is only read.
            let layers: Vec<&Path> =
                upper.iter().map(|upper| &*upper.upper).chain(lower.iter().map(|path| &**path)).collect();
            match layers[..] {
                [] => return Ok(None),
                _ => overlay(&layers, None)?,
            }
        }
        _ => return Ok(None),
    };
    RootFd::from_fd(fd).map(Some)
}

fn clone(source: &Path) -> io::Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    Ok(rustix::mount::open_tree(rustix::fs::CWD, source, flags)?)
}
