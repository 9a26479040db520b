//! A container as `docker inspect` shows it.

use std::collections::{BTreeSet, HashMap};
use std::sync::LazyLock;
use std::time::SystemTime;

use bollard_stubs::models::{
    ContainerConfig, ContainerInspectResponse, ContainerState, ContainerStateStatusEnum as Status,
    HostConfig, MountPoint,
};
use engine_core::container_spec::MountSpec;
use engine_core::mount::{MountKind, MountOptions};
use engine_core::time::rfc3339;
use engine_core::{ContainerInfo, ContainerStatus, Mount};

use super::dates::date;
use super::host_config::{flags, host_config, propagation};
use super::{health, network};

/// The time Docker shows for what has not happened.
const NEVER: &str = "0001-01-01T00:00:00Z";

/// Returns the answer of `GET /containers/{id}/json`.
#[must_use]
pub fn container_inspect(info: &ContainerInfo) -> ContainerInspectResponse {
    let mut command = info.command.iter().cloned();
    ContainerInspectResponse {
        id: Some(info.id.to_string()),
        created: date(info.created_at),
        path: Some(command.next().unwrap_or_default()),
        args: Some(command.collect()),
        state: Some(state(info)),
        image: Some(info.image_id.to_string()),
        name: Some(format!("/{}", info.name)),
        restart_count: Some(info.state.restart_count.into()),
        platform: Some("linux".to_owned()),
        resolv_conf_path: Some(String::new()),
        hostname_path: Some(String::new()),
        hosts_path: Some(String::new()),
        log_path: Some(String::new()),
        mount_label: Some(String::new()),
        process_label: Some(String::new()),
        app_armor_profile: Some(String::new()),
        host_config: Some(HostConfig { links: network::links(info), ..host_config(info) }),
        mounts: Some(info.spec.mounts.iter().filter(|mount| is_shown(mount)).map(mount_point).collect()),
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
        env: some(&env.chain(&spec.env).cloned().collect()),
        cmd: some(cmd),
        image: Some(info.image.clone()),
        working_dir: Some(or_image(&spec.working_dir, &image.working_dir)),
        entrypoint: some(entrypoint),
        labels: Some(labels(info)),
        volumes: Some(anonymous_volumes(info)).filter(|targets: &Vec<String>| !targets.is_empty()),
        healthcheck: health::config(info),
        stop_signal: spec
            .stop_signal
            .clone()
            .or_else(|| Some(image.stop_signal.clone()).filter(|s| !s.is_empty())),
        // As long as it takes.
        stop_timeout: spec
            .stop_timeout
            .or(image.stop_timeout)
            .map(|seconds| if seconds == u32::MAX { -1 } else { seconds.into() }),
        ..ContainerConfig::default()
    }
}

/// Returns the labels of a container: the image's and its own.
pub(crate) fn labels(info: &ContainerInfo) -> HashMap<String, String> {
    let all = info.defaults.labels.iter().chain(&info.spec.labels);
    all.map(|(key, value)| (key.clone(), value.clone())).collect()
}

/// The paths of the volumes that the image, or the caller, asked for without a name.
fn anonymous_volumes(info: &ContainerInfo) -> Vec<String> {
    let own = info
        .spec
        .mounts
        .iter()
        .filter(|mount| mount.volume_name().is_some_and(|name| info.anonymous_volumes.contains(name)));
    let own = own.map(|mount| mount.target().display().to_string());
    let all: BTreeSet<String> = own.chain(info.defaults.volumes.keys().cloned()).collect();
    all.into_iter().collect()
}

/// Whether a mount is among `Mounts`: file systems in memory are in `HostConfig.Tmpfs` alone.
pub(crate) fn is_shown(mount: &MountSpec) -> bool {
    !matches!(mount, MountSpec::Mount(Mount { kind: MountKind::Tmpfs { .. }, .. }))
}

pub(crate) fn mount_point(mount: &MountSpec) -> MountPoint {
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
