//! What a boot asks for: the containers whose restart policy wants them running.
//!
//! No daemon does this. The shim of a container carries its policy out for as long as the machine is up; after a boot
//! somebody calls [`Engine::start_all`], once.

use crate::error::Result;
use crate::id::ContainerId;
use crate::restart::RestartPolicy;
use crate::state::ContainerStatus;

use super::LocalEngine;
use super::container::LocalContainer;

/// A container that [`Engine::start_all`](crate::Engine::start_all) tried to start.
#[derive(Debug)]
#[non_exhaustive]
pub struct Started {
    /// The container.
    pub id: ContainerId,
    /// Whether it could be started, or why not.
    pub result: Result<()>,
}

impl Started {
    /// Creates what an engine tells of a container that was to start.
    #[must_use]
    pub fn new(id: ContainerId, result: Result<()>) -> Self {
        Self { id, result }
    }
}

impl LocalEngine {
    pub(super) async fn start_all(&self) -> Result<Vec<Started>> {
        let mut wanted = Vec::new();
        // Oldest first: what shares the namespaces of another was made after it.
        for record in self.inner.records.all().await?.into_iter().rev() {
            let state = self.state_of(&record).await?;
            if record.data.owner.is_some() || state.status != ContainerStatus::Exited {
                continue;
            }
            let starts = match record.data.spec.restart {
                RestartPolicy::No => false,
                RestartPolicy::Always => true,
                RestartPolicy::UnlessStopped => !state.stopped,
                // One that ran when the machine went down has failed.
                RestartPolicy::OnFailure { max_retries } => {
                    let failed = state.exit.is_none_or(|exit| !exit.success());
                    failed && !state.stopped && (max_retries == 0 || state.restart_count < max_retries)
                }
            };
            if starts {
                wanted.push(record);
            }
        }
        let mut list = Vec::with_capacity(wanted.len());
        for record in wanted {
            tracing::info!(container = %record.id, policy = %record.data.spec.restart, "starting by its restart policy");
            let id = record.id;
            let result = LocalContainer::new(self.clone(), id.clone()).start_by(None).await;
            list.push(Started { id, result });
        }
        Ok(list)
    }
}
