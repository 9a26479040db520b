//! Processes in containers and their streams.

use std::fmt;

use async_trait::async_trait;

use crate::engine::{Exec, ExecOptions};
use crate::error::Result;
use crate::id::{ContainerId, ExecId};
use crate::io::{AttachOptions, Streams, TerminalSize};
use crate::launch::ExecSpec;
use crate::logs::{LogQuery, LogStream};
use crate::state::ExitStatus;

/// Processes in containers and their streams.
#[async_trait]
pub trait ProcessOperations: fmt::Debug + Send + Sync {
    /// See [`Container::start_attached_each`](crate::engine::Container::start_attached_each).
    async fn start_attached(&self, id: &ContainerId, clients: Vec<AttachOptions>) -> Result<Vec<Streams>>;
    /// See [`Container::attach`](crate::engine::Container::attach).
    async fn attach(&self, id: &ContainerId, options: AttachOptions) -> Result<Streams>;
    /// See [`Container::detached`](crate::engine::Container::detached).
    async fn detached(&self, id: &ContainerId) -> Result<()>;
    /// See [`Container::resize`](crate::engine::Container::resize).
    async fn resize(&self, id: &ContainerId, size: TerminalSize) -> Result<()>;
    /// See [`Container::logs`](crate::engine::Container::logs).
    async fn logs(&self, id: &ContainerId, query: &LogQuery) -> Result<LogStream>;
    /// See [`Container::exec`](crate::engine::Container::exec).
    async fn exec(&self, id: &ContainerId, exec: &ExecSpec, options: ExecOptions) -> Result<Exec>;
    /// See [`Container::exec_wait`](crate::engine::Container::exec_wait).
    async fn exec_wait(&self, id: &ContainerId, exec: &ExecId) -> Result<ExitStatus>;
    /// See [`Container::exec_signal`](crate::engine::Container::exec_signal).
    async fn exec_signal(&self, id: &ContainerId, exec: &ExecId, signal: i32) -> Result<()>;
    /// See [`Container::exec_resize`](crate::engine::Container::exec_resize).
    async fn exec_resize(&self, id: &ContainerId, exec: &ExecId, size: TerminalSize) -> Result<()>;
    /// See [`Container::exec_detached`](crate::engine::Container::exec_detached).
    async fn exec_detached(&self, id: &ContainerId, exec: &ExecId) -> Result<()>;
}
