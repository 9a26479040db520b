//! From wishes to a launch specification: the engine's policy.
//!
//! A [`ContainerSpec`] and an image's defaults become a [`LaunchSpec`]; nothing here touches a process. What
//! is secure by default is decided here, in one place.

mod cdi;
mod devices;
mod files;
mod links;
mod linux;
mod logs;
mod mounts;
mod process;
mod resources;

pub(super) use cdi::resolve as cdi_devices;
pub(super) use files::{hosts, resolv_conf, upstreams};
pub(super) use links::Linked;
pub(super) use linux::check_maps;
pub(super) use process::{effective_command, stop_signal};

use std::net::IpAddr;
use std::path::PathBuf;

use oci_spec::runtime::{RootBuilder, Spec, SpecBuilder};

use crate::container_spec::{
    ContainerSpec, HOST_GATEWAY, IdMappings, IdRange, MountSpec, NamespaceMode, NetworkMode, UserNamespace,
};
use crate::error::{Error, ErrorKind, Result};
use crate::health::HealthSpec;
use crate::id::ContainerId;
use crate::image_config::ProcessDefaults;
use crate::launch::{LaunchSpec, Lifetime, SeccompPolicy};
use crate::mount::Mount;
use crate::resources::Resources;

use super::records::Record;

/// What the caller looks up for a start: the namespaces of other containers that this one joins, devices by name.
#[derive(Clone, Debug, Default)]
pub(super) struct Joined {
    pub(super) network: Option<Peer>,
    pub(super) pid: Option<Peer>,
    pub(super) ipc: Option<Peer>,
    /// With its maps.
    pub(super) user: Option<(Peer, IdMappings)>,
    pub(super) cdi: cdi::Edits,
    pub(super) naming: Naming,
}

/// What is known of names at a start.
#[derive(Clone, Debug, Default)]
pub(super) struct Naming {
    /// The files of names, if they are kept on disk since they change while the container runs.
    pub(super) files: Option<NameFiles>,
    /// Whether a resolver answers in its network.
    pub(super) embedded: bool,
    /// The host's addresses on the default network.
    pub(super) host_gateways: Vec<IpAddr>,
    /// Those it is linked to on the default network.
    pub(super) links: Vec<Linked>,
}

/// Where a container's files of names are.
#[derive(Clone, Debug)]
pub(super) struct NameFiles {
    pub(super) hosts: PathBuf,
    pub(super) resolv_conf: PathBuf,
}

/// A running container whose namespace is joined.
#[derive(Clone, Debug)]
pub(super) struct Peer {
    pub(super) pid: u32,
    pub(super) hostname: String,
    pub(super) id_mappings: Option<IdMappings>,
}

impl Peer {
    fn namespace(&self, kind: &str) -> PathBuf {
        format!("/proc/{}/ns/{kind}", self.pid).into()
    }
}

/// Makes the launch specification of a container.
///
/// # Errors
/// [`ErrorKind::InvalidArgument`], naming the wish that cannot be granted.
pub(super) fn launch_spec(
    record: &Record,
    rootfs: Vec<Mount>,
    volumes: Vec<Mount>,
    joined: &Joined,
) -> Result<LaunchSpec> {
    let (spec, defaults) = (&record.data.spec, &record.data.defaults);
    check_modes(spec)?;
    let hostname = hostname(&record.id, spec, joined);
    let maps = joined.user.as_ref().map(|(_, maps)| maps).or(record.data.id_mappings.as_ref());
    // The builder's own default is a read-only root.
    let root =
        RootBuilder::default().path("rootfs").readonly(spec.read_only_rootfs).build().map_err(failed)?;
    let mut oci = SpecBuilder::default()
        .root(root)
        .process(process::process(spec, defaults, &hostname, &link_variables(record, joined), &joined.cdi)?)
        .mounts(mounts::kernel_mounts(spec, joined)?)
        .linux(linux::linux(&record.id, spec, maps, joined)?)
        .build()
        .map_err(failed)?;
    set_hostname(&mut oci, spec, &hostname);
    if !spec.annotations.is_empty() {
        oci.set_annotations(Some(spec.annotations.clone().into_iter().collect()));
    }
    let mut launch = LaunchSpec::new(oci, rootfs);
    if spec.read_only_rootfs
        && let Some(root) = launch.rootfs.first_mut()
    {
        root.options.read_only = true;
    }
    launch.mounts = volumes;
    launch.mounts.extend(files::name_mounts(&launch.mounts, &joined.naming));
    launch.mounts.extend(joined.cdi.mounts.iter().cloned());
    // Parents before children, whatever order they were asked for in.
    launch.mounts.sort_by_key(|mount| mount.target.components().count());
    launch.user = spec.user.clone().unwrap_or_else(|| defaults.user.clone());
    launch.group_add = spec.group_add.clone();
    launch.seccomp = if spec.privileged { SeccompPolicy::Unconfined } else { spec.seccomp.clone() };
    launch.files = files::files(spec, &hostname, &launch.mounts, &joined.naming)?;
    launch.terminal = spec.terminal.map(Into::into);
    launch.open_stdin = spec.open_stdin;
    launch.stdin_once = spec.stdin_once;
    launch.log = spec.log.clone();
    logs::check(&launch.log)?;
    let env = launch.oci.process().as_ref().and_then(|process| process.env().clone()).unwrap_or_default();
    launch.log_attributes = logs::attributes(record, &env)?;
    launch.init = spec.init;
    launch.restart = spec.restart;
    launch.health = health(spec, defaults)?;
    launch.architecture = Some(record.data.architecture.clone());
    launch.lifetime = if record.data.owner.is_some() { Lifetime::Scoped } else { Lifetime::Detached };
    Ok(launch)
}

