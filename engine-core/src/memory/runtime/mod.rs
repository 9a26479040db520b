//! [`MemoryRuntime`]: containers whose processes are Rust futures.
//!
//! This module keeps the states and hands out the streams; `process` runs programs, `streams` carries their
//! output, `programs` and `shell` are what can be run. Root file systems, users, namespaces and limits are
//! recorded and otherwise ignored.
//! Invariant: a container's exit status is set once, after its output has ended.

mod container;
mod exec;
mod files;
mod health;
mod pipe;
mod process;
mod programs;
mod restart;
mod shell;
mod streams;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;

use super::{Faults, lock};
use crate::error::{Error, ErrorKind, Result};
use crate::files::{ContainerFiles, FilesSpec};
use crate::id::{ContainerId, ExecId};
use crate::io::{AttachOptions, Streams, TerminalSize};
use crate::launch::{ExecSpec, LaunchSpec};
use crate::logs::{LogQuery, LogStream};
use crate::network::names::ResolverConfig;
use crate::resources::Resources;
use crate::restart::RestartPolicy;
use crate::runtime::{ExecProcess, Kept, Runtime, RuntimeCapabilities, Sandbox, Stats};
use crate::signal;
use crate::state::{ContainerStatus, ExitStatus, RuntimeState};
use crate::stats::ProcessInfo;

pub use process::{Process, Program, Signals};
pub use streams::{Input, Output};

use container::Container;
use programs::Programs;

/// One more than the largest process id Linux gives (PID_MAX_LIMIT): ours can be mistaken for nobody's.
const FIRST_PID: u32 = 1 << 22;

/// A [`Runtime`] that simulates processes.
///
/// A command is looked up by its whole name, then by the last part of its path, among the programs that were
/// registered and `true`, `false`, `echo`, `cat`, `sleep`, `env`, `printf` and a very small `sh -c`. A command
/// that names no program is not found; one that ends in `/` is a directory and cannot be executed. Limits are
/// kept and reported, not enforced. Logs are kept whole. Clones see the same containers, which run on the tokio
/// runtime that started them. Methods in [`Faults`]: `runtime.create`, `runtime.start`, and so on.
///
/// ```
/// use engine_core::memory::{MemoryRuntime, Process};
///
/// let runtime = MemoryRuntime::new();
/// runtime.register("greet", async |process: Process| {
///     process.stdout.write("hello\n").await.map_or(1, |()| 0)
/// });
/// ```
#[derive(Clone)]
pub struct MemoryRuntime {
    world: Arc<World>,
    faults: Faults,
}

struct World {
    programs: Mutex<Programs>,
    containers: Mutex<BTreeMap<ContainerId, Arc<Container>>>,
    next_pid: Arc<AtomicU32>,
    trees: Arc<Mutex<BTreeMap<ContainerId, files::Tree>>>,
}

impl Default for MemoryRuntime {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for MemoryRuntime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let containers = lock(&self.world.containers).len();
        f.debug_struct("MemoryRuntime")
            .field("containers", &containers)
            .field("faults", &self.faults)
            .finish()
    }
}

impl MemoryRuntime {
    /// Creates a runtime without containers.
    #[must_use]
    pub fn new() -> Self {
        let world = World {
            programs: Mutex::new(programs::defaults()),
            containers: Mutex::default(),
            next_pid: Arc::new(AtomicU32::new(FIRST_PID)),
            trees: Arc::default(),
        };
        Self { world: Arc::new(world), faults: Faults::new() }
    }

    /// Shares `faults` with other parts.
    #[must_use]
    pub fn with_faults(mut self, faults: Faults) -> Self {
        self.faults = faults;
        self
    }

    /// Makes `program` what the command `name` runs, in containers that start from now on.
    pub fn register(&self, name: impl Into<String>, program: impl Program) {
        lock(&self.world.programs).insert(name.into(), Arc::new(program));
    }

    /// Returns the handle for faults.
    #[must_use]
    pub fn faults(&self) -> &Faults {
        &self.faults
    }

    /// Returns what a container was created with.
    #[must_use]
    pub fn launch_spec(&self, id: &ContainerId) -> Option<LaunchSpec> {
        lock(&self.world.containers).get(id).map(|container| container.launch().clone())
    }

    /// Returns the limits that [`update`](Runtime::update) set.
    #[must_use]
    pub fn resources(&self, id: &ContainerId) -> Option<Resources> {
        lock(&self.world.containers).get(id).map(|container| container.resources())
    }

