//! Processes in containers and their streams.

use async_trait::async_trait;

use crate::engine::{Exec, ExecOptions, LocalEngine, ProcessOperations};
use crate::error::Result;
use crate::id::{ContainerId, ExecId};
use crate::io::{AttachOptions, Streams, TerminalSize};
use crate::launch::ExecSpec;
use crate::logs::{LogQuery, LogStream};
use crate::state::ExitStatus;

#[async_trait]
impl ProcessOperations for LocalEngine {
    async fn start_attached(&self, id: &ContainerId, clients: Vec<AttachOptions>) -> Result<Vec<Streams>> {
        self.handle(id).start_attached_each(clients).await
    }

    async fn attach(&self, id: &ContainerId, options: AttachOptions) -> Result<Streams> {
        self.handle(id).attach(options).await
    }

    async fn detached(&self, id: &ContainerId) -> Result<()> {
        self.handle(id).detached().await
    }

    async fn resize(&self, id: &ContainerId, size: TerminalSize) -> Result<()> {
        self.handle(id).resize(size).await
    }

    async fn logs(&self, id: &ContainerId, query: &LogQuery) -> Result<LogStream> {
        self.handle(id).logs(query).await
    }

    async fn exec(&self, id: &ContainerId, exec: &ExecSpec, options: ExecOptions) -> Result<Exec> {
        self.handle(id).exec(exec, options).await
    }

    async fn exec_wait(&self, id: &ContainerId, exec: &ExecId) -> Result<ExitStatus> {
        self.handle(id).exec_wait(exec).await
    }

    async fn exec_signal(&self, id: &ContainerId, exec: &ExecId, signal: i32) -> Result<()> {
        self.handle(id).exec_signal(exec, signal).await
    }

    async fn exec_resize(&self, id: &ContainerId, exec: &ExecId, size: TerminalSize) -> Result<()> {
        self.handle(id).exec_resize(exec, size).await
    }

    async fn exec_detached(&self, id: &ContainerId, exec: &ExecId) -> Result<()> {
        self.handle(id).exec_detached(exec).await
    }
}
