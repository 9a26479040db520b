//! One simulated container: its states, its processes, its streams. `restart` runs it again.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use tokio::sync::{Notify, watch};

use super::super::lock;
use super::exec::{Exec, OnDrop};
use super::health;
use super::pipe::Pipe;
use super::process::{Control, Process, Program};
use super::restart::BackOff;
use super::streams::{Hub, Input, Log, Output, feed};
use crate::error::{Error, ErrorKind, Result};
use crate::events::{Action, Event, ObjectKind};
use crate::id::{ContainerId, ExecId};
use crate::io::{AttachOptions, Stdio, Streams, TerminalSize, Writer};
use crate::launch::{LaunchSpec, LogDriver};
use crate::logs::{LogQuery, LogSource, LogStream};
use crate::network::names::ResolverConfig;
use crate::resources::Resources;
use crate::runtime::{Kept, MAX_KEPT, Stats};
use crate::state::{ContainerStatus, ExitStatus, RuntimeState};
use crate::stats::ProcessInfo;

const SIGKILL: i32 = 9;
/// The exit code of a killed process: 128 + SIGKILL.
pub(super) const KILLED: u8 = 137;

#[derive(Debug)]
pub(super) struct Container {
    pub(super) id: ContainerId,
    pub(super) launch: LaunchSpec,
    args: Vec<String>,
    pub(super) inner: Mutex<Inner>,
    hub: Arc<Hub>,
    log: Arc<Log>,
    pids: Arc<AtomicU32>,
    /// How often its process has ended, and how the last time.
    ends: watch::Sender<(u64, Option<ExitStatus>)>,
    /// Told when there is no reason any more to wait for the next run.
    pub(super) settled: Notify,
}

/// Looks up a program by its name.
pub(super) type Find = Box<dyn Fn(&str) -> Option<Arc<dyn Program>> + Send + Sync>;

/// What belongs to one run.
#[derive(Clone, Debug)]
pub(super) struct Run {
    stdin: Pipe,
    pub(super) control: Arc<Control>,
}

impl Run {
    fn new(launch: &LaunchSpec) -> Self {
        let stdin = Pipe::default();
        if !launch.open_stdin {
            stdin.close();
        }
        Self { stdin, control: Control::new(!launch.init, launch.terminal) }
    }
}

#[derive(Debug)]
pub(super) struct Inner {
    pub(super) state: RuntimeState,
    pub(super) back_off: BackOff,
    run: Run,
    pub(super) execs: BTreeMap<ExecId, Arc<Exec>>,
    resources: Resources,
    kept: BTreeMap<String, Vec<Kept>>,
    resolver: Option<ResolverConfig>,
}

impl Inner {
    /// Whether the end of this run is the last one.
    pub(super) fn is_settled(&self) -> bool {
        self.state.stopped || !self.back_off.is_on()
    }
}

pub(super) fn no_terminal(id: &ContainerId) -> Error {
    Error::new(ErrorKind::Conflict, "resize terminal")
        .with("container", id)
        .with_message("the process has no terminal")
}

impl Container {
    /// Makes a created container, whose log goes on from that of an earlier run.
    pub(super) fn new(
        id: &ContainerId,
        launch: &LaunchSpec,
        pid: u32,
        pids: Arc<AtomicU32>,
        log: Option<Arc<Log>>,
    ) -> Result<Self> {
        let process = launch.oci.process().as_ref();
        let args = process.and_then(|process| process.args().clone()).unwrap_or_default();
        if args.is_empty() {
            return Err(Error::new(ErrorKind::InvalidArgument, "create container")
                .with("container", id)
                .with_message("no command specified"));
        }
        let log = log.unwrap_or_else(|| Arc::new(Log::new(launch.log_attributes.clone())));
        log.set_running(true);
        let kept = (launch.log.driver != LogDriver::None).then(|| Arc::clone(&log));
        let mut state = RuntimeState::new(ContainerStatus::Created);
        state.pid = Some(pid);
        let inner = Inner {
            state,
            back_off: BackOff::new(launch.restart),
            run: Run::new(launch),
            execs: BTreeMap::new(),
            resources: Resources::default(),
            kept: BTreeMap::new(),
            resolver: launch.resolver.clone(),
        };
        Ok(Self {
            id: id.clone(),
            launch: launch.clone(),
            args,
            inner: Mutex::new(inner),
            hub: Arc::new(Hub::new(kept)),
            log,
            pids,
            ends: watch::channel((0, None)).0,
            settled: Notify::new(),
        })
    }

    pub(super) fn launch(&self) -> &LaunchSpec {
        &self.launch
    }

    pub(super) fn args(&self) -> &[String] {
        &self.args
    }

