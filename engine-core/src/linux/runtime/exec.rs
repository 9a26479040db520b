//! Attaching to a container, and running more processes in one.

use std::os::fd::{AsFd as _, BorrowedFd};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;

use super::container::not_running;
use super::io::{self as stdio, Terminal};
use super::{Inner, process};
use crate::error::{Error, ErrorKind, Result};
use crate::id::{ContainerId, ExecId};
use crate::io::{AttachOptions, Streams, TerminalSize};
use crate::launch::ExecSpec;
use crate::linux::plan::ProcessPlan;
use crate::linux::plan::format::option;
use crate::linux::rootfd::RootFd;
use crate::linux::shim::wire::{Request, flag, op, reply};
use crate::linux::shim::{Connection, Failure, Names, sealed};
use crate::linux::users;
use crate::policy::CapabilitySet;
use crate::runtime::ExecProcess;
use crate::state::ExitStatus;

/// A process started by an exec, for as long as its container is known here.
#[derive(Debug)]
pub(super) struct Exec {
    container: ContainerId,
    /// Until it has ended.
    connection: Mutex<Option<Arc<Connection>>>,
    ended: watch::Sender<Option<ExitStatus>>,
    terminal: Option<Terminal>,
}

impl Inner {
    pub(super) async fn attach(&self, id: &ContainerId, options: AttachOptions) -> Result<Streams> {
        const OPERATION: &str = "attach to container";
        let failed = |error| Error::from_io(OPERATION, error).with("container", id);
        let Some(connection) = self.connect(id)? else {
            self.state_file(OPERATION, id)?;
            return Err(not_running(OPERATION, id));
        };
        let (ends, streams) = stdio::connect(options).map_err(failed)?;
        let request = Request { op: op::ATTACH, flags: ends.flags, ..Request::default() };
        match connection.call(&request, &ends.borrow()).await.map_err(failed)? {
            Some(answer) if answer.kind == reply::OK => Ok(streams),
            Some(answer) => Err(Names::default().error(OPERATION, Failure::from(answer))),
            None => Err(not_running(OPERATION, id)),
        }
    }

    pub(super) async fn exec(
        self: &Arc<Self>,
        id: &ContainerId,
        spec: &ExecSpec,
        options: AttachOptions,
    ) -> Result<ExecProcess> {
        const OPERATION: &str = "exec";
        let failed = |error| Error::from_io(OPERATION, error).with("container", id);
        if spec.args.is_empty() {
            return Err(
                Error::new(ErrorKind::InvalidArgument, OPERATION).with_message("no command specified")
            );
        }
        let Some(connection) = self.connect(id)? else {
            self.state_file(OPERATION, id)?;
            return Err(not_running(OPERATION, id));
        };
        if self.cgroups.is_frozen(&self.cgroup_of(OPERATION, id)?) {
            return Err(Error::new(ErrorKind::Conflict, OPERATION)
                .with("container", id)
                .with_message("the container is paused")
                .with_hint("resume it first"));
        }
        let exec_id = spec.id.clone().unwrap_or_else(ExecId::random);
        if self.execs.lock().unwrap_or_else(PoisonError::into_inner).contains_key(&exec_id) {
            return Err(Error::new(ErrorKind::AlreadyExists, OPERATION)
                .with("exec", &exec_id)
                .with_message("there is an exec of this id"));
        }
        let mut plan = self.exec_plan(id, spec).await?;
        let command = serde_json::Value::from(spec.args.join(" ")).to_string();
        plan.event = Some((exec_id.to_string(), command[1..command.len() - 1].to_owned()));
        let bytes = plan.encode_exec()?;
        let plan_fd = sealed("engine-plan", &bytes, false).map_err(failed)?;
        let terminal = spec.terminal.is_some();
        let (ends, streams, options) = if terminal {
            (stdio::Ends::default(), Streams::default(), Some(options))
        } else {
            let (ends, streams) = stdio::connect(options).map_err(failed)?;
            (ends, streams, None)
        };
        let flags = ends.flags | if terminal { flag::TTY } else { 0 };
        let fds: Vec<BorrowedFd<'_>> = std::iter::once(plan_fd.as_fd()).chain(ends.borrow()).collect();
        connection
            .send(&Request { op: op::EXEC, flags, ..Request::default() }, &fds)
            .await
            .map_err(failed)?;
        drop(fds);
        drop(ends);
        let (answer, master) = match connection.receive().await.map_err(failed)? {
            Some((answer, master)) if answer.kind == reply::OK => (answer, master),
            Some((answer, _)) => return Err(Names::of_process(&plan).error(OPERATION, Failure::from(answer))),
            None => return Err(not_running(OPERATION, id)),
        };
        let terminal = master.map(Terminal::new).transpose().map_err(failed)?;
        let streams = match (&terminal, options) {
            (Some(terminal), Some(options)) => terminal.connect(options),
            _ => streams,
        };
        let connection = Arc::new(connection);
        let exec = Arc::new(Exec {
            container: id.clone(),
            connection: Mutex::new(Some(Arc::clone(&connection))),
            ended: watch::channel(None).0,
            terminal,
        });
        self.execs.lock().unwrap_or_else(PoisonError::into_inner).insert(exec_id.clone(), Arc::clone(&exec));
        tokio::spawn(async move { exec.watch(connection).await });
        Ok(ExecProcess::new(exec_id, u32::try_from(answer.a).ok(), streams))
    }

