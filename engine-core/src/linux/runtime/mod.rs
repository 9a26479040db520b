//! [`LinuxRuntime`]: containers as processes in namespaces, through the shim.
//!
//! This module translates launch specifications into launch plans (`translate`, `mounts`, `process`), keeps what
//! belongs to a container on disk, and speaks to shims. It mounts nothing for containers and forks nothing: the shim does.
//!
//! On disk: `<root>/containers/<id>/` has the shim's state file and the log, `<run-root>/containers/<id>/` its socket.
//! Invariant: what is true of a container is what its shim says, or its state file once the shim is gone; nothing here
//! remembers it.

mod cgroups;
mod container;
mod control;
mod exec;
mod health;
mod idmap;
mod io;
mod keep;
mod log_files;
mod logs;
mod mounts;
mod net_devices;
mod observe;
mod process;
mod resolver;
mod restart;
mod scheduling;
mod scopes;
mod translate;
mod users;

use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;

use crate::cgroups::CgroupOptions;
use crate::error::{Error, ErrorKind, Result};
use crate::files::{ContainerFiles, FilesSpec};
use crate::id::{ContainerId, ExecId};
use crate::io::{AttachOptions, Streams, TerminalSize};
use crate::launch::{ExecSpec, LaunchSpec};
use crate::linux::files::LinuxFiles;
use crate::linux::files::view::Viewer;
use crate::linux::seccomp;
use crate::linux::shim::wire::flag;
use crate::logs::{LogQuery, LogStream};
use crate::network::names::ResolverConfig;
use crate::resources::Resources;
use crate::restart::RestartPolicy;
use crate::runtime::{ExecProcess, Kept, Runtime, RuntimeCapabilities, Sandbox, Stats};
use crate::state::{ExitStatus, RuntimeState};
use crate::stats::ProcessInfo;

/// The embedded [`Runtime`].
#[derive(Clone)]
pub struct LinuxRuntime {
    inner: Arc<Inner>,
}

struct Inner {
    /// `<root>/containers`.
    root: PathBuf,
    /// `<run-root>/containers`.
    run: PathBuf,
    cgroups: cgroups::Host,
    seccomp: seccomp::Cache,
    users: users::Cache,
    /// What this instance created and has not seen the end of.
    local: Mutex<HashMap<ContainerId, Arc<container::Local>>>,
    execs: Mutex<HashMap<ExecId, Arc<exec::Exec>>>,
}

impl LinuxRuntime {
    /// Opens the runtime whose containers are beneath `root` and their sockets beneath `run_root`.
    ///
    /// # Errors
    /// As the file system says, for directories that cannot be made.
    pub async fn open(root: impl AsRef<Path>, run_root: impl AsRef<Path>) -> Result<Self> {
        Self::open_with(root, run_root, CgroupOptions::default()).await
    }

    /// As [`open`](Self::open), with a say in who makes control groups, and where.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] for systemd's on a host without cgroup v2 alone; [`ErrorKind::NotFound`] for a group to make
    /// others beneath that there is not.
    pub async fn open_with(
        root: impl AsRef<Path>,
        run_root: impl AsRef<Path>,
        cgroups: CgroupOptions,
    ) -> Result<Self> {
        let (root, run) = (root.as_ref().join("containers"), run_root.as_ref().join("containers"));
        blocking(move || {
            for path in [&root, &run] {
                container::make_private(path)?;
            }
            let cgroups = cgroups::Host::detect(&root, &cgroups)?;
            let inner = Inner {
                root,
                run,
                cgroups,
                seccomp: seccomp::Cache::default(),
                users: users::Cache::default(),
                local: Mutex::default(),
                execs: Mutex::default(),
            };
            Ok(Self { inner: Arc::new(inner) })
        })
        .await
    }
}

impl fmt::Debug for LinuxRuntime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LinuxRuntime").field("root", &self.inner.root).field("run", &self.inner.run).finish()
    }
}

impl Inner {
    fn local(&self, id: &ContainerId) -> Option<Arc<container::Local>> {
        self.local.lock().unwrap_or_else(PoisonError::into_inner).get(id).cloned()
    }
}

