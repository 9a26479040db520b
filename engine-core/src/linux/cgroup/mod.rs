//! Control groups: limits, accounting, freezing and killing of what runs in a container.
//!
//! [`Hierarchies`] is what the host has (v1, hybrid or v2), [`Cgroup`] one container's group in all of them. The files
//! of single controllers are written through cgroups-rs where it does the right thing; detection, creation and removal,
//! the rules for swap, devices and weights, statistics and killing are ours: it takes the first two from fixed paths
//! without reporting failures, and lacks the rest. Joining is left to the shim.
//!
//! A container gets a directory in *every* mounted hierarchy, also in the unified one of a hybrid host: so a cgroup
//! namespace shows nothing of the host in any of them, and `cgroup.kill` and `cgroup.freeze` work there too.
//!
//! Invariant: nothing here touches a group whose path is not beneath a name that [`path_for`] made.
//! See cgroups(7) and the kernel's Documentation/admin-guide/cgroup-v1 and cgroup-v2.rst.

mod control;
mod devices;
mod files;
mod hierarchy;
mod limits;
mod memory;
mod root;
pub(in crate::linux) mod scope;
mod stats;
mod sweep;
#[expect(unsafe_code, reason = "bpf(2) has no safe wrapper")]
mod sys;

pub(in crate::linux) use hierarchy::Mount;
pub use hierarchy::{Hierarchies, Version};
pub(in crate::linux) use root::find as find_root;
pub use sweep::sweep;

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use oci_spec::runtime::LinuxResources;

use crate::error::{Error, ErrorKind, Result};

/// Parent of all groups unless another is asked for.
pub const DEFAULT_PARENT: &str = "/engine";

/// How long [`Cgroup::remove`] waits for the last process to be reaped.
const REMOVE_PATIENCE: Duration = Duration::from_secs(2);

/// Returns the path of a container's group in the hierarchies: `<parent>/<owner>-<id>`.
///
/// `owner` names the engine, so that each sweeps only its own.
///
/// # Errors
/// [`ErrorKind::InvalidArgument`] for a parent with `..` or odd characters, or an owner or id that is no plain name.
pub fn path_for(parent: Option<&str>, owner: &str, id: &str) -> Result<PathBuf> {
    let parent = parent.filter(|parent| !parent.is_empty()).unwrap_or(DEFAULT_PARENT);
    let bad = |what: &str| {
        Error::new(ErrorKind::InvalidArgument, "choose cgroup").with("path", parent).with_message(what)
    };
    let mut path = PathBuf::from("/");
    for part in parent.split('/').filter(|part| !part.is_empty()) {
        if matches!(part, "." | "..") || part.len() > 255 || part.bytes().any(|b| b.is_ascii_control()) {
            return Err(bad("not a plain path"));
        }
        path.push(part);
    }
    let plain = |name: &str| {
        !name.is_empty() && name.len() <= 100 && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
    };
    if !plain(owner) || !plain(id) {
        return Err(bad("owner and id must be plain names"));
    }
    path.push(format!("{owner}-{id}"));
    Ok(path)
}

/// One container's group in every hierarchy of the host.
#[derive(Clone, Debug)]
pub struct Cgroup {
    version: Version,
    groups: Vec<Group>,
}

/// The group in one hierarchy.
#[derive(Clone, Debug)]
struct Group {
    mount: Mount,
    dir: PathBuf,
}

impl Cgroup {
    /// Makes the group `path` (from [`path_for`]) with these limits. What fails is undone.
    ///
    /// Device rules are denied first, then allowed one by one; without rules, the default devices are allowed.
    ///
    /// # Errors
    /// [`ErrorKind::AlreadyExists`] if the group exists; [`ErrorKind::Unsupported`] for a limit whose controller the host
    /// lacks; otherwise as the kernel says, naming file and value.
    pub fn create(hierarchies: &Hierarchies, path: &Path, resources: &LinuxResources) -> Result<Self> {
        let cgroup = Self::at(hierarchies, path);
        for (made, group) in cgroup.groups.iter().enumerate() {
            if let Err(error) = hierarchy::make(&group.mount, &group.dir) {
                return Err(cgroup.undo(made, error));
            }
        }
        let all = cgroup.groups.len();
        limits::apply(&cgroup, resources).map_err(|error| cgroup.undo(all, error))?;
        let rules = devices::Rules::new(resources.devices().as_deref());
        devices::apply(&cgroup, &rules).map_err(|error| cgroup.undo(all, error))?;
        Ok(cgroup)
    }

