//! What a user asks of a container, before an image fills the gaps.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use oci_spec::runtime::{
    ExecCPUAffinity, LinuxIOPriority, LinuxMemoryPolicy, LinuxPersonality, LinuxTimeOffset, Scheduler,
};
use serde::{Deserialize, Serialize};

use crate::health::HealthCheck;
use crate::id::Name;
use crate::io::TerminalSize;
use crate::launch::{LogOptions, SeccompPolicy};
use crate::mount::{Mount, MountOptions};
use crate::network::{EndpointOptions, PortMapping, Protocol};
use crate::platform::Platform;
use crate::resources::Resources;
use crate::restart::RestartPolicy;
use crate::secret::SecretUse;
use crate::volume_driver::VolumeOptions;

/// What a user asks of a container. Everything is optional; the image and the engine's secure defaults fill
/// the rest. It is kept with the container, so that each start sees the same wishes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct ContainerSpec {
    /// The name; a random one without it.
    pub name: Option<Name>,
    /// The platform to take from a multi-platform image; the host's without it.
    pub platform: Option<Platform>,
    /// Replaces the image's entrypoint. `Some(vec![])` removes it. Either way the image's command is dropped.
    pub entrypoint: Option<Vec<String>>,
    /// Replaces the image's command.
    pub command: Vec<String>,
    /// Environment variables, `NAME=value`, which replace or join the image's. `NAME` alone removes one.
    pub env: Vec<String>,
    /// The working directory.
    pub working_dir: Option<String>,
    /// The user: `name`, `uid`, `name:group` or `uid:gid`.
    pub user: Option<String>,
    /// More groups, by name or number.
    pub group_add: Vec<String>,
    /// The host name; the short id without it.
    pub hostname: Option<String>,
    /// The NIS domain name.
    pub domainname: Option<String>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Annotations, which reach the runtime spec.
    pub annotations: BTreeMap<String, String>,
    /// A terminal instead of three streams.
    pub terminal: Option<Terminal>,
    /// Keeps standard input open for attached clients.
    pub open_stdin: bool,
    /// Closes standard input when the first client that wrote to it goes.
    pub stdin_once: bool,
    /// Runs a small init as process 1.
    pub init: bool,
    /// The signal that asks it to stop: `SIGTERM`, `15`.
    pub stop_signal: Option<String>,
    /// Seconds between that signal and SIGKILL; 10 without it.
    pub stop_timeout: Option<u32>,
    /// Removes the container, its files and anonymous volumes when it has ended.
    pub auto_remove: bool,
    /// What follows the end of its process.
    pub restart: RestartPolicy,
    /// How to look whether it is healthy, over what the image says.
    pub health: Option<HealthCheck>,
    /// Keeps a snapshot of the root file system before every exec, unless that says otherwise
    /// ([`ExecOptions::snapshot`](crate::engine::ExecOptions::snapshot)). A health check's commands are none.
    pub snapshot_execs: bool,
    /// Limits.
    pub resources: Resources,
    /// The parent cgroup, as a path in the hierarchy.
    pub cgroup_parent: Option<String>,
    /// Resource limits of processes (setrlimit(2)).
    pub ulimits: Vec<Ulimit>,
    /// How readily the kernel ends it when memory is short, -1000 to 1000.
    pub oom_score_adj: Option<i32>,
    /// Capabilities beyond the default: `NET_ADMIN`, `ALL`.
    pub cap_add: Vec<String>,
    /// Capabilities less than the default.
    pub cap_drop: Vec<String>,
    /// Every capability and device, no filter, no masked paths. Not isolated from the host.
    pub privileged: bool,
    /// Lets set-user-ID programs and file capabilities raise privileges. The default is no.
    pub allow_new_privileges: bool,
    /// The system call filter.
    pub seccomp: SeccompPolicy,
    /// Shows all of /proc and /sys (Docker's `systempaths=unconfined`).
    pub unmask_system_paths: bool,
    /// Makes the root file system read-only.
    pub read_only_rootfs: bool,
    /// Binds, volumes, tmpfs and images.
    pub mounts: Vec<MountSpec>,
    /// Containers whose volumes and binds this one has too. At creation they become a part of `mounts`.
    pub volumes_from: Vec<VolumesFrom>,
    /// The size of `/dev/shm` in bytes; 64 MiB without it, and 0 for no `/dev/shm` of its own.
    pub shm_size: Option<u64>,
    /// Devices of the host; of a directory, all in it.
    pub devices: Vec<DeviceSpec>,
    /// Devices by the name that a CDI file gives them: `vendor.com/class=name`.
    pub cdi_devices: Vec<String>,
    /// More devices that may be opened, without a node for them: `c 1:3 rwm`.
    pub device_cgroup_rules: Vec<String>,
    /// Kernel settings of the container's own namespaces.
    pub sysctls: BTreeMap<String, String>,
    /// The network.
    pub network: NetworkMode,
    /// Published ports, of whichever of its networks its packets leave by: the first of the highest
    /// [priority](EndpointOptions::gateway_priority) that has a way out. Without networks of its own they mean nothing.
    pub ports: Vec<PortMapping>,
    /// Publishes each exposed port that `ports` has not, on any free port of the host.
    pub publish_all_ports: bool,
    /// Ports that it listens on, beside those the image tells of.
    pub exposed_ports: Vec<(u16, Protocol)>,
    /// Interfaces of the host that move into the container's own network namespace when it starts, by their name on the host,
    /// each with its name inside. They come with their permanent addresses of global scope. When the container ends, the
    /// kernel moves a physical one back, under its name inside, and destroys a virtual one. `%d` in a name inside stands for
    /// the first free number.
    pub network_devices: BTreeMap<String, String>,
    /// More lines of /etc/hosts, as (name, address). The address [`HOST_GATEWAY`] is the host's on the default network.
    pub extra_hosts: Vec<(String, String)>,
    /// Name servers; the host's without them.
    pub dns: Vec<String>,
    /// Search domains.
    pub dns_search: Vec<String>,
    /// Options of the resolver.
    pub dns_options: Vec<String>,
    /// The process id namespace.
    pub pid_mode: NamespaceMode,
    /// The IPC namespace.
    pub ipc_mode: NamespaceMode,
    /// The UTS namespace.
    pub uts_mode: NamespaceMode,
    /// The cgroup namespace.
    pub cgroup_mode: NamespaceMode,
    /// A user namespace: ids inside are others outside; the engine's default without it, which is the host's unless
    /// [`EngineBuilder::user_namespace`](crate::EngineBuilder::user_namespace) says otherwise. Files of the image and of volumes keep
    /// the ids they have inside, whatever the range.
    pub user_namespace: Option<UserNamespace>,
    /// The scheduler of its processes (sched_setattr(2)).
    pub scheduler: Option<Scheduler>,
    /// The I/O priority of its processes (ioprio_set(2)).
    pub io_priority: Option<LinuxIOPriority>,
    /// The CPUs of processes that join it later.
    pub exec_cpu_affinity: Option<ExecCPUAffinity>,
    /// The memory nodes it takes memory from (set_mempolicy(2)).
    pub memory_policy: Option<LinuxMemoryPolicy>,
    /// What kind of Linux it sees (personality(2)).
    pub personality: Option<LinuxPersonality>,
    /// Offsets of the clocks `monotonic` and `boottime`, in a time namespace of its own; without any, it has the host's.
    pub time_offsets: BTreeMap<String, LinuxTimeOffset>,
    /// Where the output is kept.
    pub log: LogOptions,
    /// Secrets that it gets, with the content they have when it is created.
    pub secrets: Vec<SecretUse>,
}

