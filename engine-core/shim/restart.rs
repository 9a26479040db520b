//! Running the plan again, and what is kept between two runs.
//!
//! Kept by descriptor: the network namespace with all that a network has put there, the namespaces of others that the
//! container joined, the user namespace they belong to, and the root's mount. The next run gets a clone of that, so an
//! overlay is never unmounted in between, which would wait until its upper filesystem is synced. Everything else is
//! made anew.

use crate::plan::{Plan, tag};
use crate::policy::{Condition, Policy};
use crate::serve::{Phase, Shim};
use crate::sys::{self, Fd};
use crate::{Failure, cgroups, fail, state, wire::step};

/// How long a client that does not take the last output can delay the next run, in milliseconds: as Docker.
const LAST_OUTPUT: u64 = 2000;

/// Namespaces that can be joined, with their names below /proc/PID.
const KINDS: [(u64, &[u8]); 6] = [
    (sys::CLONE_NEWUSER, b"ns/user"),
    (sys::CLONE_NEWNET, b"ns/net"),
    (sys::CLONE_NEWIPC, b"ns/ipc"),
    (sys::CLONE_NEWUTS, b"ns/uts"),
    (sys::CLONE_NEWPID, b"ns/pid"),
    (sys::CLONE_NEWCGROUP, b"ns/cgroup"),
];

/// Namespaces held for the next run.
pub(crate) struct Held {
    open: bool,
    /// The user namespace, or -1 where the container has none of its own.
    pub(crate) user: Fd,
    /// What the next first process joins.
    pub(crate) joins: [(Fd, u64); 8],
    pub(crate) count: usize,
    /// The mount namespace of this run, or -1.
    mounts: Fd,
}

impl Held {
    pub(crate) const fn new() -> Self {
        Held { open: false, user: -1, joins: [(-1, 0); 8], count: 0, mounts: -1 }
    }

    /// Whether the next first process joins what is held, instead of joining and making what the plan says.
    pub(crate) fn is_open(&self) -> bool {
        self.open
    }

    /// Opens the namespaces of process `pid` that outlive it. Those held already stay as they are, all but the mounts'.
    fn open(&mut self, plan: &Plan<'_>, pid: i32) -> Result<(), Failure> {
        let of_process = |name: &[u8]| {
            let mut path = [0; 32];
            let path = state::proc_path(pid, name, &mut path).ok_or(sys::EINVAL)?;
            sys::openat(sys::AT_FDCWD, path, sys::O_RDONLY, 0)
        };
        let wrong = fail(step::JOIN_OPEN, 0);
        if self.mounts < 0 {
            self.mounts = of_process(b"ns/mnt").map_err(wrong)?;
        }
        if self.open {
            return Ok(());
        }
        let own = plan.config().0;
        if own & sys::CLONE_NEWUSER != 0 {
            self.user = of_process(b"ns/user").map_err(wrong)?;
        }
        for (kind, name) in KINDS {
            let joined = plan
                .all(tag::JOIN)
                .filter_map(|record| record.number_and_text())
                .any(|(of, _)| u64::from(of) == kind);
            if joined || own & kind & sys::CLONE_NEWNET != 0 {
                self.joins[self.count] = (of_process(name).map_err(wrong)?, kind);
                self.count += 1;
            }
        }
        self.open = true;
        Ok(())
    }

    /// Lets go of everything.
    fn close(&mut self) {
        for &(fd, _) in &self.joins[..self.count] {
            sys::close(fd);
        }
        sys::close(self.user);
        sys::close(self.mounts);
        *self = Held::new();
    }
}

impl Shim {
    /// Takes the plan's policy.
    pub(crate) fn take_policy(&mut self) {
        if let Some(rule) = self.plan.first(tag::RESTART).and_then(|record| record.restart()) {
            self.policy = Policy::new(rule);
        }
        self.health.take(&self.plan);
    }

    /// Another policy from now on.
    pub(crate) fn change_policy(&mut self, kind: u32, max_retries: u32) -> Result<(), Failure> {
        self.policy.change(kind, max_retries);
        if matches!(self.phase, Phase::Created | Phase::Starting | Phase::Running) {
            return self.hold();
        }
        if self.phase == Phase::Restarting && !self.policy.is_on() {
            self.stay_ended();
        }
        Ok(())
    }

    /// Holds what the next run will need, if there can be one.
    pub(crate) fn hold(&mut self) -> Result<(), Failure> {
        if self.policy.is_on() || self.health.restarts() {
            self.held.open(&self.plan, self.init_pid)
        } else {
            Ok(())
        }
    }

    /// Whether the run that just ended with `code` is followed by another; then its time is set.
    pub(crate) fn runs_again(&mut self, code: i32) -> bool {
        let ran = self.phase == Phase::Running && self.error.is_none() && self.held.is_open();
        if self.stopped || !ran || !(self.health.restart || self.policy.wants(code, self.restarts)) {
            return false;
        }
        let now = sys::monotonic();
        self.restart_at = now + self.policy.delay(now - self.running_since);
        self.cut_at = now + LAST_OUTPUT;
        true
    }

    /// Clears away what was of the last run only.
    pub(crate) fn clear_for_next(&mut self) {
        if self.plan.config().0 & sys::CLONE_NEWPID == 0 {
            // Nobody else has ended what the first process left behind.
            cgroups::empty(&self.plan);
        }
        let kept = self.mounts.keep(&self.plan, self.held.mounts);
        sys::close(self.held.mounts);
        self.held.mounts = -1;
        if let Err(failure) = kept {
            self.error = Some(failure);
            self.stay_ended();
        }
    }

    /// When the next run is due, in monotonic milliseconds.
    pub(crate) fn next_run(&self) -> Option<u64> {
        let at = if self.outputs_ended() { self.restart_at } else { self.restart_at.max(self.cut_at) };
        (self.phase == Phase::Restarting).then_some(at)
    }

    /// Runs the plan again.
    pub(crate) fn run_again(&mut self) {
        for stream in 0..2 {
            if self.outputs[stream].source >= 0 {
                self.end_output(stream);
            }
        }
        self.restarts += 1;
        self.health.condition = Condition::new();
        (self.exit, self.phase) = (None, Phase::Creating);
        if let Err(failure) = crate::make_init(self) {
            self.end_init();
            self.error = Some(failure);
            self.exit = Some((failure.exit_code(), 0, false));
            self.phase = Phase::Restarting;
            self.stay_ended();
        }
    }

    /// Between two runs: there will be no other.
    pub(crate) fn stay_ended(&mut self) {
        self.phase = Phase::Exited;
        self.tell_end();
        self.release();
    }

    /// Lets go of what only another run would have needed.
    pub(crate) fn release(&mut self) {
        self.held.close();
        cgroups::remove(&self.plan);
    }
}
