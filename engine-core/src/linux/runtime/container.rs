//! One container's life: created, started, asked, waited for, deleted.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, SystemTime};

use oci_spec::runtime::LinuxResources;
use rustix::fs::{Mode, OFlags};

use super::net_devices::{self, Moved, Wish};
use super::{Inner, blocking, translate};
use crate::error::{Error, ErrorKind, Result};
use crate::id::ContainerId;
use crate::io::TerminalSize;
use crate::launch::{LaunchSpec, Lifetime};
use crate::linux::plan::{LaunchPlan, ProcessPlan, format::option};
use crate::linux::shim::wire::{Reply, Request, flag, op, reply, step};
use crate::linux::shim::{Connection, Failure, Names, ShimState, StateStatus, spawn};
use crate::runtime::Sandbox;
use crate::state::{ContainerStatus, ExitStatus, RuntimeState};

/// Docker's exit code of a container whose end nobody saw.
const UNKNOWN_EXIT: u8 = 255;

/// What the instance that created a container holds of it.
#[derive(Debug)]
pub(super) struct Local {
    /// The control socket. Closing it ends a scoped container.
    control: Connection,
    /// One question at a time.
    turn: tokio::sync::Mutex<()>,
    names: Names,
    /// Its control group.
    pub(super) cgroup: String,
    /// What an exec inherits.
    pub(super) process: OnceLock<ProcessPlan>,
    /// Interfaces of the host that it has, until its program runs.
    net_devices: Mutex<Option<Moved>>,
}

impl Local {
    pub(super) fn take_net_devices(&self) -> Option<Moved> {
        self.net_devices.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// The directories of a container.
#[derive(Clone, Debug)]
pub(super) struct Dirs {
    pub(super) state: PathBuf,
    pub(super) run: PathBuf,
}

/// Makes a directory that only its owner can enter (SECURITY B9), with its parents.
pub(super) fn make_private(path: &Path) -> Result<()> {
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(|error| Error::from_io("make directory", error).with("path", path.display()))
}

fn open_directory(path: &Path) -> io::Result<OwnedFd> {
    Ok(rustix::fs::open(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?)
}

/// Removes a half-made container, unless told that it is whole.
struct Undo {
    dirs: Option<Dirs>,
}

impl Drop for Undo {
    fn drop(&mut self) {
        if let Some(dirs) = self.dirs.take() {
            remove_files(&dirs);
        }
    }
}

/// A container whose shim is at work.
struct Prepared {
    plan: LaunchPlan,
    control: OwnedFd,
    undo: Undo,
    /// Keeps copies into the container's files waiting.
    lock: OwnedFd,
    net_devices: Vec<Wish>,
}

/// Ends a container that was created and not started, and waits for its shim.
async fn end_created(control: &Connection) {
    let kill = Request { op: op::SIGNAL, flags: flag::STOP, a: 9, ..Request::default() };
    let mut answer = control.call(&kill, &[]).await.ok().flatten();
    while answer.is_some() {
        answer = control.receive().await.ok().flatten().map(|(reply, _)| reply);
    }
}

/// Waits for the end of a shim whose container has ended: it delivers the last output, and removes what it made. One whose
/// last client does not read is ended.
fn end_shim(state: &ShimState) {
    let pid = i32::try_from(state.shim.pid).ok().and_then(rustix::process::Pid::from_raw);
    let Some(pid) = pid.filter(|_| state.shim_is_alive()) else { return };
    let Ok(shim) = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()) else { return };
    if !state.shim_is_alive() {
        return;
    }
    let mut ended = [rustix::event::PollFd::new(&shim, rustix::event::PollFlags::IN)];
    let patience = rustix::event::Timespec { tv_sec: 2, tv_nsec: 0 };
    if rustix::event::poll(&mut ended, Some(&patience)) == Ok(0) {
        let _ = rustix::process::pidfd_send_signal(&shim, rustix::process::Signal::KILL);
        let _ = rustix::event::poll(&mut ended, Some(&patience));
    }
}

/// Removes what the runtime keeps of a container, and its directory if nobody else has anything in it.
fn remove_files(dirs: &Dirs) {
    let _ = fs::remove_dir_all(&dirs.run);
    let kinds = [super::log_files::FILE, super::health::FILE];
    let ours = |name: &str| {
        name == "state" || name == "state.new" || kinds.iter().any(|kind| name.starts_with(kind))
    };
    if let Ok(entries) = fs::read_dir(&dirs.state) {
        for entry in entries.flatten() {
            if entry.file_name().to_str().is_some_and(ours) {
                let _ = fs::remove_file(entry.path());
            }
        }
    }
    let _ = fs::remove_dir(&dirs.state);
}

/// Ids of the containers that have a directory of their own beneath `path`, as far as `accept` takes them.
fn container_directories(path: &Path, accept: impl Fn(&Path) -> bool) -> Result<BTreeSet<ContainerId>> {
    let failed = |error| Error::from_io("list containers", error).with("path", path.display());
    let mut ids = BTreeSet::new();
    for entry in fs::read_dir(path).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let id = entry.file_name().to_str().and_then(|name| name.parse().ok());
        ids.extend(id.filter(|_| accept(&entry.path())));
    }
    Ok(ids)
}

pub(super) fn not_found(operation: &'static str, id: &ContainerId) -> Error {
    Error::new(ErrorKind::NotFound, operation)
        .with("container", id)
        .with_message("the runtime has no such container")
}

impl Inner {
    pub(super) fn dirs(&self, id: &ContainerId) -> Dirs {
        Dirs { state: self.root.join(id.as_str()), run: self.run.join(id.as_str()) }
    }

