//! The shim's loop: one `ppoll` over everything a container needs served, no timers, no polling.
//!
//! This file owns the life cycle (created, running, exited), the children and the end. `clients` owns what comes over
//! the sockets and the streams.

use core::ffi::CStr;

use crate::cgroups::{self, Cgroups};
use crate::clients::{Client, EXECS, Exec, MAX_CLIENTS};
use crate::mounts::Mounts;
use crate::plan::{Plan, tag};
use crate::state::{self, State};
use crate::streams::{Input, Log, Output};
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
}

const MAX_POLL: usize = 8 + MAX_CLIENTS * 4 + EXECS * 3;

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
    init_pid: i32,
    report: Fd,
    listen: Fd,
    state_dir: Fd,
    run_dir: Fd,
    shim: (i32, u64),
    init_start: u64,
    created_ns: u64,
    started_ns: u64,
    finished_ns: u64,
    pub(crate) exit: Option<(i32, i32, bool)>,
    error: Option<Failure>,
    pub(crate) log: Log,
    pub(crate) input: Input,
    pub(crate) outputs: [Output; 2],
    pub(crate) clients: [Client; MAX_CLIENTS],
    pub(crate) execs: [Exec; EXECS],
    poll: [PollFd; MAX_POLL],
    tokens: [Token; MAX_POLL],
    polled: usize,
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
        self.clients[0].open(control);
    }

    pub(crate) fn control(&self) -> Fd {
        self.clients[0].socket
    }

    pub(crate) fn set_directories(&mut self, state_dir: Fd, run_dir: Fd) {
        (self.state_dir, self.run_dir) = (state_dir, run_dir);
        self.log.configure(&self.plan, state_dir);
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
        self.created_ns = sys::now();
        let own = sys::getpid();
        self.shim = (own, state::start_time(own));
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
            Phase::Creating | Phase::Created => "created",
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
        self.started_ns = sys::now();
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

    /// Undoes a container that could not be created.
    pub(crate) fn abandon(&mut self) {
        if self.init_pid > 0 {
            let _ = sys::pidfd_signal(self.init, sys::SIGKILL);
            let _ = sys::wait(self.init_pid, true);
        }
        cgroups::remove(&self.plan);
        self.unlink();
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
                let (pid, start) = (i64::from(self.init_pid), self.init_start as i64);
                self.clients[0].send(&Reply { kind: reply::CREATED, a: pid, b: start, ..Reply::default() });
            }
            Some(failure) if self.phase == Phase::Creating => {
                self.abandon();
                self.clients[0].refuse(&failure);
                sys::exit(1)
            }
            Some(failure) => {
                self.error = Some(failure);
                self.answer_starters(Some(&failure));
            }
            None => {
                sys::close(self.report);
                self.report = -1;
                if self.phase == Phase::Creating {
                    // Killed from outside before it was ready.
                    self.abandon();
                    self.clients[0].refuse(&fail(step::CLONE, 0)(sys::ESRCH));
                    sys::exit(1)
                }
                if self.phase == Phase::Starting {
                    self.phase = Phase::Running;
                    self.answer_starters(None);
                }
            }
        }
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
        self.finished_ns = sys::now();
        let signal = status & 0x7f;
        let code = if signal == 0 { status >> 8 & 0xff } else { 128 + signal };
        self.exit = Some((code, signal, cgroups::out_of_memory(&self.plan)));
        self.phase = Phase::Exited;
        sys::close(self.init);
        self.init = -1;
        self.input.sink = -1;
        self.drain();
        let _ = self.write_state();
        self.answer_starters(Some(&self.error.unwrap_or(fail(step::EXECVE, 0)(sys::ESRCH))));
        if let Some(answer) = self.exited() {
            for client in self.clients.iter_mut().filter(|client| client.is_open() && client.waiting) {
                client.waiting = false;
                client.send(&answer);
            }
        }
        cgroups::remove(&self.plan);
    }

    /// Whether nothing is left to do: exited, streams at their end, execs reaped.
    fn finished(&self) -> bool {
        self.phase == Phase::Exited
            && self.outputs.iter().all(|output| output.source < 0)
            && self.execs.iter().all(|exec| !exec.is_used())
    }

    fn watch(&mut self, fd: Fd, events: i16, token: Token) {
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
            let (socket, stdin, outputs, behind) = (client.socket, client.stdin, client.outputs, client.behind);
            self.watch(socket, POLLIN, Token::Request(at));
            if input_free {
                self.watch(stdin, POLLIN, Token::Stdin(at));
            }
            for stream in 0..2 {
                // Without POLLOUT, only the end of the reader is told.
                self.watch(outputs[stream], if behind[stream] { POLLOUT } else { 0 }, Token::Room(at, stream));
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
        }
    }

    /// The control socket closed: the host program is gone, or has lost interest.
    pub(crate) fn on_control_closed(&mut self) {
        match self.phase {
            _ if self.kept => {}
            Phase::Creating | Phase::Created => {
                self.abandon();
                let _ = sys::unlinkat(self.state_dir, c"state", 0);
                sys::exit(1)
            }
            _ => drop(self.signal(sys::SIGKILL)),
        }
    }
}

/// Serves until the container is over.
pub(crate) fn run(shim: &mut Shim) -> ! {
    while !shim.finished() {
        shim.arrange();
        let polled = shim.polled;
        if sys::poll(&mut shim.poll[..polled], -1).is_err() {
            continue;
        }
        for at in 0..polled {
            if shim.poll[at].ready != 0 {
                shim.dispatch(shim.tokens[at]);
            }
        }
    }
    shim.unlink();
    shim.hang_up();
    sys::exit(0)
}
