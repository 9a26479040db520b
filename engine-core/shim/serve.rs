//! The shim's loop: one `ppoll` over everything a container needs served. What is to be done at a time is its timeout.
//!
//! This file owns the life cycle (created, running, exited), the children and the end. `clients` owns what comes over
//! the sockets and the streams, `restart` the next run.

use core::ffi::CStr;

use crate::cgroups::{self, Cgroups};
use crate::clients::{Client, MAX_CLIENTS};
use crate::events::Events;
use crate::execs::{EXECS, Exec, Strays};
use crate::health::{Health, OUTPUT};
use crate::keeps::{KEYS, Keeps};
use crate::log::Log;
use crate::mounts::Mounts;
use crate::names::{self, Names};
use crate::plan::{Plan, Restart, tag};
use crate::policy::Policy;
use crate::restart::Held;
use crate::state::{self, State};
use crate::streams::{Input, Output};
use crate::sys::{self, Fd, POLLIN, POLLOUT, PollFd};
use crate::wire::{Reply, reply, step};
use crate::{Failure, fail, process};

/// Where the container is in its life.
#[derive(Clone, Copy, Eq, PartialEq)]
pub(crate) enum Phase {
    /// Its first process is being set up.
    Creating,
    /// Its first process waits for "go".
    Created,
    /// "go" was said; the program is not yet executing.
    Starting,
    Running,
    /// Its first process ended, and another will come.
    Restarting,
    Exited,
}

/// What a ready descriptor belongs to.
#[derive(Clone, Copy)]
pub(crate) enum Token {
    Listen,
    Init,
    Report,
    Output(usize),
    Sink,
    Request(usize),
    Stdin(usize),
    Room(usize, usize),
    Helper(usize),
    ExecReport(usize),
    ExecEnd(usize),
    Probe,
    Compressed,
    Names(names::Source),
    Relay(usize),
}

const MAX_POLL: usize = 10 + MAX_CLIENTS * 4 + EXECS * 3 + names::SOURCES + KEYS;

/// Everything the shim knows.
pub(crate) struct Shim {
    pub(crate) plan: Plan<'static>,
    pub(crate) plan_fd: Fd,
    /// The container outlives the program that made it.
    pub(crate) kept: bool,
    pub(crate) options: u32,
    pub(crate) phase: Phase,
    pub(crate) mounts: Mounts,
    pub(crate) cgroups: Cgroups,
    pub(crate) init: Fd,
    pub(crate) init_pid: i32,
    report: Fd,
    listen: Fd,
    pub(crate) state_dir: Fd,
    pub(crate) run_dir: Fd,
    shim: (i32, u64),
    init_start: u64,
    created_ns: u64,
    pub(crate) started_ns: u64,
    finished_ns: u64,
    pub(crate) exit: Option<(i32, i32, bool)>,
    pub(crate) error: Option<Failure>,
    pub(crate) policy: Policy,
    pub(crate) held: Held,
    pub(crate) health: Health,
    /// How often the plan was run again.
    pub(crate) restarts: u32,
    /// Somebody asked it to end, so it stays ended.
    pub(crate) stopped: bool,
    /// Times on the monotonic clock, in milliseconds.
    pub(crate) running_since: u64,
    pub(crate) restart_at: u64,
    pub(crate) cut_at: u64,
    /// Out-of-memory kills of earlier runs.
    oom_kills: u64,
    pub(crate) events: Events,
    pub(crate) log: Log,
    pub(crate) input: Input,
    pub(crate) outputs: [Output; 2],
    pub(crate) clients: [Client; MAX_CLIENTS],
    pub(crate) execs: [Exec; EXECS],
    pub(crate) strays: Strays,
    pub(crate) keeps: Keeps,
    poll: [PollFd; MAX_POLL],
    tokens: [Token; MAX_POLL],
    polled: usize,
    /// What the probe under way has written: untouched memory, which costs nothing, without one.
    pub(crate) probe_output: [u8; OUTPUT],
    pub(crate) names: Names,
}