    pub(super) async fn create(self: &Arc<Self>, id: &ContainerId, launch: &LaunchSpec) -> Result<Sandbox> {
        let (inner, owned_id, launch) = (Arc::clone(self), id.clone(), launch.clone());
        let scoped = launch.lifetime == Lifetime::Scoped;
        let prepared = blocking(move || inner.prepare(&owned_id, &launch)).await?;
        // Held until the container's mounts are made, or it is clear that they are not.
        let Prepared { plan, control, mut undo, lock: _lock, net_devices } = prepared;
        let names = Names::of(&plan);
        let failed = |error| Error::from_io("create container", error).with("container", id);
        let control = Connection::new(control).map_err(failed)?;
        let reply = match control.receive().await.map_err(failed)? {
            Some((reply, _)) if reply.kind == reply::CREATED => reply,
            Some((reply, _)) => return Err(names.error("create container", Failure::from(reply))),
            None => {
                return Err(Error::new(ErrorKind::Other, "create container")
                    .with("container", id)
                    .with_message("the container's shim ended while it made the container"));
            }
        };
        if !scoped {
            control.send(&Request { op: op::KEEP, ..Request::default() }, &[]).await.map_err(failed)?;
        }
        let pid = u32::try_from(reply.a).unwrap_or_default();
        let moved = if net_devices.is_empty() {
            None
        } else {
            match self.move_net_devices(id, pid, net_devices).await {
                Ok(moved) => Some(moved),
                Err(error) => {
                    end_created(&control).await;
                    self.cgroups.remove(&plan.cgroup_path);
                    return Err(error.with("container", id));
                }
            }
        };
        undo.dirs = None;
        let process = OnceLock::from(plan.process);
        let local = Arc::new(Local {
            control,
            turn: tokio::sync::Mutex::default(),
            names,
            cgroup: plan.cgroup_path,
            process,
            net_devices: Mutex::new(moved),
        });
        self.local.lock().unwrap_or_else(PoisonError::into_inner).insert(id.clone(), local);
        let own_network = plan.namespaces & translate::NEWNET != 0;
        Ok(Sandbox::new(id.clone(), pid, own_network.then(|| format!("/proc/{pid}/ns/net").into())))
    }

