//! Containers that were started over the wire, and how they ended.
//!
//! Between the request that starts a container and the one that waits for it, a container that removes itself may be gone, by the
//! server's own hand ([`keeper`](crate::server)). In one program, nobody is so fast. So the server knows what was started since when,
//! and the journal knows the rest.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use engine_core::events::{Action, EventFilters, EventQuery};
use engine_core::id::ContainerId;
use engine_core::state::ExitStatus;
use engine_core::{ErrorKind, Result};
use futures_util::StreamExt as _;

use super::call::Ops;

/// How many starts are remembered: whoever waits does so soon.
const KEPT: usize = 1024;

/// The last starts.
#[derive(Debug, Default)]
pub(in crate::server) struct Starts(Mutex<VecDeque<(ContainerId, SystemTime)>>);

impl Starts {
    /// Notes that the container is about to start.
    pub(super) fn add(&self, id: &ContainerId) {
        let mut starts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        starts.retain(|(known, _)| known != id);
        if starts.len() == KEPT {
            starts.pop_front();
        }
        starts.push_back((id.clone(), SystemTime::now()));
    }

    fn since(&self, id: &ContainerId) -> Option<SystemTime> {
        let starts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        starts.iter().find(|(known, _)| known == id).map(|(_, since)| *since)
    }

    /// Waits for the end of the container.
    pub(super) async fn wait(&self, engine: &Ops, id: &ContainerId) -> Result<ExitStatus> {
        let waited = engine.wait_container(id).await;
        let Some(since) = self.since(id) else { return waited };
        let gone = match &waited {
            // So it is, too, if it was removed between two looks.
            Ok(status) if status.code == 0 => engine.inspect_container(id).await.is_err(),
            Ok(_) => false,
            Err(error) => error.kind() == ErrorKind::NotFound,
        };
        if !gone {
            return waited;
        }
        match end(engine, id, since).await {
            Ok(Some(status)) => Ok(status),
            _ => waited,
        }
    }
}

/// Returns how the last run ended that ended since then.
async fn end(engine: &Ops, id: &ContainerId, since: SystemTime) -> Result<Option<ExitStatus>> {
    let filters = EventFilters::default().with_container(id.as_str());
    let filters = filters.with_action(Action::Die).with_action(Action::Oom);
    let query = EventQuery::default().with_since(since).with_until(SystemTime::now()).with_filters(filters);
    let mut events = engine.events(query).await?;
    let (mut ended, mut oom) = (None, false);
    while let Some(event) = events.next().await {
        let event = event?;
        match event.action {
            Action::Oom => oom = true,
            _ => {
                let code = event.attributes.get("exitCode").and_then(|code| code.parse().ok());
                ended = code.map(|code| ExitStatus::new(code).with_oom_killed(oom));
                oom = false;
            }
        }
    }
    Ok(ended)
}
