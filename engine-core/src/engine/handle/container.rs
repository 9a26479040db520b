//! A handle of one container.

use std::time::Duration;

use crate::engine::{ContainerInfo, Engine, RemoveOptions, SpecPatch};
use crate::error::Result;
use crate::health::Health;
use crate::id::{ContainerId, Name};
use crate::network::EndpointOptions;
use crate::resources::Resources;
use crate::restart::RestartPolicy;
use crate::state::ExitStatus;
use crate::stats::{ProcessInfo, Stats, StatsStream};

/// One container. Handles are cheap, and the container does not depend on them.
#[derive(Clone, Debug)]
pub struct Container {
    pub(super) engine: Engine,
    pub(super) id: ContainerId,
}

impl Container {
    pub(in crate::engine) fn new(engine: Engine, id: ContainerId) -> Self {
        Self { engine, id }
    }

    /// Returns the id.
    #[must_use]
    pub fn id(&self) -> &ContainerId {
        &self.id
    }

    /// Returns the engine the container belongs to.
    #[must_use]
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Returns what is known of the container now.
    ///
    /// # Errors
    /// [`NotFound`](crate::ErrorKind::NotFound) if it was removed.
    pub async fn inspect(&self) -> Result<ContainerInfo> {
        self.engine.backend.inspect_container(&self.id).await
    }

    /// Starts the container. Does nothing if it runs. A start whose future is dropped is carried to its end.
    ///
    /// # Errors
    /// [`CommandNotFound`](crate::ErrorKind::CommandNotFound) or
    /// [`CommandNotExecutable`](crate::ErrorKind::CommandNotExecutable), after which it has exited with 127 or 126;
    /// [`InvalidArgument`](crate::ErrorKind::InvalidArgument) for a user, a mount source or a namespace that is not
    /// there.
    pub async fn start(&self) -> Result<()> {
        self.engine.backend.start_container(&self.id, None).await
    }

    /// Starts the container as [`start`](Self::start), with its runtime spec changed by `patch` for this once.
    ///
    /// # Errors
    /// As [`start`](Self::start), and what `patch` says.
    pub async fn start_patched(&self, patch: SpecPatch) -> Result<()> {
        self.engine.backend.start_container(&self.id, Some(patch)).await
    }