fn link_variables(record: &Record, joined: &Joined) -> Vec<String> {
    joined.naming.links.iter().flat_map(|linked| linked.variables(record.name.as_str())).collect()
}

/// Merges the health check over the image's.
fn health(spec: &ContainerSpec, image: &ProcessDefaults) -> Result<Option<HealthSpec>> {
    let Some(mut check) = HealthSpec::merge(spec.health.as_ref(), image.healthcheck.as_ref(), &image.shell)?
    else {
        return Ok(None);
    };
    check.stop_signal = stop_signal(spec, image)?;
    if let Some(seconds) = spec.stop_timeout.or(image.stop_timeout) {
        check.stop_timeout = std::time::Duration::from_secs(seconds.into());
    }
    Ok(Some(check))
}

fn hostname(id: &ContainerId, spec: &ContainerSpec, joined: &Joined) -> String {
    if let Some(peer) = &joined.network {
        return peer.hostname.clone();
    }
    match (&spec.hostname, &spec.network) {
        (Some(hostname), _) => hostname.clone(),
        (None, NetworkMode::Host) => {
            let text = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
            text.trim().to_owned()
        }
        (None, _) => id.short().to_owned(),
    }
}

/// Sets the names of the UTS namespace, where the container has its own; elsewhere they are another's to keep, and
/// oci-spec's builder has a name of its own making.
fn set_hostname(oci: &mut Spec, spec: &ContainerSpec, hostname: &str) {
    let own = spec.uts_mode == NamespaceMode::Private;
    oci.set_hostname(own.then(|| hostname.to_owned()));
    oci.set_domainname(spec.domainname.clone().filter(|_| own));
}

/// Refuses wishes that contradict each other, in the words of the flags people use.
fn check_modes(spec: &ContainerSpec) -> Result<()> {
    let joins_network = matches!(spec.network, NetworkMode::Container(_));
    if joins_network && spec.hostname.is_some() {
        return Err(invalid("a container that shares another's network has that one's host name")
            .with_hint("leave the host name out"));
    }
    if spec.uts_mode == NamespaceMode::Host && spec.hostname.is_some() {
        return Err(invalid("a container that shares the host's UTS namespace has the host's name")
            .with_hint("leave the host name out"));
    }
    if let Some(hostname) = &spec.hostname {
        // 64 is the kernel's limit, see sethostname(2); the characters are those of hostname(7).
        let good = hostname.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b));
        if hostname.is_empty() || hostname.len() > 64 || !good {
            return Err(
                invalid("a host name has 1 to 64 letters, digits, '-' and '.'").with("host name", hostname)
            );
        }
    }
    if !spec.network_devices.is_empty() && (joins_network || spec.network == NetworkMode::Host) {
        return Err(invalid("an interface moves only into a network namespace of the container's own")
            .with("network", if joins_network { "container" } else { "host" })
            .with_hint("give it another network, such as none"));
    }
    if spec.auto_remove && spec.restart.is_on() {
        return Err(invalid("can't create 'AutoRemove' container with restart policy")
            .with("policy", spec.restart)
            .with_hint("leave one of the two out"));
    }
    if spec.is_mapped() {
        check_user_namespace(spec)?;
    } else if spec.mounts.iter().any(is_id_mapped) {
        return Err(invalid("an id-mapped mount needs a user namespace").with_hint("see --userns"));
    }
    Ok(())
}

