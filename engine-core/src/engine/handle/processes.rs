//! Processes of a container and their streams.

use crate::engine::{Container, Exec, ExecOptions};
use crate::error::Result;
use crate::id::ExecId;
use crate::io::{AttachOptions, Streams, TerminalSize};
use crate::launch::ExecSpec;
use crate::logs::{LogQuery, LogStream};
use crate::state::ExitStatus;

impl Container {
    /// Starts the container with the caller attached, so that no output is missed.
    ///
    /// # Errors
    /// As [`start`](Self::start); [`Conflict`](crate::ErrorKind::Conflict) if it runs.
    pub async fn start_attached(&self, options: AttachOptions) -> Result<Streams> {
        let mut attached = self.start_attached_each(vec![options]).await?;
        // As many as there were options.
        Ok(attached.pop().unwrap_or_default())
    }

    /// Starts the container with several clients attached, none of whom misses any output. Their streams come in the
    /// order of their options.
    ///
    /// # Errors
    /// As [`start_attached`](Self::start_attached).
    pub async fn start_attached_each(&self, clients: Vec<AttachOptions>) -> Result<Vec<Streams>> {
        self.engine.backend.start_attached(&self.id, clients).await
    }

    /// Attaches to the standard streams of the running container.
    ///
    /// # Errors
    /// [`Conflict`](crate::ErrorKind::Conflict) if it is not running.
    pub async fn attach(&self, options: AttachOptions) -> Result<Streams> {
        self.engine.backend.attach(&self.id, options).await
    }

    /// Tells the followers of events that a client has left the container's streams, while the container runs on. To
    /// leave them is to drop them.
    ///
    /// # Errors
    /// [`NotFound`](crate::ErrorKind::NotFound) if it was removed.
    pub async fn detached(&self) -> Result<()> {
        self.engine.backend.detached(&self.id).await
    }

    /// Sets the size of the container's terminal.
    ///
    /// # Errors
    /// [`Conflict`](crate::ErrorKind::Conflict) if it is not running.
    pub async fn resize(&self, size: TerminalSize) -> Result<()> {
        self.engine.backend.resize(&self.id, size).await
    }

    /// Reads the container's log. A container that was never started has an empty one.
    ///
    /// # Errors
    /// [`Unsupported`](crate::ErrorKind::Unsupported) if its output is not kept.
    pub async fn logs(&self, query: &LogQuery) -> Result<LogStream> {
        self.engine.backend.logs(&self.id, query).await
    }

    /// Runs a process inside the running container. While the container is held still for a snapshot or a commit, it
    /// waits.
    ///
    /// With a snapshot, see [`ExecSnapshot`](crate::engine::ExecSnapshot) for what it costs; then a future that is
    /// dropped is carried to its end.
    ///
    /// # Errors
    /// [`Conflict`](crate::ErrorKind::Conflict) if the container is not running or is paused;
    /// [`CommandNotFound`](crate::ErrorKind::CommandNotFound),
    /// [`CommandNotExecutable`](crate::ErrorKind::CommandNotExecutable); as [`snapshot`](Self::snapshot). Whatever it
    /// is, no snapshot stays.
    pub async fn exec(&self, exec: &ExecSpec, options: impl Into<ExecOptions>) -> Result<Exec> {
        self.engine.backend.exec(&self.id, exec, options.into()).await
    }

    /// Waits until a process started by [`exec`](Self::exec) has ended.
    ///
    /// # Errors
    /// [`NotFound`](crate::ErrorKind::NotFound) if there is no such process.
    pub async fn exec_wait(&self, exec: &ExecId) -> Result<ExitStatus> {
        self.engine.backend.exec_wait(&self.id, exec).await
    }

    /// Sends signal number `signal` to a process started by [`exec`](Self::exec). One that has ended is no error.
    ///
    /// # Errors
    /// [`NotFound`](crate::ErrorKind::NotFound) if there is no such process.
    pub async fn exec_signal(&self, exec: &ExecId, signal: i32) -> Result<()> {
        self.engine.backend.exec_signal(&self.id, exec, signal).await
    }

    /// Sets the size of the terminal of a process started by [`exec`](Self::exec).
    ///
    /// # Errors
    /// [`NotFound`](crate::ErrorKind::NotFound) if there is no such process.
    pub async fn exec_resize(&self, exec: &ExecId, size: TerminalSize) -> Result<()> {
        self.engine.backend.exec_resize(&self.id, exec, size).await
    }

    /// As [`detached`](Self::detached), of the streams of a process started by [`exec`](Self::exec).
    ///
    /// # Errors
    /// [`NotFound`](crate::ErrorKind::NotFound) if the container was removed.
    pub async fn exec_detached(&self, exec: &ExecId) -> Result<()> {
        self.engine.backend.exec_detached(&self.id, exec).await
    }
}