/// The address in [`ContainerSpec::extra_hosts`] that stands for the host as the default network's containers see it.
pub const HOST_GATEWAY: &str = "host-gateway";

/// A terminal's first size.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
pub struct Terminal {
    /// Characters in a line.
    pub columns: u16,
    /// Lines.
    pub rows: u16,
}

impl From<Terminal> for TerminalSize {
    fn from(terminal: Terminal) -> Self {
        Self { columns: terminal.columns, rows: terminal.rows }
    }
}

/// One process limit: `nofile`, soft and hard.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Ulimit {
    /// The name without `RLIMIT_`, lowercase.
    pub name: String,
    /// The soft limit; -1 is none.
    pub soft: i64,
    /// The hard limit; -1 is none.
    pub hard: i64,
}

/// A device of the host in the container.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct DeviceSpec {
    /// The path on the host.
    pub host_path: String,
    /// The path in the container.
    pub container_path: String,
    /// What is allowed: some of `r`, `w`, `m`.
    pub permissions: String,
}

/// Something mounted in the container.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum MountSpec {
    /// A bind or tmpfs, as it is.
    Mount(Mount),
    /// A volume.
    Volume {
        /// Its name; a new anonymous volume without one.
        name: Option<Name>,
        /// The path in the container.
        target: PathBuf,
        /// Flags.
        options: MountOptions,
        /// Leaves a new volume empty instead of filling it with the image's files at the target.
        no_copy: bool,
        /// Shows only this directory or file of it, which must be there.
        #[serde(default)]
        subpath: Option<PathBuf>,
        /// What the volume is made with, if it is not there.
        #[serde(default)]
        create: VolumeOptions,
    },
    /// The file system of an image, read-only. The image stays while the container does.
    Image {
        /// A reference or an id of an image in the store.
        image: String,
        /// The path in the container.
        target: PathBuf,
        /// Shows only this directory or file of it, which must be there.
        #[serde(default)]
        subpath: Option<PathBuf>,
    },
}

