//! A container as `docker inspect` shows it.

use std::collections::HashMap;
use std::sync::LazyLock;
use std::time::SystemTime;

use bollard_stubs::models::{
    ContainerConfig, ContainerInspectResponse, ContainerState, ContainerStateStatusEnum as Status,
    DeviceMapping, DeviceRequest, HostConfig, HostConfigCgroupnsModeEnum, HostConfigLogConfig, MountPoint,
    PortBinding, ResourcesBlkioWeightDevice, ResourcesUlimits, RestartPolicy,
    RestartPolicyNameEnum as PolicyName, ThrottleDevice,
};
use engine_core::container_spec::{MountSpec, NamespaceMode, NetworkMode, UserNamespace, VolumesFrom};
use engine_core::launch::{LogDriver, LogMode, LogOptions, SeccompPolicy};
use engine_core::mount::{MountKind, MountOptions, Propagation};
use engine_core::resources::DeviceLimit;
use engine_core::time::rfc3339;
use engine_core::{ContainerInfo, ContainerSpec, ContainerStatus, Mount};

use super::{health, network};

/// The time Docker shows for what has not happened.
const NEVER: &str = "0001-01-01T00:00:00Z";

/// Returns the answer of `GET /containers/{id}/json`.
#[must_use]
pub fn container_inspect(info: &ContainerInfo) -> ContainerInspectResponse {
    let mut command = info.command.iter().cloned();
    ContainerInspectResponse {
        id: Some(info.id.to_string()),
        created: Some(rfc3339(info.created_at)),
        path: Some(command.next().unwrap_or_default()),
        args: Some(command.collect()),
        state: Some(state(info)),
        image: Some(info.image_id.to_string()),
        name: Some(format!("/{}", info.name)),
        restart_count: Some(info.state.restart_count.into()),
        platform: Some("linux".to_owned()),
        host_config: Some(HostConfig { links: network::links(info), ..host_config(&info.spec) }),
        mounts: Some(info.spec.mounts.iter().map(mount_point).collect()),
        config: Some(config(info)),
        network_settings: Some(network::network_settings(info)),
        ..ContainerInspectResponse::default()
    }
}

fn state(info: &ContainerInfo) -> ContainerState {
    let state = &info.state;
    let time = |time: Option<SystemTime>| Some(time.map_or_else(|| NEVER.to_owned(), rfc3339));
    ContainerState {
        status: Some(match state.status {
            ContainerStatus::Created => Status::CREATED,
            ContainerStatus::Running => Status::RUNNING,
            ContainerStatus::Paused => Status::PAUSED,
            ContainerStatus::Restarting => Status::RESTARTING,
            ContainerStatus::Exited => Status::EXITED,
            _ => Status::DEAD,
        }),
        running: Some(state.status.is_running()),
        paused: Some(state.status == ContainerStatus::Paused),
        restarting: Some(state.status == ContainerStatus::Restarting),
        oom_killed: Some(state.exit.is_some_and(|exit| exit.oom_killed)),
        dead: Some(state.status == ContainerStatus::Dead),
        pid: Some(state.pid.unwrap_or(0).into()),
        exit_code: Some(state.exit.map_or(0, |exit| exit.code.into())),
        error: Some(String::new()),
        started_at: time(state.started_at),
        finished_at: time(state.finished_at),
        health: state.health.as_ref().map(health::health),
    }
}

