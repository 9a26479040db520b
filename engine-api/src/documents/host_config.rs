//! What was asked for of a container, as `docker inspect` shows it: `HostConfig`.

use std::collections::HashMap;

use bollard_stubs::models::{
    self, DeviceMapping, DeviceRequest, HostConfig, HostConfigCgroupnsModeEnum, HostConfigIsolationEnum,
    HostConfigLogConfig, MountType, PortBinding, ResourcesBlkioWeightDevice, ResourcesUlimits, RestartPolicy,
    RestartPolicyNameEnum as PolicyName, ThrottleDevice,
};
use engine_core::container_spec::{
    IdRange, MountSpec, NamespaceMode, NetworkMode, UserNamespace, VolumesFrom,
};
use engine_core::launch::{LogDriver, LogMode, LogOptions, SeccompPolicy};
use engine_core::mount::{MountKind, MountOptions, Propagation};
use engine_core::resources::DeviceLimit;
use engine_core::{ContainerInfo, ContainerSpec};

/// The name of the one runtime there is, as `HostConfig.Runtime` has it.
pub const RUNTIME: &str = "engine-shim";

/// Returns `HostConfig`: what was asked for.
pub(super) fn host_config(info: &ContainerInfo) -> HostConfig {
    let spec = &info.spec;
    let limits = &spec.resources;
    let signed = |value: Option<u64>| Some(value.and_then(|v| i64::try_from(v).ok()).unwrap_or(0));
    let (driver, log) = match spec.log.driver {
        LogDriver::JsonFile => ("json-file", log_options(&spec.log)),
        LogDriver::Local => ("local", log_options(&spec.log)),
        _ => ("none", HashMap::new()),
    };
    let ulimits = spec.ulimits.iter().map(|u| ResourcesUlimits {
        name: Some(u.name.clone()),
        soft: Some(u.soft),
        hard: Some(u.hard),
    });
    let devices = spec.devices.iter().map(|d| DeviceMapping {
        path_on_host: Some(d.host_path.clone()),
        path_in_container: Some(d.container_path.clone()),
        cgroup_permissions: Some(d.permissions.clone()),
    });
    HostConfig {
        cpu_shares: signed(limits.cpu_shares),
        memory: signed(limits.memory),
        cgroup_parent: Some(spec.cgroup_parent.clone().unwrap_or_default()),
        blkio_weight: Some(limits.blkio_weight.unwrap_or(0)),
        cpu_period: signed(limits.cpu_period),
        cpu_quota: Some(limits.cpu_quota.unwrap_or(0)),
        cpuset_cpus: Some(limits.cpuset_cpus.clone().unwrap_or_default()),
        cpuset_mems: Some(limits.cpuset_mems.clone().unwrap_or_default()),
        devices: Some(devices.collect()),
        memory_reservation: signed(limits.memory_reservation),
        memory_swap: Some(limits.memory_swap.unwrap_or(0)),
        memory_swappiness: limits.memory_swappiness.and_then(|v| i64::try_from(v).ok()),
        nano_cpus: signed(limits.nano_cpus),
        init: spec.init.then_some(true),
        pids_limit: limits.pids_limit,
        ulimits: Some(ulimits.collect()),
        volumes_from: some(spec.volumes_from.iter().map(volumes_from).collect()),
        volume_driver: Some(String::new()),
        binds: some(spec.mounts.iter().filter(|mount| !is_anonymous(info, mount)).filter_map(bind).collect()),
        mounts: some(spec.mounts.iter().filter_map(mount).collect()),
        log_config: Some(HostConfigLogConfig { typ: Some(driver.to_owned()), config: Some(log) }),
        network_mode: Some(network_mode(&spec.network)),
        port_bindings: Some(port_bindings(spec)),
        publish_all_ports: Some(spec.publish_all_ports),
        auto_remove: Some(spec.auto_remove),
        restart_policy: Some(restart_policy(spec.restart)),
        annotations: Some(spec.annotations.clone().into_iter().collect())
            .filter(|all: &HashMap<_, _>| !all.is_empty()),
        cap_add: some(spec.cap_add.clone()),
        cap_drop: some(spec.cap_drop.clone()),
        cgroupns_mode: Some(match spec.cgroup_mode {
            NamespaceMode::Host => HostConfigCgroupnsModeEnum::HOST,
            _ => HostConfigCgroupnsModeEnum::PRIVATE,
        }),
        dns: Some(spec.dns.clone()),
        dns_options: Some(spec.dns_options.clone()),
        dns_search: Some(spec.dns_search.clone()),
        extra_hosts: some(
            spec.extra_hosts.iter().map(|(name, address)| format!("{name}:{address}")).collect(),
        ),
        group_add: some(spec.group_add.clone()),
        ipc_mode: Some(match namespace_mode(&spec.ipc_mode) {
            mode if !mode.is_empty() => mode,
            _ if spec.shm_size == Some(0) => "none".to_owned(),
            _ => "private".to_owned(),
        }),
        oom_score_adj: Some(spec.oom_score_adj.unwrap_or(0).into()),
        pid_mode: Some(namespace_mode(&spec.pid_mode)),
        privileged: Some(spec.privileged),
        readonly_rootfs: Some(spec.read_only_rootfs),
        security_opt: Some(security_options(spec)),
        tmpfs: Some(spec.mounts.iter().filter_map(tmpfs).collect())
            .filter(|all: &HashMap<_, _>| !all.is_empty()),
        uts_mode: Some(namespace_mode(&spec.uts_mode)),
        shm_size: signed(Some(spec.shm_size.unwrap_or(engine_core::policy::defaults::SHM_SIZE))),
        sysctls: Some(spec.sysctls.clone().into_iter().collect())
            .filter(|all: &HashMap<_, _>| !all.is_empty()),
        userns_mode: Some(spec.user_namespace.as_ref().map(user_namespace).unwrap_or_default()),
        device_cgroup_rules: some(spec.device_cgroup_rules.clone()),
        device_requests: some(device_requests(spec)),
        oom_kill_disable: limits.oom_kill_disable,
        cpu_realtime_period: signed(limits.cpu_rt_period),
        cpu_realtime_runtime: Some(limits.cpu_rt_runtime.unwrap_or(0)),
        blkio_weight_device: Some(weights(spec)),
        blkio_device_read_bps: Some(throttles(spec, |limit| limit.read_bps)),
        blkio_device_write_bps: Some(throttles(spec, |limit| limit.write_bps)),
        blkio_device_read_iops: Some(throttles(spec, |limit| limit.read_iops)),
        blkio_device_write_iops: Some(throttles(spec, |limit| limit.write_iops)),
        console_size: Some(
            spec.terminal.map_or(vec![0, 0], |size| vec![size.rows.into(), size.columns.into()]),
        ),
        container_id_file: Some(String::new()),
        cgroup: Some(String::new()),
        // Windows'.
        cpu_count: Some(0),
        cpu_percent: Some(0),
        io_maximum_iops: Some(0),
        io_maximum_bandwidth: Some(0),
        isolation: Some(HostConfigIsolationEnum::EMPTY),
        runtime: Some(RUNTIME.to_owned()),
        masked_paths: spec.unmask_system_paths.then(Vec::new),
        readonly_paths: spec.unmask_system_paths.then(Vec::new),
        ..HostConfig::default()
    }
}

