//! The process of a launch plan: user, capabilities, filter, limits, arguments.

use std::sync::OnceLock;

use oci_spec::runtime::{Capability, LinuxCapabilities, PosixRlimit, PosixRlimitType, Process};

use super::translate::invalid;
use super::{Inner, scheduling};
use crate::error::Result;
use crate::launch::{LaunchSpec, SeccompPolicy};
use crate::linux::plan::format::{self, option};
use crate::linux::plan::{Environment, ProcessPlan};
use crate::linux::seccomp::{DEFAULT_PROFILE, Program, Target};
use crate::linux::users::ResolvedUser;
use crate::policy::{CapabilitySet, ProcessCapabilities};

impl Inner {
    /// Makes the process of a container's plan, all but the options that are not the process's own.
    pub(super) fn process(&self, launch: &LaunchSpec) -> Result<ProcessPlan> {
        let process = launch.oci.process().as_ref().ok_or_else(|| invalid("a container needs a process"))?;
        let user = self.users.resolve(launch)?;
        let (bounding, ambient) = bounding(process.capabilities().as_ref())?;
        // Root of a user namespace of its own raises no limit (user_namespaces(7)).
        let mappings = launch.oci.linux().as_ref().and_then(|linux| linux.uid_mappings().as_ref());
        let raises = mappings.is_none_or(Vec::is_empty);
        let mut plan = ProcessPlan {
            rlimits: process.rlimits().iter().flatten().map(|limit| rlimit(limit, raises)).collect(),
            oom_score_adj: process.oom_score_adj(),
            lsm: label(process),
            umask: process.user().umask(),
            argv: process.args().iter().flatten().map(|text| text.clone().into_bytes()).collect(),
            env: environment(launch, process),
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
        scheduling::apply(launch, process, &mut plan)?;
        become_user(&mut plan, &user, bounding, ambient);
        plan.groups.extend(process.user().additional_gids().iter().flatten());
        if process.no_new_privileges() == Some(true) {
            plan.options |= option::NO_NEW_PRIVS;
        }
        Ok(plan)
    }

    fn filter(&self, launch: &LaunchSpec, bounding: CapabilitySet) -> Result<Option<Program>> {
        let target = Target::for_image(launch.architecture.as_deref().unwrap_or(""))?;
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

/// What the spec says, and the secrets among it.
fn environment(launch: &LaunchSpec, process: &Process) -> Environment {
    let mut env = Environment(process.env().iter().flatten().map(|text| text.clone().into_bytes()).collect());
    for secret in &launch.secret_env {
        env.set([secret.name.as_bytes(), b"=", secret.value.reveal()].concat());
    }
    env
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
    if !plan.env.has(b"HOME") {
        plan.env.set(format!("HOME={}", user.home).into_bytes());
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

/// A limit by its number and values, cut to what this host allows, and to our own limits unless the process `raises` them:
/// more is clamped, and never fails the start.
fn rlimit(limit: &PosixRlimit, raises: bool) -> (u32, u64, u64) {
    use rustix::process::Resource;
    // The numbers of the asm-generic ABI, which x86 and arm share (getrlimit(2)).
    let (number, resource) = match limit.typ() {
        PosixRlimitType::RlimitCpu => (0, Resource::Cpu),
        PosixRlimitType::RlimitFsize => (1, Resource::Fsize),
        PosixRlimitType::RlimitData => (2, Resource::Data),
        PosixRlimitType::RlimitStack => (3, Resource::Stack),
        PosixRlimitType::RlimitCore => (4, Resource::Core),
        PosixRlimitType::RlimitRss => (5, Resource::Rss),
        PosixRlimitType::RlimitNproc => (6, Resource::Nproc),
        PosixRlimitType::RlimitNofile => (7, Resource::Nofile),
        PosixRlimitType::RlimitMemlock => (8, Resource::Memlock),
        PosixRlimitType::RlimitAs => (9, Resource::As),
        PosixRlimitType::RlimitLocks => (10, Resource::Locks),
        PosixRlimitType::RlimitSigpending => (11, Resource::Sigpending),
        PosixRlimitType::RlimitMsgqueue => (12, Resource::Msgqueue),
        PosixRlimitType::RlimitNice => (13, Resource::Nice),
        PosixRlimitType::RlimitRtprio => (14, Resource::Rtprio),
        PosixRlimitType::RlimitRttime => (15, Resource::Rttime),
    };
    let most = match most_open_files().filter(|_| raises) {
        None => rustix::process::getrlimit(resource).maximum.unwrap_or(u64::MAX),
        Some(most) if resource == Resource::Nofile => most,
        Some(_) => u64::MAX,
    };
    (number, limit.soft().min(most), limit.hard().min(most))
}

/// What fs.nr_open allows, which even root cannot exceed; `None` where this process may raise no limit at all. Read once:
/// it costs more than all else of a translation.
fn most_open_files() -> Option<u64> {
    static MOST: OnceLock<Option<u64>> = OnceLock::new();
    *MOST.get_or_init(|| {
        let text = std::fs::read_to_string("/proc/sys/fs/nr_open").unwrap_or_default();
        CapabilitySet::available().contains("SYS_RESOURCE").then(|| text.trim().parse().unwrap_or(1 << 20))
    })
}