    pub(super) fn log(&self) -> Arc<Log> {
        Arc::clone(&self.log)
    }

    pub(super) fn state(&self) -> RuntimeState {
        lock(&self.inner).state.clone()
    }

    pub(super) fn resources(&self) -> Resources {
        lock(&self.inner).resources.clone()
    }

    pub(super) async fn wait(&self) -> ExitStatus {
        let mut ends = self.ends.subscribe();
        let seen = {
            let inner = lock(&self.inner);
            if let Some(exit) = inner.state.exit {
                return exit;
            }
            ends.borrow_and_update().0
        };
        let ended = ends.wait_for(|(count, _)| *count > seen).await.ok().and_then(|end| end.1);
        ended.unwrap_or(ExitStatus::new(KILLED))
    }

    pub(super) fn conflict(&self, operation: &'static str, why: &str) -> Error {
        Error::new(ErrorKind::Conflict, operation).with("container", &self.id).with_message(why)
    }

    /// Goes from created to running; [`run`](Self::run) or [`fail`](Self::fail) follows.
    pub(super) fn begin(&self) -> Result<()> {
        let mut inner = lock(&self.inner);
        if inner.state.status != ContainerStatus::Created {
            return Err(self.conflict("start container", "it was started before"));
        }
        inner.state.status = ContainerStatus::Running;
        inner.state.started_at = Some(SystemTime::now());
        health::begin(self.launch.health.as_ref(), &mut inner.state.health);
        inner.back_off.begin();
        Ok(())
    }

    /// Appends events of this container, and `others` before or behind them.
    pub(super) fn tell(&self, before: &[Event], events: Vec<Event>, behind: &[Event]) {
        let Some(life) = &self.launch.events else { return };
        let attributes = life.journal.described(self.id.as_str()).unwrap_or_else(|| life.attributes.clone());
        let own = events.into_iter().map(|mut event| {
            event.attributes.extend(attributes.clone());
            event
        });
        let all: Vec<Event> = before.iter().cloned().chain(own).chain(behind.iter().cloned()).collect();
        if let Err(error) = life.journal.append(&all) {
            tracing::warn!(container = %self.id, %error, "events are lost");
        }
    }

    fn tell_start(&self) {
        let before = self.launch.events.as_ref().map_or(&[][..], |life| &life.at_start);
        self.tell(before, vec![self.event(Action::Start)], &[]);
    }

    pub(super) fn event(&self, action: Action) -> Event {
        Event::new(ObjectKind::Container, action, self.id.as_str())
    }

    /// Ends a container whose command cannot run.
    pub(super) fn fail(&self, kind: ErrorKind) {
        self.finish(if kind == ErrorKind::CommandNotFound { 127 } else { 126 });
    }

    /// Runs the container's process in a task of its own.
    /// `find` looks up other programs.
    pub(super) fn run(self: &Arc<Self>, program: Arc<dyn Program>, find: Find) {
        self.tell_start();
        let container = Arc::clone(self);
        // Also when the tokio runtime goes and the task is dropped, the container has ended.
        let mut end = OnDrop(Some(move |code| container.finish(code)));
        let container = Arc::clone(self);
        tokio::spawn(async move {
            let code = loop {
                let (control, process) = container.process();
                let code = tokio::select! {
                    code = control.drive(Arc::clone(&program), process) => code,
                    never = container.watch_health(&*find) => match never {},
                };
                if !container.runs_again(code).await {
                    break code;
                }
            };
            end.call(code);
        });
    }

    /// The process of the run that begins.
    fn process(&self) -> (Arc<Control>, Process) {
        let run = lock(&self.inner).run.clone();
        let terminal = self.launch.terminal.is_some();
        let oci = self.launch.oci.process().as_ref();
        let process = Process {
            args: self.args.clone(),
            env: self.env(),
            secret_files: self.launch.secret_files.clone(),
            working_dir: oci.map_or_else(|| "/".to_owned(), |process| process.cwd().display().to_string()),
            stdin: Input(run.stdin.clone()),
            stdout: Output::of_container(&self.hub, LogSource::Stdout, terminal),
            stderr: Output::of_container(&self.hub, LogSource::Stderr, terminal),
            signals: run.control.signals(),
        };
        (run.control, process)
    }

    /// The environment that its processes begin with.
    pub(super) fn env(&self) -> Vec<String> {
        let oci = self.launch.oci.process().as_ref();
        let mut env = oci.and_then(|process| process.env().clone()).unwrap_or_default();
        for secret in &self.launch.secret_env {
            env.retain(|known| known.split('=').next() != Some(&secret.name));
            env.push(format!("{}={}", secret.name, String::from_utf8_lossy(secret.value.reveal())));
        }
        env
    }

