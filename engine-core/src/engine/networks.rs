//! Networks of an engine, and what is left on them of containers that have ended.

use crate::error::{ErrorKind, Result};
use crate::id::ContainerId;
use crate::network::Endpoint;
use crate::state::ContainerStatus;

use super::Engine;

impl Engine {
    /// Takes containers that have ended from their networks, and lets the network remove what a crash left.
    ///
    /// No program of ours need be alive when a container ends, so its addresses and ports are free when the next one looks. The
    /// endpoints are listed before the states are read: one that is made meanwhile is not meant.
    pub(super) async fn sweep_networks(&self) -> Result<()> {
        let network = &self.inner.network;
        let mut gone: Vec<Endpoint> = Vec::new();
        for endpoint in network.list().await?.into_iter().flat_map(|info| info.endpoints) {
            if !self.has_sandbox(&endpoint.container).await? {
                gone.push(endpoint);
            }
        }
        network.sweep(&gone).await
    }

    /// Whether a container runs, is about to, or will again by its restart policy.
    async fn has_sandbox(&self, id: &ContainerId) -> Result<bool> {
        match self.inner.runtime.state(id).await {
            Ok(state) => Ok(!matches!(state.status, ContainerStatus::Exited | ContainerStatus::Dead)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }
}
