//! The [`Runtime`] contract: processes in containers.

use std::fmt;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use async_trait::async_trait;

use crate::error::Result;
use crate::files::{ContainerFiles, FilesSpec};
use crate::id::{ContainerId, ExecId};
use crate::io::{AttachOptions, Streams, TerminalSize};
use crate::launch::{ExecSpec, LaunchSpec};
use crate::logs::{LogQuery, LogStream};
use crate::network::names::ResolverConfig;
use crate::resources::Resources;
use crate::restart::RestartPolicy;
use crate::state::{ExitStatus, RuntimeState};
use crate::stats::ProcessInfo;
pub use crate::stats::Stats;

/// A descriptor that [`Runtime::keep`] keeps open.
#[derive(Debug)]
#[non_exhaustive]
pub struct Kept {
    /// The descriptor.
    pub descriptor: OwnedFd,
    /// Where those who connect to it, or send datagrams to it, are passed on to: by a process in this program's network
    /// namespace, so what is there sees an address of the host's instead of theirs. The descriptor is then a TCP socket
    /// that listens, or a UDP socket that is bound. A runtime whose containers are none of the kernel's passes nothing on.
    pub relay: Option<SocketAddr>,
}

impl Kept {
    /// One that nobody uses.
    pub fn new(descriptor: impl Into<OwnedFd>) -> Self {
        Self { descriptor: descriptor.into(), relay: None }
    }

    /// Passes its clients on to `target`.
    #[must_use]
    pub fn with_relay(mut self, target: SocketAddr) -> Self {
        self.relay = Some(target);
        self
    }
}

/// Most keys under which [`Runtime::keep`] keeps descriptors of one container.
pub const MAX_KEPT: usize = 32;

