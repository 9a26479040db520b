//! Containers: their life, their limits, their networks, what they use.

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;

use crate::container_spec::ContainerSpec;
use crate::engine::{ContainerInfo, PruneOptions, Pruned, RemoveOptions, SpecPatch, Started};
use crate::error::Result;
use crate::id::{ContainerId, Name};
use crate::network::EndpointOptions;
use crate::resources::Resources;
use crate::restart::RestartPolicy;
use crate::state::ExitStatus;
use crate::stats::{ProcessInfo, Stats, StatsStream};

/// Containers: their life, their limits, their networks, what they use.
#[async_trait]
pub trait ContainerOperations: fmt::Debug + Send + Sync {
    /// See [`Engine::create`](crate::engine::Engine::create).
    async fn create_container(&self, image: &str, spec: ContainerSpec) -> Result<ContainerId>;
    /// See [`Engine::create_scoped`](crate::engine::Engine::create_scoped).
    async fn create_scoped_container(&self, image: &str, spec: ContainerSpec) -> Result<ContainerId>;
    /// See [`Engine::container`](crate::engine::Engine::container).
    async fn find_container(&self, name: &str) -> Result<ContainerId>;
    /// See [`Engine::containers`](crate::engine::Engine::containers).
    async fn containers(&self) -> Result<Vec<ContainerInfo>>;
    /// See [`Container::inspect`](crate::engine::Container::inspect).
    async fn inspect_container(&self, id: &ContainerId) -> Result<ContainerInfo>;
    /// See [`Container::start_patched`](crate::engine::Container::start_patched).
    async fn start_container(&self, id: &ContainerId, patch: Option<SpecPatch>) -> Result<()>;
    /// See [`Container::wait`](crate::engine::Container::wait).
    async fn wait_container(&self, id: &ContainerId) -> Result<ExitStatus>;
    /// See [`Container::stop_with`](crate::engine::Container::stop_with).
    async fn stop_container(
        &self,
        id: &ContainerId,
        signal: Option<i32>,
        timeout: Option<Duration>,
    ) -> Result<()>;
    /// See [`Container::restart`](crate::engine::Container::restart).
    async fn restart_container(
        &self,
        id: &ContainerId,
        signal: Option<i32>,
        timeout: Option<Duration>,
    ) -> Result<()>;
    /// See [`Container::kill`](crate::engine::Container::kill).
    async fn kill_container(&self, id: &ContainerId, signal: i32) -> Result<()>;
    /// See [`Container::pause`](crate::engine::Container::pause).
    async fn pause_container(&self, id: &ContainerId) -> Result<()>;
    /// See [`Container::resume`](crate::engine::Container::resume).
    async fn resume_container(&self, id: &ContainerId) -> Result<()>;
    /// See [`Container::remove`](crate::engine::Container::remove).
    async fn remove_container(&self, id: &ContainerId, options: RemoveOptions) -> Result<()>;
    /// See [`Container::update`](crate::engine::Container::update).
    async fn update_container(&self, id: &ContainerId, resources: &Resources) -> Result<()>;
    /// See [`Container::update_restart_policy`](crate::engine::Container::update_restart_policy).
    async fn update_restart_policy(&self, id: &ContainerId, policy: RestartPolicy) -> Result<()>;
    /// See [`Container::rename`](crate::engine::Container::rename).
    async fn rename_container(&self, id: &ContainerId, name: &Name) -> Result<()>;
    /// See [`Container::connect`](crate::engine::Container::connect).
    async fn connect_container(
        &self,
        id: &ContainerId,
        network: &str,
        options: EndpointOptions,
    ) -> Result<()>;
    /// See [`Container::disconnect`](crate::engine::Container::disconnect).
    async fn disconnect_container(&self, id: &ContainerId, network: &str, force: bool) -> Result<()>;
    /// See [`Container::stats`](crate::engine::Container::stats).
    async fn container_stats(&self, id: &ContainerId) -> Result<Stats>;
    /// See [`Container::stats_stream`](crate::engine::Container::stats_stream).
    async fn container_stats_stream(&self, id: &ContainerId, interval: Duration) -> Result<StatsStream>;
    /// See [`Container::processes`](crate::engine::Container::processes).
    async fn container_processes(&self, id: &ContainerId) -> Result<Vec<ProcessInfo>>;
    /// See [`Engine::prune_containers`](crate::engine::Engine::prune_containers).
    async fn prune_containers(&self, options: &PruneOptions) -> Result<Pruned<ContainerId>>;
    /// See [`Engine::start_all`](crate::engine::Engine::start_all).
    async fn start_all(&self) -> Result<Vec<Started>>;
}
