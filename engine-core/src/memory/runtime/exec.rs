//! Processes that `exec` starts in a simulated container.

use std::sync::Arc;

use tokio::sync::watch;

use super::super::lock;
use super::container::{Container, KILLED};
use super::pipe::Pipe;
use super::process::{Control, Process, Program};
use super::streams::{Input, Output, feed};
use crate::error::{Error, ErrorKind, Result};
use crate::events::Action;
use crate::id::ExecId;
use crate::io::{AttachOptions, Stdio, Streams, Writer};
use crate::launch::ExecSpec;
use crate::runtime::ExecProcess;
use crate::state::ExitStatus;

/// A process started by `exec`.
#[derive(Debug)]
pub(super) struct Exec {
    pub(super) control: Arc<Control>,
    pub(super) exit: watch::Sender<Option<ExitStatus>>,
    pub(super) pid: u32,
    pub(super) args: Vec<String>,
}

impl Exec {
    pub(super) async fn wait(&self) -> ExitStatus {
        let mut exit = self.exit.subscribe();
        let status = exit.wait_for(Option::is_some).await.ok().and_then(|status| *status);
        status.unwrap_or(ExitStatus::new(KILLED))
    }
}

impl Container {
    pub(super) fn exec(
        self: &Arc<Self>,
        program: Arc<dyn Program>,
        spec: &ExecSpec,
        io: AttachOptions,
        pid: u32,
    ) -> Result<ExecProcess> {
        let mut streams = Streams::default();
        let stdin = Pipe::default();
        let input = if matches!(io.stdin, Stdio::Null) { Input::empty() } else { Input(stdin.clone()) };
        streams.stdin = feed(&stdin, io.stdin, true).map(|writer| Box::pin(writer) as Writer);
        let (stdout, reader) = Output::of_exec(io.stdout);
        streams.stdout = reader;
        let stderr = if spec.terminal.is_some() {
            stdout.clone()
        } else {
            let (stderr, reader) = Output::of_exec(io.stderr);
            streams.stderr = reader;
            stderr
        };
        let exec = Arc::new(Exec {
            control: Control::new(false, spec.terminal),
            exit: watch::channel(None).0,
            pid,
            args: spec.args.clone(),
        });
        let oci = self.launch.oci.process().as_ref();
        let mut env = self.env();
        for entry in &spec.env {
            let name = entry.split_once('=').map_or(entry.as_str(), |(name, _)| name);
            env.retain(|known| known.split_once('=').is_none_or(|(known, _)| known != name));
            env.extend(entry.contains('=').then(|| entry.clone()));
        }
        let own_dir = || oci.map_or_else(|| "/".to_owned(), |process| process.cwd().display().to_string());
        let process = Process {
            args: spec.args.clone(),
            env,
            secret_files: self.launch.secret_files.clone(),
            working_dir: spec.working_dir.clone().unwrap_or_else(own_dir),
            stdin: input,
            stdout,
            stderr,
            signals: exec.control.signals(),
        };
        let id = spec.id.clone().unwrap_or_else(ExecId::random);
        {
            let mut inner = lock(&self.inner);
            if inner.execs.contains_key(&id) {
                return Err(Error::new(ErrorKind::AlreadyExists, "exec")
                    .with("exec", &id)
                    .with_message("there is an exec of this id"));
            }
            // It may have ended since it was looked at.
            if inner.state.exit.is_some() {
                return Err(self.conflict("exec", "it is not running"));
            }
            inner.execs.insert(id.clone(), Arc::clone(&exec));
        }
        let command = spec.args.join(" ");
        let of_exec = |action: Action| self.event(action).with("execID", &id);
        let begin =
            [Action::ExecCreate, Action::ExecStart].map(|action| of_exec(action.with_detail(&command)));
        self.tell(&[], begin.into(), &[]);
        let (ended, control) = (Arc::clone(&exec), Arc::clone(&exec.control));
        let (container, die) = (Arc::clone(self), of_exec(Action::ExecDie));
        let mut end = OnDrop(Some(move |code| {
            container.tell(&[], vec![die.with("exitCode", code)], &[]);
            ended.exit.send_replace(Some(ExitStatus::new(code)));
        }));
        tokio::spawn(async move {
            let code = control.drive(program, process).await;
            end.call(code);
        });
        Ok(ExecProcess::new(id, Some(pid), streams))
    }

    pub(super) fn find_exec(&self, operation: &'static str, exec: &ExecId) -> Result<Arc<Exec>> {
        lock(&self.inner).execs.get(exec).cloned().ok_or_else(|| {
            Error::new(ErrorKind::NotFound, operation).with("exec", exec).with("container", &self.id)
        })
    }
}

/// Says that a process has ended: with its code, or when its task is dropped.
pub(super) struct OnDrop<F: FnOnce(u8)>(pub(super) Option<F>);

impl<F: FnOnce(u8)> OnDrop<F> {
    pub(super) fn call(&mut self, code: u8) {
        if let Some(end) = self.0.take() {
            end(code);
        }
    }
}

impl<F: FnOnce(u8)> Drop for OnDrop<F> {
    fn drop(&mut self) {
        self.call(KILLED);
    }
}
