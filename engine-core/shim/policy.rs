//! When a container that ended runs again, and what probes say of one that runs, as the plan has it.
//!
//! Pure: numbers in, numbers out. engine-core compiles this file too (by `#[path]`), for its tests. The delays are
//! Docker's but for the first: that run comes at once.

use super::plan::{Restart, restart};

/// The restart policy and how far its back-off has come.
#[derive(Clone, Copy)]
pub struct Policy {
    rule: Restart,
    next_ms: u64,
}

impl Policy {
    /// Follows `rule`.
    pub const fn new(rule: Restart) -> Self {
        Policy { rule, next_ms: 0 }
    }

    /// Whether any end can be followed by another run.
    pub fn is_on(&self) -> bool {
        self.rule.kind != restart::NEVER
    }

    /// Follows another rule from now on; the back-off stays where it is.
    pub fn change(&mut self, kind: u32, max_retries: u32) {
        (self.rule.kind, self.rule.max_retries) = (kind, max_retries);
    }

    /// Whether an end with `code`, after so many restarts, is followed by another run.
    pub fn wants(&self, code: i32, restarts: u32) -> bool {
        match self.rule.kind {
            restart::ALWAYS => true,
            restart::ON_FAILURE => {
                code != 0 && (self.rule.max_retries == 0 || restarts < self.rule.max_retries)
            }
            _ => false,
        }
    }

    /// Milliseconds until the next run, after one that lasted `ran_ms`.
    pub fn delay(&mut self, ran_ms: u64) -> u64 {
        if ran_ms >= u64::from(self.rule.steady_ms) {
            self.next_ms = 0;
        }
        let delay = self.next_ms;
        let next = if delay == 0 { u64::from(self.rule.shortest_ms) } else { delay * 2 };
        self.next_ms = next.min(u64::from(self.rule.longest_ms));
        delay
    }
}

/// No probe has passed in this run.
pub const STARTING: u32 = 0;
/// The last probe passed, or not enough have failed since.
pub const HEALTHY: u32 = 1;
/// As many probes in a row failed as the plan says.
pub const UNHEALTHY: u32 = 2;

/// What the probes of a run say together. All zero bytes are one that is starting.
#[derive(Clone, Copy, Eq, PartialEq)]
pub struct Condition {
    /// One of the three above.
    pub status: u32,
    /// Failures in a row.
    pub streak: u32,
}

impl Condition {
    /// Before the first probe.
    pub const fn new() -> Self {
        Condition { status: STARTING, streak: 0 }
    }

    /// Takes a result. Failures `early` in the run do not count before a probe has passed.
    pub fn judge(&mut self, passed: bool, early: bool, retries: u32) {
        if passed {
            (self.status, self.streak) = (HEALTHY, 0);
        } else if !early || self.status != STARTING {
            self.streak = self.streak.saturating_add(1);
            if self.streak >= retries {
                self.status = UNHEALTHY;
            }
        }
    }
}