impl MountSpec {
    /// Creates the mount of a named volume, or of a new anonymous one.
    pub fn volume(name: Option<Name>, target: impl Into<PathBuf>) -> Self {
        Self::Volume {
            name,
            target: target.into(),
            options: MountOptions::default(),
            no_copy: false,
            subpath: None,
            create: VolumeOptions::default(),
        }
    }

    /// Returns the path in the container.
    #[must_use]
    pub fn target(&self) -> &Path {
        match self {
            Self::Mount(mount) => &mount.target,
            Self::Volume { target, .. } | Self::Image { target, .. } => target,
        }
    }

    /// Returns the name of the volume, if it is one and has one.
    #[must_use]
    pub fn volume_name(&self) -> Option<&Name> {
        match self {
            Self::Volume { name, .. } => name.as_ref(),
            _ => None,
        }
    }
}

/// A container whose volumes and binds another one has too.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct VolumesFrom {
    /// Its name or id.
    pub container: String,
    /// Whether they can be written; as there without it.
    pub read_only: Option<bool>,
}

impl VolumesFrom {
    /// Takes the volumes of `container` as they are there.
    pub fn new(container: impl Into<String>) -> Self {
        Self { container: container.into(), read_only: None }
    }

    /// Makes them read-only or writable, whatever they are there.
    #[must_use]
    pub fn with_read_only(mut self, read_only: bool) -> Self {
        self.read_only = Some(read_only);
        self
    }
}

/// A namespace's owner.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum NamespaceMode {
    /// The container's own.
    #[default]
    Private,
    /// The host's.
    Host,
    /// Another container's, by name or id.
    Container(String),
}

/// The network a container is on.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum NetworkMode {
    /// The engine's default network if it has one, else none. A container's record has the network's name for it.
    #[default]
    Default,
    /// Only a loopback interface.
    None,
    /// The host's.
    Host,
    /// Another container's, by name or id.
    Container(String),
    /// Networks, by name.
    Networks(Vec<(Name, EndpointOptions)>),
}

/// Where a container's user namespace comes from. See user_namespaces(7).
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum UserNamespace {
    /// The host's, whatever the engine's default.
    Host,
    /// Its own, with these maps.
    Mapped(IdMappings),
    /// Its own, with a range of ids that no other container of the engine has, chosen at its creation and free again at
    /// its removal.
    Auto {
        /// How many ids; 65,536 without it.
        size: Option<u32>,
    },
    /// Another container's, by name or id.
    Container(String),
}

/// Which ids inside a user namespace are which outside.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
pub struct IdMappings {
    /// User id ranges.
    pub uids: Vec<IdRange>,
    /// Group id ranges.
    pub gids: Vec<IdRange>,
}