/// A list that Docker's clients send as null when nothing is in it, and so see again.
fn some<T>(list: Vec<T>) -> Option<Vec<T>> {
    (!list.is_empty()).then_some(list)
}

/// The mode in the words of `--userns`.
fn user_namespace(mode: &UserNamespace) -> String {
    match mode {
        UserNamespace::Host => "host".to_owned(),
        UserNamespace::Auto { size: None } => "auto".to_owned(),
        UserNamespace::Auto { size: Some(size) } => format!("auto:size={size}"),
        UserNamespace::Container(other) => format!("container:{other}"),
        // Docker's word has one list for both.
        UserNamespace::Mapped(maps) => {
            let range = |range: &IdRange| format!("{}:{}:{}", range.container, range.host, range.size);
            maps.uids.iter().map(range).collect::<Vec<_>>().join(",")
        }
        _ => "private".to_owned(),
    }
}

/// The ports as they were asked for.
fn port_bindings(spec: &ContainerSpec) -> HashMap<String, Option<Vec<PortBinding>>> {
    let mut map: HashMap<String, Option<Vec<PortBinding>>> = HashMap::new();
    for port in &spec.ports {
        let list = map.entry(format!("{}/{}", port.container_port, port.protocol)).or_default();
        list.get_or_insert_default().push(PortBinding {
            host_ip: Some(port.host_ip.map(|address| address.to_string()).unwrap_or_default()),
            host_port: Some(match port.host_port {
                0 => String::new(),
                number => number.to_string(),
            }),
        });
    }
    map
}

