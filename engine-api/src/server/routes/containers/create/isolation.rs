//! Privileges and namespaces.

use std::sync::Arc;

use engine_core::ContainerSpec;
use engine_core::container_spec::NamespaceMode;
use engine_core::launch::SeccompPolicy;

use crate::models::{HostConfig, HostConfigCgroupnsModeEnum as CgroupMode};
use crate::notation;
use crate::server::error::Result;

use super::{bad, text};

pub(super) fn apply(spec: &mut ContainerSpec, host: &HostConfig) -> Result<()> {
    spec.privileged = host.privileged.unwrap_or(false);
    spec.cap_add = host.cap_add.clone().unwrap_or_default();
    spec.cap_drop = host.cap_drop.clone().unwrap_or_default();
    spec.read_only_rootfs = host.readonly_rootfs.unwrap_or(false);
    // Docker's default, which images with sudo count on; ours is the other.
    spec.allow_new_privileges = true;
    for option in host.security_opt.iter().flatten() {
        notation::security_option(option, spec, profile)?;
    }
    if spec.privileged && matches!(spec.seccomp, SeccompPolicy::Default) {
        spec.seccomp = SeccompPolicy::Unconfined;
    }
    paths(spec, host)?;
    spec.cgroup_parent = text(host.cgroup_parent.as_ref());
    spec.cgroup_mode = match host.cgroupns_mode {
        Some(CgroupMode::HOST) => NamespaceMode::Host,
        _ => NamespaceMode::Private,
    };
    spec.ipc_mode = match host.ipc_mode.as_deref() {
        Some("shareable") => NamespaceMode::Private,
        // Its own, and no /dev/shm.
        Some("none") => {
            spec.shm_size = Some(0);
            NamespaceMode::Private
        }
        mode => notation::namespace_mode("HostConfig.IpcMode", mode, true)?,
    };
    spec.pid_mode = notation::namespace_mode("HostConfig.PidMode", host.pid_mode.as_deref(), true)?;
    spec.uts_mode = notation::namespace_mode("HostConfig.UTSMode", host.uts_mode.as_deref(), false)?;
    spec.user_namespace = notation::user_namespace(host.userns_mode.as_deref().unwrap_or_default())?;
    spec.sysctls = host.sysctls.clone().unwrap_or_default().into_iter().collect();
    spec.group_add = host.group_add.clone().unwrap_or_default();
    Ok(())
}

/// A profile of system calls comes as it is: clients read its file.
fn profile(text: &str) -> std::result::Result<Arc<str>, String> {
    match serde_json::from_str::<serde_json::Value>(text) {
        Ok(value) if value.is_object() => Ok(text.into()),
        Ok(_) => Err("the profile is no JSON object".to_owned()),
        Err(error) => Err(format!("decoding the profile failed: {error}")),
    }
}

/// Empty lists are how clients say `systempaths=unconfined`.
fn paths(spec: &mut ContainerSpec, host: &HostConfig) -> Result<()> {
    match (&host.masked_paths, &host.readonly_paths) {
        (None, None) => {}
        (Some(masked), Some(read_only)) if masked.is_empty() && read_only.is_empty() => {
            spec.unmask_system_paths = true;
        }
        (Some(_), _) => {
            return Err(bad(
                "HostConfig.MaskedPaths",
                "paths of one's own are not supported: leave both lists out, or give both empty",
            ));
        }
        (None, Some(_)) => {
            return Err(bad(
                "HostConfig.ReadonlyPaths",
                "paths of one's own are not supported: leave both lists out, or give both empty",
            ));
        }
    }
    Ok(())
}