impl Shim {
    /// Makes a shim of zeroed memory.
    ///
    /// # Safety
    /// `at` is zeroed, aligned, lives for ever, and nothing else refers to it.
    pub(crate) unsafe fn init(at: *mut Shim) -> &'static mut Shim {
        // SAFETY: the fields whose zero bytes are no value, or not the right one; the caller answers for `at`.
        unsafe {
            (&raw mut (*at).plan).write(Plan::empty());
            (&raw mut (*at).exit).write(None);
            (&raw mut (*at).error).write(None);
            (&raw mut (*at).mounts).write(Mounts::new());
            (&raw mut (*at).cgroups).write(Cgroups::new());
            (&raw mut (*at).policy).write(Policy::new(Restart::NEVER));
            (&raw mut (*at).held).write(Held::new());
            (&raw mut (*at).events).write(Events::new());
            Health::init(&raw mut (*at).health);
            Log::init(&raw mut (*at).log);
            let shim = &mut *at;
            (shim.init, shim.report, shim.listen) = (-1, -1, -1);
            shim.set_streams(-1, [-1; 2]);
            shim
        }
    }

    /// Takes the plan and the control socket, which is the first client.
    pub(crate) fn begin(&mut self, plan: Plan<'static>, plan_fd: Fd, control: Fd) {
        (self.plan, self.plan_fd) = (plan, plan_fd);
        self.options = plan.config().1;
        self.take_policy();
        self.clients[0].open(control);
    }

    pub(crate) fn control(&self) -> Fd {
        self.clients[0].socket
    }

    pub(crate) fn set_directories(&mut self, state_dir: Fd, run_dir: Fd, events: Fd) {
        (self.state_dir, self.run_dir) = (state_dir, run_dir);
        self.log.configure(&self.plan, state_dir);
        self.events.configure(&self.plan, events);
    }

    pub(crate) fn set_streams(&mut self, sink: Fd, sources: [Fd; 2]) {
        self.input.sink = sink;
        for (output, source) in self.outputs.iter_mut().zip(sources) {
            output.source = source;
        }
    }

    /// Takes charge of the container's first process.
    pub(crate) fn adopt(&mut self, pid: i32, pidfd: Fd, report: Fd) {
        (self.init_pid, self.init, self.report) = (pid, pidfd, report);
        if self.created_ns == 0 {
            self.created_ns = sys::now();
            let own = sys::getpid();
            self.shim = (own, state::start_time(own));
        }
        self.init_start = state::start_time(pid);
    }

    /// Serves `shim.sock` in the run directory. By descriptor, because socket paths are short (unix(7)).
    pub(crate) fn listen(&mut self) -> Result<(), Failure> {
        let wrong = fail(step::SOCKET, 0);
        let mut path = [0; 64];
        let mut digits = [0; 12];
        let mut length = 0;
        for piece in [&b"/proc/self/fd/"[..], process::decimal(self.run_dir, &mut digits), b"/shim.sock"] {
            path[length..length + piece.len()].copy_from_slice(piece);
            length += piece.len();
        }
        let _ = sys::unlinkat(self.run_dir, c"shim.sock", 0);
        // bind(2) makes the socket's file with the umask.
        sys::umask(0o177);
        let bound = sys::listen(&path[..length]);
        sys::umask(0);
        self.listen = bound.map_err(wrong)?;
        Ok(())
    }

    fn text(&self, tag: u16) -> &'static CStr {
        self.plan.first(tag).and_then(|record| record.text()).unwrap_or(c"")
    }

    pub(crate) fn write_state(&self) -> sys::Result<()> {
        let status = match self.phase {
            // Between two runs is one state to everybody else.
            Phase::Creating | Phase::Created | Phase::Starting if self.restarts > 0 => "restarting",
            Phase::Creating | Phase::Created => "created",
            Phase::Restarting => "restarting",
            Phase::Starting | Phase::Running => "running",
            Phase::Exited => "exited",
        };
        state::write(
            self.state_dir,
            &State {
                boot_id: self.text(tag::BOOT_ID),
                id: self.text(tag::ID),
                cgroup: self.text(tag::CGROUP_PATH),
                log: self.log.is_on(),
                status,
                shim: self.shim,
                init: (self.init_pid, self.init_start),
                created_ns: self.created_ns,
                started_ns: self.started_ns,
                finished_ns: self.finished_ns,
                exit: self.exit,
                error: self.error,
                restarts: self.restarts,
                stopped: self.stopped,
                health: self.health.told(),
            },
        )
    }

    /// The answer to STATE.
    pub(crate) fn describe(&self) -> Reply {
        Reply { kind: reply::STATE, a: self.phase as i64, b: i64::from(self.init_pid), ..Reply::default() }
    }

    /// The answer to WAIT; `None` while the container lives.
    pub(crate) fn exited(&self) -> Option<Reply> {
        let (code, signal, oom) = self.exit?;
        Some(Reply {
            kind: reply::EXITED,
            a: i64::from(code),
            b: i64::from(signal),
            c: i64::from(oom),
            d: self.finished_ns as i64,
            ..Reply::default()
        })
    }

    /// Lets the created process go on. The answer comes once it executes.
    pub(crate) fn start(&mut self) -> Result<(), Failure> {
        let wrong = fail(step::REQUEST, 0);
        if self.phase != Phase::Created {
            return Err(wrong(sys::EBUSY));
        }
        sys::write(self.report, b"g").map_err(wrong)?;
        self.phase = Phase::Starting;
        (self.started_ns, self.running_since) = (sys::now(), sys::monotonic());
        if self.restarts > 0 {
            return Ok(());
        }
        self.write_state().map_err(fail(step::STATE, 0))
    }

    /// Signals the first process.
    pub(crate) fn signal(&self, signal: i32) -> sys::Result<()> {
        if self.exit.is_some() {
            return Err(sys::ESRCH);
        }
        let sent = sys::pidfd_signal(self.init, signal);
        if signal == sys::SIGKILL {
            cgroups::thaw(&self.plan);
        }
        sent
    }

    /// Signals the first process to end, for good: there is no other run.
    pub(crate) fn stop(&mut self, signal: i32) -> sys::Result<()> {
        if self.phase != Phase::Exited && !self.stopped {
            self.stopped = true;
            let _ = self.write_state();
        }
        match self.phase {
            Phase::Restarting => {
                self.stay_ended();
                Ok(())
            }
            // The program of the next run does not execute yet: nothing could handle the signal.
            Phase::Creating | Phase::Created if self.restarts > 0 => self.signal(sys::SIGKILL),
            _ => self.signal(signal),
        }
    }

    /// Undoes a container that could not be created.
    pub(crate) fn abandon(&mut self) {
        self.end_init();
        cgroups::remove(&self.plan);
        self.unlink();
    }

    /// Ends a first process that was not told to go on.
    pub(crate) fn end_init(&mut self) {
        if self.init >= 0 {
            let _ = sys::pidfd_signal(self.init, sys::SIGKILL);
            let _ = sys::wait(self.init_pid, true);
            sys::close(self.init);
            sys::close(self.report);
            (self.init, self.report) = (-1, -1);
        }
    }

    fn unlink(&self) {
        if self.listen >= 0 {
            let _ = sys::unlinkat(self.run_dir, c"shim.sock", 0);
        }
    }

    /// A message of the first process: ready, a failure, or the end of the stream when it executed (or died).
    fn on_report(&mut self) {
        match process::read_report(self.report) {
            Some(report) if report.step == step::READY => {
                self.phase = Phase::Created;
                match self.hold().and_then(|()| self.open_names()) {
                    Err(failure) => {
                        self.on_setup_failure(failure);
                        let _ = self.signal(sys::SIGKILL);
                    }
                    Ok(()) if self.restarts > 0 => drop(self.start()),
                    Ok(()) => {
                        let (pid, start) = (i64::from(self.init_pid), self.init_start as i64);
                        self.clients[0].send(&Reply {
                            kind: reply::CREATED,
                            a: pid,
                            b: start,
                            ..Reply::default()
                        });
                    }
                }
            }
            Some(failure) if self.phase == Phase::Creating => self.on_setup_failure(failure),
            Some(failure) => {
                self.error = Some(failure);
                self.answer_starters(Some(&failure));
            }
            None => {
                sys::close(self.report);
                self.report = -1;
                if self.phase == Phase::Creating {
                    // Killed from outside before it was ready.
                    self.on_setup_failure(fail(step::CLONE, 0)(sys::ESRCH));
                }
                if self.phase == Phase::Starting {
                    self.phase = Phase::Running;
                    self.events.start();
                    self.begin_health();
                    if self.restarts > 0 {
                        // Only now it can be asked for what a running one does.
                        let _ = self.write_state();
                    }
                    self.answer_starters(None);
                }
            }
        }
    }

    /// The first process could not be set up. At first that is the answer to the creation, later it is the end.
    fn on_setup_failure(&mut self, failure: Failure) {
        if self.restarts > 0 {
            self.error = self.error.or(Some(failure));
            return;
        }
        self.abandon();
        self.clients[0].refuse(&failure);
        sys::exit(1)
    }

    fn answer_starters(&mut self, failure: Option<&Failure>) {
        let pid = i64::from(self.init_pid);
        for client in self.clients.iter_mut().filter(|client| client.is_open() && client.starting) {
            client.starting = false;
            match failure {
                Some(failure) => client.refuse(failure),
                None => client.send(&Reply { kind: reply::OK, a: pid, ..Reply::default() }),
            }
        }
    }

    /// The first process ended: what it wrote, the truth on disk, the answers, in this order.
    fn on_exit(&mut self) {
        let Some((_, status)) = sys::wait(self.init_pid, false) else { return };
        if self.report >= 0 {
            // What it said before it ended comes first.
            self.on_report();
            sys::close(self.report);
            self.report = -1;
        }
        let signal = status & 0x7f;
        let code = if signal == 0 { status >> 8 & 0xff } else { 128 + signal };
        let (again, ran) = (self.runs_again(code), matches!(self.phase, Phase::Starting | Phase::Running));
        let kills = cgroups::out_of_memory(&self.plan);
        self.finished_ns = sys::now();
        self.exit = Some((code, signal, kills > self.oom_kills));
        self.oom_kills = kills;
        self.phase = if again { Phase::Restarting } else { Phase::Exited };
        sys::close(self.init);
        self.init = -1;
        self.end_health();
        self.end_input();
        self.drain();
        if ran {
            let (_, _, oom) = self.exit.unwrap_or_default();
            self.events.end(code, oom, self.finished_ns.saturating_sub(self.started_ns) / 1_000_000_000);
        }
        self.tell_end();
        if again { self.clear_for_next() } else { self.release() }
    }

    /// Tells the end of a run: on disk, then to those who wait for it.
    pub(crate) fn tell_end(&mut self) {
        if self.phase == Phase::Exited {
            self.log.finish();
            // Whoever learns of the end may want what is held, such as a port.
            self.keeps.close();
            self.names.close();
        }
        let _ = self.write_state();
        self.answer_starters(Some(&self.error.unwrap_or(fail(step::EXECVE, 0)(sys::ESRCH))));
        if let Some(answer) = self.exited() {
            for client in self.clients.iter_mut().filter(|client| client.is_open() && client.waiting) {
                client.waiting = false;
                client.send(&answer);
            }
        }
    }

    /// Whether nothing is left to do: exited, streams at their end, execs reaped.
    fn finished(&self) -> bool {
        self.phase == Phase::Exited && self.outputs_ended() && self.execs.iter().all(|exec| !exec.is_used())
    }

    pub(crate) fn watch(&mut self, fd: Fd, events: i16, token: Token) {
        if fd >= 0 && self.polled < MAX_POLL {
            self.poll[self.polled] = PollFd { fd, events, ready: 0 };
            self.tokens[self.polled] = token;
            self.polled += 1;
        }
    }

    /// Lists what to wait for.
    fn arrange(&mut self) {
        self.polled = 0;
        self.watch(self.report, POLLIN, Token::Report);
        for at in 0..self.execs.len() {
            if self.execs[at].is_used() {
                let exec = &self.execs[at];
                let (helper, report, process) = (exec.helper_pidfd, exec.report, exec.pidfd);
                self.watch(helper, POLLIN, Token::Helper(at));
                self.watch(report, POLLIN, Token::ExecReport(at));
                if report < 0 {
                    // Its end is told after its beginning.
                    self.watch(process, POLLIN, Token::ExecEnd(at));
                }
            }
        }
        for stream in 0..2 {
            if !self.held_back(stream) {
                self.watch(self.outputs[stream].source, POLLIN, Token::Output(stream));
            }
        }
        self.watch_probe();
        self.watch_names();
        self.watch_keeps();
        self.watch(self.log.compressed(), POLLIN, Token::Compressed);
        self.watch(self.init, POLLIN, Token::Init);
        let input_free = !self.input.pending() && self.input.sink >= 0;
        if self.input.pending() {
            self.watch(self.input.sink, POLLOUT, Token::Sink);
        }
        for at in 0..self.clients.len() {
            if !self.clients[at].is_open() {
                continue;
            }
            let client = &self.clients[at];
            let (socket, stdin, outputs, behind) =
                (client.socket, client.stdin, client.outputs, client.behind);
            self.watch(socket, POLLIN, Token::Request(at));
            if input_free {
                self.watch(stdin, POLLIN, Token::Stdin(at));
            }
            for stream in 0..2 {
                // Without POLLOUT, only the end of the reader is told.
                self.watch(
                    outputs[stream],
                    if behind[stream] { POLLOUT } else { 0 },
                    Token::Room(at, stream),
                );
            }
        }
        if self.has_room() {
            self.watch(self.listen, POLLIN, Token::Listen);
        }
    }

    fn dispatch(&mut self, token: Token) {
        match token {
            Token::Listen => self.accept(self.listen),
            Token::Init => self.on_exit(),
            Token::Report => self.on_report(),
            Token::Output(stream) => self.on_output(stream),
            Token::Sink => self.on_sink(),
            Token::Request(at) => self.on_request(at),
            Token::Stdin(at) => self.on_stdin(at),
            Token::Room(at, stream) => self.on_room(at, stream),
            Token::Helper(at) => self.execs[at].on_helper(),
            Token::ExecReport(at) => self.on_exec_report(at),
            Token::ExecEnd(at) => self.on_exec_end(at),
            Token::Probe => self.on_probe(),
            Token::Compressed => self.log.on_compressed(),
            Token::Names(source) => self.names.on_ready(source),
            Token::Relay(at) => self.keeps.on_ready(at),
        }
    }

    /// The control socket closed: the host program is gone, or has lost interest.
    pub(crate) fn on_control_closed(&mut self) {
        match self.phase {
            _ if self.kept => {}
            Phase::Creating | Phase::Created if self.restarts == 0 => {
                self.abandon();
                let _ = sys::unlinkat(self.state_dir, c"state", 0);
                sys::exit(1)
            }
            _ => drop(self.stop(sys::SIGKILL)),
        }
    }

    /// Milliseconds until something is due; below zero without anything.
    fn patience(&self) -> i64 {
        let now = sys::monotonic();
        self.due().into_iter().chain(self.keeps.due(now)).min().map_or(-1, |at| at.saturating_sub(now) as i64)
    }

    /// When the next thing is due, in monotonic milliseconds.
    fn due(&self) -> Option<u64> {
        let others = self.strays.due().into_iter().chain(self.names.due());
        self.next_run().into_iter().chain(self.health.due()).chain(others).min()
    }

    /// Does what is due.
    fn on_time(&mut self) {
        let Some(due) = self.due() else { return };
        let now = sys::monotonic();
        if due > now {
            return;
        }
        self.on_health_time(now);
        self.reap_strays(now);
        self.names.on_time(now);
        if self.next_run().is_some_and(|at| at <= now) {
            self.run_again();
        }
    }
}

/// Serves until the container is over.
pub(crate) fn run(shim: &mut Shim) -> ! {
    while !shim.finished() {
        shim.arrange();
        let polled = shim.polled;
        let patience = shim.patience();
        if let Err(errno) = sys::poll(&mut shim.poll[..polled], patience) {
            if errno != sys::EINTR {
                // Somebody lowered this process's limit of descriptors below what it has. It may be raised again.
                let _ = sys::poll(&mut [], 100);
                shim.on_time();
            }
            continue;
        }
        for at in 0..polled {
            if shim.poll[at].ready != 0 {
                shim.dispatch(shim.tokens[at]);
            }
        }
        shim.on_time();
    }
    shim.log.finish();
    shim.unlink();
    shim.hang_up();
    sys::exit(0)
}