fn device_requests(spec: &ContainerSpec) -> Vec<DeviceRequest> {
    if spec.cdi_devices.is_empty() {
        return Vec::new();
    }
    vec![DeviceRequest {
        driver: Some("cdi".to_owned()),
        device_ids: Some(spec.cdi_devices.clone()),
        ..DeviceRequest::default()
    }]
}

fn weights(spec: &ContainerSpec) -> Vec<ResourcesBlkioWeightDevice> {
    let weighted = spec.resources.blkio_devices.iter().filter(|limit| limit.weight > 0);
    weighted
        .map(|limit| ResourcesBlkioWeightDevice {
            path: Some(limit.path.clone()),
            weight: Some(limit.weight.into()),
        })
        .collect()
}

fn throttles(spec: &ContainerSpec, rate: fn(&DeviceLimit) -> u64) -> Vec<ThrottleDevice> {
    let limited = spec.resources.blkio_devices.iter().filter(|limit| rate(limit) > 0);
    limited
        .map(|limit| ThrottleDevice { path: Some(limit.path.clone()), rate: i64::try_from(rate(limit)).ok() })
        .collect()
}

fn restart_policy(policy: engine_core::RestartPolicy) -> RestartPolicy {
    RestartPolicy {
        name: Some(match policy {
            engine_core::RestartPolicy::Always => PolicyName::ALWAYS,
            engine_core::RestartPolicy::UnlessStopped => PolicyName::UNLESS_STOPPED,
            engine_core::RestartPolicy::OnFailure { .. } => PolicyName::ON_FAILURE,
            _ => PolicyName::NO,
        }),
        maximum_retry_count: Some(policy.max_retries().into()),
    }
}

fn namespace_mode(mode: &NamespaceMode) -> String {
    match mode {
        NamespaceMode::Host => "host".to_owned(),
        NamespaceMode::Container(other) => format!("container:{other}"),
        _ => String::new(),
    }
}

/// Returns the mode in the words of `--network`.
pub(crate) fn network_mode(mode: &NetworkMode) -> String {
    match mode {
        NetworkMode::None => "none".to_owned(),
        NetworkMode::Host => "host".to_owned(),
        NetworkMode::Container(other) => format!("container:{other}"),
        NetworkMode::Networks(list) => list.first().map(|(name, _)| name.to_string()).unwrap_or_default(),
        _ => "default".to_owned(),
    }
}

fn security_options(spec: &ContainerSpec) -> Vec<String> {
    let mut list = Vec::new();
    match &spec.seccomp {
        SeccompPolicy::Unconfined => list.push("seccomp=unconfined".to_owned()),
        SeccompPolicy::Profile(profile) => list.push(format!("seccomp={profile}")),
        _ => {}
    }
    if spec.unmask_system_paths {
        list.push("systempaths=unconfined".to_owned());
    }
    list.push(format!("no-new-privileges={}", !spec.allow_new_privileges));
    list
}

/// Returns Docker's notation: `name`, `name:ro`.
fn volumes_from(from: &VolumesFrom) -> String {
    match from.read_only {
        None => from.container.clone(),
        Some(read_only) => format!("{}:{}", from.container, if read_only { "ro" } else { "rw" }),
    }
}

pub(super) fn flags(options: &MountOptions) -> String {
    if options.read_only { "ro".to_owned() } else { String::new() }
}

/// Whether a mount is a volume that was made for the container alone.
fn is_anonymous(info: &ContainerInfo, mount: &MountSpec) -> bool {
    mount.volume_name().is_some_and(|name| info.anonymous_volumes.contains(name))
}

