//! Containers: their life, their limits, their networks, what they use.

use std::time::Duration;

use async_trait::async_trait;
use engine_core::Result;
use engine_core::container_spec::ContainerSpec;
use engine_core::engine::{
    ContainerInfo, ContainerOperations, PruneOptions, Pruned, RemoveOptions, SpecPatch, Started,
};
use engine_core::id::{ContainerId, Name};
use engine_core::network::EndpointOptions;
use engine_core::resources::Resources;
use engine_core::restart::RestartPolicy;
use engine_core::state::ExitStatus;
use engine_core::stats::{ProcessInfo, Stats, StatsStream};

use super::super::RemoteEngine;
use super::super::call::{line, misunderstood};
use super::super::frames::Next;
use crate::wire;

#[async_trait]
impl ContainerOperations for RemoteEngine {
    async fn create_container(&self, image: &str, spec: ContainerSpec) -> Result<ContainerId> {
        self.call("create_container", (image, spec)).await
    }

    async fn create_scoped_container(&self, image: &str, spec: ContainerSpec) -> Result<ContainerId> {
        let mut request = self.frames("create_scoped_container", line((image, spec))).await?;
        let id: ContainerId = match request.next().await? {
            Next::Item(id) => wire::parsed(&id)?,
            _ => return Err(misunderstood("a container has no id")),
        };
        self.scoped.keep(id.clone(), request);
        Ok(id)
    }

    async fn find_container(&self, name: &str) -> Result<ContainerId> {
        self.call("find_container", (name,)).await
    }

    async fn containers(&self) -> Result<Vec<ContainerInfo>> {
        self.call("containers", ()).await
    }

    async fn inspect_container(&self, id: &ContainerId) -> Result<ContainerInfo> {
        self.call("inspect_container", (id,)).await
    }

    async fn start_container(&self, id: &ContainerId, patch: Option<SpecPatch>) -> Result<()> {
        if patch.is_some() {
            return Err(Self::unsupported(
                "start container",
                "change the runtime spec by code of this program",
            ));
        }
        self.call("start_container", (id,)).await
    }

    async fn wait_container(&self, id: &ContainerId) -> Result<ExitStatus> {
        let status = self.call("wait_container", (id,)).await?;
        self.flows.settle(id.as_str()).await;
        Ok(status)
    }

    async fn stop_container(
        &self,
        id: &ContainerId,
        signal: Option<i32>,
        timeout: Option<Duration>,
    ) -> Result<()> {
        self.call("stop_container", (id, signal, timeout)).await
    }

    async fn restart_container(
        &self,
        id: &ContainerId,
        signal: Option<i32>,
        timeout: Option<Duration>,
    ) -> Result<()> {
        self.call("restart_container", (id, signal, timeout)).await
    }

    async fn kill_container(&self, id: &ContainerId, signal: i32) -> Result<()> {
        self.call("kill_container", (id, signal)).await
    }

    async fn pause_container(&self, id: &ContainerId) -> Result<()> {
        self.call("pause_container", (id,)).await
    }

    async fn resume_container(&self, id: &ContainerId) -> Result<()> {
        self.call("resume_container", (id,)).await
    }

    async fn remove_container(&self, id: &ContainerId, options: RemoveOptions) -> Result<()> {
        self.call::<()>("remove_container", (id, options)).await?;
        self.scoped.forget(id);
        Ok(())
    }

    async fn update_container(&self, id: &ContainerId, resources: &Resources) -> Result<()> {
        self.call("update_container", (id, resources)).await
    }

    async fn update_restart_policy(&self, id: &ContainerId, policy: RestartPolicy) -> Result<()> {
        self.call("update_restart_policy", (id, policy)).await
    }

    async fn rename_container(&self, id: &ContainerId, name: &Name) -> Result<()> {
        self.call("rename_container", (id, name)).await
    }

    async fn connect_container(
        &self,
        id: &ContainerId,
        network: &str,
        options: EndpointOptions,
    ) -> Result<()> {
        self.call("connect_container", (id, network, options)).await
    }

    async fn disconnect_container(&self, id: &ContainerId, network: &str, force: bool) -> Result<()> {
        self.call("disconnect_container", (id, network, force)).await
    }

    async fn container_stats(&self, id: &ContainerId) -> Result<Stats> {
        self.call("container_stats", (id,)).await
    }

    async fn container_stats_stream(&self, id: &ContainerId, interval: Duration) -> Result<StatsStream> {
        self.stream("container_stats_stream", (id, interval), |item| wire::parsed(item)).await
    }

    async fn container_processes(&self, id: &ContainerId) -> Result<Vec<ProcessInfo>> {
        self.call("container_processes", (id,)).await
    }

    async fn prune_containers(&self, options: &PruneOptions) -> Result<Pruned<ContainerId>> {
        self.call("prune_containers", (options,)).await
    }

    async fn start_all(&self) -> Result<Vec<Started>> {
        let started: Vec<wire::Start> = self.call("start_all", ()).await?;
        Ok(started.into_iter().map(wire::Start::started).collect())
    }
}
