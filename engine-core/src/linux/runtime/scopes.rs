//! Containers whose groups systemd makes: placed in a scope of their own before they are, and taken out with it.
//!
//! `linux::systemd` asks, `linux::cgroup::scope` says for what. Invariant: a scope lives as long as its shim, so that
//! systemd takes it away also when no program of ours is there.

use std::path::{Path, PathBuf};

use oci_spec::runtime::LinuxResources;

use super::cgroups::{Driver, Host};
use crate::error::{Error, ErrorKind, Result};
use crate::id::ContainerId;
use crate::linux::cgroup::scope::{self, SHIM, Scope};
use crate::linux::cgroup::{Cgroup, DEFAULT_PARENT, Hierarchies, Version};
use crate::linux::systemd::{Systemd, is_slice, slice_path};

/// Refuses what systemd cannot manage here.
pub(super) fn check(hierarchies: Option<&Hierarchies>) -> Result<()> {
    match hierarchies.map(Hierarchies::version) {
        Some(Version::V2) => Ok(()),
        other => Err(Error::new(ErrorKind::Unsupported, "choose cgroup driver")
            .with("driver", "systemd")
            .with("cgroups", other.map_or_else(|| "none".to_owned(), |version| version.to_string()))
            .with_message("the cgroup driver systemd needs a host with cgroup v2 alone")
            .with_hint("use the cgroup driver cgroupfs, or boot with systemd.unified_cgroup_hierarchy=1")),
    }
}

/// Returns the slice that a container's parent names; the default one, if it is the engine's default.
pub(super) fn slice(systemd: &Systemd, parent: Option<&str>) -> Result<String> {
    let name = parent.unwrap_or(DEFAULT_PARENT);
    let name = if name == DEFAULT_PARENT { systemd.default_slice() } else { name.trim_matches('/') };
    if is_slice(name) {
        return Ok(name.to_owned());
    }
    Err(Error::new(ErrorKind::InvalidArgument, "choose cgroup")
        .with("cgroup-parent", name)
        .with_message("with the cgroup driver systemd, the parent is a slice")
        .with_hint("name one as xxx.slice"))
}

/// Returns the scope of a container in `slice`.
pub(super) fn scope_in(systemd: &Systemd, slice: &str, owner: &str, id: &ContainerId) -> Result<Scope> {
    let beneath = slice_path(slice).unwrap_or_default();
    Ok(Scope::new(&systemd.root()?.join(beneath), owner, id.as_str()))
}

impl Host {
    /// Puts the shim `pid` into the scope of the container whose group is to be at `path`, and makes that with its limits.
    pub(super) fn place(
        &self,
        pid: u32,
        id: &ContainerId,
        path: &str,
        resources: &LinuxResources,
    ) -> Result<()> {
        let (Some(hierarchies), Driver::Systemd(systemd)) = (&self.hierarchies, &self.driver) else {
            return Ok(());
        };
        let path = Path::new(path);
        let scope = Scope::of(path).ok_or_else(|| Error::new(ErrorKind::Other, "place container"))?;
        let slice = scope.path.parent().and_then(Path::file_name).and_then(|name| name.to_str());
        // The root slice's group is the manager's own.
        let slice = slice
            .map(|name| name.strip_prefix('_').unwrap_or(name))
            .filter(|name| is_slice(name))
            .unwrap_or("-.slice");
        let mut properties = scope::properties(id.as_str(), slice);
        properties.extend(scope::limits(resources, None)?);
        match systemd.start_scope(&scope.unit, pid, &properties) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                // Of a container of this id whose shim was killed.
                systemd.end(&scope.unit)?;
                systemd.start_scope(&scope.unit, pid, &properties)?;
            }
            started => started?,
        }
        let placed = std::fs::read_to_string(format!("/proc/{pid}/cgroup"))
            .map_err(|error| Error::from_io("place container", error))?;
        let placed = placed.lines().find_map(|line| line.strip_prefix("0::")).unwrap_or_default();
        if Path::new(placed) != scope.path {
            return Err(Error::new(ErrorKind::Conflict, "place container")
                .with("unit", scope.unit)
                .with("expected", scope.path.display())
                .with("found", placed)
                .with_message("systemd made the scope in another group"));
        }
        // A group with limits for those beneath it has no processes of its own: the shim goes first (cgroups(7)).
        Cgroup::open(hierarchies, &scope.path.join(SHIM)).make_for(pid)?;
        Cgroup::create(hierarchies, path, resources).map(drop)
    }

    /// Tells systemd of limits that were changed in `group`.
    pub(super) fn follow(&self, group: &Cgroup, resources: &LinuxResources) -> Result<()> {
        let Some(scope) = group.unified_dir().and_then(Scope::of) else { return Ok(()) };
        let Driver::Systemd(systemd) = &self.driver else { return Err(other_driver(&scope)) };
        let properties = scope::limits(resources, group.memory_limit())?;
        if properties.is_empty() { Ok(()) } else { systemd.set_properties(&scope.unit, &properties) }
    }

    /// Whether limits of `group` can be changed: not without systemd, if that made it.
    pub(super) fn can_follow(&self, group: &Cgroup) -> Result<()> {
        match (group.unified_dir().and_then(Scope::of), &self.driver) {
            (Some(scope), Driver::Cgroupfs(_)) => Err(other_driver(&scope)),
            _ => Ok(()),
        }
    }

    /// Removes what is left of a scope: most often nothing, since it went with its shim.
    pub(super) fn remove_scope(&self, hierarchies: &Hierarchies, scope: &Scope) {
        let group = Cgroup::open(hierarchies, &scope.path);
        if !group.exists() {
            return;
        }
        let warn = |error: Error| tracing::warn!(%error, unit = scope.unit, "cannot remove scope");
        if let Driver::Systemd(systemd) = &self.driver {
            let _ = systemd.end(&scope.unit).inspect_err(|error| tracing::warn!(%error, "cannot end scope"));
        }
        // systemd forgets the unit first and removes its group then.
        let _ = group.kill().and_then(|()| group.remove()).map_err(warn);
    }
}

fn other_driver(scope: &Scope) -> Error {
    Error::new(ErrorKind::Conflict, "update container")
        .with("unit", &scope.unit)
        .with_message(
            "systemd made this container's cgroup, and the engine was opened with the cgroup driver cgroupfs",
        )
        .with_hint("open it with the cgroup driver systemd")
}

/// The path of the container's group where its launch asks for it.
pub(super) fn path(
    systemd: &Systemd,
    parent: Option<&str>,
    owner: &str,
    id: &ContainerId,
) -> Result<PathBuf> {
    let slice = slice(systemd, parent)?;
    Ok(scope_in(systemd, &slice, owner, id)?.container())
}