/// Returns Docker's `-v` form of a bind or a volume, if it is one that can be written so.
fn bind(mount: &MountSpec) -> Option<String> {
    let (source, target, mut flags) = match mount {
        MountSpec::Mount(mount) => match &mount.kind {
            MountKind::Bind { source, recursive } if mount.options.create_source => {
                let mut flags = vec![flags(&mount.options)];
                if mount.options.propagation != Propagation::default() {
                    flags.push(propagation(mount.options.propagation).to_owned());
                }
                if !recursive {
                    flags.push("bind".to_owned());
                }
                (source.display().to_string(), &mount.target, flags)
            }
            _ => return None,
        },
        MountSpec::Volume { name, target, options, no_copy, .. } if !is_detailed(mount) => {
            let no_copy = if *no_copy { "nocopy" } else { "" };
            (name.as_ref()?.to_string(), target, vec![flags(options), no_copy.to_owned()])
        }
        _ => return None,
    };
    flags.retain(|flag| !flag.is_empty());
    let colon = if flags.is_empty() { "" } else { ":" };
    Some(format!("{source}:{}{colon}{}", target.display(), flags.join(",")))
}

/// Whether a volume says more than its `-v` form can.
fn is_detailed(mount: &MountSpec) -> bool {
    match mount {
        MountSpec::Volume { subpath, create, .. } => {
            let labels =
                create.labels.keys().any(|label| label != engine_core::volume_driver::ANONYMOUS_LABEL);
            subpath.is_some() || labels || !create.driver_options.is_empty()
        }
        _ => true,
    }
}

/// Returns one of `Mounts`, if it is one that has no `-v` form and is no memory file system.
fn mount(spec: &MountSpec) -> Option<models::Mount> {
    match spec {
        MountSpec::Mount(mount) => match &mount.kind {
            MountKind::Bind { source, recursive } if !mount.options.create_source => Some(models::Mount {
                typ: Some(MountType::BIND),
                source: Some(source.display().to_string()),
                target: Some(mount.target.display().to_string()),
                read_only: Some(mount.options.read_only),
                bind_options: Some(models::MountBindOptions {
                    propagation: propagation(mount.options.propagation).parse().ok(),
                    non_recursive: Some(!recursive),
                    read_only_non_recursive: Some(
                        mount.options.read_only && !mount.options.recursive_read_only,
                    ),
                    ..models::MountBindOptions::default()
                }),
                ..models::Mount::default()
            }),
            _ => None,
        },
        MountSpec::Volume { name, target, options, no_copy, subpath, create } if is_detailed(spec) => {
            let driver_options: HashMap<_, _> = create.driver_options.clone().into_iter().collect();
            Some(models::Mount {
                typ: Some(MountType::VOLUME),
                source: name.as_ref().map(ToString::to_string),
                target: Some(target.display().to_string()),
                read_only: Some(options.read_only),
                volume_options: Some(models::MountVolumeOptions {
                    no_copy: Some(*no_copy),
                    labels: Some(create.labels.clone().into_iter().collect()),
                    driver_config: Some(models::MountVolumeOptionsDriverConfig {
                        name: Some("local".to_owned()),
                        options: Some(driver_options),
                    }),
                    subpath: subpath.as_ref().map(|path| path.display().to_string()),
                }),
                ..models::Mount::default()
            })
        }
        MountSpec::Image { image, target, subpath } => Some(models::Mount {
            typ: Some(MountType::IMAGE),
            source: Some(image.clone()),
            target: Some(target.display().to_string()),
            read_only: Some(true),
            image_options: subpath
                .as_ref()
                .map(|path| models::MountImageOptions { subpath: Some(path.display().to_string()) }),
            ..models::Mount::default()
        }),
        _ => None,
    }
}

fn tmpfs(mount: &MountSpec) -> Option<(String, String)> {
    let MountSpec::Mount(mount) = mount else { return None };
    match &mount.kind {
        MountKind::Tmpfs { size, mode, uid, gid } => {
            let own = &mount.options;
            let flag = |is: bool, word: &str| is.then(|| word.to_owned());
            // What differs from the default, in the order in which it is read again.
            let options = [
                size.map(|bytes| format!("size={bytes}")),
                Some(format!("mode={mode:o}")).filter(|_| *mode != 0o1777),
                Some(format!("uid={uid}")).filter(|_| *uid != 0),
                Some(format!("gid={gid}")).filter(|_| *gid != 0),
                flag(own.read_only, "ro"),
                flag(!own.noexec, "exec"),
                flag(!own.nosuid, "suid"),
                flag(!own.nodev, "dev"),
                flag(own.copy_up, "tmpcopyup"),
            ];
            let options: Vec<String> = options.into_iter().flatten().collect();
            Some((mount.target.display().to_string(), options.join(",")))
        }
        _ => None,
    }
}