    /// What blocks: directories, translation, cgroups, the start of the shim.
    fn prepare(&self, id: &ContainerId, launch: &LaunchSpec) -> Result<Prepared> {
        let dirs = self.dirs(id);
        let mut again = false;
        if let Some(state) = ShimState::read(&dirs.state)? {
            if state.is_alive() {
                return Err(Error::new(ErrorKind::AlreadyExists, "create container")
                    .with("container", id)
                    .with_message("a container of this id exists"));
            }
            end_shim(&state);
            self.sweep(&state);
            again = true;
        }
        let mut plan = self.translate(id, launch)?;
        // What is too large is refused before anything is made.
        plan.encode()?;
        let net_devices = net_devices::wishes(launch.oci.linux().as_ref(), &plan)?;
        net_devices::check(&net_devices)?;
        make_private(&dirs.state)?;
        super::health::forget_results(&dirs.state);
        // Whoever has the container's files mounted to copy into them is waited for.
        let lock = crate::linux::files::view::lock(&dirs.state, rustix::fs::FlockOperation::LockShared)
            .map_err(|error| Error::from_io("create container", error).with("container", id))?;
        // A container that has run before keeps its log and what is known of its last run.
        let undo = Undo { dirs: (!again).then(|| dirs.clone()) };
        make_private(&dirs.run)?;
        super::resolver::configure(&dirs.run, launch)?;
        let failed = |error| Error::from_io("create container", error).with("container", id);
        let (state_dir, run_dir) =
            (open_directory(&dirs.state).map_err(failed)?, open_directory(&dirs.run).map_err(failed)?);
        let mut directories = vec![state_dir.as_fd(), run_dir.as_fd()];
        // An open directory of the shim's own: its lock is not shared with ours (flock(2)).
        let events = launch.events.as_ref().and_then(|events| events.journal.directory());
        let events = events.map(open_directory).transpose().map_err(failed)?;
        directories.extend(events.as_ref().map(|dir| dir.as_fd()));
        self.cgroups.create(launch, &mut plan)?;
        let spawned = plan.encode().and_then(|bytes| {
            let start = |error| failed(error).with_message("the container's shim cannot be started");
            let waits = plan.process.options & option::PLACED != 0;
            let shim = spawn(&bytes, &directories, waits).map_err(start)?;
            if let Some(pid) = shim.pid {
                let none = LinuxResources::default();
                let resources = super::cgroups::resources(launch).unwrap_or(&none);
                self.cgroups
                    .place(pid, id, &plan.cgroup_path, resources)
                    .and_then(|()| shim.go_on(&directories).map_err(failed))
                    .map_err(|error| error.with("container", id))?;
            }
            Ok(shim.control)
        });
        let control = spawned.inspect_err(|_| self.cgroups.remove(&plan.cgroup_path))?;
        Ok(Prepared { plan, control, undo, lock, net_devices })
    }

    /// Connects to a container's shim; `None` if there is none.
    pub(super) fn connect(&self, id: &ContainerId) -> Result<Option<Connection>> {
        let failed = |error| Error::from_io("connect to container", error).with("container", id);
        let run = match open_directory(&self.dirs(id).run) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            run => run.map_err(failed)?,
        };
        match Connection::open(run.as_fd()) {
            Ok(connection) => Ok(Some(connection)),
            Err(error) if crate::linux::shim::is_gone(&error) => Ok(None),
            Err(error) => Err(failed(error)),
        }
    }

    /// Asks a container's shim one thing; `None` if there is no shim (any more).
    pub(super) async fn ask(&self, id: &ContainerId, request: Request) -> Result<Option<Reply>> {
        let failed = |error| Error::from_io("ask container", error).with("container", id);
        match self.connect(id)? {
            Some(connection) => connection.call(&request, &[]).await.map_err(failed),
            None => Ok(None),
        }
    }

    /// The state file of a container.
    pub(super) fn state_file(&self, operation: &'static str, id: &ContainerId) -> Result<ShimState> {
        ShimState::read(&self.dirs(id).state)?.ok_or_else(|| not_found(operation, id))
    }

    /// Path of a container's control group.
    pub(super) fn cgroup_of(&self, operation: &'static str, id: &ContainerId) -> Result<String> {
        match self.local(id) {
            Some(local) => Ok(local.cgroup.clone()),
            None => Ok(self.state_file(operation, id)?.cgroup),
        }
    }

    pub(super) async fn start(&self, id: &ContainerId) -> Result<()> {
        const OPERATION: &str = "start container";
        let failed = |error| Error::from_io(OPERATION, error).with("container", id);
        let request = Request { op: op::START, ..Request::default() };
        // Once its program runs, they are the container's.
        let mut moved = None;
        let (answer, names) = match self.local(id) {
            Some(local) => {
                let _turn = local.turn.lock().await;
                moved = local.take_net_devices();
                (local.control.call(&request, &[]).await.map_err(failed), local.names.clone())
            }
            None => {
                let names =
                    self.process_of(id).await.map(|process| Names::of_process(&process)).unwrap_or_default();
                (self.ask(id, request).await, names)
            }
        };
        // Otherwise another instance may have started it.
        let never_ran = matches!(&answer, Ok(Some(answer)) if answer.step != step::REQUEST);
        let mut error = match answer {
            Ok(Some(answer)) if answer.kind == reply::OK => return Ok(()),
            Ok(Some(answer)) => names.error(OPERATION, Failure::from(answer)),
            Ok(None) => match self.state_file(OPERATION, id).map(|state| state.failure) {
                Ok(Some(failure)) => names.error(OPERATION, failure),
                Ok(None) => Error::new(ErrorKind::Conflict, OPERATION)
                    .with("container", id)
                    .with_message("the container has ended"),
                Err(error) => error,
            },
            Err(error) => error,
        };
        let given_back = match moved {
            Some(moved) if never_ran => blocking(move || moved.give_back()).await,
            moved => self.give_net_devices_back(id, moved).await,
        };
        if let Err(later) = given_back {
            error.suppress(later);
        }
        Err(error)
    }