fn is_id_mapped(mount: &MountSpec) -> bool {
    match mount {
        MountSpec::Mount(mount) => mount.options.id_mapped,
        MountSpec::Volume { options, .. } => options.id_mapped,
        MountSpec::Image { .. } => false,
    }
}

/// Refuses what a container in a user namespace would have no rights over. Docker refuses the same.
fn check_user_namespace(spec: &ContainerSpec) -> Result<()> {
    let refused = |what: &str| {
        Err(invalid(format!("a container with a user namespace cannot {what}"))
            .with_hint("give it the host's user namespace (--userns=host), or leave that out"))
    };
    if spec.privileged {
        return refused("be privileged");
    }
    if spec.network == NetworkMode::Host {
        return refused("share the host's network");
    }
    if spec.pid_mode == NamespaceMode::Host {
        return refused("share the host's processes");
    }
    if spec.cgroup_mode == NamespaceMode::Host {
        return refused("share the host's cgroup namespace");
    }
    Ok(())
}

fn invalid(why: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidArgument, "prepare container").with_message(why)
}

/// The builders of `oci-spec` fail only for required fields that are missing.
fn failed(error: oci_spec::OciSpecError) -> Error {
    Error::new(ErrorKind::Other, "make runtime spec").with_source(error)
}

/// Checks all that does not depend on the moment of the start.
pub(super) fn check(record: &Record) -> Result<()> {
    let mut record = record.clone();
    let spec = &mut record.data.spec;
    // Other containers are looked up at each start.
    if matches!(spec.network, NetworkMode::Container(_)) {
        check_modes(spec)?;
        spec.network = NetworkMode::None;
    }
    // So is the default network.
    spec.extra_hosts.retain(|(_, address)| address != HOST_GATEWAY);
    match &spec.user_namespace {
        // The real ones are chosen with the record.
        Some(UserNamespace::Auto { size }) => {
            let range = IdRange { container: 0, host: 1, size: size.unwrap_or(1) };
            record.data.id_mappings = Some(IdMappings { uids: vec![range], gids: vec![range] });
        }
        Some(UserNamespace::Mapped(maps)) => record.data.id_mappings = Some(maps.clone()),
        Some(UserNamespace::Container(_)) => {
            check_user_namespace(spec)?;
            spec.user_namespace = None;
            spec.mounts.retain(|mount| !is_id_mapped(mount));
        }
        Some(UserNamespace::Host) | None => {}
    }
    for mode in [&mut spec.pid_mode, &mut spec.ipc_mode] {
        if matches!(mode, NamespaceMode::Container(_)) {
            *mode = NamespaceMode::Private;
        }
    }
    launch_spec(&record, Vec::new(), Vec::new(), &Joined::default()).map(drop)
}

/// Returns `old` with what `new` says.
pub(super) fn merge_resources(old: &Resources, new: &Resources) -> Resources {
    Resources {
        nano_cpus: new.nano_cpus.or(old.nano_cpus),
        cpu_shares: new.cpu_shares.or(old.cpu_shares),
        cpu_period: new.cpu_period.or(old.cpu_period),
        cpu_quota: new.cpu_quota.or(old.cpu_quota),
        cpuset_cpus: new.cpuset_cpus.clone().or_else(|| old.cpuset_cpus.clone()),
        cpuset_mems: new.cpuset_mems.clone().or_else(|| old.cpuset_mems.clone()),
        memory: new.memory.or(old.memory),
        memory_reservation: new.memory_reservation.or(old.memory_reservation),
        memory_swap: new.memory_swap.or(old.memory_swap),
        memory_swappiness: new.memory_swappiness.or(old.memory_swappiness),
        pids_limit: new.pids_limit.or(old.pids_limit),
        blkio_weight: new.blkio_weight.or(old.blkio_weight),
        blkio_devices: if new.blkio_devices.is_empty() {
            old.blkio_devices.clone()
        } else {
            new.blkio_devices.clone()
        },
        cpu_rt_period: new.cpu_rt_period.or(old.cpu_rt_period),
        cpu_rt_runtime: new.cpu_rt_runtime.or(old.cpu_rt_runtime),
        oom_kill_disable: new.oom_kill_disable.or(old.oom_kill_disable),
        unified: old.unified.clone().into_iter().chain(new.unified.clone()).collect(),
    }
}