    /// Starts the container, waits for its end and returns how it ended.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub async fn run(&self) -> Result<ExitStatus> {
        self.start().await?;
        self.wait().await
    }

    /// Waits until the container has ended and returns how. A container that was never started has ended with
    /// code 0, as Docker has it. One that was to remove itself is gone when this returns; if somebody else, such as a
    /// daemon over the same root, was faster to remove it, events tell how it ended.
    ///
    /// # Errors
    /// [`NotFound`](crate::ErrorKind::NotFound) if it was removed, and how it ended is no longer known.
    pub async fn wait(&self) -> Result<ExitStatus> {
        self.engine.backend.wait_container(&self.id).await
    }

    /// Asks the container to stop by its stop signal, and kills it if it does not within `timeout` (10 seconds
    /// or what its spec says without one). Does nothing if it does not run.
    ///
    /// # Errors
    /// [`NotFound`](crate::ErrorKind::NotFound) if it was removed.
    pub async fn stop(&self, timeout: Option<Duration>) -> Result<()> {
        self.engine.backend.stop_container(&self.id, None, timeout).await
    }

    /// Stops the container as [`stop`](Self::stop), by signal number `signal` instead of its own.
    ///
    /// # Errors
    /// [`NotFound`](crate::ErrorKind::NotFound) if it was removed.
    pub async fn stop_with(&self, signal: i32, timeout: Option<Duration>) -> Result<()> {
        self.engine.backend.stop_container(&self.id, Some(signal), timeout).await
    }

    /// Stops the container if it runs, by signal number `signal` or its own, and starts it. It is not removed in
    /// between.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub async fn restart(&self, signal: Option<i32>, timeout: Option<Duration>) -> Result<()> {
        self.engine.backend.restart_container(&self.id, signal, timeout).await
    }

    /// Sends signal number `signal` to the container's process; see [`signal::parse`](crate::signal::parse) for names.
    /// By SIGKILL or its stop signal it is stopped: no restart policy runs it again.
    ///
    /// # Errors
    /// [`Conflict`](crate::ErrorKind::Conflict) if it is not running.
    pub async fn kill(&self, signal: i32) -> Result<()> {
        self.engine.backend.kill_container(&self.id, signal).await
    }

    /// Freezes all processes of the container.
    ///
    /// # Errors
    /// [`Conflict`](crate::ErrorKind::Conflict) if it is not running.
    pub async fn pause(&self) -> Result<()> {
        self.engine.backend.pause_container(&self.id).await
    }

    /// Thaws all processes of the container.
    ///
    /// # Errors
    /// [`Conflict`](crate::ErrorKind::Conflict) if it is not running.
    pub async fn resume(&self) -> Result<()> {
        self.engine.backend.resume_container(&self.id).await
    }

    /// Removes the container with all it wrote. Removing one that is gone is `Ok`.
    ///
    /// # Errors
    /// [`Conflict`](crate::ErrorKind::Conflict) if it runs and `options.force` is not set.
    pub async fn remove(&self, options: RemoveOptions) -> Result<()> {
        self.engine.backend.remove_container(&self.id, options).await
    }

    /// Changes limits, now if it runs and for each start to come. What `resources` does not say stays as it is.
    ///
    /// # Errors
    /// [`InvalidArgument`](crate::ErrorKind::InvalidArgument) for impossible limits, together with those that stay;
    /// [`Conflict`](crate::ErrorKind::Conflict) where more memory is in use than the new limit. Then nothing changed.
    pub async fn update(&self, resources: &Resources) -> Result<()> {
        self.engine.backend.update_container(&self.id, resources).await
    }

    /// Changes the restart policy, now if it runs and for each start to come.
    ///
    /// # Errors
    /// [`InvalidArgument`](crate::ErrorKind::InvalidArgument) if the container is to remove itself after its end.
    pub async fn update_restart_policy(&self, policy: RestartPolicy) -> Result<()> {
        self.engine.backend.update_restart_policy(&self.id, policy).await
    }

    /// Gives the container another name, whatever its state. The others on its networks find it by that from then on.
    ///
    /// # Errors
    /// [`AlreadyExists`](crate::ErrorKind::AlreadyExists) if another container has it;
    /// [`InvalidArgument`](crate::ErrorKind::InvalidArgument) if it is its own.
    pub async fn rename(&self, name: &Name) -> Result<()> {
        self.engine.backend.rename_container(&self.id, name).await
    }

    /// Puts the container on one more network: now if it runs, and at each start to come. Its published ports stay
    /// where they are.
    ///
    /// # Errors
    /// [`NotFound`](crate::ErrorKind::NotFound) if there is no such network;
    /// [`AlreadyExists`](crate::ErrorKind::AlreadyExists) if the container is on it;
    /// [`InvalidArgument`](crate::ErrorKind::InvalidArgument) if the container has no network namespace of its own to
    /// be on networks; as [`Network::attach`](crate::Network::attach). Then nothing changed.
    pub async fn connect(&self, network: &str, options: EndpointOptions) -> Result<()> {
        self.engine.backend.connect_container(&self.id, network, options).await
    }

    /// Takes the container off a network: now if it runs, and for each start to come. With `force`, also off one that
    /// its record does not name.
    ///
    /// # Errors
    /// [`NotFound`](crate::ErrorKind::NotFound) if there is no such network; [`Conflict`](crate::ErrorKind::Conflict)
    /// if the container is not on it.
    pub async fn disconnect(&self, network: &str, force: bool) -> Result<()> {
        self.engine.backend.disconnect_container(&self.id, network, force).await
    }

    /// Returns the container's health; `None` without a health check, or before its first start.
    ///
    /// # Errors
    /// [`NotFound`](crate::ErrorKind::NotFound) if it was removed.
    pub async fn health(&self) -> Result<Option<Health>> {
        Ok(self.inspect().await?.state.health)
    }

    /// Returns what the running container uses.
    ///
    /// # Errors
    /// [`Conflict`](crate::ErrorKind::Conflict) if it is not running.
    pub async fn stats(&self) -> Result<Stats> {
        self.engine.backend.container_stats(&self.id).await
    }

    /// Reads what the container uses now and then every `interval`, until it ends. Two neighbours tell the rate of
    /// what is counted: [`Stats::cpu_percent_since`].
    ///
    /// # Errors
    /// [`Conflict`](crate::ErrorKind::Conflict) if it is not running; then as the runtime says, after which the stream
    /// is over.
    pub async fn stats_stream(&self, interval: Duration) -> Result<StatsStream> {
        self.engine.backend.container_stats_stream(&self.id, interval).await
    }

    /// Returns the processes of the running container as the host sees them, its own first. Nothing is run in it.
    ///
    /// # Errors
    /// [`Conflict`](crate::ErrorKind::Conflict) if it is not running.
    pub async fn processes(&self) -> Result<Vec<ProcessInfo>> {
        self.engine.backend.container_processes(&self.id).await
    }
}