    /// The group `path`, whether it exists or not: for what was made before.
    #[must_use]
    pub fn open(hierarchies: &Hierarchies, path: &Path) -> Self {
        Self::at(hierarchies, path)
    }

    fn at(hierarchies: &Hierarchies, path: &Path) -> Self {
        let relative = path.strip_prefix("/").unwrap_or(path);
        let groups = hierarchies.mounts().iter();
        let groups = groups.map(|mount| Group { mount: mount.clone(), dir: mount.point.join(relative) });
        Self { version: hierarchies.version(), groups: groups.collect() }
    }

    fn undo(&self, made: usize, mut error: Error) -> Error {
        for group in self.groups.iter().take(made) {
            if let Err(later) = files::remove_dir(&group.dir) {
                error.suppress(later);
            }
        }
        error
    }

    /// Sets the limits that are given and leaves the others. Device rules are not changed.
    ///
    /// # Errors
    /// As [`Self::create`]; [`ErrorKind::Conflict`] where more memory is in use than the new limit.
    pub fn update(&self, resources: &LinuxResources) -> Result<()> {
        limits::apply(self, resources)
    }

    /// The files into which a process writes `0` to join: before it unshares its cgroup namespace.
    #[must_use]
    pub fn join_files(&self) -> Vec<PathBuf> {
        self.groups.iter().map(|group| group.dir.join("cgroup.procs")).collect()
    }

    /// The directories, to be removed when the container has ended.
    #[must_use]
    pub fn dirs(&self) -> Vec<PathBuf> {
        self.groups.iter().map(|group| group.dir.clone()).collect()
    }

    /// The directory in the unified hierarchy, on v2 and hybrid hosts: for `CLONE_INTO_CGROUP`. On a v2 host, this alone
    /// joins all.
    #[must_use]
    pub fn unified_dir(&self) -> Option<&Path> {
        self.groups.iter().find(|group| group.mount.unified).map(|group| group.dir.as_path())
    }

    /// The version of the host it is on.
    #[must_use]
    pub fn version(&self) -> Version {
        self.version
    }

    /// Whether the group exists in any hierarchy.
    #[must_use]
    pub fn exists(&self) -> bool {
        self.groups.iter().any(|group| group.dir.exists())
    }

    /// Removes the group with all groups beneath it. One that is gone is fine; one whose processes were killed a moment
    /// ago is waited for.
    ///
    /// # Errors
    /// [`ErrorKind::Conflict`] if processes still run in it after two seconds.
    pub fn remove(&self) -> Result<()> {
        let deadline = Instant::now() + REMOVE_PATIENCE;
        let mut first: Option<Error> = None;
        for group in &self.groups {
            if let Err(error) = remove_tree(&group.dir, deadline) {
                match &mut first {
                    Some(first) => first.suppress(error),
                    None => first = Some(error),
                }
            }
        }
        first.map_or(Ok(()), Err)
    }

    /// Makes the group without limits, as v2 alone has it, and moves the process `pid` into it.
    pub(in crate::linux) fn make_for(&self, pid: u32) -> Result<()> {
        for group in self.groups.iter().filter(|group| group.mount.unified) {
            std::fs::create_dir(&group.dir)
                .map_err(|error| Error::from_io("create cgroup", error).with("path", group.dir.display()))?;
            files::write(&group.dir, "cgroup.procs", &pid.to_string())?;
        }
        Ok(())
    }

    /// The limit of memory in force, if there is one.
    pub(in crate::linux) fn memory_limit(&self) -> Option<u64> {
        let group = self.with("memory").filter(|group| group.mount.unified)?;
        files::read_number(&group.dir, "memory.max").ok().flatten()
    }

    /// The group of the v1 hierarchy with this controller, or the unified one if it has it.
    fn with(&self, controller: &str) -> Option<&Group> {
        self.groups.iter().find(|group| group.mount.has(controller))
    }
}

/// Removes `dir` and what containers with a writable hierarchy made in it.
fn remove_tree(dir: &Path, deadline: Instant) -> Result<()> {
    let mut pause = Duration::from_micros(200);
    loop {
        let error = match std::fs::remove_dir(dir) {
            Ok(()) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => error,
        };
        // EBUSY: a process, or a group beneath.
        if error.kind() != io::ErrorKind::ResourceBusy {
            return Err(Error::from_io("remove cgroup", error).with("path", dir.display()));
        }
        for child in files::children(dir) {
            remove_tree(&child, deadline)?;
        }
        if Instant::now() >= deadline {
            return Err(Error::from_io("remove cgroup", error)
                .with("path", dir.display())
                .with_message("processes still run in it"));
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(20));
    }
}

#[cfg(test)]
mod tests;
