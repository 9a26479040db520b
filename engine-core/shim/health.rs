//! Health checks: a probe every so often, what its result means, and what follows from that.
//!
//! A command is run as an exec with a plan of its own. A socket is made inside the container's network namespace by this
//! process itself, which is of one thread and comes back at once; then it is one more descriptor to poll, and no process
//! of ours is where a container could see it. Results are files of their own beside the state file, so none is kept in
//! memory.

use core::ffi::CStr;

use crate::enter::{self, Target};
use crate::plan::{self, KIND_EXEC, Plan, health, tag};
use crate::policy::{Condition, STARTING, UNHEALTHY};
use crate::serve::{Phase, Shim, Token};
use crate::state;
use crate::sys::{self, Fd, POLLIN, POLLOUT};
use crate::{Failure, cgroups, fail, wire::step};

/// Bytes of output kept of one probe: as Docker.
pub(crate) const OUTPUT: usize = 4096;
/// Results kept: as Docker.
const RESULTS: u64 = 5;
/// What a probe that gave no verdict exits with.
const NO_VERDICT: i32 = -1;

/// Where a probe is.
#[derive(Clone, Copy, Eq, PartialEq)]
pub(crate) enum Probe {
    None,
    /// A command, whose output is read.
    Command,
    Connecting,
    /// The request is sent.
    Asking,
}

/// The health check and the probe under way. `next_at`, `give_up_at` and `kill_at` are monotonic milliseconds, 0 for never.
pub(crate) struct Health {
    /// Of kind 0 without a check.
    rule: plan::Health,
    pub(crate) condition: Condition,
    /// Unhealthy, so the end of this run is followed by another, whatever the policy.
    pub(crate) restart: bool,
    network: Fd,
    next_at: u64,
    give_up_at: u64,
    kill_at: u64,
    probe: Probe,
    /// Output of a command, or a socket.
    source: Fd,
    began_ns: u64,
    began_at: u64,
    /// Why there is no verdict.
    pub(crate) failure: Option<Failure>,
    results: u64,
    /// Bytes of its output.
    length: usize,
}

impl Health {
    /// Completes one of zeroed memory.
    ///
    /// # Safety
    /// `at` is zeroed and aligned, and nothing else refers to it.
    pub(crate) unsafe fn init(at: *mut Health) {
        // SAFETY: the fields whose zero bytes are no value, or not the right one; the caller answers for `at`.
        unsafe {
            (&raw mut (*at).failure).write(None);
            (&raw mut (*at).network).write(-1);
            (&raw mut (*at).source).write(-1);
        }
    }

    /// Takes the plan's check.
    pub(crate) fn take(&mut self, plan: &Plan<'_>) {
        self.rule = plan.first(tag::HEALTH).and_then(|record| record.health()).unwrap_or_default();
    }

    /// Whether an unhealthy container is to run again.
    pub(crate) fn restarts(&self) -> bool {
        self.rule.action == health::RESTART
    }

    /// What the state file says, if there is a check at all.
    pub(crate) fn told(&self) -> Option<(u32, u32)> {
        (self.rule.kind != 0).then_some((self.condition.status, self.condition.streak))
    }

    /// What comes first, in monotonic milliseconds.
    pub(crate) fn due(&self) -> Option<u64> {
        [self.next_at, self.give_up_at, self.kill_at].into_iter().filter(|at| *at != 0).min()
    }
}

/// The status code of an HTTP answer that has begun.
fn http_status(answer: &[u8]) -> Option<u32> {
    let digits = answer.strip_prefix(b"HTTP/1.")?.get(2..5)?;
    digits
        .iter()
        .try_fold(0, |value, digit| digit.is_ascii_digit().then(|| value * 10 + u32::from(digit - b'0')))
}

impl Shim {
    /// A run has begun: it is starting until a probe passed.
    pub(crate) fn begin_health(&mut self) {
        self.health.condition = Condition::new();
        if matches!(self.health.rule.kind, health::TCP | health::HTTP) {
            let mut path = [0; 32];
            if let Some(path) = state::proc_path(self.init_pid, b"ns/net", &mut path) {
                self.health.network = sys::openat(sys::AT_FDCWD, path, sys::O_RDONLY, 0).unwrap_or(-1);
            }
        }
        self.plan_probe();
    }

    /// The run has ended, and so has the probe under way.
    pub(crate) fn end_health(&mut self) {
        self.drop_probe();
        sys::close(self.health.network);
        let health = &mut self.health;
        (health.network, health.next_at, health.kill_at, health.restart) = (-1, 0, 0, false);
    }

    /// Sets the time of the next probe.
    fn plan_probe(&mut self) {
        let rule = self.health.rule;
        if rule.kind == 0 {
            return;
        }
        let now = sys::monotonic();
        let starting =
            self.health.condition.status == STARTING && now < self.running_since + rule.start_period_ms;
        self.health.next_at = now + if starting { rule.start_interval_ms } else { rule.interval_ms };
    }