/// A range of ids.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct IdRange {
    /// The first id inside.
    pub container: u32,
    /// The first id outside.
    pub host: u32,
    /// How many.
    pub size: u32,
}

impl ContainerSpec {
    /// Creates a spec with a command.
    pub fn command(args: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self::default().with_command(args)
    }

    /// Sets the name.
    #[must_use]
    pub fn with_name(mut self, name: Name) -> Self {
        self.name = Some(name);
        self
    }

    /// Replaces the image's command.
    #[must_use]
    pub fn with_command(mut self, args: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.command = args.into_iter().map(Into::into).collect();
        self
    }

    /// Adds environment variables, `NAME=value`.
    #[must_use]
    pub fn with_env(mut self, env: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.env.extend(env.into_iter().map(Into::into));
        self
    }

    /// Sets the user.
    #[must_use]
    pub fn with_user(mut self, user: impl Into<String>) -> Self {
        self.user = Some(user.into());
        self
    }

    /// Sets the working directory.
    #[must_use]
    pub fn with_working_dir(mut self, dir: impl Into<String>) -> Self {
        self.working_dir = Some(dir.into());
        self
    }

    /// Sets the host name.
    #[must_use]
    pub fn with_hostname(mut self, hostname: impl Into<String>) -> Self {
        self.hostname = Some(hostname.into());
        self
    }

    /// Limits memory, in bytes. Without it, memory is not limited.
    #[must_use]
    pub fn with_memory_limit(mut self, bytes: u64) -> Self {
        self.resources.memory = Some(bytes);
        self
    }

    /// Sets the network mode.
    #[must_use]
    pub fn with_network(mut self, network: NetworkMode) -> Self {
        self.network = network;
        self
    }

    /// Publishes ports.
    #[must_use]
    pub fn with_ports(mut self, ports: impl IntoIterator<Item = PortMapping>) -> Self {
        self.ports.extend(ports);
        self
    }

    /// Moves the host's network interface `host` into the container when it starts, where it is called `inside`.
    #[must_use]
    pub fn with_network_device(mut self, host: impl Into<String>, inside: impl Into<String>) -> Self {
        self.network_devices.insert(host.into(), inside.into());
        self
    }

    /// Adds a mount.
    #[must_use]
    pub fn with_mount(mut self, mount: Mount) -> Self {
        self.mounts.push(MountSpec::Mount(mount));
        self
    }

    /// Mounts the volume `name` at `target`; it is made if it is not there.
    #[must_use]
    pub fn with_volume(mut self, name: Name, target: impl Into<PathBuf>) -> Self {
        self.mounts.push(MountSpec::volume(Some(name), target));
        self
    }

    /// Gives it a secret.
    #[must_use]
    pub fn with_secret(mut self, secret: SecretUse) -> Self {
        self.secrets.push(secret);
        self
    }

    /// Adds a label.
    #[must_use]
    pub fn with_label(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.labels.insert(key.into(), value.into());
        self
    }

    /// Keeps standard input open.
    #[must_use]
    pub fn with_open_stdin(mut self, open: bool) -> Self {
        self.open_stdin = open;
        self
    }

    /// Whether ids inside are others outside, as far as the spec alone says.
    pub(crate) fn is_mapped(&self) -> bool {
        self.user_namespace.as_ref().is_some_and(|mode| *mode != UserNamespace::Host)
    }

    /// Sets what follows the end of its process.
    #[must_use]
    pub fn with_restart(mut self, restart: RestartPolicy) -> Self {
        self.restart = restart;
        self
    }

    /// Sets how to look whether it is healthy.
    #[must_use]
    pub fn with_health(mut self, health: HealthCheck) -> Self {
        self.health = Some(health);
        self
    }

    /// Asks for a snapshot of the root file system before every exec.
    #[must_use]
    pub fn with_snapshot_execs(mut self, snapshot_execs: bool) -> Self {
        self.snapshot_execs = snapshot_execs;
        self
    }

    /// Asks for removal after the end.
    #[must_use]
    pub fn with_auto_remove(mut self, auto_remove: bool) -> Self {
        self.auto_remove = auto_remove;
        self
    }
}