fn config(info: &ContainerInfo) -> ContainerConfig {
    let (spec, image) = (&info.spec, &info.defaults);
    let or_image = |own: &Option<String>, image: &str| own.clone().unwrap_or_else(|| image.to_owned());
    let env = image.env.iter().filter(|known| {
        let name = known.split('=').next();
        !spec.env.iter().any(|own| own.split('=').next() == name)
    });
    let labels = image.labels.iter().chain(&spec.labels).map(|(k, v)| (k.clone(), v.clone())).collect();
    let (entrypoint, cmd) = match &spec.entrypoint {
        Some(own) => (own, &spec.command),
        None => (&image.entrypoint, if spec.command.is_empty() { &image.cmd } else { &spec.command }),
    };
    let some = |list: &Vec<String>| Some(list.clone()).filter(|list| !list.is_empty());
    ContainerConfig {
        hostname: Some(or_image(&spec.hostname, info.id.short())),
        domainname: Some(spec.domainname.clone().unwrap_or_default()),
        user: Some(or_image(&spec.user, &image.user)),
        attach_stdin: Some(spec.open_stdin),
        attach_stdout: Some(true),
        attach_stderr: Some(true),
        exposed_ports: Some(
            network::exposed_ports(info)
                .iter()
                .map(|(port, protocol)| format!("{port}/{protocol}"))
                .collect(),
        )
        .filter(|ports: &Vec<String>| !ports.is_empty()),
        tty: Some(spec.terminal.is_some()),
        open_stdin: Some(spec.open_stdin),
        stdin_once: Some(spec.stdin_once),
        env: Some(env.chain(&spec.env).cloned().collect()),
        cmd: some(cmd),
        image: Some(info.image.clone()),
        working_dir: Some(or_image(&spec.working_dir, &image.working_dir)),
        entrypoint: some(entrypoint),
        labels: Some(labels),
        healthcheck: health::config(info),
        stop_signal: spec
            .stop_signal
            .clone()
            .or_else(|| Some(image.stop_signal.clone()).filter(|s| !s.is_empty())),
        stop_timeout: spec.stop_timeout.or(image.stop_timeout).map(Into::into),
        ..ContainerConfig::default()
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

fn host_config(spec: &ContainerSpec) -> HostConfig {
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
        init: Some(spec.init),
        pids_limit: limits.pids_limit,
        ulimits: Some(ulimits.collect()),
        volumes_from: Some(spec.volumes_from.iter().map(volumes_from).collect()),
        volume_driver: Some(String::new()),
        binds: Some(spec.mounts.iter().filter_map(bind).collect()),
        log_config: Some(HostConfigLogConfig { typ: Some(driver.to_owned()), config: Some(log) }),
        network_mode: Some(network_mode(&spec.network)),
        port_bindings: Some(port_bindings(spec)),
        publish_all_ports: Some(spec.publish_all_ports),
        auto_remove: Some(spec.auto_remove),
        restart_policy: Some(restart_policy(spec.restart)),
        annotations: Some(spec.annotations.clone().into_iter().collect()),
        cap_add: Some(spec.cap_add.clone()),
        cap_drop: Some(spec.cap_drop.clone()),
        cgroupns_mode: Some(match spec.cgroup_mode {
            NamespaceMode::Host => HostConfigCgroupnsModeEnum::HOST,
            _ => HostConfigCgroupnsModeEnum::PRIVATE,
        }),
        dns: Some(spec.dns.clone()),
        dns_options: Some(spec.dns_options.clone()),
        dns_search: Some(spec.dns_search.clone()),
        extra_hosts: Some(
            spec.extra_hosts.iter().map(|(name, address)| format!("{name}:{address}")).collect(),
        ),
        group_add: Some(spec.group_add.clone()),
        ipc_mode: Some(namespace_mode(&spec.ipc_mode)),
        oom_score_adj: Some(spec.oom_score_adj.unwrap_or(0).into()),
        pid_mode: Some(namespace_mode(&spec.pid_mode)),
        privileged: Some(spec.privileged),
        readonly_rootfs: Some(spec.read_only_rootfs),
        security_opt: Some(security_options(spec)),
        tmpfs: Some(spec.mounts.iter().filter_map(tmpfs).collect()),
        uts_mode: Some(namespace_mode(&spec.uts_mode)),
        shm_size: signed(Some(spec.shm_size.unwrap_or(engine_core::policy::defaults::SHM_SIZE))),
        sysctls: Some(spec.sysctls.clone().into_iter().collect()),
        userns_mode: Some(spec.user_namespace.as_ref().map(user_namespace).unwrap_or_default()),
        device_cgroup_rules: Some(spec.device_cgroup_rules.clone()),
        device_requests: Some(device_requests(spec)),
        oom_kill_disable: limits.oom_kill_disable,
        cpu_realtime_period: signed(limits.cpu_rt_period),
        cpu_realtime_runtime: Some(limits.cpu_rt_runtime.unwrap_or(0)),
        blkio_weight_device: Some(weights(spec)),
        blkio_device_read_bps: Some(throttles(spec, |limit| limit.read_bps)),
        blkio_device_write_bps: Some(throttles(spec, |limit| limit.write_bps)),
        blkio_device_read_iops: Some(throttles(spec, |limit| limit.read_iops)),
        blkio_device_write_iops: Some(throttles(spec, |limit| limit.write_iops)),
        ..HostConfig::default()
    }
}

/// The mode in the words of `--userns`.
fn user_namespace(mode: &UserNamespace) -> String {
    match mode {
        UserNamespace::Host => "host".to_owned(),
        UserNamespace::Auto { size: None } => "auto".to_owned(),
        UserNamespace::Auto { size: Some(size) } => format!("auto:size={size}"),
        UserNamespace::Container(other) => format!("container:{other}"),
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

fn network_mode(mode: &NetworkMode) -> String {
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

fn flags(options: &MountOptions) -> String {
    if options.read_only { "ro".to_owned() } else { String::new() }
}

/// Returns Docker's `-v` form of a bind or a volume.
fn bind(mount: &MountSpec) -> Option<String> {
    let (source, target, options) = match mount {
        MountSpec::Mount(mount) => match &mount.kind {
            MountKind::Bind { source, .. } => (source.display().to_string(), &mount.target, &mount.options),
            _ => return None,
        },
        MountSpec::Volume { name, target, options, .. } => (name.as_ref()?.to_string(), target, options),
        _ => return None,
    };
    let flags = flags(options);
    let colon = if flags.is_empty() { "" } else { ":" };
    Some(format!("{source}:{}{colon}{flags}", target.display()))
}

fn tmpfs(mount: &MountSpec) -> Option<(String, String)> {
    let MountSpec::Mount(mount) = mount else { return None };
    match &mount.kind {
        MountKind::Tmpfs { size, .. } => {
            let size = size.map(|bytes| format!("size={bytes}")).unwrap_or_default();
            Some((mount.target.display().to_string(), size))
        }
        _ => None,
    }
}

fn mount_point(mount: &MountSpec) -> MountPoint {
    static IMAGE: LazyLock<MountOptions> = LazyLock::new(|| Mount::tmpfs("/").read_only().options);
    let (typ, name, source, target, options) = match mount {
        MountSpec::Mount(mount) => {
            let (typ, source) = match &mount.kind {
                MountKind::Bind { source, .. } => ("bind", source.display().to_string()),
                _ => ("tmpfs", String::new()),
            };
            (typ, None, source, &mount.target, &mount.options)
        }
        MountSpec::Volume { name, target, options, .. } => {
            ("volume", name.as_ref().map(ToString::to_string), String::new(), target, options)
        }
        MountSpec::Image { image, target, .. } => ("image", None, image.clone(), target, &*IMAGE),
        _ => return MountPoint::default(),
    };
    MountPoint {
        typ: Some(typ.to_owned()),
        name,
        source: Some(source),
        destination: Some(target.display().to_string()),
        mode: Some(flags(options)),
        rw: Some(!options.read_only),
        propagation: Some(propagation(options.propagation).to_owned()),
        ..MountPoint::default()
    }
}

fn propagation(mode: Propagation) -> &'static str {
    match mode {
        Propagation::Private => "private",
        Propagation::Rshared => "rshared",
        Propagation::Shared => "shared",
        Propagation::Rslave => "rslave",
        Propagation::Slave => "slave",
        _ => "rprivate",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn binds_volumes_and_tmpfs_have_dockers_notation() {
        let bind_spec = MountSpec::Mount(Mount::bind("/src", "/dst").read_only());
        assert_eq!(bind(&bind_spec).as_deref(), Some("/src:/dst:ro"));
        let spec =
            ContainerSpec::default().with_mount(Mount::tmpfs("/tmp")).with_mount(Mount::bind("/a", "/b"));
        let host = host_config(&spec);
        assert_eq!(host.binds, Some(vec!["/a:/b".to_owned()]));
        assert_eq!(host.tmpfs.unwrap().keys().collect::<Vec<_>>(), ["/tmp"]);
    }

    #[test]
    fn what_loosens_the_isolation_is_shown() {
        let mut spec = ContainerSpec::default();
        spec.seccomp = SeccompPolicy::Unconfined;
        spec.allow_new_privileges = true;
        assert_eq!(security_options(&spec), ["seccomp=unconfined", "no-new-privileges=false"]);
        let json = serde_json::to_value(host_config(&spec)).unwrap();
        assert_eq!(json["NetworkMode"], "default");
        assert_eq!(json["ShmSize"], 64 << 20);
    }
}
