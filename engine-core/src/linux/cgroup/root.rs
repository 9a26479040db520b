//! The group beneath which an engine makes all others: the hierarchies' roots, or a subtree that was delegated to it.
//!
//! Source: the kernel's cgroup-v2.rst, "Delegation"; systemd's "Control Group APIs and Delegation".

use std::path::{Component, Path, PathBuf};

use super::{Hierarchies, Version};
use crate::error::{Error, ErrorKind, Result};

/// Returns the group beneath which all others are to be made, as a path in the hierarchies: `wanted` if it is given, or else
/// the root where that can be written, or the topmost group that can be, above the one this process is in.
///
/// # Errors
/// [`ErrorKind::InvalidArgument`] for what is no path of a group, [`ErrorKind::NotFound`] if `wanted` is in no hierarchy.
pub(in crate::linux) fn find(hierarchies: &Hierarchies, wanted: Option<&Path>) -> Result<PathBuf> {
    let Some(wanted) = wanted else { return Ok(writable(hierarchies)) };
    let failed = |kind| Error::new(kind, "choose cgroup").with("path", wanted.display());
    let mut root = PathBuf::from("/");
    for part in wanted.components() {
        match part {
            Component::RootDir | Component::CurDir => {}
            Component::Normal(part) => root.push(part),
            _ => return Err(failed(ErrorKind::InvalidArgument).with_message("not a plain path")),
        }
    }
    let relative = root.strip_prefix("/").unwrap_or(&root);
    // In v1, groups are delegated for each controller, and a hierarchy that lacks it is one where it is made.
    if !hierarchies.mounts().iter().any(|mount| mount.point.join(relative).is_dir()) {
        return Err(failed(ErrorKind::NotFound)
            .with_message("there is no such cgroup to make others beneath")
            .with_hint("give the path as in /proc/self/cgroup, or make the group first"));
    }
    Ok(root)
}

/// The root, or where it cannot be written, what was delegated to this process.
fn writable(hierarchies: &Hierarchies) -> PathBuf {
    let root = PathBuf::from("/");
    let [mount] = hierarchies.mounts() else { return root };
    if hierarchies.version() != Version::V2 {
        return root;
    }
    let can_write = |group: &Path| {
        let dir = mount.point.join(group.strip_prefix("/").unwrap_or(group));
        // Of a delegated group, these are its owner's (cgroups(7)).
        ["", "cgroup.procs", "cgroup.subtree_control"]
            .iter()
            .all(|file| rustix::fs::access(dir.join(file), rustix::fs::Access::WRITE_OK).is_ok())
    };
    if can_write(&root) {
        return root;
    }
    let own = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let Some(own) = own.lines().find_map(|line| line.strip_prefix("0::/")) else { return root };
    let Some(found) = topmost(&root.join(own), can_write) else { return root };
    tracing::debug!(group = %found.display(), "making cgroups beneath the group that is delegated to us");
    found
}

/// The last group in a row of those that `fits` takes, from `own` upwards.
fn topmost(own: &Path, fits: impl Fn(&Path) -> bool) -> Option<PathBuf> {
    own.ancestors().take_while(|group| fits(group)).last().map(Path::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_delegated_subtree_is_found_by_its_top() {
        let own = Path::new("/user.slice/user@1.service/app.slice/x.service/main");
        let delegated = |group: &Path| group.starts_with("/user.slice/user@1.service");
        assert_eq!(topmost(own, delegated).as_deref(), Some(Path::new("/user.slice/user@1.service")));
        assert_eq!(topmost(own, |group| group.ends_with("main")).as_deref(), Some(own));
        assert_eq!(topmost(own, |_| false), None);
        // What another delegated farther up is not ours.
        let gap = |group: &Path| delegated(group) && !group.ends_with("x.service");
        assert_eq!(topmost(own, gap).as_deref(), Some(own));
    }
}
