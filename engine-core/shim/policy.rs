//! When a container that ended runs again, as the plan says it.
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
