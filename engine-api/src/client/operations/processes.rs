//! Processes in containers and their streams.

use async_trait::async_trait;
use engine_core::engine::{ContainerOperations as _, Exec, ExecOptions, ProcessOperations};
use engine_core::id::ContainerId;
use engine_core::io::{AttachOptions, Streams, TerminalSize};
use engine_core::launch::ExecSpec;
use engine_core::logs::{LogQuery, LogStream};
use engine_core::state::ExitStatus;
use engine_core::{ExecId, Result};

use super::super::RemoteEngine;
use crate::wire::{self, AttachWanted, Began};

#[async_trait]
impl ProcessOperations for RemoteEngine {
    async fn start_attached(&self, id: &ContainerId, clients: Vec<AttachOptions>) -> Result<Vec<Streams>> {
        let count = clients.len();
        let Ok([options]) = <[AttachOptions; 1]>::try_from(clients) else {
            if count == 0 {
                self.start_container(id, None).await?;
                return Ok(Vec::new());
            }
            return Err(Self::unsupported("start container", "attach several clients before a start"));
        };
        Ok(vec![self.streams("start_attached", id, options).await?])
    }

    async fn attach(&self, id: &ContainerId, options: AttachOptions) -> Result<Streams> {
        self.streams("attach", id, options).await
    }

    async fn detached(&self, id: &ContainerId) -> Result<()> {
        self.call("detached", (id,)).await
    }

    async fn resize(&self, id: &ContainerId, size: TerminalSize) -> Result<()> {
        self.call("resize", (id, size)).await
    }

    async fn logs(&self, id: &ContainerId, query: &LogQuery) -> Result<LogStream> {
        self.stream("logs", (id, query), wire::log_entry_of).await
    }

    async fn exec(&self, id: &ContainerId, exec: &ExecSpec, options: ExecOptions) -> Result<Exec> {
        let wanted = AttachWanted::of(&options.io);
        let arguments = (id, exec, wanted, &options);
        if !wanted.any() {
            let began: Began = self.call("exec_unattached", arguments).await?;
            return Ok(began.process(Streams::default()));
        }
        let (began, session): (Began, _) = self.session("exec", arguments).await?;
        let flow = self.flows.begin(began.id.as_str());
        Ok(began.process(session.connect(options.io, flow)?))
    }

    async fn exec_wait(&self, id: &ContainerId, exec: &ExecId) -> Result<ExitStatus> {
        let status = self.call("exec_wait", (id, exec)).await?;
        self.flows.settle(exec.as_str()).await;
        Ok(status)
    }

    async fn exec_signal(&self, id: &ContainerId, exec: &ExecId, signal: i32) -> Result<()> {
        self.call("exec_signal", (id, exec, signal)).await
    }

    async fn exec_resize(&self, id: &ContainerId, exec: &ExecId, size: TerminalSize) -> Result<()> {
        self.call("exec_resize", (id, exec, size)).await
    }

    async fn exec_detached(&self, id: &ContainerId, exec: &ExecId) -> Result<()> {
        self.call("exec_detached", (id, exec)).await
    }
}

impl RemoteEngine {
    async fn streams(
        &self,
        operation: &'static str,
        id: &ContainerId,
        options: AttachOptions,
    ) -> Result<Streams> {
        let ((), session) = self.session(operation, (id, AttachWanted::of(&options))).await?;
        session.connect(options, self.flows.begin(id.as_str()))
    }
}