/// Runs what blocks beside the async workers.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(Error::new(ErrorKind::Other, "run container operation").with_source(error)),
    }
}

#[async_trait]
impl Runtime for LinuxRuntime {
    fn capabilities(&self) -> RuntimeCapabilities {
        RuntimeCapabilities {
            isolates: true,
            pause: self.inner.cgroups.is_there(),
            limits: self.inner.cgroups.is_there(),
            cgroup: self.inner.cgroups.name(),
            cgroup_driver: self.inner.cgroups.driver_name().to_owned(),
        }
    }

    async fn create(&self, id: &ContainerId, launch: &LaunchSpec) -> Result<Sandbox> {
        self.inner.create(id, launch).await
    }

    async fn start(&self, id: &ContainerId) -> Result<()> {
        self.inner.start(id).await
    }

    async fn state(&self, id: &ContainerId) -> Result<RuntimeState> {
        self.inner.state(id).await
    }

    async fn list(&self) -> Result<Vec<ContainerId>> {
        self.inner.list().await
    }

    async fn signal(&self, id: &ContainerId, signal: i32) -> Result<()> {
        self.inner.signal(id, signal, 0).await
    }

    async fn stop(&self, id: &ContainerId, signal: i32) -> Result<()> {
        self.inner.signal(id, signal, flag::STOP).await
    }

    async fn set_restart_policy(&self, id: &ContainerId, policy: RestartPolicy) -> Result<()> {
        self.inner.set_restart_policy(id, policy).await
    }

    async fn keep(&self, id: &ContainerId, key: &str, kept: Vec<Kept>) -> Result<()> {
        self.inner.keep(id, key, kept).await
    }

    async fn set_resolver(&self, id: &ContainerId, config: &ResolverConfig) -> Result<()> {
        self.inner.set_resolver(id, config)
    }

    async fn pause(&self, id: &ContainerId) -> Result<()> {
        self.inner.freeze(id, true).await
    }

    async fn resume(&self, id: &ContainerId) -> Result<()> {
        self.inner.freeze(id, false).await
    }

    async fn wait(&self, id: &ContainerId) -> Result<ExitStatus> {
        self.inner.wait(id).await
    }

    async fn attach(&self, id: &ContainerId, options: AttachOptions) -> Result<Streams> {
        self.inner.attach(id, options).await
    }

    async fn resize(&self, id: &ContainerId, size: TerminalSize) -> Result<()> {
        self.inner.resize(id, size).await
    }

    async fn exec(&self, id: &ContainerId, exec: &ExecSpec, io: AttachOptions) -> Result<ExecProcess> {
        self.inner.exec(id, exec, io).await
    }

    async fn exec_wait(&self, id: &ContainerId, exec: &ExecId) -> Result<ExitStatus> {
        self.inner.exec_wait(id, exec).await
    }

    async fn exec_signal(&self, id: &ContainerId, exec: &ExecId, signal: i32) -> Result<()> {
        self.inner.exec_signal(id, exec, signal).await
    }

    async fn exec_resize(&self, id: &ContainerId, exec: &ExecId, size: TerminalSize) -> Result<()> {
        self.inner.exec_resize(id, exec, size)
    }

    async fn logs(&self, id: &ContainerId, query: &LogQuery) -> Result<LogStream> {
        self.inner.logs(id, query).await
    }

    async fn update(&self, id: &ContainerId, resources: &Resources) -> Result<()> {
        self.inner.update(id, resources).await
    }

    async fn stats(&self, id: &ContainerId) -> Result<Stats> {
        self.inner.stats(id).await
    }

    fn files(&self, id: &ContainerId, spec: &FilesSpec) -> Box<dyn ContainerFiles> {
        Box::new(LinuxFiles::new(Viewer::new(self.inner.dirs(id).state, spec.clone())))
    }

    async fn processes(&self, id: &ContainerId) -> Result<Vec<ProcessInfo>> {
        self.inner.processes(id).await
    }

    async fn delete(&self, id: &ContainerId) -> Result<()> {
        self.inner.delete(id).await
    }
}