    /// Does what is due at `now`.
    pub(crate) fn on_health_time(&mut self, now: u64) {
        let is_due = |at: u64| at != 0 && at <= now;
        if is_due(self.health.kill_at) {
            self.health.kill_at = 0;
            let _ = self.signal(sys::SIGKILL);
        }
        if is_due(self.health.give_up_at) {
            if self.is_frozen() {
                // Held by a pause, it had no chance.
                self.drop_probe();
                self.plan_probe();
            } else {
                self.health.failure = Some(fail(step::PROBE_TIMEOUT, 0)(sys::ETIMEDOUT));
                self.on_probe_result(NO_VERDICT);
            }
        } else if is_due(self.health.next_at) {
            if self.is_frozen() { self.plan_probe() } else { self.start_probe() }
        }
    }

    fn is_frozen(&self) -> bool {
        cgroups::frozen(&self.plan, self.cgroups.unified)
    }

    fn start_probe(&mut self) {
        let rule = self.health.rule;
        let now = sys::monotonic();
        let health = &mut self.health;
        (health.next_at, health.give_up_at) = (0, now + rule.timeout_ms);
        (health.began_ns, health.began_at) = (sys::now(), now);
        (health.failure, health.length) = (None, 0);
        let started = if rule.kind == health::COMMAND { self.start_command() } else { self.connect() };
        if let Err(failure) = started {
            self.health.failure = Some(failure);
            self.on_probe_result(NO_VERDICT);
        }
    }

    fn start_command(&mut self) -> Result<(), Failure> {
        let wrong = fail(step::PROBE, 0);
        let bytes = self.plan.first(tag::HEALTH_PLAN).map_or(&[][..], |record| record.bytes());
        let plan = Plan::parse(bytes, KIND_EXEC).map_err(|_| wrong(sys::EINVAL))?;
        let slot = self.execs.iter().position(|exec| !exec.is_used()).ok_or(wrong(sys::EAGAIN))?;
        let null = sys::openat(sys::AT_FDCWD, c"/dev/null", sys::O_RDONLY, 0).map_err(wrong)?;
        let (ours, theirs) = sys::pipe().map_err(wrong)?;
        let target = Target {
            init: self.init,
            namespaces: self.joinable(),
            cgroups: self.cgroups.procs(),
            unified: self.cgroups.unified,
            stdio: [null, theirs, theirs],
        };
        let started = enter::start(&plan, &target);
        sys::close(theirs);
        sys::close(null);
        let entering = started.inspect_err(|_| sys::close(ours))?;
        let _ = sys::nonblocking(ours);
        self.execs[slot].begin_probe(entering);
        (self.health.probe, self.health.source) = (Probe::Command, ours);
        Ok(())
    }

    /// Begins to connect, from inside the container's network.
    fn connect(&mut self) -> Result<(), Failure> {
        let wrong = fail(step::PROBE, 0);
        let target = self.plan.first(tag::HEALTH_TARGET).and_then(|record| record.target());
        let (address, _) = target.ok_or(wrong(sys::EINVAL))?;
        let own = sys::openat(sys::AT_FDCWD, c"/proc/self/ns/net", sys::O_RDONLY, 0).map_err(wrong)?;
        let made =
            sys::setns(self.health.network, sys::CLONE_NEWNET).and_then(|()| sys::stream_socket(address));
        // Back, or nothing: what is opened next is to be of our own network.
        let back = sys::setns(own, sys::CLONE_NEWNET);
        sys::close(own);
        let socket = made.map_err(wrong)?;
        (self.health.probe, self.health.source) = (Probe::Connecting, socket);
        back.map_err(wrong)?;
        match sys::connect(socket, address) {
            Ok(()) | Err(sys::EINPROGRESS) => Ok(()),
            Err(errno) => Err(wrong(errno)),
        }
    }

    /// What of the probe to wait for.
    pub(crate) fn watch_probe(&mut self) {
        let events = if self.health.probe == Probe::Connecting { POLLOUT } else { POLLIN };
        self.watch(self.health.source, events, Token::Probe);
    }

    /// The probe's output or socket has something.
    pub(crate) fn on_probe(&mut self) {
        match self.health.probe {
            Probe::None => {}
            Probe::Command => self.read_output(),
            Probe::Connecting => {
                if let Some(code) = self.on_connected().unwrap_or_else(|errno| self.refused(errno)) {
                    self.on_probe_result(code);
                }
            }
            Probe::Asking => {
                if let Some(code) = self.on_answer() {
                    self.on_probe_result(code);
                }
            }
        }
    }

    fn refused(&mut self, errno: sys::Errno) -> Option<i32> {
        self.health.failure = Some(fail(step::PROBE, 0)(errno));
        Some(1)
    }

