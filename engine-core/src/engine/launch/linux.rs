//! The Linux section: namespaces, id mappings, devices, masked paths, kernel settings.

use std::collections::HashMap;

use oci_spec::runtime::{
    Linux, LinuxBuilder, LinuxIdMapping, LinuxIdMappingBuilder, LinuxNamespace, LinuxNamespaceBuilder,
    LinuxNamespaceType, LinuxNetDevice, LinuxNetDeviceBuilder,
};

use crate::container_spec::{ContainerSpec, IdMappings, IdRange, NamespaceMode, NetworkMode};
use crate::error::Result;
use crate::id::ContainerId;
use crate::policy::{defaults, sysctl};

use super::{Joined, Peer, devices, failed, invalid, resources};

const PING_GROUPS: &str = "net.ipv4.ping_group_range";

pub(super) fn linux(
    id: &ContainerId,
    spec: &ContainerSpec,
    maps: Option<&IdMappings>,
    joined: &Joined,
) -> Result<Linux> {
    let (devices, device_rules) = devices::devices(spec, &joined.cdi)?;
    let mut builder = LinuxBuilder::default()
        .namespaces(namespaces(spec, joined)?)
        .devices(devices)
        .resources(resources::linux_resources(&spec.resources, device_rules)?)
        .cgroups_path(cgroup_path(id, spec)?)
        .sysctl(sysctls(spec, maps)?);
    if spec.privileged || spec.unmask_system_paths {
        builder = builder.masked_paths(Vec::new()).readonly_paths(Vec::new());
    } else {
        builder = builder
            .masked_paths(defaults::masked_paths())
            .readonly_paths(defaults::READONLY_PATHS.map(str::to_owned).to_vec());
    }
    if let Some(map) = maps {
        builder = builder.uid_mappings(mappings(&map.uids)?).gid_mappings(mappings(&map.gids)?);
    }
    let mut linux = builder.build().map_err(failed)?;
    linux.set_memory_policy(spec.memory_policy.clone());
    linux.set_personality(spec.personality.clone());
    if !spec.network_devices.is_empty() {
        linux.set_net_devices(Some(net_devices(spec)?));
    }
    let offsets = spec.time_offsets.clone();
    linux.set_time_offsets((!offsets.is_empty()).then(|| offsets.into_iter().collect()));
    Ok(linux)
}

fn net_devices(spec: &ContainerSpec) -> Result<HashMap<String, LinuxNetDevice>> {
    let device =
        |inside: &String| LinuxNetDeviceBuilder::default().name(inside.clone()).build().map_err(failed);
    let devices = spec.network_devices.iter().map(|(host, inside)| Ok((host.clone(), device(inside)?)));
    devices.collect()
}

fn namespaces(spec: &ContainerSpec, joined: &Joined) -> Result<Vec<LinuxNamespace>> {
    use LinuxNamespaceType as Kind;
    let mut list = vec![namespace(Kind::Mount, None, "mnt")?];
    let mut add = |kind, name: &str, mode: &NamespaceMode, peer: Option<&Peer>| -> Result<()> {
        match (mode, peer) {
            (NamespaceMode::Host, _) => {}
            (NamespaceMode::Container(other), None) => {
                return Err(invalid(format!("the {name} namespace of another container cannot be shared"))
                    .with("container", other));
            }
            (_, peer) => list.push(namespace(kind, peer, name)?),
        }
        Ok(())
    };
    add(Kind::Pid, "pid", &spec.pid_mode, joined.pid.as_ref())?;
    add(Kind::Ipc, "ipc", &spec.ipc_mode, joined.ipc.as_ref())?;
    add(Kind::Uts, "uts", &spec.uts_mode, None)?;
    add(Kind::Cgroup, "cgroup", &spec.cgroup_mode, None)?;
    let network = match &spec.network {
        NetworkMode::Host => NamespaceMode::Host,
        NetworkMode::Container(other) => NamespaceMode::Container(other.clone()),
        _ => NamespaceMode::Private,
    };
    add(Kind::Network, "net", &network, joined.network.as_ref())?;
    if !spec.time_offsets.is_empty() {
        list.push(namespace(Kind::Time, None, "time")?);
    }
    if spec.is_mapped() {
        list.push(namespace(Kind::User, joined.user.as_ref().map(|(peer, _)| peer), "user")?);
    }
    Ok(list)
}

