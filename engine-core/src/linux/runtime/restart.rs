//! Restart policies: as a rule of the launch plan, and changed while the container runs.

use super::Inner;
use super::container::not_running;
use crate::error::{Error, Result};
use crate::id::ContainerId;
use crate::linux::plan::format::{Restart, restart};
use crate::linux::shim::wire::{Request, op, reply};
use crate::linux::shim::{Failure, Names};
use crate::restart::RestartPolicy;

/// Docker's back-off, in milliseconds.
const DOCKERS: Restart =
    Restart { shortest_ms: 100, longest_ms: 60_000, steady_ms: 10_000, ..Restart::NEVER };

fn kind(policy: RestartPolicy) -> u32 {
    match policy {
        RestartPolicy::No => restart::NEVER,
        // The two differ only in what is started after a boot, which no shim sees.
        RestartPolicy::Always | RestartPolicy::UnlessStopped => restart::ALWAYS,
        RestartPolicy::OnFailure { .. } => restart::ON_FAILURE,
    }
}

/// The rule for a launch plan. Always there: a policy can be changed later.
pub(super) fn rule(policy: RestartPolicy) -> Option<Restart> {
    Some(Restart { kind: kind(policy), max_retries: policy.max_retries(), ..DOCKERS })
}

impl Inner {
    pub(super) async fn set_restart_policy(&self, id: &ContainerId, policy: RestartPolicy) -> Result<()> {
        const OPERATION: &str = "update container";
        let (a, b) = (kind(policy).into(), policy.max_retries().into());
        match self.ask(id, Request { op: op::RESTART, a, b, ..Request::default() }).await? {
            Some(answer) if answer.kind == reply::OK => Ok(()),
            Some(answer) => {
                let error: Error = Names::default().error(OPERATION, Failure::from(answer));
                Err(error.with("container", id))
            }
            None => {
                self.state_file(OPERATION, id)?;
                Err(not_running(OPERATION, id))
            }
        }
    }
}
