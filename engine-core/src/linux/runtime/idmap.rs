//! What a user namespace changes in a launch plan: whose the file systems are.
//!
//! `translate` writes the maps and `mounts` the mounts; this module gives both the same idea of who root is. Layers are not
//! copied and not chowned: they are seen through id-mapped mounts, and what is written has unshifted ids on disk, so that
//! another start, with another range, finds the same files.
//! Invariant: in a plan with a user namespace, no mount or entry of ours belongs to an id that is nobody inside.

use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use oci_spec::runtime::{Linux, LinuxIdMapping, LinuxNamespaceType};

use super::translate::invalid;
use crate::error::Result;
use crate::launch::LaunchSpec;
use crate::linux::plan::format::mount;
use crate::linux::plan::{LaunchPlan, MountStep};

/// Makes the plan fit the user namespace that the container makes or joins, if it does either.
pub(super) fn apply(launch: &LaunchSpec, linux: &Linux, plan: &mut LaunchPlan) -> Result<()> {
    let is_user =
        |namespace: &&oci_spec::runtime::LinuxNamespace| namespace.typ() == LinuxNamespaceType::User;
    if !linux.namespaces().iter().flatten().any(|namespace| is_user(&namespace)) {
        if plan.mounts.iter().any(|step| step.flags & mount::IDMAP != 0) {
            return Err(invalid("an id-mapped mount needs a user namespace"));
        }
        return Ok(());
    }
    let maps = Maps {
        uids: linux.uid_mappings().as_deref().unwrap_or_default(),
        gids: linux.gid_mappings().as_deref().unwrap_or_default(),
    };
    let owner = (maps.uid(0)?, maps.gid(0)?);
    plan.owner = Some(owner);
    let shifted = !maps.are_identity();
    for (index, step) in plan.mounts.iter_mut().enumerate() {
        if shifted && (index < launch.rootfs.len() || step.fstype == "overlay") {
            map_layers(step)?;
        } else if step.kind == mount::FILESYSTEM && step.flags & mount::IN_CONTAINER == 0 {
            own(step, &maps)?;
        }
    }
    for entry in &mut plan.entries {
        (entry.uid, entry.gid) = (maps.uid(entry.uid)?, maps.gid(entry.gid)?);
    }
    Ok(())
}

struct Maps<'a> {
    uids: &'a [LinuxIdMapping],
    gids: &'a [LinuxIdMapping],
}

impl Maps<'_> {
    fn uid(&self, id: u32) -> Result<u32> {
        host(self.uids, id)
    }

    fn gid(&self, id: u32) -> Result<u32> {
        host(self.gids, id)
    }

    fn are_identity(&self) -> bool {
        self.uids.iter().chain(self.gids).all(|range| range.container_id() == range.host_id())
    }
}

/// What the host calls `id` of the container. What is not mapped belongs to root inside, whose must be.
fn host(mappings: &[LinuxIdMapping], id: u32) -> Result<u32> {
    let find = |id: u32| {
        mappings.iter().find_map(|range| {
            let offset = id.checked_sub(range.container_id())?;
            (offset < range.size()).then(|| range.host_id().checked_add(offset))?
        })
    };
    find(id).or_else(|| find(0)).ok_or_else(|| invalid("the id maps of a user namespace need one for root"))
}

/// Shows an image's layers through the maps.
fn map_layers(step: &mut MountStep) -> Result<()> {
    step.flags |= mount::IDMAP;
    if step.kind != mount::FILESYSTEM {
        return Ok(());
    }
    // Overlayfs wants both writable directories on one mount: that of the directory which has both.
    let path = |key: &str| {
        let found = step.options.iter().find(|(known, _)| known == key);
        found.map(|(_, value)| Path::new(std::ffi::OsStr::from_bytes(value)).to_owned())
    };
    let (Some(upper), Some(work)) = (path("upperdir"), path("workdir")) else { return Ok(()) };
    let base = upper.parent().filter(|base| work.parent() == Some(base));
    let base = base.ok_or_else(|| {
        invalid("the writable directories of an id-mapped overlay are not in one directory")
            .with("path", upper.display())
    })?;
    for (key, value) in &mut step.options {
        if let (true, Some(name)) = (
            matches!(key.as_str(), "upperdir" | "workdir"),
            Path::new(std::ffi::OsStr::from_bytes(value)).file_name(),
        ) {
            *value = name.as_bytes().to_vec();
        }
    }
    step.options.insert(0, ("base".to_owned(), base.as_os_str().as_bytes().to_vec()));
    Ok(())
}

/// Gives a file system of ours to the container's root, and its options' ids their host's numbers.
fn own(step: &mut MountStep, maps: &Maps<'_>) -> Result<()> {
    let id_of = |value: &[u8]| std::str::from_utf8(value).ok()?.parse::<u32>().ok();
    for (key, value) in &mut step.options {
        let mapped = match (key.as_str(), id_of(value)) {
            ("uid", Some(id)) => maps.uid(id)?,
            ("gid", Some(id)) => maps.gid(id)?,
            _ => continue,
        };
        *value = mapped.to_string().into_bytes();
    }
    if step.fstype != "tmpfs" {
        return Ok(());
    }
    for (key, id) in [("uid", maps.uid(0)?), ("gid", maps.gid(0)?)] {
        if !step.options.iter().any(|(known, _)| known == key) {
            step.options.push((key.to_owned(), id.to_string().into_bytes()));
        }
    }
    Ok(())
}