fn namespace(kind: LinuxNamespaceType, peer: Option<&Peer>, name: &str) -> Result<LinuxNamespace> {
    let builder = LinuxNamespaceBuilder::default().typ(kind);
    match peer {
        Some(peer) => builder.path(peer.namespace(name)),
        None => builder,
    }
    .build()
    .map_err(failed)
}

/// Refuses maps that the kernel would refuse, or that have no root.
pub(in crate::engine) fn check_maps(maps: &IdMappings) -> Result<()> {
    mappings(&maps.uids)?;
    mappings(&maps.gids).map(drop)
}

fn mappings(ranges: &[IdRange]) -> Result<Vec<LinuxIdMapping>> {
    // The kernel takes at most 340 lines, see user_namespaces(7).
    if ranges.is_empty() || ranges.len() > 340 || ranges.iter().any(|range| range.size == 0) {
        return Err(invalid("a user namespace needs 1 to 340 id ranges, none of them empty"));
    }
    for (at, range) in ranges.iter().enumerate() {
        let end = |first: u32| first.checked_add(range.size);
        let overlaps = || {
            ranges[..at].iter().any(|other| {
                let both =
                    |a: u32, b: u32| a < b.saturating_add(other.size) && b < a.saturating_add(range.size);
                both(range.container, other.container) || both(range.host, other.host)
            })
        };
        if end(range.container).is_none() || end(range.host).is_none() || overlaps() {
            return Err(invalid("the id ranges of a user namespace overlap, or go beyond the last id")
                .with("range", format!("{}:{}:{}", range.container, range.host, range.size)));
        }
    }
    if !ranges.iter().any(|range| range.container == 0) {
        return Err(invalid("the id ranges of a user namespace need one from 0 on, for its root"));
    }
    let convert = |range: &IdRange| {
        LinuxIdMappingBuilder::default()
            .container_id(range.container)
            .host_id(range.host)
            .size(range.size)
            .build()
            .map_err(failed)
    };
    ranges.iter().map(convert).collect()
}

/// Returns the container's cgroup as a path in the hierarchies.
fn cgroup_path(id: &ContainerId, spec: &ContainerSpec) -> Result<String> {
    let parent = spec.cgroup_parent.as_deref().unwrap_or("/engine");
    let clean = parent.trim_matches('/');
    if clean.is_empty()
        || clean.split('/').any(|part| matches!(part, "" | "." | ".."))
        || clean.contains('\0')
    {
        return Err(invalid("the parent cgroup is not a path within the hierarchy").with("cgroup", parent));
    }
    Ok(format!("/{clean}/{id}"))
}

fn sysctls(spec: &ContainerSpec, maps: Option<&IdMappings>) -> Result<HashMap<String, String>> {
    let own_network = !matches!(spec.network, NetworkMode::Host | NetworkMode::Container(_));
    let private = sysctl::Private::all()
        .with_network(own_network)
        .with_ipc(spec.ipc_mode == NamespaceMode::Private)
        .with_uts(spec.uts_mode == NamespaceMode::Private);
    let mut map = HashMap::new();
    if own_network {
        for (name, value) in sysctl::NETWORK_DEFAULTS {
            map.insert(name.to_owned(), value.to_owned());
        }
    }
    for (name, value) in &spec.sysctls {
        sysctl::check(name, value, private)?;
        map.insert(name.clone(), value.clone());
    }
    // In a user namespace, a range of groups beyond the mapped ones is refused by the kernel.
    if let Some(range) = map.get_mut(PING_GROUPS)
        && let Some(maps) = maps
        && !spec.sysctls.contains_key(PING_GROUPS)
    {
        let last =
            maps.gids.iter().find(|gids| gids.container == 0).map_or(0, |gids| gids.size.saturating_sub(1));
        *range = format!("0 {last}");
    }
    Ok(map)
}
