//! Execs: processes beside the first one, asked for by clients or by the health check.
//!
//! This file owns their places and what is told of them; `enter` makes them. It also reaps the strays: a process whose
//! helper was killed before it could tell of it. Unreaped, it would keep the container's pid namespace from ending.

use crate::enter::{self, Entering, Target};
use crate::plan::{KIND_EXEC, Plan, tag};
use crate::serve::{Phase, Shim};
use crate::sys::{self, Fd};
use crate::wire::{MAX_FDS, Reply, flag, op, reply, step};
use crate::{Failure, fail, open_pty, process, read_plan};

/// Most execs at once.
pub(crate) const EXECS: usize = 128;

/// One exec. All zero bytes are a free one.
pub(crate) struct Exec {
    used: bool,
    /// The connection that asked, or none.
    client: Option<usize>,
    helper: i32,
    pub(crate) helper_pidfd: Fd,
    pub(crate) report: Fd,
    pid: i32,
    pub(crate) pidfd: Fd,
    failed: bool,
    /// A terminal's master, until it is handed over.
    master: Fd,
    /// Its plan, until it runs.
    plan: Option<&'static [u8]>,
    /// Its id, as events have it.
    id: [u8; 64],
    /// The command of a health probe, whose result is waited for.
    probe: bool,
    /// Nobody wants it any more.
    unwanted: bool,
}

impl Exec {
    fn new(entering: Entering, client: Option<usize>, master: Fd) -> Self {
        let Entering { helper, helper_pidfd, report } = entering;
        Exec {
            used: true,
            client,
            helper,
            helper_pidfd,
            report,
            pid: 0,
            pidfd: -1,
            failed: false,
            master,
            plan: None,
            id: [0; 64],
            probe: false,
            unwanted: false,
        }
    }

    /// Takes the command of a health probe.
    pub(crate) fn begin_probe(&mut self, entering: Entering) {
        *self = Exec { probe: true, ..Exec::new(entering, None, -1) };
    }

    /// Ends the command of a health probe, if this is one, with all that it started in its session. Its helper goes on
    /// until it told of the process: killed between the two it would leave one that nobody knows.
    pub(crate) fn end_probe(&mut self) {
        if self.used && self.probe {
            (self.probe, self.unwanted) = (false, true);
            self.kill();
        }
    }

    fn kill(&mut self) {
        if self.pidfd >= 0 {
            // Not reaped yet, so the group is still its own (setsid in `enter`).
            let _ = sys::kill(-self.pid, sys::SIGKILL);
            let _ = sys::pidfd_signal(self.pidfd, sys::SIGKILL);
        }
    }

    fn is(&self, pid: i32) -> bool {
        (self.helper_pidfd >= 0 && pid == self.helper) || (self.pidfd >= 0 && pid == self.pid)
    }

    /// Whether the connection `client` asked for it.
    pub(crate) fn is_of(&self, client: usize) -> bool {
        self.used && self.client == Some(client)
    }

    /// The connection that asked is gone.
    pub(crate) fn leave(&mut self) {
        self.client = None;
    }

    pub(crate) fn is_used(&self) -> bool {
        self.used
    }

    /// The helper ended.
    pub(crate) fn on_helper(&mut self) {
        let _ = sys::wait(self.helper, true);
        sys::close(self.helper_pidfd);
        self.helper_pidfd = -1;
        self.free_if_over();
    }

    /// The plan is not needed any more.
    fn forget_plan(&mut self) {
        if let Some(plan) = self.plan.take() {
            // SAFETY: nothing borrows from it longer than a call, and the helper has a mapping of its own.
            unsafe { sys::unmap(plan) };
        }
    }

    fn free_if_over(&mut self) {
        if self.helper_pidfd < 0 && self.report < 0 && self.pidfd < 0 {
            sys::close(self.master);
            self.forget_plan();
            self.used = false;
        }
    }
}

/// Processes of helpers that were killed before they could tell of them. They are seen at their end only, so that is
/// looked for.
pub(crate) struct Strays {
    count: u32,
    /// When to look, in monotonic milliseconds.
    look_at: u64,
}

impl Strays {
    const EVERY: u64 = 50;

    fn add(&mut self) {
        self.count += 1;
        self.look_at = sys::monotonic();
    }

    pub(crate) fn due(&self) -> Option<u64> {
        (self.count > 0).then_some(self.look_at)
    }
}

impl Shim {
    /// Reaps the strays that ended, if it is time to look for them.
    pub(crate) fn reap_strays(&mut self, now: u64) {
        if self.strays.due().is_none_or(|at| at > now) {
            return;
        }
        self.strays.look_at = now + Strays::EVERY;
        while self.strays.count > 0
            && let Some(pid) = sys::ended_child()
            // The others are waited for where they belong; until then none behind them is seen.
            && !self.knows(pid)
        {
            let _ = sys::wait(pid, false);
            self.strays.count -= 1;
        }
    }

    fn knows(&self, pid: i32) -> bool {
        (self.init >= 0 && pid == self.init_pid)
            || self.log.knows(pid)
            || self.keeps.knows(pid)
            || self.execs.iter().any(|exec| exec.is(pid))
    }

