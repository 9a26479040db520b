//! Containers: their life, their limits, their networks, what they use.

use std::time::Duration;

use async_trait::async_trait;

use crate::container_spec::ContainerSpec;
use crate::engine::{
    ContainerInfo, ContainerOperations, LocalEngine, PruneOptions, Pruned, RemoveOptions, SpecPatch, Started,
};
use crate::error::Result;
use crate::id::{ContainerId, Name};
use crate::network::EndpointOptions;
use crate::resources::Resources;
use crate::restart::RestartPolicy;
use crate::state::ExitStatus;
use crate::stats::{ProcessInfo, Stats, StatsStream};

#[async_trait]
impl ContainerOperations for LocalEngine {
    async fn create_container(&self, image: &str, spec: ContainerSpec) -> Result<ContainerId> {
        Ok(self.create(image, spec).await?.id)
    }

    async fn create_scoped_container(&self, image: &str, spec: ContainerSpec) -> Result<ContainerId> {
        Ok(self.create_scoped(image, spec).await?.id)
    }

    async fn find_container(&self, name: &str) -> Result<ContainerId> {
        Ok(self.container(name).await?.id)
    }

    async fn containers(&self) -> Result<Vec<ContainerInfo>> {
        Self::containers(self).await
    }

    async fn inspect_container(&self, id: &ContainerId) -> Result<ContainerInfo> {
        self.handle(id).inspect().await
    }

    async fn start_container(&self, id: &ContainerId, patch: Option<SpecPatch>) -> Result<()> {
        self.handle(id).start_by(patch).await
    }

    async fn wait_container(&self, id: &ContainerId) -> Result<ExitStatus> {
        self.handle(id).wait().await
    }

    async fn stop_container(
        &self,
        id: &ContainerId,
        signal: Option<i32>,
        timeout: Option<Duration>,
    ) -> Result<()> {
        self.handle(id).stop(signal, timeout).await
    }

    async fn restart_container(
        &self,
        id: &ContainerId,
        signal: Option<i32>,
        timeout: Option<Duration>,
    ) -> Result<()> {
        self.handle(id).restart(signal, timeout).await
    }

    async fn kill_container(&self, id: &ContainerId, signal: i32) -> Result<()> {
        self.handle(id).kill(signal).await
    }

    async fn pause_container(&self, id: &ContainerId) -> Result<()> {
        self.handle(id).pause().await
    }

    async fn resume_container(&self, id: &ContainerId) -> Result<()> {
        self.handle(id).resume().await
    }

    async fn remove_container(&self, id: &ContainerId, options: RemoveOptions) -> Result<()> {
        self.handle(id).remove(options).await
    }

    async fn update_container(&self, id: &ContainerId, resources: &Resources) -> Result<()> {
        self.handle(id).update(resources).await
    }

    async fn update_restart_policy(&self, id: &ContainerId, policy: RestartPolicy) -> Result<()> {
        self.handle(id).update_restart_policy(policy).await
    }

    async fn rename_container(&self, id: &ContainerId, name: &Name) -> Result<()> {
        self.handle(id).rename(name).await
    }

    async fn connect_container(
        &self,
        id: &ContainerId,
        network: &str,
        options: EndpointOptions,
    ) -> Result<()> {
        self.handle(id).connect(network, options).await
    }

    async fn disconnect_container(&self, id: &ContainerId, network: &str, force: bool) -> Result<()> {
        self.handle(id).disconnect(network, force).await
    }

    async fn container_stats(&self, id: &ContainerId) -> Result<Stats> {
        self.handle(id).stats().await
    }

    async fn container_stats_stream(&self, id: &ContainerId, interval: Duration) -> Result<StatsStream> {
        self.handle(id).stats_stream(interval).await
    }

    async fn container_processes(&self, id: &ContainerId) -> Result<Vec<ProcessInfo>> {
        self.handle(id).processes().await
    }

    async fn prune_containers(&self, options: &PruneOptions) -> Result<Pruned<ContainerId>> {
        Self::prune_containers(self, options).await
    }

    async fn start_all(&self) -> Result<Vec<Started>> {
        Self::start_all(self).await
    }
}