    /// Begins another run, unless there is to be none any more.
    pub(super) fn begin_again(&self) -> bool {
        let mut inner = lock(&self.inner);
        if inner.is_settled() {
            return false;
        }
        inner.back_off.begin();
        inner.run = Run::new(&self.launch);
        inner.execs.retain(|_, exec| exec.exit.borrow().is_none());
        let state = &mut inner.state;
        (state.status, state.exit) = (ContainerStatus::Running, None);
        state.pid = Some(self.pids.fetch_add(1, Ordering::Relaxed));
        state.started_at = Some(SystemTime::now());
        state.restart_count += 1;
        health::begin(self.launch.health.as_ref(), &mut state.health);
        drop(inner);
        self.tell_start();
        true
    }

    /// Ends the container, once.
    fn finish(&self, code: u8) {
        if lock(&self.inner).state.status != ContainerStatus::Exited {
            self.end_run(code, ContainerStatus::Exited);
            self.log.set_running(false);
        }
    }

    /// Ends a run, which `status` follows: its execs, then its output, then the news.
    pub(super) fn end_run(&self, code: u8, status: ContainerStatus) {
        let exit = ExitStatus::new(code);
        let started =
            Some(self.state()).filter(|state| state.exit.is_none()).and_then(|state| state.started_at);
        if let Some(started) = started {
            let seconds = started.elapsed().unwrap_or_default().as_secs();
            let die = self.event(Action::Die).with("exitCode", code).with("execDuration", seconds);
            self.tell(&[], vec![die], self.launch.events.as_ref().map_or(&[], |life| &life.at_end));
        }
        let (execs, again) = {
            let mut inner = lock(&self.inner);
            let again = inner.state.exit.is_some();
            inner.state.exit = Some(exit);
            if status == ContainerStatus::Exited {
                inner.kept.clear();
            }
            (inner.execs.values().cloned().collect::<Vec<_>>(), again)
        };
        for exec in execs {
            exec.control.signal(SIGKILL);
        }
        self.hub.close();
        self.log.end_lines();
        let mut inner = lock(&self.inner);
        inner.run.stdin.close();
        inner.state.status = status;
        inner.state.pid = None;
        // Between two runs, its process has ended before.
        if !again {
            inner.state.finished_at = Some(SystemTime::now());
            self.ends.send_modify(|(count, last)| (*count, *last) = (*count + 1, Some(exit)));
        }
    }

    pub(super) fn signal(&self, signal: i32) {
        let (created, control) = {
            let inner = lock(&self.inner);
            (inner.state.status == ContainerStatus::Created, Arc::clone(&inner.run.control))
        };
        if created && signal == SIGKILL {
            self.finish(KILLED);
        } else if !created {
            if lock(&self.inner).state.exit.is_none() {
                self.tell(&[], vec![self.event(Action::Kill).with("signal", signal)], &[]);
            }
            control.signal(signal);
        }
    }

    pub(super) fn resolver(&self) -> Option<ResolverConfig> {
        lock(&self.inner).resolver.clone()
    }

    pub(super) fn set_resolver(&self, config: &ResolverConfig) -> Result<()> {
        let mut inner = lock(&self.inner);
        if inner.state.status == ContainerStatus::Exited {
            return Err(self.conflict("configure resolver", "it has ended"));
        }
        match &mut inner.resolver {
            Some(resolver) => resolver.clone_from(config),
            None => return Err(self.conflict("configure resolver", "it has no resolver")),
        }
        Ok(())
    }

    pub(super) fn keep(&self, key: &str, kept: Vec<Kept>) -> Result<()> {
        const OPERATION: &str = "keep descriptors";
        let mut inner = lock(&self.inner);
        if kept.is_empty() {
            inner.kept.remove(key);
            return Ok(());
        }
        // Not its status: between the two, others learn of the end.
        if inner.state.status == ContainerStatus::Exited || inner.state.exit.is_some() && inner.is_settled() {
            return Err(self.conflict(OPERATION, "it has ended"));
        }
        if !inner.kept.contains_key(key) && inner.kept.len() == MAX_KEPT {
            let error = Error::new(ErrorKind::ResourceExhausted, OPERATION).with("container", &self.id);
            return Err(error.with("key", key).with_message("descriptors are kept under too many keys"));
        }
        inner.kept.insert(key.to_owned(), kept);
        Ok(())
    }

    /// Whether no process takes a step at this moment.
    pub(super) fn is_at_rest(&self) -> bool {
        let inner = lock(&self.inner);
        inner.run.control.is_at_rest() && inner.execs.values().all(|exec| exec.control.is_at_rest())
    }

