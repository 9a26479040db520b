//! From a launch specification to a launch plan.
//!
//! The specification says what, in OCI's words; the plan says how, in the shim's steps. Whatever can be refused is
//! refused here, before anything exists.

use std::fmt::Write as _;
use std::path::Path;

use oci_spec::runtime::{Linux, LinuxIdMapping, LinuxNamespaceType};

use super::{Inner, idmap, mounts};
use crate::error::{Error, ErrorKind, Result};
use crate::events::{Line, fragment};
use crate::id::ContainerId;
use crate::launch::{LaunchSpec, LifeEvents, LogDriver, LogMode};
use crate::linux::plan::format::{event, option};
use crate::linux::plan::jsonlog::MAX_ATTRIBUTES as MAX_LOG_ATTRIBUTES;
use crate::linux::plan::{LaunchPlan, LogStep};

/// Labels that are larger are left out of a container's events: they are written with each.
const MAX_ATTRIBUTES: usize = 64 << 10;
const NEWNS: u64 = 0x0002_0000;
pub(super) const NEWCGROUP: u64 = 0x0200_0000;
const NEWUTS: u64 = 0x0400_0000;
const NEWUSER: u64 = 0x1000_0000;
const NEWTIME: u64 = 0x80;
pub(super) const NEWNET: u64 = 0x4000_0000;

/// `CLONE_NEW…` of a namespace type, see clone(2).
fn flag(kind: LinuxNamespaceType) -> u64 {
    match kind {
        LinuxNamespaceType::Mount => NEWNS,
        LinuxNamespaceType::Cgroup => NEWCGROUP,
        LinuxNamespaceType::Uts => NEWUTS,
        LinuxNamespaceType::Ipc => 0x0800_0000,
        LinuxNamespaceType::User => NEWUSER,
        LinuxNamespaceType::Pid => 0x2000_0000,
        LinuxNamespaceType::Network => NEWNET,
        LinuxNamespaceType::Time => NEWTIME,
    }
}

pub(super) fn invalid(message: &'static str) -> Error {
    Error::new(ErrorKind::InvalidArgument, "prepare container").with_message(message)
}

impl Inner {
    /// Makes the plan of a container.
    pub(super) fn translate(&self, id: &ContainerId, launch: &LaunchSpec) -> Result<LaunchPlan> {
        let none = Linux::default();
        let linux = launch.oci.linux().as_ref().unwrap_or(&none);
        let mut plan = LaunchPlan {
            id: id.to_string(),
            architecture: launch.architecture.clone().unwrap_or_default(),
            boot_id: crate::linux::shim::boot_id().to_owned(),
            cgroup_path: self.cgroups.path(id, launch)?,
            masked: linux.masked_paths().clone().unwrap_or_default(),
            read_only: linux.readonly_paths().clone().unwrap_or_default(),
            hostname: launch.oci.hostname().clone(),
            domainname: launch.oci.domainname().clone(),
            ..LaunchPlan::default()
        };
        supported(launch, linux)?;
        namespaces(linux, &mut plan)?;
        if plan.namespaces & NEWUTS == 0 {
            // The names of a namespace that is not the container's own are another's, perhaps the host's.
            (plan.hostname, plan.domainname) = (None, None);
        }
        if plan.namespaces & NEWUSER != 0 {
            plan.uid_map = Some(id_map(linux.uid_mappings().as_deref())?);
            plan.gid_map = Some(id_map(linux.gid_mappings().as_deref())?);
        }
        for (name, value) in linux.sysctl().iter().flatten() {
            plan.sysctls.push((sysctl_path(name)?, value.clone()));
        }
        // One order, whatever the map's: failures name the same one each time.
        plan.sysctls.sort();
        plan.time_offsets = time_offsets(linux, plan.namespaces)?;
        mounts::translate(launch, linux, &self.cgroups, &mut plan)?;
        idmap::apply(launch, linux, &mut plan)?;
        if launch.log.driver != LogDriver::None {
            plan.log = Some(log(launch)?);
        }
        plan.restart = super::restart::rule(launch.restart);
        if let Some(events) = launch.events.as_ref().filter(|events| events.journal.directory().is_some()) {
            tell(events, &mut plan);
        }
        plan.process = self.process(launch)?;
        plan.health =
            launch.health.as_ref().map(|spec| super::health::plan(spec, &plan.process)).transpose()?;
        plan.resolver = super::resolver::port(launch, plan.namespaces)?;
        let options = &mut plan.process.options;
        for (bit, wanted) in [
            (option::TTY, launch.terminal.is_some()),
            (option::STDIN, launch.open_stdin),
            (option::STDIN_ONCE, launch.stdin_once),
            (option::INIT, launch.init),
            (option::CREATE_CWD, true),
            (option::READONLY_ROOT, mounts::root_is_read_only(launch)),
        ] {
            *options |= if wanted { bit } else { 0 };
        }
        Ok(plan)
    }
}

fn log(launch: &LaunchSpec) -> Result<LogStep> {
    let attributes = fragment(&launch.log_attributes);
    if attributes.len() > MAX_LOG_ATTRIBUTES {
        return Err(invalid("the labels, variables and tag that go with each line of the log are too long")
            .with("bytes", attributes.len())
            .with_hint("name fewer in the log options labels and env"));
    }
    Ok(LogStep {
        max_size: launch.log.max_size,
        max_files: launch.log.max_file,
        compress: launch.log.compress,
        ring_size: if launch.log.mode == LogMode::NonBlocking {
            launch.log.max_buffer_size.max(1)
        } else {
            0
        },
        name: super::log_files::FILE.to_owned(),
        attributes,
    })
}