    /// The connection stands, or not. Returns the result, if that is all.
    fn on_connected(&mut self) -> sys::Result<Option<i32>> {
        sys::socket_error(self.health.source)?;
        let target = self.plan.first(tag::HEALTH_TARGET).and_then(|record| record.target());
        let request = target.map_or(&[][..], |(_, request)| request);
        if request.is_empty() {
            return Ok(Some(0));
        }
        // It fits into the buffer of a fresh socket.
        sys::write(self.health.source, request)?;
        self.health.probe = Probe::Asking;
        Ok(None)
    }

    /// Something of an HTTP answer, or its end. The status line decides.
    fn on_answer(&mut self) -> Option<i32> {
        let read = self.read_source();
        match read {
            Err(sys::EAGAIN | sys::EINTR) => return None,
            Err(errno) => return self.refused(errno),
            Ok(_) => {}
        }
        match http_status(&self.probe_output[..self.health.length]) {
            Some(status) => Some(i32::from(!(200..400).contains(&status))),
            None if read == Ok(0) || self.health.length >= 12 => self.refused(sys::EINVAL),
            None => None,
        }
    }

    /// Reads what the source has. More than is kept is read as well: a command is not to wait for us.
    fn read_source(&mut self) -> sys::Result<usize> {
        let room = &mut self.probe_output[self.health.length..];
        if room.is_empty() {
            return sys::read(self.health.source, &mut [0; 256]);
        }
        let count = sys::read(self.health.source, room)?;
        self.health.length += count;
        Ok(count)
    }

    /// Takes what a command wrote.
    fn read_output(&mut self) {
        match self.read_source() {
            Ok(count) if count > 0 => {}
            Err(sys::EAGAIN | sys::EINTR) => {}
            _ => {
                sys::close(self.health.source);
                self.health.source = -1;
            }
        }
    }

    /// The command could not be executed.
    pub(crate) fn on_probe_failure(&mut self, failure: Failure) {
        if self.health.probe == Probe::Command {
            self.health.failure = Some(failure);
        }
    }

    /// The command ended.
    pub(crate) fn on_probe_end(&mut self, code: i32) {
        if self.health.probe == Probe::Command {
            self.read_output();
            self.on_probe_result(if self.health.failure.is_some() { NO_VERDICT } else { code });
        }
    }

    /// Ends the probe under way, whatever it would have said.
    fn drop_probe(&mut self) {
        if self.health.probe == Probe::Command {
            for exec in self.execs.iter_mut() {
                exec.end_probe();
            }
        }
        sys::close(self.health.source);
        (self.health.probe, self.health.source, self.health.give_up_at) = (Probe::None, -1, 0);
    }

    fn on_probe_result(&mut self, code: i32) {
        let rule = self.health.rule;
        self.drop_probe();
        self.write_result(code);
        let early = self.health.began_at < self.running_since + rule.start_period_ms;
        let before = self.health.condition;
        self.health.condition.judge(code == 0, early, rule.retries);
        self.plan_probe();
        if self.health.condition != before {
            self.on_health_change(before.status);
        }
    }

    /// Status or failing streak changed: the one place that tells.
    fn on_health_change(&mut self, before: u32) {
        let status = self.health.condition.status;
        if status != before {
            let word: &[u8] = if status == UNHEALTHY { b"unhealthy" } else { b"healthy" };
            self.events.container(&[b"health_status: ", word], &[]);
        }
        let _ = self.write_state();
        if status == UNHEALTHY && before != UNHEALTHY {
            self.on_unhealthy();
        }
    }

    fn on_unhealthy(&mut self) {
        let rule = self.health.rule;
        if rule.action == health::NOTHING || self.phase != Phase::Running || self.health.kill_at != 0 {
            return;
        }
        let patience = sys::monotonic() + rule.stop_timeout_ms;
        match rule.action {
            health::KILL => drop(self.signal(sys::SIGKILL)),
            health::STOP => {
                self.health.kill_at = patience;
                let _ = self.stop(rule.stop_signal as i32);
            }
            health::RESTART => {
                (self.health.restart, self.health.kill_at) = (true, patience);
                let _ = self.signal(rule.stop_signal as i32);
            }
            _ => {}
        }
    }

    /// Puts the result beside the state file, in place of the oldest.
    fn write_result(&mut self, code: i32) {
        let mut name = *b"health.0\0";
        name[7] += (self.health.results % RESULTS) as u8;
        self.health.results += 1;
        let health = &self.health;
        let times = (health.began_ns, sys::now());
        if let Ok(name) = CStr::from_bytes_with_nul(&name) {
            // A result that cannot be written is not shown; what it means holds all the same.
            let _ = state::write_result(
                self.state_dir,
                name,
                times,
                code,
                health.failure,
                &self.probe_output[..health.length],
            );
        }
    }
}