    /// Returns what a container's resolver would go by.
    #[must_use]
    pub fn resolver(&self, id: &ContainerId) -> Option<ResolverConfig> {
        lock(&self.world.containers).get(id).and_then(|container| container.resolver())
    }

    fn find(&self, operation: &'static str, id: &ContainerId) -> Result<Arc<Container>> {
        lock(&self.world.containers)
            .get(id)
            .cloned()
            .ok_or_else(|| Error::new(ErrorKind::NotFound, operation).with("container", id))
    }

    fn program(&self, operation: &'static str, args: &[String]) -> Result<Arc<dyn Program>> {
        let command = args.first().map_or("", String::as_str);
        let fail = |kind| Error::new(kind, operation).with("command", command);
        if command.ends_with('/') {
            return Err(fail(ErrorKind::CommandNotExecutable).with_message("it is a directory"));
        }
        let found = programs::find(&lock(&self.world.programs), command);
        found.ok_or_else(|| fail(ErrorKind::CommandNotFound).with_message("there is no such program"))
    }

    fn pid(&self) -> u32 {
        self.world.next_pid.fetch_add(1, Ordering::Relaxed)
    }
}

fn check_signal(operation: &'static str, signal: i32) -> Result<()> {
    if (1..=64).contains(&signal) {
        return Ok(());
    }
    Err(Error::new(ErrorKind::InvalidArgument, operation)
        .with("signal", signal)
        .with_message("there is no such signal"))
}

#[async_trait]
impl Runtime for MemoryRuntime {
    fn capabilities(&self) -> RuntimeCapabilities {
        let none = || "none".to_owned();
        RuntimeCapabilities {
            isolates: false,
            pause: true,
            limits: true,
            cgroup: none(),
            cgroup_driver: none(),
        }
    }

    async fn create(&self, id: &ContainerId, launch: &LaunchSpec) -> Result<Sandbox> {
        self.faults.check("runtime.create", id).await?;
        let pid = self.pid();
        let mut containers = lock(&self.world.containers);
        let earlier = containers.get(id);
        if earlier.is_some_and(|container| container.state().status != ContainerStatus::Exited) {
            return Err(Error::new(ErrorKind::AlreadyExists, "create container")
                .with("container", id)
                .with_message("a container of this id exists"));
        }
        if let Some(config) = &launch.resolver {
            config.encode()?;
        }
        let pids = Arc::clone(&self.world.next_pid);
        let container = Container::new(id, launch, pid, pids, earlier.map(|container| container.log()))?;
        containers.insert(id.clone(), Arc::new(container));
        Ok(Sandbox::new(id.clone(), pid, None))
    }

    async fn start(&self, id: &ContainerId) -> Result<()> {
        self.faults.check("runtime.start", id).await?;
        let container = self.find("start container", id)?;
        container.begin()?;
        match self.program("start container", container.args()) {
            Ok(program) => {
                let world = Arc::clone(&self.world);
                container.run(program, Box::new(move |name| programs::find(&lock(&world.programs), name)));
                Ok(())
            }
            Err(error) => {
                container.fail(error.kind());
                Err(error.with("container", id))
            }
        }
    }

    async fn state(&self, id: &ContainerId) -> Result<RuntimeState> {
        self.faults.check("runtime.state", id).await?;
        Ok(self.find("inspect container", id)?.state())
    }

    async fn list(&self) -> Result<Vec<ContainerId>> {
        self.faults.check("runtime.list", "").await?;
        Ok(lock(&self.world.containers).keys().cloned().collect())
    }

    async fn signal(&self, id: &ContainerId, signal: i32) -> Result<()> {
        self.faults.check("runtime.signal", id).await?;
        check_signal("signal container", signal)?;
        self.find("signal container", id)?.signal(signal);
        Ok(())
    }

    async fn stop(&self, id: &ContainerId, signal: i32) -> Result<()> {
        self.faults.check("runtime.stop", id).await?;
        check_signal("stop container", signal)?;
        self.find("stop container", id)?.stop(signal);
        Ok(())
    }

    async fn set_restart_policy(&self, id: &ContainerId, policy: RestartPolicy) -> Result<()> {
        self.faults.check("runtime.set_restart_policy", id).await?;
        self.find("update container", id)?.set_restart_policy(policy)
    }

    async fn keep(&self, id: &ContainerId, key: &str, kept: Vec<Kept>) -> Result<()> {
        self.faults.check("runtime.keep", id).await?;
        self.find("keep descriptors", id)?.keep(key, kept)
    }