    pub(super) fn freeze(&self, operation: &'static str, frozen: bool) -> Result<()> {
        let mut inner = lock(&self.inner);
        match inner.state.status {
            ContainerStatus::Running | ContainerStatus::Paused => {}
            _ => return Err(self.conflict(operation, "it is not running")),
        }
        inner.state.status = if frozen { ContainerStatus::Paused } else { ContainerStatus::Running };
        inner.run.control.freeze(frozen);
        for exec in inner.execs.values() {
            exec.control.freeze(frozen);
        }
        Ok(())
    }

    pub(super) fn check_running(&self, operation: &'static str) -> Result<()> {
        match lock(&self.inner).state.status {
            ContainerStatus::Running => Ok(()),
            ContainerStatus::Paused => Err(self.conflict(operation, "it is paused")),
            _ => Err(self.conflict(operation, "it is not running")),
        }
    }

    pub(super) fn attach(&self, options: AttachOptions) -> Result<Streams> {
        let inner = lock(&self.inner);
        if inner.state.exit.is_some() {
            return Err(self.conflict("attach to container", "it is not running"));
        }
        let mut streams = Streams::default();
        if self.launch.open_stdin {
            let writer = feed(&inner.run.stdin, options.stdin, self.launch.stdin_once);
            streams.stdin = writer.map(|writer| Box::pin(writer) as Writer);
        } else if matches!(options.stdin, Stdio::Piped) {
            // Writes to a closed pipe fail, as those of a real one do.
            streams.stdin =
                feed(&inner.run.stdin, Stdio::Piped, false).map(|writer| Box::pin(writer) as Writer);
        }
        streams.stdout = self.hub.attach(LogSource::Stdout, options.stdout, options.blocking);
        if self.launch.terminal.is_none() {
            streams.stderr = self.hub.attach(LogSource::Stderr, options.stderr, options.blocking);
        }
        Ok(streams)
    }

    pub(super) fn resize(&self, size: TerminalSize) -> Result<()> {
        let inner = lock(&self.inner);
        if inner.state.exit.is_some() {
            return Err(self.conflict("resize terminal", "it is not running"));
        }
        if inner.run.control.resize(size) { Ok(()) } else { Err(no_terminal(&self.id)) }
    }

    pub(super) fn logs(&self, query: &LogQuery) -> Result<LogStream> {
        if self.launch.log.driver == LogDriver::None {
            return Err(Error::new(ErrorKind::Unsupported, "read log")
                .with("container", &self.id)
                .with_message("its output is not kept"));
        }
        Ok(self.log().read(query))
    }

    /// Takes over the limits that `new` has.
    pub(super) fn update(&self, new: &Resources) {
        let mut inner = lock(&self.inner);
        let old = &mut inner.resources;
        macro_rules! take {
            ($($field:ident),*) => { $( if new.$field.is_some() { old.$field.clone_from(&new.$field); } )* };
        }
        take!(nano_cpus, cpu_shares, cpu_period, cpu_quota, cpuset_cpus, cpuset_mems, memory);
        take!(memory_reservation, memory_swap, memory_swappiness, pids_limit, blkio_weight);
        take!(cpu_rt_period, cpu_rt_runtime, oom_kill_disable);
        if !new.blkio_devices.is_empty() {
            old.blkio_devices.clone_from(&new.blkio_devices);
        }
    }

    pub(super) fn processes(&self) -> Vec<ProcessInfo> {
        let inner = lock(&self.inner);
        let Some(init) = inner.state.pid.filter(|_| inner.state.exit.is_none()) else { return Vec::new() };
        let info = |pid: u32, parent: u32, args: &[String]| ProcessInfo {
            pid,
            parent,
            state: 'S',
            threads: 1,
            name: args.first().cloned().unwrap_or_default(),
            args: args.to_vec(),
            ..ProcessInfo::default()
        };
        let running = inner.execs.values().filter(|exec| exec.exit.borrow().is_none());
        let execs = running.map(|exec| info(exec.pid, init, &exec.args));
        [info(init, 0, &self.args)].into_iter().chain(execs).collect()
    }

    pub(super) fn stats(&self) -> Stats {
        let inner = lock(&self.inner);
        if inner.state.exit.is_some() {
            return Stats::default();
        }
        let execs = inner.execs.values().filter(|exec| exec.exit.borrow().is_none()).count();
        Stats {
            read_at: Some(SystemTime::now()),
            pids: 1 + execs as u64,
            memory_limit: inner.resources.memory,
            pids_limit: inner.resources.pids_limit.and_then(|limit| u64::try_from(limit).ok()),
            ..Stats::default()
        }
    }
}
