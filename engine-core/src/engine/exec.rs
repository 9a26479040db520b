//! More processes in a running container, and the state it had before each of them.
//!
//! What runs is the runtime's; here is what happens around it: an exec waits while somebody holds the container still,
//! and a snapshot is taken before it begins. Invariant: a snapshot for an exec and the beginning of that exec are one
//! turn, so nothing of the container's other execs with snapshots lies in between; an exec that cannot begin leaves
//! none.

use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorKind, Result};
use crate::events::Action;
use crate::id::{ExecId, Name};
use crate::io::{AttachOptions, Streams, TerminalSize};
use crate::launch::ExecSpec;
use crate::runtime::ExecProcess;
use crate::state::{ContainerStatus, ExitStatus};

use super::container::LocalContainer;
use super::events::of_container;
use super::fork::Snapshot;
use super::records::Record;
use super::task;

/// How [`Container::exec`](crate::Container::exec) begins a process. Made of [`AttachOptions`], it does what the
/// container's spec says.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct ExecOptions {
    /// How to attach to the process; to nothing, by default. What is connected to it is no data: nobody else can read it.
    #[serde(skip)]
    pub io: AttachOptions,
    /// Whether to keep the root file system's state before it; by default as the container's spec says.
    pub snapshot: ExecSnapshot,
}

/// Whether an exec keeps the state of the root file system that it finds.
///
/// A snapshot costs as [`Container::snapshot`](crate::Container::snapshot) of a running container does: the container
/// is paused while what it has written so far is copied. Nothing removes it but
/// [`Container::remove_snapshot`](crate::Container::remove_snapshot) and the container's own removal.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum ExecSnapshot {
    /// As the container's spec says ([`snapshot_execs`](crate::ContainerSpec::snapshot_execs)).
    #[default]
    AsContainer,
    /// A snapshot of this name; without one, it is named after the exec: `exec-` and its short id.
    Take(Option<Name>),
    /// None.
    Never,
}

impl From<AttachOptions> for ExecOptions {
    fn from(io: AttachOptions) -> Self {
        Self { io, ..Self::default() }
    }
}

impl ExecOptions {
    /// Keeps a snapshot, of this name or one after the exec's id.
    #[must_use]
    pub fn with_snapshot(mut self, name: Option<Name>) -> Self {
        self.snapshot = ExecSnapshot::Take(name);
        self
    }

    /// Keeps none, whatever the container's spec says.
    #[must_use]
    pub fn without_snapshot(mut self) -> Self {
        self.snapshot = ExecSnapshot::Never;
        self
    }
}

/// A process started by [`Container::exec`](crate::Container::exec).
#[derive(Debug)]
#[non_exhaustive]
pub struct Exec {
    /// Its id.
    pub id: ExecId,
    /// The host's process id, if known.
    pub pid: Option<u32>,
    /// The caller's ends of its streams.
    pub streams: Streams,
    /// The state of the root file system before it, if that was to be kept.
    pub snapshot: Option<Snapshot>,
}

impl Exec {
    /// Creates what an engine tells of a process that began.
    #[must_use]
    pub fn new(id: ExecId, pid: Option<u32>, streams: Streams, snapshot: Option<Snapshot>) -> Self {
        Self { id, pid, streams, snapshot }
    }

    fn of(process: ExecProcess, snapshot: Option<Snapshot>) -> Self {
        let ExecProcess { id, pid, streams } = process;
        Self::new(id, pid, streams, snapshot)
    }
}

impl LocalContainer {
    pub(super) async fn exec(&self, exec: &ExecSpec, options: impl Into<ExecOptions>) -> Result<Exec> {
        let ExecOptions { io, snapshot } = options.into();
        if exec.args.is_empty() {
            return Err(Error::new(ErrorKind::InvalidArgument, "exec in container")
                .with("container", self.id())
                .with_message("no command specified"));
        }
        let record = self.record().await?;
        let name = match snapshot {
            ExecSnapshot::Take(name) => name,
            ExecSnapshot::AsContainer if record.data.spec.snapshot_execs => None,
            _ => return Ok(Exec::of(self.exec_unless_paused(&record, exec, io).await?, None)),
        };
        let (container, exec) = (self.clone(), exec.clone());
        task::to_the_end(async move { container.exec_after_snapshot(exec, io, name).await }).await
    }

    async fn exec_unless_paused(
        &self,
        record: &Record,
        exec: &ExecSpec,
        io: AttachOptions,
    ) -> Result<ExecProcess> {
        const OPERATION: &str = "exec in container";
        self.require_process_of(record, OPERATION).await?;
        let runtime = &self.engine().inner.runtime;
        let again = io.try_clone().map_err(|error| Error::from_io(OPERATION, error))?;
        match runtime.exec(self.id(), exec, io).await {
            Err(error) if error.kind() == ErrorKind::Conflict => {}
            begun => return begun,
        }
        // Perhaps it is paused by nobody who means it to stay so.
        let _turn = self.turn().await?;
        self.require_unpaused().await?;
        runtime.exec(self.id(), exec, again).await
    }

    async fn exec_after_snapshot(
        &self,
        mut exec: ExecSpec,
        io: AttachOptions,
        name: Option<Name>,
    ) -> Result<Exec> {
        let turn = self.turn().await?;
        self.require_unpaused().await?;
        let id = exec.id.get_or_insert_with(ExecId::random).clone();
        let name = match name {
            Some(name) => name,
            None => format!("exec-{}", id.short()).parse()?,
        };
        let snapshot = self.take_snapshot(&turn, Some(name), Some(id)).await?;
        match self.engine().inner.runtime.exec(self.id(), &exec, io).await {
            Ok(process) => Ok(Exec::of(process, Some(snapshot))),
            Err(error) => Err(self.undo_snapshot(&turn, snapshot, error).await),
        }
    }

    async fn require_unpaused(&self) -> Result<()> {
        if self.require_process("exec in container").await?.status == ContainerStatus::Paused {
            return Err(self.conflict("exec in container", "it is paused", "unpause it first"));
        }
        Ok(())
    }

    pub(super) async fn exec_wait(&self, exec: &ExecId) -> Result<ExitStatus> {
        self.engine().inner.runtime.exec_wait(self.id(), exec).await
    }

    pub(super) async fn exec_signal(&self, exec: &ExecId, signal: i32) -> Result<()> {
        self.engine().inner.runtime.exec_signal(self.id(), exec, signal).await
    }

    pub(super) async fn exec_resize(&self, exec: &ExecId, size: TerminalSize) -> Result<()> {
        self.engine().inner.runtime.exec_resize(self.id(), exec, size).await
    }

    pub(super) async fn exec_detached(&self, exec: &ExecId) -> Result<()> {
        let event = of_container(Action::ExecDetach, &self.record().await?);
        self.engine().emit(event.with("execID", exec)).await;
        Ok(())
    }
}
