//! What a container's life needs of control groups: made before it, joined by its shim, shown inside it.
//!
//! `linux::cgroup` owns limits and hierarchies. This module names a container's group, and turns it into steps of a
//! launch plan.

use std::path::{Path, PathBuf};

use oci_spec::runtime::LinuxResources;

use crate::cgroups::{CgroupDriver, CgroupOptions};
use crate::error::{ErrorKind, Result};
use crate::id::ContainerId;
use crate::launch::LaunchSpec;
use crate::linux::cgroup::scope::Scope;
use crate::linux::cgroup::{self, Cgroup, DEFAULT_PARENT, Hierarchies, Mount, Version};
use crate::linux::plan::format::{cgroup as bits, mount, option};
use crate::linux::plan::{CgroupStep, EntryStep, LaunchPlan, MountStep};
use crate::linux::systemd::Systemd;

use super::mounts::MS_PRIVATE;
use super::scopes;
use super::translate::NEWCGROUP;

/// The host's control groups, and the name of this engine in them.
#[derive(Debug)]
pub(super) struct Host {
    pub(super) hierarchies: Option<Hierarchies>,
    pub(super) driver: Driver,
    owner: String,
}

/// Who makes groups.
#[derive(Debug)]
pub(super) enum Driver {
    /// This module, beneath this group.
    Cgroupfs(PathBuf),
    Systemd(Systemd),
}

impl Host {
    /// Looks at the host. `root` names the engine, so that several on one host stay apart.
    ///
    /// # Errors
    /// As [`scopes::check`] and [`cgroup::find_root`], for options that this host cannot fulfil.
    pub(super) fn detect(root: &Path, options: &CgroupOptions) -> Result<Self> {
        let owner = crate::linux::owner_id(root);
        let hierarchies = Hierarchies::detect()
            .inspect_err(|error| tracing::warn!(%error, "containers run without control groups"))
            .ok();
        let driver = match (&options.driver, &hierarchies) {
            (CgroupDriver::Systemd(instance), found) => {
                scopes::check(found.as_ref())?;
                Driver::Systemd(Systemd::new(instance))
            }
            (CgroupDriver::Cgroupfs, Some(found)) => {
                Driver::Cgroupfs(cgroup::find_root(found, options.root.as_deref())?)
            }
            (CgroupDriver::Cgroupfs, None) => Driver::Cgroupfs("/".into()),
        };
        Ok(Self { hierarchies, driver, owner })
    }