    /// Starts another process in the container.
    pub(crate) fn exec(&mut self, at: usize, flags: u32, fds: &mut [Fd; MAX_FDS]) -> Result<(), Failure> {
        let wrong = fail(step::REQUEST, op::EXEC as usize);
        if self.phase != Phase::Running {
            return Err(wrong(sys::ESRCH));
        }
        if self.execs.iter().any(|exec| exec.is_of(at)) {
            return Err(wrong(sys::EBUSY));
        }
        let slot = self.execs.iter().position(|exec| !exec.used).ok_or(wrong(sys::EAGAIN))?;
        let (plan, mapping) = read_plan(fds[0], KIND_EXEC)?;
        let mut master = -1;
        let mut stdio = [-1; 3];
        let mut peer = -1;
        if flags & flag::TTY != 0 {
            let opened = open_pty(self.mounts.devpts).map_err(fail(step::TTY, 0));
            (master, peer) = opened?;
            stdio = [peer; 3];
            if let Some((rows, columns)) = plan.first(tag::TTY_SIZE).and_then(|record| record.two_numbers()) {
                let _ = sys::set_window(master, rows as u16, columns as u16);
            }
        } else {
            let mut given = fds[1..].iter();
            for (stream, bit) in [flag::STDIN, flag::STDOUT, flag::STDERR].into_iter().enumerate() {
                if flags & bit != 0 {
                    stdio[stream] = *given.next().unwrap_or(&-1);
                }
            }
        }
        process::give(&self.plan, &stdio);
        let target = Target {
            init: self.init,
            namespaces: self.joinable(),
            cgroups: self.cgroups.procs(),
            unified: self.cgroups.unified,
            stdio,
        };
        let started = enter::start(&plan, &target);
        sys::close(peer);
        let mut id = [0; 64];
        if let Some((name, command)) = plan.first(tag::EXEC_EVENT).and_then(|record| record.pair())
            && name.to_bytes().len() == id.len()
        {
            id.copy_from_slice(name.to_bytes());
            self.events.exec(&[b"exec_create: ", command.to_bytes()], &id, &[]);
        }
        let entering = started.inspect_err(|_| {
            sys::close(master);
            // SAFETY: `plan` and `target` are not used any more.
            unsafe { sys::unmap(mapping) };
        })?;
        self.execs[slot] = Exec { plan: Some(mapping), id, ..Exec::new(entering, Some(at), master) };
        Ok(())
    }

    /// The namespaces of the container that are not the shim's own.
    pub(crate) fn joinable(&self) -> u64 {
        let own = self.plan.config().0;
        self.plan
            .all(tag::JOIN)
            .filter_map(|record| record.number_and_text())
            .fold(own, |all, (kind, _)| all | u64::from(kind))
    }

    /// A message of an exec's helper or process.
    pub(crate) fn on_exec_report(&mut self, at: usize) {
        let exec = &mut self.execs[at];
        match process::read_report(exec.report) {
            Some(report) if report.step == step::READY => {
                exec.pid = report.index as i32;
                exec.pidfd = sys::pidfd_open(exec.pid).unwrap_or(-1);
                if exec.unwanted {
                    exec.kill();
                }
            }
            Some(failure) => {
                exec.failed = true;
                if exec.probe {
                    self.on_probe_failure(failure);
                    return;
                }
                if let Some(client) = exec.client {
                    self.clients[client].refuse(&failure);
                }
            }
            None => {
                sys::close(exec.report);
                exec.report = -1;
                if !exec.failed && exec.pidfd < 0 {
                    exec.failed = true;
                    self.strays.add();
                    let lost = fail(step::CLONE, 0)(sys::ESRCH);
                    if exec.probe {
                        self.health.failure = Some(lost);
                    } else if let Some(client) = exec.client {
                        self.clients[client].refuse(&lost);
                    }
                }
                if !exec.failed && exec.id[0] != 0 {
                    let plan = exec.plan.and_then(|bytes| Plan::parse(bytes, KIND_EXEC).ok());
                    let names =
                        plan.and_then(|plan| plan.first(tag::EXEC_EVENT)).and_then(|record| record.pair());
                    let command = names.map_or(&b""[..], |(_, command)| command.to_bytes());
                    self.events.exec(&[b"exec_start: ", command], &exec.id, &[]);
                }
                exec.forget_plan();
                if let Some(client) = exec.client
                    && !exec.failed
                {
                    let answer = Reply { kind: reply::OK, a: i64::from(exec.pid), ..Reply::default() };
                    let _ = sys::send(self.clients[client].socket, &answer.encode(), exec.master);
                    sys::close(exec.master);
                    exec.master = -1;
                }
                let probe_over = exec.probe && exec.pidfd < 0;
                exec.free_if_over();
                if probe_over {
                    // Its process never was.
                    self.on_probe_end(0);
                }
            }
        }
    }

    /// An exec's process ended.
    pub(crate) fn on_exec_end(&mut self, at: usize) {
        let exec = &mut self.execs[at];
        let status = sys::wait(exec.pid, true).map_or(0, |(_, status)| status);
        sys::close(exec.pidfd);
        exec.pidfd = -1;
        let signal = status & 0x7f;
        let code = if signal == 0 { status >> 8 & 0xff } else { 128 + signal };
        if !exec.failed && exec.id[0] != 0 {
            self.events.exec_die(&exec.id, code);
        }
        if let Some(client) = exec.client
            && !exec.failed
        {
            let (a, b, d) = (i64::from(code), i64::from(signal), sys::now() as i64);
            self.clients[client].send(&Reply { kind: reply::EXITED, a, b, d, ..Reply::default() });
        }
        exec.client = None;
        let probe = exec.probe;
        exec.free_if_over();
        if probe {
            self.on_probe_end(code);
        }
    }
}
