//! The process of a launch plan: user, capabilities, filter, limits, arguments.

use oci_spec::runtime::{Capability, LinuxCapabilities, PosixRlimit, PosixRlimitType, Process};

use super::Inner;
use super::translate::invalid;
use crate::error::Result;
use crate::launch::{LaunchSpec, SeccompPolicy};
use crate::linux::plan::ProcessPlan;
use crate::linux::plan::format::{self, option};
use crate::linux::seccomp::{DEFAULT_PROFILE, Program, Target};
use crate::linux::users::ResolvedUser;
use crate::policy::{CapabilitySet, ProcessCapabilities};

impl Inner {
    /// Makes the process of a container's plan, all but the options that are not the process's own.
    pub(super) fn process(&self, launch: &LaunchSpec) -> Result<ProcessPlan> {
        let process = launch.oci.process().as_ref().ok_or_else(|| invalid("a container needs a process"))?;
        let user = self.users.resolve(launch)?;
        let (bounding, ambient) = bounding(process.capabilities().as_ref())?;
        let mut plan = ProcessPlan {
            rlimits: process.rlimits().iter().flatten().map(rlimit).collect(),
            oom_score_adj: process.oom_score_adj(),
            lsm: label(process),
            umask: process.user().umask(),
            argv: process.args().iter().flatten().map(|text| text.clone().into_bytes()).collect(),
            env: process.env().iter().flatten().map(|text| text.clone().into_bytes()).collect(),
            cwd: super::translate::text(process.cwd())?,
            terminal: launch.terminal.map(|size| (size.rows, size.columns)),
            seccomp: self
                .filter(launch, bounding)?
                .map(|program| (program.flags(), program.as_bytes().to_vec())),
            ..ProcessPlan::default()
        };
        if plan.argv.is_empty() {
            return Err(invalid("a container needs a command"));
        }
        become_user(&mut plan, &user, bounding, ambient);
        plan.groups.extend(process.user().additional_gids().iter().flatten());
        if process.no_new_privileges() == Some(true) {
            plan.options |= option::NO_NEW_PRIVS;
        }
        Ok(plan)
    }

    fn filter(&self, launch: &LaunchSpec, bounding: CapabilitySet) -> Result<Option<Program>> {
        let target = Target::for_image(std::env::consts::ARCH)?;
        if let Some(section) = launch.oci.linux().as_ref().and_then(|linux| linux.seccomp().as_ref()) {
            return self.seccomp.oci(section, bounding, target).map(Some);
        }
        match &launch.seccomp {
            SeccompPolicy::Unconfined => Ok(None),
            SeccompPolicy::Default => self.seccomp.json(DEFAULT_PROFILE, bounding, target).map(Some),
            SeccompPolicy::Profile(json) => self.seccomp.json(json, bounding, target).map(Some),
        }
    }
}

/// Gives the process its user, and the capabilities that such a user has.
pub(super) fn become_user(
    plan: &mut ProcessPlan,
    user: &ResolvedUser,
    bounding: CapabilitySet,
    ambient: CapabilitySet,
) {
    (plan.uid, plan.gid) = (user.uid, user.gid);
    plan.groups.clone_from(&user.groups);
    let sets = ProcessCapabilities::for_user(bounding, user.uid, ambient);
    plan.capabilities = format::Capabilities {
        bounding: sets.bounding.bits(),
        effective: sets.effective.bits(),
        permitted: sets.permitted.bits(),
        inheritable: sets.inheritable.bits(),
        ambient: sets.ambient.bits(),
    };
    if !plan.env.iter().any(|variable| variable.starts_with(b"HOME=")) {
        plan.env.push(format!("HOME={}", user.home).into_bytes());
    }
}

/// The bounding and ambient sets asked for.
fn bounding(capabilities: Option<&LinuxCapabilities>) -> Result<(CapabilitySet, CapabilitySet)> {
    let Some(capabilities) = capabilities else { return Ok((CapabilitySet::EMPTY, CapabilitySet::EMPTY)) };
    let set = |names: &Option<std::collections::HashSet<Capability>>| {
        let name = |capability: &Capability| match serde_json::to_value(capability) {
            Ok(serde_json::Value::String(name)) => Some(name),
            _ => None,
        };
        CapabilitySet::from_names(names.iter().flatten().filter_map(name))
    };
    Ok((set(capabilities.bounding())?, set(capabilities.ambient())?))
}

fn label(process: &Process) -> Option<(String, String)> {
    if let Some(profile) = process.apparmor_profile() {
        return Some(("self/attr/apparmor/exec".to_owned(), format!("exec {profile}")));
    }
    process.selinux_label().as_ref().map(|label| ("self/attr/exec".to_owned(), label.clone()))
}

fn rlimit(limit: &PosixRlimit) -> (u32, u64, u64) {
    // The numbers of the asm-generic ABI, which x86 and arm share (getrlimit(2)).
    let resource = match limit.typ() {
        PosixRlimitType::RlimitCpu => 0,
        PosixRlimitType::RlimitFsize => 1,
        PosixRlimitType::RlimitData => 2,
        PosixRlimitType::RlimitStack => 3,
        PosixRlimitType::RlimitCore => 4,
        PosixRlimitType::RlimitRss => 5,
        PosixRlimitType::RlimitNproc => 6,
        PosixRlimitType::RlimitNofile => 7,
        PosixRlimitType::RlimitMemlock => 8,
        PosixRlimitType::RlimitAs => 9,
        PosixRlimitType::RlimitLocks => 10,
        PosixRlimitType::RlimitSigpending => 11,
        PosixRlimitType::RlimitMsgqueue => 12,
        PosixRlimitType::RlimitNice => 13,
        PosixRlimitType::RlimitRtprio => 14,
        PosixRlimitType::RlimitRttime => 15,
    };
    let most = most_allowed(resource);
    (resource, limit.soft().min(most), limit.hard().min(most))
}

/// The highest hard limit that may be set here: without CAP_SYS_RESOURCE our own, see setrlimit(2). A wish beyond it is
/// clamped, since a container with fewer files than it asked for is better than none.
fn most_allowed(resource: u32) -> u64 {
    use rustix::process::Resource;
    let kind = match resource {
        0 => Resource::Cpu,
        1 => Resource::Fsize,
        2 => Resource::Data,
        3 => Resource::Stack,
        4 => Resource::Core,
        5 => Resource::Rss,
        6 => Resource::Nproc,
        7 => Resource::Nofile,
        8 => Resource::Memlock,
        9 => Resource::As,
        10 => Resource::Locks,
        11 => Resource::Sigpending,
        12 => Resource::Msgqueue,
        13 => Resource::Nice,
        14 => Resource::Rtprio,
        _ => Resource::Rttime,
    };
    let own = rustix::process::getrlimit(kind).maximum.unwrap_or(u64::MAX);
    let raises = rustix::thread::capabilities(None)
        .is_ok_and(|sets| sets.effective.contains(rustix::thread::CapabilitySet::SYS_RESOURCE));
    match (raises, resource) {
        (false, _) => own,
        // More open files than fs.nr_open are refused even then.
        (true, 7) => {
            let text = std::fs::read_to_string("/proc/sys/fs/nr_open").unwrap_or_default();
            text.trim().parse().unwrap_or(1 << 20)
        }
        (true, _) => u64::MAX,
    }
}
