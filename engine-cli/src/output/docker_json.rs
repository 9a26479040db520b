//! What `inspect` shows: the library's types in the shape of Docker's API.

use std::time::SystemTime;

use engine_core::container_spec::{ContainerSpec, MountSpec, NamespaceMode};
use engine_core::engine::Image;
use engine_core::launch::{LogDriver, SeccompPolicy};
use engine_core::mount::MountKind;
use engine_core::time::rfc3339;
use engine_core::volume_driver::Volume;
use engine_core::{ContainerInfo, ContainerStatus, Engine, Mount};
use serde_json::{Map, Value, json};

use crate::commands::ps;

/// Go's zero time, which Docker shows for what has not happened.
const NEVER: &str = "0001-01-01T00:00:00Z";

/// Returns a container as Docker shows it.
pub(crate) async fn container(engine: &Engine, info: &ContainerInfo) -> Value {
    let (spec, state) = (&info.spec, &info.state);
    let time = |time: Option<SystemTime>| time.map_or_else(|| NEVER.to_owned(), rfc3339);
    let (path, args) = info.command.split_first().map_or(("", &[][..]), |(p, a)| (p.as_str(), a));
    let is = |status| state.status == status;
    json!({
        "Id": info.id.as_str(),
        "Created": rfc3339(info.created_at),
        "Path": path,
        "Args": args,
        "State": {
            "Status": state.status.as_str(),
            "Running": state.status.is_running(),
            "Paused": is(ContainerStatus::Paused),
            "Restarting": is(ContainerStatus::Restarting),
            "OOMKilled": state.exit.is_some_and(|e| e.oom_killed),
            "Dead": is(ContainerStatus::Dead),
            "Pid": state.pid.unwrap_or(0),
            "ExitCode": state.exit.map_or(0, |e| e.code),
            "Error": "",
            "StartedAt": time(state.started_at),
            "FinishedAt": time(state.finished_at),
        },
        "Image": info.image_id.to_string(),
        "Name": format!("/{}", info.name),
        "RestartCount": 0,
        "Driver": engine.image_store().capabilities().driver,
        "Platform": "linux",
        "ImageManifestDigest": info.manifest.to_string(),
        "Scoped": info.scoped,
        "HostConfig": host_config(spec),
        "Mounts": mounts(engine, spec).await,
        "Config": config(info),
        "NetworkSettings": { "Networks": {} },
    })
}

fn config(info: &ContainerInfo) -> Value {
    let (spec, image) = (&info.spec, &info.defaults);
    let entrypoint = spec.entrypoint.as_ref().unwrap_or(&image.entrypoint);
    let command =
        if spec.command.is_empty() && spec.entrypoint.is_none() { &image.cmd } else { &spec.command };
    let mut env = image.env.clone();
    env.extend(spec.env.iter().cloned());
    let mut labels = image.labels.clone();
    labels.extend(spec.labels.clone());
    json!({
        "Hostname": spec.hostname.clone().unwrap_or_else(|| info.id.short().to_owned()),
        "Domainname": spec.domainname.clone().unwrap_or_default(),
        "User": spec.user.clone().unwrap_or_else(|| image.user.clone()),
        "Tty": spec.terminal.is_some(),
        "OpenStdin": spec.open_stdin,
        "StdinOnce": spec.stdin_once,
        "Env": env,
        "Cmd": command,
        "Image": info.image,
        "WorkingDir": spec.working_dir.clone().unwrap_or_else(|| image.working_dir.clone()),
        "Entrypoint": entrypoint,
        "Labels": labels,
        "StopSignal": spec.stop_signal.clone().unwrap_or_else(|| image.stop_signal.clone()),
        "StopTimeout": spec.stop_timeout.or(image.stop_timeout),
        "ExposedPorts": image.exposed_ports,
        "Volumes": image.volumes,
        "Healthcheck": image.healthcheck,
    })
}