    pub(super) fn driver_name(&self) -> &'static str {
        match (&self.hierarchies, &self.driver) {
            (None, _) => "none",
            (_, Driver::Cgroupfs(_)) => "cgroupfs",
            (_, Driver::Systemd(_)) => "systemd",
        }
    }

    pub(super) fn name(&self) -> String {
        self.hierarchies.as_ref().map_or_else(|| "none".to_owned(), |found| found.version().to_string())
    }

    pub(super) fn is_there(&self) -> bool {
        self.hierarchies.is_some()
    }

    /// The group of a container that is about to be created; empty on a host without groups.
    pub(super) fn path(&self, id: &ContainerId, launch: &LaunchSpec) -> Result<String> {
        if self.hierarchies.is_none() {
            return Ok(String::new());
        }
        let wanted = launch.oci.linux().as_ref().and_then(|linux| linux.cgroups_path().as_deref());
        let parent = wanted.and_then(Path::parent).and_then(Path::to_str).filter(|parent| *parent != "/");
        Ok(self.path_in(parent, id)?.to_string_lossy().into_owned())
    }

    /// The group of a container with this parent; the default one for `None`.
    fn path_in(&self, parent: Option<&str>, id: &ContainerId) -> Result<PathBuf> {
        match &self.driver {
            Driver::Systemd(systemd) => scopes::path(systemd, parent, &self.owner, id),
            Driver::Cgroupfs(root) if root == Path::new("/") => {
                cgroup::path_for(parent, &self.owner, id.as_str())
            }
            Driver::Cgroupfs(root) => {
                let parent = format!("{}/{}", root.display(), parent.unwrap_or(DEFAULT_PARENT));
                cgroup::path_for(Some(&parent), &self.owner, id.as_str())
            }
        }
    }

    /// The group at a path that [`path`](Self::path) made, if the host has groups.
    pub(super) fn group(&self, path: &str) -> Option<Cgroup> {
        let hierarchies = self.hierarchies.as_ref()?;
        (!path.is_empty()).then(|| Cgroup::open(hierarchies, Path::new(path)))
    }

    /// Makes the group that the plan names with its limits, and adds the steps to join and remove it. systemd makes it once
    /// there is a process to put into it: [`place`](Self::place) then.
    pub(super) fn create(&self, launch: &LaunchSpec, plan: &mut LaunchPlan) -> Result<()> {
        let Some(hierarchies) = &self.hierarchies else { return Ok(()) };
        let none = LinuxResources::default();
        let resources = resources(launch).unwrap_or(&none);
        let path = Path::new(&plan.cgroup_path);
        let group = if let Driver::Systemd(_) = self.driver {
            plan.process.options |= option::PLACED;
            Cgroup::open(hierarchies, path)
        } else {
            match Cgroup::create(hierarchies, path, resources) {
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                    // Of a container of this id whose shim was killed.
                    Cgroup::open(hierarchies, path).remove()?;
                    Cgroup::create(hierarchies, path, resources)?
                }
                made => made?,
            }
        };
        for dir in group.dirs() {
            let mut flags = bits::JOIN | bits::REMOVE;
            if group.unified_dir() == Some(dir.as_path()) {
                flags |= bits::UNIFIED;
            }
            // Where there is a unified hierarchy, it is what freezes.
            if group.version() == Version::V1 && dir.join("freezer.state").exists() {
                flags |= bits::FREEZER;
            }
            plan.cgroups.push(CgroupStep { flags, path: dir.into_os_string().into_encoded_bytes() });
        }
        if let Some(counter) = group.oom_counter() {
            plan.oom_counters.push((counter.into_os_string().into_encoded_bytes(), "oom_kill".to_owned()));
        }
        Ok(())
    }

    /// Removes a container's group, if it is still there.
    pub(super) fn remove(&self, path: &str) {
        if let (Some(scope), Some(hierarchies)) = (Scope::of(Path::new(path)), &self.hierarchies) {
            return self.remove_scope(hierarchies, &scope);
        }
        // They are made in order, and a shim removes them in that order: a program that was killed leaves the first ones or
        // the last ones.
        if let Some(group) = self.group(path)
            && let dirs = group.dirs()
            && [dirs.first(), dirs.last()].into_iter().flatten().any(|dir| dir.exists())
            && let Err(error) = group.remove()
        {
            tracing::warn!(%error, path, "cannot remove control group");
        }
    }

    /// Removes a container's group where it is by default, with what runs in it.
    pub(super) fn remove_default(&self, id: &ContainerId) {
        let Ok(path) = self.path_in(None, id) else { return };
        match (Scope::of(&path), &self.hierarchies) {
            (Some(scope), Some(hierarchies)) => self.remove_scope(hierarchies, &scope),
            _ => {
                if let Some(group) = self.group(&path.to_string_lossy()).filter(Cgroup::exists)
                    && let Err(error) = group.kill().and_then(|()| group.remove())
                {
                    tracing::warn!(%error, container = %id, "cannot remove control group");
                }
            }
        }
    }

    /// Whether a container is paused.
    pub(super) fn is_frozen(&self, path: &str) -> bool {
        self.group(path).is_some_and(|group| group.is_frozen().unwrap_or(false))
    }

    /// Shows the hierarchies at `step`'s target, as the container's cgroup namespace sees them.
    ///
    /// With a namespace of its own, the container's groups are bound: what a mount of the hierarchy would show, without
    /// the kernel's walk over every group of the host that each such mount begins with.
    pub(super) fn mounts(&self, step: MountStep, plan: &mut LaunchPlan) {
        let own = plan.namespaces & NEWCGROUP != 0 && !plan.cgroup_path.is_empty();
        let group = own.then(|| plan.cgroup_path.trim_start_matches('/').to_owned());
        let show = |shown: &Mount, target: Vec<u8>, flags: u32| match &group {
            Some(group) => MountStep {
                kind: mount::BIND,
                flags,
                attributes: step.attributes,
                source: shown.point.join(group).into_os_string().into_encoded_bytes(),
                propagation: MS_PRIVATE,
                target,
                ..MountStep::default()
            },
            None => MountStep {
                kind: mount::FILESYSTEM,
                flags: mount::IN_CONTAINER | flags,
                attributes: step.attributes,
                fstype: if shown.unified { "cgroup2" } else { "cgroup" }.to_owned(),
                source: b"cgroup".to_vec(),
                target,
                options: shown
                    .options()
                    .map(|(key, value)| (key.to_owned(), value.as_bytes().to_vec()))
                    .collect(),
                ..MountStep::default()
            },
        };
        let hierarchies = self.hierarchies.as_ref().map_or(&[][..], Hierarchies::mounts);
        if let [only] = hierarchies {
            plan.mounts.push(show(only, step.target.clone(), mount::REAL_TARGET));
            return;
        }
        let base = u32::try_from(plan.mounts.len()).expect("mounts are few");
        plan.mounts.push(MountStep {
            kind: mount::FILESYSTEM,
            // Read-only once the directories are there.
            flags: mount::SEAL | mount::REAL_TARGET,
            attributes: step.attributes & !1,
            fstype: "tmpfs".to_owned(),
            source: b"tmpfs".to_vec(),
            target: step.target.clone(),
            options: [("mode", "755"), ("size", "64k")]
                .map(|(k, v)| (k.to_owned(), v.as_bytes().to_vec()))
                .to_vec(),
            ..MountStep::default()
        });
        for shown in hierarchies {
            let name = name(shown);
            let entry = |mode, path: &str, data| EntryStep {
                mount: base,
                mode,
                path: path.to_owned(),
                data,
                ..EntryStep::default()
            };
            plan.entries.push(entry(0o040_755, &name, Vec::new()));
            // cpu,cpuacct is found under each of its names.
            if !shown.unified && name.contains(',') {
                for link in name.split(',') {
                    plan.entries.push(entry(0o120_777, link, [name.as_bytes(), b"\0"].concat()));
                }
            }
            let target = [&step.target[..], b"/", name.as_bytes()].concat();
            plan.mounts.push(show(shown, target, 0));
        }
    }
}

/// The limits that a launch asks for.
pub(super) fn resources(launch: &LaunchSpec) -> Option<&LinuxResources> {
    launch.oci.linux().as_ref()?.resources().as_ref()
}

/// What a hierarchy's directory is called.
fn name(shown: &Mount) -> String {
    shown.point.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}