    pub(super) async fn state(&self, id: &ContainerId) -> Result<RuntimeState> {
        let mut state = self.state_file("inspect container", id)?;
        let mut alive = state.shim_is_alive();
        if !alive && state.status != StateStatus::Exited {
            // It may have said its last word in between.
            state = self.state_file("inspect container", id)?;
            alive = state.shim_is_alive();
        }
        let time = |ns: u64| (ns > 0).then(|| SystemTime::UNIX_EPOCH + Duration::from_nanos(ns));
        let status = match state.status {
            StateStatus::Exited => ContainerStatus::Exited,
            _ if !alive => ContainerStatus::Exited,
            StateStatus::Created => ContainerStatus::Created,
            StateStatus::Restarting => ContainerStatus::Restarting,
            StateStatus::Running if self.cgroups.is_frozen(&state.cgroup) => ContainerStatus::Paused,
            StateStatus::Running => ContainerStatus::Running,
        };
        let mut made = RuntimeState::new(status);
        match status {
            ContainerStatus::Exited | ContainerStatus::Restarting => made.exit = Some(exit_status(&state)),
            _ => made.pid = Some(state.init.pid),
        }
        made.lost = !alive && state.status == StateStatus::Running;
        made.health = super::health::health(&self.dirs(id).state, &state);
        (made.restart_count, made.stopped) = (state.restarts, state.stopped);
        (made.started_at, made.finished_at) = (time(state.started), time(state.finished));
        Ok(made)
    }

    /// Lists what is in either directory: a host program killed while it made or removed a container may have left
    /// one without the other, and [`delete`](Self::delete) removes both.
    pub(super) async fn list(self: &Arc<Self>) -> Result<Vec<ContainerId>> {
        let inner = Arc::clone(self);
        blocking(move || {
            // The store keeps root file systems in the same directories: alone they are none of ours.
            let mut ids = container_directories(&inner.root, |path| path.join("state").exists())?;
            ids.extend(container_directories(&inner.run, |_| true)?);
            Ok(ids.into_iter().collect())
        })
        .await
    }

    /// Sends a signal; `flags` may be [`flag::STOP`].
    pub(super) async fn signal(&self, id: &ContainerId, signal: i32, flags: u32) -> Result<()> {
        if !(1..=64).contains(&signal) {
            return Err(Error::new(ErrorKind::InvalidArgument, "signal container")
                .with("signal", signal)
                .with_message("there is no such signal"));
        }
        let ends = signal == 9 || flags & flag::STOP != 0;
        let moved = self.local(id).filter(|_| ends).and_then(|local| local.take_net_devices());
        let given_back = self.give_net_devices_back(id, moved).await;
        let request = Request { op: op::SIGNAL, flags, a: signal.into(), ..Request::default() };
        match self.ask(id, request).await? {
            // A process that has just ended is no error.
            Some(answer)
                if answer.kind == reply::OK || answer.errno == rustix::io::Errno::SRCH.raw_os_error() =>
            {
                given_back
            }
            Some(answer) => Err(Names::default().error("signal container", Failure::from(answer))),
            None => self.state_file("signal container", id).and(given_back),
        }
    }

