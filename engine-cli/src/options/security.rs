//! Privileges and namespaces: `--cap-add`, `--security-opt`, `--pid`, `--device` and their like.

use clap::Args;
use engine_api::notation::{id_range, is_cdi_device, namespace_mode, security_option, user_namespace};
use engine_core::container_spec::{
    ContainerSpec, DeviceSpec, IdMappings, IdRange, NamespaceMode, UserNamespace,
};

use crate::failure::{Failure, Result};

/// Privileges and namespaces of a container.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Isolation")]
pub(crate) struct SecurityArgs {
    /// Every capability and device, no filter: not isolated from the host
    #[arg(long)]
    privileged: bool,
    /// Add a capability, or ALL
    #[arg(long, value_name = "CAP")]
    cap_add: Vec<String>,
    /// Drop a capability, or ALL
    #[arg(long, value_name = "CAP")]
    cap_drop: Vec<String>,
    /// seccomp=FILE|unconfined, no-new-privileges[=true|false] (default true), systempaths=unconfined
    #[arg(long, value_name = "OPTION")]
    security_opt: Vec<String>,
    /// Cgroup namespace: private or host
    #[arg(long, value_name = "MODE")]
    cgroupns: Option<String>,
    /// Parent cgroup
    #[arg(long, value_name = "PATH")]
    cgroup_parent: Option<String>,
    /// IPC namespace: private, shareable, none (without /dev/shm), host or container:NAME
    #[arg(long, value_name = "MODE")]
    ipc: Option<String>,
    /// Process namespace: private, host or container:NAME
    #[arg(long, value_name = "MODE")]
    pid: Option<String>,
    /// UTS namespace: private or host
    #[arg(long, value_name = "MODE")]
    uts: Option<String>,
    /// User namespace: host, auto[:size=N], container:NAME, or id ranges INSIDE:OUTSIDE:SIZE[,...]
    #[arg(long, value_name = "MODE")]
    userns: Option<String>,
    /// Ids of users in its user namespace
    #[arg(long, value_name = "INSIDE:OUTSIDE[:SIZE]", conflicts_with = "userns")]
    uidmap: Vec<String>,
    /// Ids of groups in its user namespace; those of users without it
    #[arg(long, value_name = "INSIDE:OUTSIDE[:SIZE]", conflicts_with = "userns")]
    gidmap: Vec<String>,
    /// Kernel setting of its namespaces
    #[arg(long, value_name = "NAME=VALUE")]
    sysctl: Vec<String>,
    /// Device of the host, or a CDI device as vendor.com/class=name
    #[arg(long, value_name = "HOST[:CONTAINER[:rwm]]")]
    device: Vec<String>,
    /// Devices that may be opened besides, as "c 1:3 rwm"
    #[arg(long, value_name = "RULE")]
    device_cgroup_rule: Vec<String>,
    /// GPUs, by their CDI files: all, a number, or device=0,1
    #[arg(long, value_name = "GPUS")]
    gpus: Option<String>,
}

impl SecurityArgs {
    /// Writes the wishes into `spec`.
    pub(crate) fn apply(&self, spec: &mut ContainerSpec) -> Result<()> {
        spec.privileged = self.privileged;
        spec.cap_add.clone_from(&self.cap_add);
        spec.cap_drop.clone_from(&self.cap_drop);
        for option in &self.security_opt {
            security_option(option, spec, seccomp_file)?;
        }
        spec.cgroup_parent.clone_from(&self.cgroup_parent);
        spec.cgroup_mode = namespace_mode("--cgroupns", self.cgroupns.as_deref(), false)?;
        spec.ipc_mode = match self.ipc.as_deref() {
            Some("shareable") => NamespaceMode::Private,
            // Its own, and no /dev/shm.
            Some("none") => {
                spec.shm_size = Some(0);
                NamespaceMode::Private
            }
            other => namespace_mode("--ipc", other, true)?,
        };
        spec.pid_mode = namespace_mode("--pid", self.pid.as_deref(), true)?;
        spec.uts_mode = namespace_mode("--uts", self.uts.as_deref(), false)?;
        spec.user_namespace =
            self.userns.as_deref().and_then(|text| user_namespace(text).transpose()).transpose()?;
        if let Some(maps) = id_maps(&self.uidmap, &self.gidmap)? {
            spec.user_namespace = Some(UserNamespace::Mapped(maps));
        }
        for setting in &self.sysctl {
            let (name, value) = setting
                .split_once('=')
                .ok_or_else(|| Failure::usage(format!("invalid sysctl {setting:?}: give NAME=VALUE")))?;
            spec.sysctls.insert(name.to_owned(), value.to_owned());
        }
        for text in &self.device {
            if is_cdi_device(text) {
                spec.cdi_devices.push(text.clone());
            } else {
                spec.devices.push(device(text)?);
            }
        }
        spec.device_cgroup_rules.clone_from(&self.device_cgroup_rule);
        spec.cdi_devices.extend(self.gpus.as_deref().map(gpus).transpose()?.into_iter().flatten());
        Ok(())
    }
}