    /// The plan of an exec: the container's process with what `spec` changes.
    async fn exec_plan(&self, id: &ContainerId, spec: &ExecSpec) -> Result<ProcessPlan> {
        let mut plan = self.process_of(id).await?;
        plan.options &= option::NO_NEW_PRIVS;
        plan.argv = spec.args.iter().map(|text| text.clone().into_bytes()).collect();
        plan.terminal = spec.terminal.map(|size| (size.rows, size.columns));
        if spec.terminal.is_some() {
            plan.options |= option::TTY;
        }
        if let Some(cwd) = &spec.working_dir {
            plan.cwd = if cwd.starts_with('/') { cwd.clone() } else { format!("/{cwd}") };
        }
        let bounding = CapabilitySet::from_bits(plan.capabilities.bounding);
        let ambient = CapabilitySet::from_bits(plan.capabilities.ambient);
        if let Some(user) = &spec.user {
            let state = self.state_file("exec", id)?;
            let path = format!("/proc/{}/root", state.init.pid);
            let root =
                RootFd::open(&path).map_err(|error| Error::from_io("exec", error).with("container", id))?;
            if !state.init.is_alive() {
                return Err(not_running("exec", id));
            }
            let user = users::resolve(&root, user, &[])?;
            plan.env.unset(b"HOME");
            process::become_user(&mut plan, &user, bounding, ambient);
        }
        if spec.privileged {
            // Never more than the container's own bounding set (SECURITY B1).
            (plan.capabilities.effective, plan.capabilities.permitted) = (bounding.bits(), bounding.bits());
        }
        for variable in &spec.env {
            if variable.contains('=') {
                plan.env.set(variable.clone().into_bytes());
            } else {
                plan.env.unset(variable.as_bytes());
            }
        }
        Ok(plan)
    }

    fn exec_of(&self, id: &ContainerId, exec: &ExecId) -> Result<Arc<Exec>> {
        let known = self.execs.lock().unwrap_or_else(PoisonError::into_inner).get(exec).cloned();
        known.filter(|known| known.container == *id).ok_or_else(|| {
            Error::new(ErrorKind::NotFound, "find exec").with("exec", exec).with("container", id)
        })
    }

    pub(super) async fn exec_wait(&self, id: &ContainerId, exec: &ExecId) -> Result<ExitStatus> {
        let exec = self.exec_of(id, exec)?;
        let mut ended = exec.ended.subscribe();
        let status = ended.wait_for(Option::is_some).await;
        status.ok().and_then(|status| *status).ok_or_else(|| not_running("wait for exec", id))
    }

    pub(super) async fn exec_signal(&self, id: &ContainerId, exec: &ExecId, signal: i32) -> Result<()> {
        let exec = self.exec_of(id, exec)?;
        let connection = exec.connection.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let Some(connection) = connection else { return Ok(()) };
        let request = Request { op: op::SIGNAL, a: signal.into(), ..Request::default() };
        let failed = |error| Error::from_io("signal exec", error).with("container", id);
        match connection.send(&request, &[]).await {
            Err(error) if crate::linux::shim::is_gone(&error) => Ok(()),
            sent => sent.map_err(failed),
        }
    }

    pub(super) fn exec_resize(&self, id: &ContainerId, exec: &ExecId, size: TerminalSize) -> Result<()> {
        const OPERATION: &str = "resize terminal";
        let exec = self.exec_of(id, exec)?;
        let Some(terminal) = &exec.terminal else {
            return Err(Error::new(ErrorKind::Conflict, OPERATION)
                .with("container", id)
                .with_message("the process has no terminal"));
        };
        let resized = terminal.resize(size.rows, size.columns);
        resized.map_err(|error| Error::from_io(OPERATION, error).with("container", id))
    }

    /// Forgets the execs of a container that is being deleted.
    pub(super) fn forget_execs(&self, id: &ContainerId) {
        let mut execs = self.execs.lock().unwrap_or_else(PoisonError::into_inner);
        execs.retain(|_, exec| exec.container != *id);
    }
}

impl Exec {
    /// Waits for the end and tells it. Without an answer, the container ended and took the process along.
    async fn watch(&self, connection: Arc<Connection>) {
        let status = loop {
            match connection.receive().await {
                Ok(Some((answer, _))) if answer.kind == reply::EXITED => {
                    break ExitStatus::new(u8::try_from(answer.a).unwrap_or(255));
                }
                // Answers to signals.
                Ok(Some(_)) => {}
                Ok(None) | Err(_) => break ExitStatus::new(137),
            }
        };
        *self.connection.lock().unwrap_or_else(PoisonError::into_inner) = None;
        self.ended.send_replace(Some(status));
    }
}