    async fn set_resolver(&self, id: &ContainerId, config: &ResolverConfig) -> Result<()> {
        self.faults.check("runtime.set_resolver", id).await?;
        config.encode()?;
        self.find("configure resolver", id)?.set_resolver(config)
    }

    async fn pause(&self, id: &ContainerId) -> Result<()> {
        self.faults.check("runtime.pause", id).await?;
        let container = self.find("pause container", id)?;
        container.freeze("pause container", true)?;
        // On another thread, a process may be amid a step that it began before.
        while !container.is_at_rest() {
            tokio::task::yield_now().await;
        }
        Ok(())
    }

    async fn resume(&self, id: &ContainerId) -> Result<()> {
        self.faults.check("runtime.resume", id).await?;
        self.find("resume container", id)?.freeze("resume container", false)
    }

    async fn wait(&self, id: &ContainerId) -> Result<ExitStatus> {
        self.faults.check("runtime.wait", id).await?;
        let container = self.find("wait for container", id)?;
        Ok(container.wait().await)
    }

    async fn attach(&self, id: &ContainerId, options: AttachOptions) -> Result<Streams> {
        self.faults.check("runtime.attach", id).await?;
        self.find("attach to container", id)?.attach(options)
    }

    async fn resize(&self, id: &ContainerId, size: TerminalSize) -> Result<()> {
        self.faults.check("runtime.resize", id).await?;
        self.find("resize terminal", id)?.resize(size)
    }

    async fn exec(&self, id: &ContainerId, exec: &ExecSpec, io: AttachOptions) -> Result<ExecProcess> {
        self.faults.check("runtime.exec", id).await?;
        let container = self.find("exec", id)?;
        container.check_running("exec")?;
        let program = self.program("exec", &exec.args).map_err(|e| e.with("container", id))?;
        container.exec(program, exec, io, self.pid())
    }

    async fn exec_wait(&self, id: &ContainerId, exec: &ExecId) -> Result<ExitStatus> {
        self.faults.check("runtime.exec_wait", exec).await?;
        let exec = self.find("wait for exec", id)?.find_exec("wait for exec", exec)?;
        Ok(exec.wait().await)
    }

    async fn exec_signal(&self, id: &ContainerId, exec: &ExecId, signal: i32) -> Result<()> {
        self.faults.check("runtime.exec_signal", exec).await?;
        check_signal("signal exec", signal)?;
        self.find("signal exec", id)?.find_exec("signal exec", exec)?.control.signal(signal);
        Ok(())
    }

    async fn exec_resize(&self, id: &ContainerId, exec: &ExecId, size: TerminalSize) -> Result<()> {
        self.faults.check("runtime.exec_resize", exec).await?;
        let exec = self.find("resize terminal", id)?.find_exec("resize terminal", exec)?;
        if exec.control.resize(size) { Ok(()) } else { Err(container::no_terminal(id)) }
    }

    async fn logs(&self, id: &ContainerId, query: &LogQuery) -> Result<LogStream> {
        self.faults.check("runtime.logs", id).await?;
        self.find("read log", id)?.logs(query)
    }

    async fn update(&self, id: &ContainerId, resources: &Resources) -> Result<()> {
        self.faults.check("runtime.update", id).await?;
        self.find("update container", id)?.update(resources);
        Ok(())
    }

    async fn stats(&self, id: &ContainerId) -> Result<Stats> {
        self.faults.check("runtime.stats", id).await?;
        Ok(self.find("read statistics", id)?.stats())
    }

    fn files(&self, id: &ContainerId, spec: &FilesSpec) -> Box<dyn ContainerFiles> {
        Box::new(files::MemoryFiles {
            id: id.clone(),
            trees: Arc::clone(&self.world.trees),
            read_only: spec.read_only,
            faults: self.faults.clone(),
        })
    }

    async fn processes(&self, id: &ContainerId) -> Result<Vec<ProcessInfo>> {
        self.faults.check("runtime.processes", id).await?;
        Ok(self.find("list processes", id)?.processes())
    }

    async fn delete(&self, id: &ContainerId) -> Result<()> {
        self.faults.check("runtime.delete", id).await?;
        lock(&self.world.trees).remove(id);
        let Ok(container) = self.find("delete container", id) else { return Ok(()) };
        container.stop(signal::SIGKILL);
        container.wait().await;
        let mut containers = lock(&self.world.containers);
        // Somebody may have deleted it and made another of the same id meanwhile.
        if containers.get(id).is_some_and(|there| Arc::ptr_eq(there, &container)) {
            containers.remove(id);
        }
        Ok(())
    }
}