/// Reads the file of a profile.
fn seccomp_file(file: &str) -> std::result::Result<std::sync::Arc<str>, String> {
    std::fs::read_to_string(file).map(Into::into).map_err(|error| format!("cannot read {file}: {error}"))
}

/// The maps of `--uidmap` and `--gidmap`; what only one of them says goes for both.
fn id_maps(users: &[String], groups: &[String]) -> Result<Option<IdMappings>> {
    let parse = |texts: &[String]| -> Result<Vec<IdRange>> {
        let range = |text: &String| {
            id_range(text).ok_or_else(|| {
                Failure::usage(format!(
                    "invalid id map {text:?}: give INSIDE:OUTSIDE[:SIZE] such as 0:100000:65536"
                ))
            })
        };
        texts.iter().map(range).collect()
    };
    let (uids, gids) = (parse(users)?, parse(groups)?);
    Ok(match (uids.is_empty(), gids.is_empty()) {
        (true, true) => None,
        (false, true) => Some(IdMappings { gids: uids.clone(), uids }),
        (true, false) => Some(IdMappings { uids: gids.clone(), gids }),
        (false, false) => Some(IdMappings { uids, gids }),
    })
}

/// The CDI names of `--gpus`: `all`, a number of them, or `device=0,1`, in Docker's CSV with `"quotes"`.
fn gpus(text: &str) -> Result<Vec<String>> {
    let wrong = || Failure::usage(format!("invalid --gpus {text:?}: give all, a number, or device=0,1"));
    let named = |name: &str| format!("nvidia.com/gpu={name}");
    let text = text.trim_matches('"');
    if text == "all" || text == "-1" {
        return Ok(vec![named("all")]);
    }
    if let Some(count) =
        text.strip_prefix("count=").unwrap_or(text).parse::<u32>().ok().filter(|count| *count <= 256)
    {
        return Ok((0..count).map(|index| named(&index.to_string())).collect());
    }
    let list =
        text.strip_prefix("device=").map(|list| list.trim_matches('"')).filter(|list| !list.is_empty());
    Ok(list.ok_or_else(wrong)?.split(',').map(named).collect())
}

fn device(text: &str) -> Result<DeviceSpec> {
    let wrong = || Failure::usage(format!("invalid device {text:?}: give HOST[:CONTAINER[:rwm]]"));
    let is_permissions = |t: &str| !t.is_empty() && t.bytes().all(|b| b"rwm".contains(&b));
    let parts: Vec<&str> = text.split(':').collect();
    let (host, inside, permissions) = match parts[..] {
        [host] => (host, host, "rwm"),
        [host, permissions] if is_permissions(permissions) => (host, host, permissions),
        [host, inside] => (host, inside, "rwm"),
        [host, inside, permissions] if is_permissions(permissions) => (host, inside, permissions),
        _ => return Err(wrong()),
    };
    if !host.starts_with('/') || !inside.starts_with('/') {
        return Err(wrong());
    }
    Ok(DeviceSpec {
        host_path: host.to_owned(),
        container_path: inside.to_owned(),
        permissions: permissions.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_and_devices() {
        assert_eq!(device("/dev/a:r").unwrap().permissions, "r");
        assert_eq!(device("/dev/a:/dev/b").unwrap().container_path, "/dev/b");
        assert!(device("a").is_err() && device("/dev/a:/dev/b:x").is_err());
        assert_eq!(gpus("all").unwrap(), ["nvidia.com/gpu=all"]);
        assert_eq!(gpus("2").unwrap(), ["nvidia.com/gpu=0", "nvidia.com/gpu=1"]);
        assert_eq!(gpus("\"device=3,5\"").unwrap(), ["nvidia.com/gpu=3", "nvidia.com/gpu=5"]);
        assert!(gpus("some").is_err() && gpus("device=").is_err());
    }

    #[test]
    fn id_maps_of_one_side_are_both() {
        assert!(seccomp_file("/no/such/file").is_err());
        let maps = id_maps(&["0:5:7".into(), "7:100".into()], &[]).unwrap().unwrap();
        assert_eq!(maps.uids, maps.gids);
        assert_eq!(maps.uids[1], IdRange { container: 7, host: 100, size: 1 });
        assert!(id_maps(&["x".into()], &[]).is_err() && id_maps(&[], &["1:2:3:4".into()]).is_err());
    }
}