/// Prepares the texts of the events that the shim tells of.
fn tell(events: &LifeEvents, plan: &mut LaunchPlan) {
    let mut attributes = fragment(&events.attributes);
    if attributes.len() > MAX_ATTRIBUTES {
        let own = |key: &str| key == "image" || key == "name";
        let kept = events.attributes.iter().filter(|(key, _)| own(key));
        attributes = fragment(&kept.map(|(key, value)| (key.clone(), value.clone())).collect());
    }
    if attributes.is_empty() {
        attributes = "\"name\":\"\"".to_owned();
    }
    plan.event_actor = Some(attributes);
    for (when, list) in [(event::AT_START, &events.at_start), (event::AT_END, &events.at_end)] {
        let lines = list.iter().map(|event| (when, Line::new(event, None).as_str().to_owned()));
        plan.events.extend(lines);
    }
}

/// Refuses sections of the runtime spec that would be ignored.
fn supported(launch: &LaunchSpec, linux: &Linux) -> Result<()> {
    let hooks =
        launch.oci.hooks().as_ref().is_some_and(|hooks| *hooks != oci_spec::runtime::Hooks::default());
    for (there, section) in [
        (linux.intel_rdt().is_some(), "linux.intelRdt"),
        // What runs on the host is the caller's own code (SECURITY B10).
        (hooks, "hooks"),
    ] {
        if there {
            return Err(Error::new(ErrorKind::Unsupported, "prepare container")
                .with("section", section)
                .with_message("this section of the runtime spec is not supported"));
        }
    }
    Ok(())
}

fn namespaces(linux: &Linux, plan: &mut LaunchPlan) -> Result<()> {
    for namespace in linux.namespaces().iter().flatten() {
        let kind = flag(namespace.typ());
        match namespace.path() {
            None => plan.namespaces |= kind,
            Some(_) if kind == NEWNS => {
                return Err(Error::new(ErrorKind::Unsupported, "prepare container")
                    .with_message("a mount namespace of another container cannot be joined"));
            }
            Some(path) => {
                let flag = u32::try_from(kind).expect("clone flags of namespaces have 32 bits");
                plan.joins.push((flag, text(path)?));
            }
        }
    }
    if plan.namespaces & NEWNS == 0 {
        return Err(invalid("a container needs a mount namespace of its own"));
    }
    Ok(())
}

/// The lines of `timens_offsets` (time_namespaces(7)).
fn time_offsets(linux: &Linux, namespaces: u64) -> Result<Option<String>> {
    let Some(offsets) = linux.time_offsets().as_ref().filter(|offsets| !offsets.is_empty()) else {
        return Ok(None);
    };
    if namespaces & NEWTIME == 0 {
        return Err(invalid("offsets of clocks need a time namespace"));
    }
    let mut lines = String::new();
    for (clock, offset) in offsets {
        if !["monotonic", "boottime"].contains(&clock.as_str()) {
            return Err(
                invalid("a time namespace has the clocks monotonic and boottime").with("clock", clock)
            );
        }
        let _ = writeln!(
            lines,
            "{clock} {} {}",
            offset.secs().unwrap_or_default(),
            offset.nanosecs().unwrap_or_default()
        );
    }
    Ok(Some(lines))
}

fn id_map(mappings: Option<&[LinuxIdMapping]>) -> Result<String> {
    let mut map = String::new();
    for mapping in mappings.unwrap_or_default() {
        let _ = writeln!(map, "{} {} {}", mapping.container_id(), mapping.host_id(), mapping.size());
    }
    if map.is_empty() { Err(invalid("a user namespace needs id mappings")) } else { Ok(map) }
}

/// The path below /proc of a sysctl in either spelling: `net.ipv4.conf.all` or `net/ipv4/conf/eth0.7` (sysctl(8)).
fn sysctl_path(name: &str) -> Result<String> {
    let slashes = name.find(['.', '/']).is_some_and(|at| name.as_bytes()[at] == b'/');
    let path: String = name
        .chars()
        .map(|c| match (c, slashes) {
            ('.', false) => '/',
            ('/', false) => '.',
            (c, _) => c,
        })
        .collect();
    if path.split('/').any(|part| matches!(part, "" | "." | "..")) {
        return Err(invalid("not the name of a sysctl").with("sysctl", name));
    }
    Ok(format!("sys/{path}"))
}

pub(super) fn text(path: &Path) -> Result<String> {
    path.to_str()
        .map(str::to_owned)
        .ok_or_else(|| invalid("a path is not UTF-8").with("path", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sysctls_become_paths_that_stay_below_proc_sys() {
        assert_eq!(sysctl_path("net.ipv4.ip_forward").unwrap(), "sys/net/ipv4/ip_forward");
        assert_eq!(sysctl_path("net/ipv4/conf/eth0.7/x").unwrap(), "sys/net/ipv4/conf/eth0.7/x");
        assert_eq!(sysctl_path("net.ipv4.conf.eth0/7.x").unwrap(), "sys/net/ipv4/conf/eth0.7/x");
        for bad in ["", ".", "../x", "a/../b", "a..b", "/a", "a."] {
            assert!(sysctl_path(bad).is_err(), "{bad:?}");
        }
    }
}