/// Runs containers' processes.
///
/// # Contract
/// - A container goes through `create` (a sandbox with its namespaces and mounts, its process not yet
///   executing), `start`, and its end; `delete` removes what is left. A failed or dropped `create` leaves
///   nothing behind.
/// - What a runtime knows survives the program: another instance over the same directories sees the same
///   containers, and `wait` works there as well. The exit status is kept until `delete`.
/// - `signal` and `delete` of what is gone are `Ok`: both are idempotent.
/// - Calls for different containers may run at the same time; calls for one container may too, and are put
///   in some order.
/// - A container whose [`LaunchSpec::restart`] asks for it runs again after its process ended, with the same log, network
///   namespace, limits, volumes and writable layer, also when the program that started it is gone. Between two runs its
///   state is [`Restarting`](crate::ContainerStatus::Restarting) and it has no process. A scoped one ends with its
///   program all the same.
/// - A running container whose [`LaunchSpec::health`] has a check is probed every so often, and its
///   [state](RuntimeState::health) tells what came of it, also when the program that started it is gone. A pause holds the
///   probes. A command is killed when its time is over, and runs with the container's user, environment and privileges.
/// - A container whose [`LaunchSpec::resolver`] is set has names answered inside its network namespace from before its
///   process runs until it has ended for good, also when the program that started it is gone. What its zones have is never
///   asked for elsewhere.
/// - Dropping the future of `wait`, `attach` or `exec_wait` ends the waiting and nothing else.
///
/// - What happens to a container is appended to the journal in [`LaunchSpec::events`](crate::LaunchSpec::events), if
///   there is one, by whoever sees it happen, also after the host program has gone: what is to happen at a start and
///   `start`; `kill` with its `signal`; `exec_create`, `exec_start` (a colon and the command behind them) and
///   `exec_die`, with `execID`; `health_status` (a colon and the status behind it); `oom`, `die` with `exitCode` and
///   `execDuration`, and what is to happen at an end. Each is there before a caller can know of it otherwise: before
///   `start` returns, before `wait` does. An end that nobody saw is told by nobody, and [`RuntimeState::lost`] says so.
///
/// # Implementing
/// Check your type with [`testing::runtime`](crate::testing) (feature `testing`).
#[async_trait]
pub trait Runtime: fmt::Debug + Send + Sync + 'static {
    /// Returns what this runtime can do.
    fn capabilities(&self) -> RuntimeCapabilities;

    /// Creates the sandbox of container `id`: everything but the execution of its process.
    ///
    /// A sandbox of this id that has ended is replaced, and its log goes on.
    ///
    /// # Errors
    /// [`AlreadyExists`](crate::ErrorKind::AlreadyExists) if a sandbox of this id is there and alive;
    /// [`InvalidArgument`](crate::ErrorKind::InvalidArgument) for an empty command, an unknown user or a bad
    /// mount source;
    /// [`Unsupported`](crate::ErrorKind::Unsupported) if the host lacks what the spec asks for.
    async fn create(&self, id: &ContainerId, launch: &LaunchSpec) -> Result<Sandbox>;

    /// Executes the container's process.
    ///
    /// # Errors
    /// [`CommandNotFound`](crate::ErrorKind::CommandNotFound) or
    /// [`CommandNotExecutable`](crate::ErrorKind::CommandNotExecutable), after which the sandbox has ended
    /// with exit code 127 or 126; [`Conflict`](crate::ErrorKind::Conflict) if it was started or has ended before;
    /// [`NotFound`](crate::ErrorKind::NotFound) if this runtime has nothing of that id, as for all methods below
    /// but [`delete`](Self::delete).
    async fn start(&self, id: &ContainerId) -> Result<()>;

    /// Returns the state of container `id`.
    ///
    /// # Errors
    /// [`NotFound`](crate::ErrorKind::NotFound) if this runtime has nothing of that id.
    async fn state(&self, id: &ContainerId) -> Result<RuntimeState>;

    /// Returns the ids of all containers this runtime holds anything of: running, ended and not deleted, or half made
    /// by a program that was killed meanwhile. The last are [`NotFound`](crate::ErrorKind::NotFound) to `state`.
    async fn list(&self) -> Result<Vec<ContainerId>>;

    /// Sends signal number `signal` to the container's process. SIGKILL ends one that is not started, too. A restart
    /// policy applies to what follows, unlike after [`stop`](Self::stop).
    ///
    /// # Errors
    /// [`NotFound`](crate::ErrorKind::NotFound) if this runtime has nothing of that id;
    /// [`InvalidArgument`](crate::ErrorKind::InvalidArgument) unless `signal` is between 1 and 64. A process that
    /// has ended is no error.
    async fn signal(&self, id: &ContainerId, signal: i32) -> Result<()>;

    /// Sends signal number `signal` to the container's process, after whose end it stays ended, whatever its restart
    /// policy. One that waits for its next run ends at once.
    ///
    /// # Errors
    /// As [`signal`](Self::signal).
    async fn stop(&self, id: &ContainerId, signal: i32) -> Result<()>;

    /// Changes the restart policy, from the next end of the container's process on. One that waits for its next run ends
    /// when the policy is [`No`](RestartPolicy::No).
    ///
    /// # Errors
    /// [`Conflict`](crate::ErrorKind::Conflict) if the container has ended.
    async fn set_restart_policy(&self, id: &ContainerId, policy: RestartPolicy) -> Result<()>;

    /// Keeps descriptors open until the container has ended for good, in the place of those kept under `key` before, also
    /// when this program has ended and between two runs by a restart policy. Without any, those kept before are let go. They
    /// are closed before anybody who waits learns of the last end. Clients of one with a [relay](Kept::relay) are passed on
    /// to its target as long.
    ///
    /// # Errors
    /// [`ResourceExhausted`](crate::ErrorKind::ResourceExhausted) for more than [`MAX_KEPT`] keys, or more descriptors
    /// than the system lets a process hand on; [`Conflict`](crate::ErrorKind::Conflict) if there are descriptors to keep
    /// and the container has ended.
    async fn keep(&self, id: &ContainerId, key: &str, kept: Vec<Kept>) -> Result<()>;

    /// Changes what the container's resolver goes by, from the next question on.
    ///
    /// # Errors
    /// [`InvalidArgument`](crate::ErrorKind::InvalidArgument) for paths that cannot be used;
    /// [`Conflict`](crate::ErrorKind::Conflict) if it was created without a [resolver](LaunchSpec::resolver), or has ended.
    async fn set_resolver(&self, id: &ContainerId, config: &ResolverConfig) -> Result<()>;

    /// Freezes all processes of the container. Idempotent.
    ///
    /// # Errors
    /// [`Conflict`](crate::ErrorKind::Conflict) if the container is not running;
    /// [`Unsupported`](crate::ErrorKind::Unsupported) where the capabilities say so.
    async fn pause(&self, id: &ContainerId) -> Result<()>;

    /// Thaws all processes of the container. Idempotent.
    ///
    /// # Errors
    /// As [`pause`](Self::pause).
    async fn resume(&self, id: &ContainerId) -> Result<()>;

    /// Waits until the container's process has ended and returns how, whether or not it will run again. What was killed
    /// by [`signal`](Self::signal) or [`delete`](Self::delete) has the code 137.
    async fn wait(&self, id: &ContainerId) -> Result<ExitStatus>;

    /// Attaches the caller to the standard streams of the container's process.
    ///
    /// Attached between `create` and `start`, it misses nothing; attached later, it gets what is written from then
    /// on. The output streams end when the process has ended and all its output was delivered.
    ///
    /// # Errors
    /// [`Conflict`](crate::ErrorKind::Conflict) if the process has ended.
    async fn attach(&self, id: &ContainerId, options: AttachOptions) -> Result<Streams>;

    /// Sets the size of the container's terminal.
    ///
    /// # Errors
    /// [`Conflict`](crate::ErrorKind::Conflict) if it has no terminal, or has ended.
    async fn resize(&self, id: &ContainerId, size: TerminalSize) -> Result<()>;

    /// Runs a process inside the running container.
    ///
    /// Its streams are connected to the caller's without a copy in between. It is killed when the container ends. It has
    /// the id that `exec` chooses, if it does.
    ///
    /// # Errors
    /// [`AlreadyExists`](crate::ErrorKind::AlreadyExists) if this instance started a process of that id;
    /// [`CommandNotFound`](crate::ErrorKind::CommandNotFound) or
    /// [`CommandNotExecutable`](crate::ErrorKind::CommandNotExecutable);
    /// [`Conflict`](crate::ErrorKind::Conflict) if the container is not running, or is paused.
    async fn exec(&self, id: &ContainerId, exec: &ExecSpec, io: AttachOptions) -> Result<ExecProcess>;

    /// Waits until a process started by [`exec`](Self::exec) has ended and returns how. The instance that
    /// started it knows it until the container is deleted.
    ///
    /// # Errors
    /// [`NotFound`](crate::ErrorKind::NotFound) if this instance started no such process.
    async fn exec_wait(&self, id: &ContainerId, exec: &ExecId) -> Result<ExitStatus>;

    /// Sends a signal to a process started by [`exec`](Self::exec). A process that has ended is no error.
    async fn exec_signal(&self, id: &ContainerId, exec: &ExecId, signal: i32) -> Result<()>;

    /// Sets the size of the terminal of a process started by [`exec`](Self::exec).
    async fn exec_resize(&self, id: &ContainerId, exec: &ExecId, size: TerminalSize) -> Result<()>;

    /// Reads the container's log: until now, or while it runs. Rotation loses no entry that is still kept.
    ///
    /// # Errors
    /// [`Unsupported`](crate::ErrorKind::Unsupported) if its output is not kept.
    async fn logs(&self, id: &ContainerId, query: &LogQuery) -> Result<LogStream>;

    /// Changes the limits of a container, running or not yet started.
    async fn update(&self, id: &ContainerId, resources: &Resources) -> Result<()>;

    /// Returns what the container uses now: nothing, once it has ended.
    async fn stats(&self, id: &ContainerId) -> Result<Stats>;

    /// Returns the file system of container `id`, made of `spec`: the running container's own while it runs, and as a
    /// start would make it otherwise. Nothing is opened yet.
    fn files(&self, id: &ContainerId, spec: &FilesSpec) -> Box<dyn ContainerFiles>;

    /// Returns the processes of the container, its own first: none, once it has ended. Nothing is run in it for that.
    async fn processes(&self, id: &ContainerId) -> Result<Vec<ProcessInfo>>;

    /// Ends the container if it runs (by SIGKILL) and removes all this runtime holds for it. Idempotent.
    async fn delete(&self, id: &ContainerId) -> Result<()>;
}

