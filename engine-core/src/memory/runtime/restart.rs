//! Restart policies of simulated containers: Docker's back-off, on the tokio clock.

use std::time::Duration;

use tokio::time::Instant;

use super::super::lock;
use super::container::Container;
use crate::error::Result;
use crate::restart::RestartPolicy;
use crate::state::ContainerStatus;

const SHORTEST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(60);
/// A run this long begins a new row of restarts.
const STEADY: Duration = Duration::from_secs(10);

/// The policy, and how far its delays have come.
#[derive(Debug)]
pub(super) struct BackOff {
    policy: RestartPolicy,
    next: Duration,
    /// This run is followed by another, whatever the policy.
    insists: bool,
    began: Instant,
}

impl BackOff {
    pub(super) fn new(policy: RestartPolicy) -> Self {
        Self { policy, next: Duration::ZERO, insists: false, began: Instant::now() }
    }

    pub(super) fn is_on(&self) -> bool {
        self.policy.is_on() || self.insists
    }

    /// The run that ends now is to be followed by another.
    pub(super) fn insist(&mut self) {
        self.insists = true;
    }

    /// A run begins.
    pub(super) fn begin(&mut self) {
        (self.began, self.insists) = (Instant::now(), false);
    }

    fn delay(&mut self, code: u8, restarts: u32) -> Option<Duration> {
        let wanted = self.insists
            || match self.policy {
                RestartPolicy::No => false,
                RestartPolicy::Always | RestartPolicy::UnlessStopped => true,
                RestartPolicy::OnFailure { max_retries } => {
                    code != 0 && (max_retries == 0 || restarts < max_retries)
                }
            };
        if self.began.elapsed() >= STEADY {
            self.next = Duration::ZERO;
        }
        let delay = self.next;
        self.next = if delay.is_zero() { SHORTEST } else { (delay * 2).min(LONGEST) };
        wanted.then_some(delay)
    }
}

impl Container {
    /// A run has ended with `code`: waits for the next one, if there is to be one.
    pub(super) async fn runs_again(&self, code: u8) -> bool {
        let delay = {
            let mut inner = lock(&self.inner);
            let restarts = inner.state.restart_count;
            if inner.state.stopped { None } else { inner.back_off.delay(code, restarts) }
        };
        let Some(delay) = delay else { return false };
        self.end_run(code, ContainerStatus::Restarting);
        let due = Instant::now() + delay;
        loop {
            if lock(&self.inner).is_settled() {
                return false;
            }
            tokio::select! {
                () = tokio::time::sleep_until(due) => break,
                () = self.settled.notified() => {}
            }
        }
        self.begin_again()
    }

    /// Signals the process, after whose end there is no other run.
    pub(super) fn stop(&self, signal: i32) {
        lock(&self.inner).state.stopped = true;
        self.settled.notify_one();
        self.signal(signal);
    }

    pub(super) fn set_restart_policy(&self, policy: RestartPolicy) -> Result<()> {
        let mut inner = lock(&self.inner);
        if inner.state.status == ContainerStatus::Exited {
            return Err(self.conflict("update container", "it has ended"));
        }
        inner.back_off.policy = policy;
        self.settled.notify_one();
        Ok(())
    }
}