pub(super) fn propagation(mode: Propagation) -> &'static str {
    match mode {
        Propagation::Private => "private",
        Propagation::Rshared => "rshared",
        Propagation::Shared => "shared",
        Propagation::Rslave => "rslave",
        Propagation::Slave => "slave",
        _ => "rprivate",
    }
}

fn log_options(log: &LogOptions) -> HashMap<String, String> {
    let mut options = HashMap::from([
        ("max-size".to_owned(), log.max_size.to_string()),
        ("max-file".to_owned(), log.max_file.to_string()),
    ]);
    if log.mode == LogMode::NonBlocking {
        options.insert("mode".to_owned(), "non-blocking".to_owned());
        options.insert("max-buffer-size".to_owned(), log.max_buffer_size.to_string());
    }
    for (key, list) in [("labels", &log.labels), ("env", &log.env)] {
        if !list.is_empty() {
            options.insert(key.to_owned(), list.join(","));
        }
    }
    // Docker's default of this driver differs, so it is said either way.
    if log.compress || log.driver == LogDriver::Local {
        options.insert("compress".to_owned(), log.compress.to_string());
    }
    for (key, value) in
        [("labels-regex", &log.labels_regex), ("env-regex", &log.env_regex), ("tag", &log.tag)]
    {
        options.extend(value.clone().map(|value| (key.to_owned(), value)));
    }
    options
}

#[cfg(test)]
mod tests {
    use engine_core::Mount;

    use super::*;

    #[test]
    fn binds_and_volumes_have_dockers_notation() {
        let mut mount = Mount::bind("/src", "/dst").read_only();
        assert_eq!(bind(&MountSpec::Mount(mount.clone())), None);
        assert!(super::mount(&MountSpec::Mount(mount.clone())).is_some());
        mount.options.create_source = true;
        assert_eq!(bind(&MountSpec::Mount(mount.clone())).as_deref(), Some("/src:/dst:ro"));
        assert!(super::mount(&MountSpec::Mount(mount)).is_none());
        let volume = MountSpec::volume("data".parse().ok(), "/d");
        assert_eq!(bind(&volume).as_deref(), Some("data:/d"));
        assert_eq!(tmpfs(&MountSpec::Mount(Mount::tmpfs("/tmp"))), Some(("/tmp".to_owned(), String::new())));
    }

    #[test]
    fn what_is_shown_can_be_asked_for_again() {
        use crate::notation;
        for options in
            ["", "size=65536", "size=1,mode=755,uid=1,gid=2,ro,exec,suid,dev,tmpcopyup", "mode=0,exec"]
        {
            let spec = notation::tmpfs_at("/t", options).unwrap();
            assert_eq!(tmpfs(&spec), Some(("/t".to_owned(), options.to_owned())));
        }
        for mode in ["host", "auto", "auto:size=9", "container:a", "0:100000:65536", "0:1:2,5:9:1"] {
            let read = notation::user_namespace(mode).unwrap().unwrap();
            assert_eq!(user_namespace(&read), mode);
        }
        let mut shallow = Mount::bind("/src", "/dst").read_only();
        let of = |mount: &Mount| {
            super::mount(&MountSpec::Mount(mount.clone()))
                .unwrap()
                .bind_options
                .unwrap()
                .read_only_non_recursive
        };
        shallow.options.recursive_read_only = false;
        assert_eq!(of(&shallow), Some(true));
        shallow.options.recursive_read_only = true;
        assert_eq!(of(&shallow), Some(false));
    }

    #[test]
    fn what_loosens_the_isolation_is_shown() {
        let mut spec = ContainerSpec::default();
        spec.seccomp = SeccompPolicy::Unconfined;
        spec.allow_new_privileges = true;
        assert_eq!(security_options(&spec), ["seccomp=unconfined", "no-new-privileges=false"]);
    }
}