/// The abilities of a runtime, as data.
#[derive(Clone, Debug, Default, Eq, PartialEq, serde::Serialize, serde::Deserialize)]
#[non_exhaustive]
pub struct RuntimeCapabilities {
    /// Whether containers are real processes in namespaces of their own.
    pub isolates: bool,
    /// Whether `pause` works.
    pub pause: bool,
    /// Whether limits work.
    pub limits: bool,
    /// The cgroup version or layout, as shown to people: `v1`, `hybrid`, `v2`, `none`.
    pub cgroup: String,
    /// Who makes control groups: `cgroupfs`, `systemd`, `none`. With `systemd`, a container's parent is a slice.
    pub cgroup_driver: String,
}

/// A created container: what a network needs to attach to it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Sandbox {
    /// The container.
    pub id: ContainerId,
    /// The host's process id of its init.
    pub pid: u32,
    /// Its network namespace, as a path, if it has one of its own.
    pub network_namespace: Option<PathBuf>,
}

impl Sandbox {
    /// Creates a sandbox description.
    #[must_use]
    pub fn new(id: ContainerId, pid: u32, network_namespace: Option<PathBuf>) -> Self {
        Self { id, pid, network_namespace }
    }
}

/// A process started by [`Runtime::exec`].
#[derive(Debug)]
#[non_exhaustive]
pub struct ExecProcess {
    /// Its id.
    pub id: ExecId,
    /// The host's process id, if known.
    pub pid: Option<u32>,
    /// The caller's ends of its streams.
    pub streams: Streams,
}

impl ExecProcess {
    /// Creates a process description.
    #[must_use]
    pub fn new(id: ExecId, pid: Option<u32>, streams: Streams) -> Self {
        Self { id, pid, streams }
    }
}
