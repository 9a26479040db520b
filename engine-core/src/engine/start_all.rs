//! What a boot asks for: the containers whose restart policy wants them running.
//!
//! No daemon does this. The shim of a container carries its policy out for as long as the machine is up; after a boot
//! somebody calls [`Engine::start_all`], once.

use crate::error::Result;
use crate::restart::RestartPolicy;
use crate::state::ContainerStatus;

use super::Engine;
use super::container::Container;

/// A container that [`Engine::start_all`] tried to start.
#[derive(Debug)]
#[non_exhaustive]
pub struct Started {
    /// The container.
    pub container: Container,
    /// Whether it could be started, or why not.
    pub result: Result<()>,
}

impl Engine {
    /// Starts all containers whose restart policy asks for it and that do not run: those of the policy `always`, those of
    /// `unless-stopped` that nobody stopped, and those of `on-failure` that failed or that a boot has taken down. Containers that were
    /// never started stay so. One whose namespaces another shares is started before that other.
    ///
    /// # Errors
    /// What the records or the runtime say; a container that cannot be started is told in the list.
    pub async fn start_all(&self) -> Result<Vec<Started>> {
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
            let container = Container::new(self.clone(), record.id);
            let result = container.start().await;
            list.push(Started { container, result });
        }
        Ok(list)
    }
}