fn host_config(spec: &ContainerSpec) -> Value {
    let mode = |mode: &NamespaceMode| match mode {
        NamespaceMode::Host => "host".to_owned(),
        NamespaceMode::Container(name) => format!("container:{name}"),
        _ => "private".to_owned(),
    };
    let limits = &spec.resources;
    let mut binds = Vec::new();
    let mut tmpfs = Map::new();
    for mount in &spec.mounts {
        match mount {
            MountSpec::Mount(Mount { target, kind: MountKind::Bind { source, .. }, options, .. }) => {
                let suffix = if options.read_only { ":ro" } else { "" };
                binds.push(format!("{}:{}{suffix}", source.display(), target.display()));
            }
            MountSpec::Mount(Mount { target, kind: MountKind::Tmpfs { .. }, .. }) => {
                tmpfs.insert(target.display().to_string(), Value::from(""));
            }
            _ => {}
        }
    }
    let mut security = Vec::new();
    match &spec.seccomp {
        SeccompPolicy::Unconfined => security.push("seccomp=unconfined".to_owned()),
        SeccompPolicy::Profile(_) => security.push("seccomp=profile".to_owned()),
        _ => {}
    }
    if !spec.allow_new_privileges && !spec.privileged {
        security.push("no-new-privileges".to_owned());
    }
    let log = match spec.log.driver {
        LogDriver::None => json!({"Type": "none", "Config": {}}),
        _ => json!({
            "Type": "json-file",
            "Config": {"max-size": spec.log.max_size.to_string(), "max-file": spec.log.max_file.to_string()},
        }),
    };
    let ulimits: Vec<Value> =
        spec.ulimits.iter().map(|u| json!({"Name": u.name, "Soft": u.soft, "Hard": u.hard})).collect();
    let devices: Vec<Value> = spec
        .devices
        .iter()
        .map(|d| {
            json!({
                "PathOnHost": d.host_path, "PathInContainer": d.container_path, "CgroupPermissions": d.permissions,
            })
        })
        .collect();
    let hosts: Vec<String> =
        spec.extra_hosts.iter().map(|(name, address)| format!("{name}:{address}")).collect();
    json!({
        "Binds": binds,
        "Tmpfs": tmpfs,
        "LogConfig": log,
        "NetworkMode": ps::network(&spec.network),
        "AutoRemove": spec.auto_remove,
        "CapAdd": spec.cap_add,
        "CapDrop": spec.cap_drop,
        "CgroupnsMode": mode(&spec.cgroup_mode),
        "CgroupParent": spec.cgroup_parent.clone().unwrap_or_default(),
        "Dns": spec.dns,
        "DnsOptions": spec.dns_options,
        "DnsSearch": spec.dns_search,
        "ExtraHosts": hosts,
        "GroupAdd": spec.group_add,
        "IpcMode": mode(&spec.ipc_mode),
        "PidMode": mode(&spec.pid_mode),
        "UTSMode": mode(&spec.uts_mode),
        "UsernsMode": if spec.user_namespace.is_some() { "private" } else { "host" },
        "OomScoreAdj": spec.oom_score_adj.unwrap_or(0),
        "Privileged": spec.privileged,
        "ReadonlyRootfs": spec.read_only_rootfs,
        "SecurityOpt": security,
        "ShmSize": spec.shm_size.unwrap_or(64 << 20),
        "Sysctls": spec.sysctls,
        "Init": spec.init,
        "Annotations": spec.annotations,
        "CpuShares": limits.cpu_shares.unwrap_or(0),
        "Memory": limits.memory.unwrap_or(0),
        "NanoCpus": limits.nano_cpus.unwrap_or(0),
        "CpuPeriod": limits.cpu_period.unwrap_or(0),
        "CpuQuota": limits.cpu_quota.unwrap_or(0),
        "CpusetCpus": limits.cpuset_cpus.clone().unwrap_or_default(),
        "CpusetMems": limits.cpuset_mems.clone().unwrap_or_default(),
        "MemoryReservation": limits.memory_reservation.unwrap_or(0),
        "MemorySwap": limits.memory_swap.unwrap_or(0),
        "MemorySwappiness": limits.memory_swappiness,
        "PidsLimit": limits.pids_limit,
        "BlkioWeight": limits.blkio_weight.unwrap_or(0),
        "Ulimits": ulimits,
        "Devices": devices,
    })
}

async fn mounts(engine: &Engine, spec: &ContainerSpec) -> Vec<Value> {
    let mut list = Vec::new();
    for mount in &spec.mounts {
        list.push(match mount {
            MountSpec::Mount(mount) => match &mount.kind {
                MountKind::Bind { source, .. } => json!({
                    "Type": "bind", "Source": source, "Destination": mount.target, "Mode": "",
                    "RW": !mount.options.read_only, "Propagation": mount.options.propagation,
                }),
                _ => json!({
                    "Type": "tmpfs", "Source": "", "Destination": mount.target, "Mode": "",
                    "RW": !mount.options.read_only, "Propagation": "",
                }),
            },
            MountSpec::Volume { name, target, options, .. } => {
                let known = match name {
                    Some(name) => engine.volume_driver().inspect(name).await.ok().flatten(),
                    None => None,
                };
                json!({
                    "Type": "volume", "Name": name, "Source": known.and_then(|v| v.mountpoint),
                    "Destination": target, "Driver": engine.volume_driver().name(), "Mode": "",
                    "RW": !options.read_only, "Propagation": "",
                })
            }
            _ => continue,
        });
    }
    list
}

/// Returns an image as Docker shows it.
pub(crate) fn image(image: &Image) -> Value {
    let config = &image.config;
    let tags: Vec<String> =
        image.names.iter().filter(|name| name.digest().is_none()).map(|name| name.familiar()).collect();
    let digests: Vec<String> =
        image.names.iter().map(|name| format!("{}@{}", name.familiar_name(), image.target.digest)).collect();
    let layers: Vec<String> = image.diff_ids().iter().map(ToString::to_string).collect();
    json!({
        "Id": image.id().to_string(),
        "RepoTags": tags,
        "RepoDigests": digests,
        "Comment": config.history.last().and_then(|h| h.comment.clone()).unwrap_or_default(),
        "Created": if config.created.is_empty() { NEVER } else { &config.created },
        "Author": config.author,
        "Config": config.config,
        "Architecture": config.architecture,
        "Variant": config.variant,
        "Os": config.os,
        "Size": image.size(),
        "RootFS": { "Type": "layers", "Layers": layers },
        "Descriptor": {
            "mediaType": image.target.media_type,
            "digest": image.target.digest.to_string(),
            "size": image.target.size,
        },
    })
}

/// Returns a volume as Docker shows it.
pub(crate) fn volume(volume: &Volume) -> Value {
    json!({
        "CreatedAt": rfc3339(volume.created_at),
        "Driver": volume.driver,
        "Labels": volume.labels,
        "Mountpoint": volume.mountpoint,
        "Name": volume.name.as_str(),
        "Options": volume.driver_options,
        "Scope": "local",
    })
}