    pub(super) async fn wait(&self, id: &ContainerId) -> Result<ExitStatus> {
        loop {
            if let Some(answer) = self.ask(id, Request { op: op::WAIT, ..Request::default() }).await?
                && answer.kind == reply::EXITED
            {
                let code = u8::try_from(answer.a).unwrap_or(UNKNOWN_EXIT);
                return Ok(ExitStatus::new(code).with_oom_killed(answer.c != 0));
            }
            let state = self.state_file("wait for container", id)?;
            if state.status == StateStatus::Exited {
                return Ok(exit_status(&state));
            }
            if !state.shim_is_alive() {
                // Its shim ended without a word, and took the container with it (PR_SET_PDEATHSIG).
                self.sweep(&state);
                return Ok(exit_status(&state));
            }
            // Between its last word and its end, or not yet serving.
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    pub(super) async fn resize(&self, id: &ContainerId, size: TerminalSize) -> Result<()> {
        const OPERATION: &str = "resize terminal";
        let request =
            Request { op: op::RESIZE, a: size.rows.into(), b: size.columns.into(), ..Request::default() };
        match self.ask(id, request).await? {
            Some(answer) if answer.kind == reply::OK => Ok(()),
            Some(_) => Err(Error::new(ErrorKind::Conflict, OPERATION)
                .with("container", id)
                .with_message("the container has no terminal")),
            None => {
                self.state_file(OPERATION, id)?;
                Err(not_running(OPERATION, id))
            }
        }
    }

    pub(super) async fn delete(self: &Arc<Self>, id: &ContainerId) -> Result<()> {
        let failed = |error| Error::from_io("delete container", error).with("container", id);
        let moved = self.local(id).and_then(|local| local.take_net_devices());
        let given_back = self.give_net_devices_back(id, moved).await;
        if let Some(connection) = self.connect(id)? {
            let kill = Request { op: op::SIGNAL, flags: flag::STOP, a: 9, ..Request::default() };
            // The shim ends when all is done: its end is the end of the connection.
            let mut answer = connection.call(&kill, &[]).await.map_err(failed)?;
            while answer.is_some() {
                answer = connection.receive().await.map_err(failed)?.map(|(reply, _)| reply);
            }
        }
        self.local.lock().unwrap_or_else(PoisonError::into_inner).remove(id);
        self.forget_execs(id);
        let (inner, id) = (Arc::clone(self), id.clone());
        blocking(move || {
            let dirs = inner.dirs(&id);
            match ShimState::read(&dirs.state) {
                Ok(Some(state)) => inner.sweep(&state),
                // Damaged, or never written: then its group is where groups are unless somebody asks for another place.
                _ => inner.cgroups.remove_default(&id),
            }
            remove_files(&dirs);
            Ok(())
        })
        .await?;
        given_back
    }

    /// Ends what a shim that was killed left behind: its container, its cgroups.
    fn sweep(&self, state: &ShimState) {
        if state.boot_id == crate::linux::shim::boot_id() && state.init.is_alive() {
            let pid = i32::try_from(state.init.pid).ok().and_then(rustix::process::Pid::from_raw);
            if let Some(pid) = pid
                && let Ok(fd) = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty())
                && state.init.is_alive()
            {
                // By descriptor, and looked at again after it was opened: never another process of the same id.
                let _ = rustix::process::pidfd_send_signal(&fd, rustix::process::Signal::KILL);
            }
        }
        self.cgroups.remove(&state.cgroup);
    }

    /// What the processes of a container inherit: from memory, or from its shim.
    pub(super) async fn process_of(&self, id: &ContainerId) -> Result<ProcessPlan> {
        if let Some(process) = self.local(id).as_ref().and_then(|local| local.process.get()) {
            return Ok(process.clone());
        }
        let failed = |error| Error::from_io("read launch plan", error).with("container", id);
        let Some(connection) = self.connect(id)? else { return Err(not_running("read launch plan", id)) };
        connection.send(&Request { op: op::PLAN, ..Request::default() }, &[]).await.map_err(failed)?;
        match connection.receive().await.map_err(failed)? {
            Some((_, Some(fd))) => {
                let mut process = ProcessPlan::read(fd).map_err(failed)?;
                process.options &= option::NO_NEW_PRIVS;
                Ok(process)
            }
            _ => Err(not_running("read launch plan", id)),
        }
    }
}

pub(super) fn not_running(operation: &'static str, id: &ContainerId) -> Error {
    Error::new(ErrorKind::Conflict, operation)
        .with("container", id)
        .with_message("the container is not running")
}

fn exit_status(state: &ShimState) -> ExitStatus {
    let (code, oom) = state.exit.unwrap_or((UNKNOWN_EXIT, false));
    ExitStatus::new(code).with_oom_killed(oom)
}
