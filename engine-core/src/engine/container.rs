//! A handle of one container, and what it shows.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use crate::container_spec::ContainerSpec;
use crate::digest::Digest;
use crate::error::{Error, ErrorKind, Result};
use crate::events::Action;
use crate::id::{ContainerId, Name, SecretId};
use crate::image_config::ProcessDefaults;
use crate::io::{AttachOptions, Streams, TerminalSize};
use crate::launch::LogDriver;
use crate::logs::{LogQuery, LogStream};
use crate::restart::RestartPolicy;
use crate::signal;
use crate::state::{ContainerStatus, ExitStatus, RuntimeState};

use super::events::of_container;
use super::network_use::ContainerNetwork;
use super::records::Record;
use super::turns::Turn;
use super::{LocalEngine, SpecPatch, launch, task};

/// How long [`Container::stop`] waits by default before it kills.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);

/// One container of the engine in this process.
#[derive(Clone, Debug)]
pub(super) struct LocalContainer {
    pub(super) engine: LocalEngine,
    pub(super) id: ContainerId,
}

/// What is known of a container.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ContainerInfo {
    /// Its id.
    pub id: ContainerId,
    /// Its name.
    pub name: Name,
    /// When it was created.
    pub created_at: SystemTime,
    /// The image as it was asked for.
    pub image: String,
    /// The image's manifest.
    pub manifest: Digest,
    /// The image's id.
    pub image_id: Digest,
    /// What was asked for.
    pub spec: ContainerSpec,
    /// What the image says about the process.
    pub defaults: ProcessDefaults,
    /// The command that runs: entrypoint and arguments.
    pub command: Vec<String>,
    /// Whether it ends with the program that made it.
    pub scoped: bool,
    /// Volumes that were made for it alone.
    pub anonymous_volumes: Vec<Name>,
    /// The networks it is on while it runs, in the order in which it is put on them.
    pub networks: Vec<ContainerNetwork>,
    /// Its secrets, in the order of its spec.
    pub secrets: Vec<SecretId>,
    /// Its running state.
    pub state: RuntimeState,
}

/// How to remove a container.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct RemoveOptions {
    /// Kills it if it runs.
    pub force: bool,
    /// Removes its anonymous volumes as well.
    pub volumes: bool,
}

impl RemoveOptions {
    /// Kills the container if it runs.
    #[must_use]
    pub fn with_force(mut self, force: bool) -> Self {
        self.force = force;
        self
    }

    /// Removes its anonymous volumes as well.
    #[must_use]
    pub fn with_volumes(mut self, volumes: bool) -> Self {
        self.volumes = volumes;
        self
    }
}

impl LocalContainer {
    pub(super) fn new(engine: LocalEngine, id: ContainerId) -> Self {
        Self { engine, id }
    }

    pub(super) fn id(&self) -> &ContainerId {
        &self.id
    }

    pub(super) fn engine(&self) -> &LocalEngine {
        &self.engine
    }

    pub(super) async fn inspect(&self) -> Result<ContainerInfo> {
        let record = self.record().await?;
        self.engine.info_of(record).await
    }

    pub(super) async fn start_by(&self, patch: Option<SpecPatch>) -> Result<()> {
        let record = self.record().await?;
        if self.engine.state_of(&record).await?.status.is_running() {
            return Ok(());
        }
        let engine = self.engine.clone();
        task::to_the_end(async move {
            engine.launch(&record, patch.as_ref()).await?;
            match engine.inner.runtime.start(&record.id).await {
                Ok(()) => Ok(()),
                Err(error) => Err(engine.abandon(&record, error).await),
            }
        })
        .await
    }

    pub(super) async fn start_attached_each(&self, clients: Vec<AttachOptions>) -> Result<Vec<Streams>> {
        let record = self.record().await?;
        if self.engine.state_of(&record).await?.status.is_running() {
            return Err(self.conflict("start container", "it is running already", "attach to it instead"));
        }
        let engine = self.engine.clone();
        task::to_the_end(async move {
            engine.launch(&record, None).await?;
            let runtime = &engine.inner.runtime;
            let started = async {
                let mut attached = Vec::with_capacity(clients.len());
                for options in clients {
                    attached.push(runtime.attach(&record.id, options).await?);
                    engine.emit(of_container(Action::Attach, &record)).await;
                }
                runtime.start(&record.id).await.map(|()| attached)
            };
            match started.await {
                Ok(attached) => Ok(attached),
                Err(error) => Err(engine.abandon(&record, error).await),
            }
        })
        .await
    }

    pub(super) async fn wait(&self) -> Result<ExitStatus> {
        let record = match self.record().await {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return self.engine.told_exit(&self.id).await?.ok_or(error);
            }
            record => record?,
        };
        let status = match self.engine.inner.runtime.wait(&self.id).await {
            Ok(status) => status,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                // It never ran, or somebody else removed it after its end.
                return Ok(self.engine.told_exit(&self.id).await?.unwrap_or(ExitStatus::new(0)));
            }
            Err(error) => return Err(error),
        };
        // An end that nothing told is told now.
        self.engine.state_of(&record).await?;
        self.engine.release_networks(&record).await?;
        if record.data.spec.auto_remove && record.data.owner.is_none() {
            self.engine.remove_record(&record, true).await?;
        }
        Ok(status)
    }

    pub(super) async fn restart(&self, signal: Option<i32>, timeout: Option<Duration>) -> Result<()> {
        let record = self.record().await?;
        self.halt(&record, signal, timeout).await?;
        self.start_by(None).await?;
        self.engine.emit(of_container(Action::Restart, &record)).await;
        Ok(())
    }

    pub(super) async fn stop(&self, wish: Option<i32>, timeout: Option<Duration>) -> Result<()> {
        let record = self.record().await?;
        let stopped = self.halt(&record, wish, timeout).await?;
        if stopped && record.data.spec.auto_remove && record.data.owner.is_none() {
            self.engine.remove_record(&record, true).await?;
        }
        Ok(())
    }

    /// Ends the container's process; returns whether it ran.
    async fn halt(&self, record: &Record, wish: Option<i32>, timeout: Option<Duration>) -> Result<bool> {
        let state = self.engine.state_of(record).await?;
        if !state.status.is_running() {
            return Ok(false);
        }
        let runtime = &self.engine.inner.runtime;
        let (spec, image) = (&record.data.spec, &record.data.defaults);
        let number = match wish {
            Some(number) => number,
            None => launch::stop_signal(spec, image)?,
        };
        let own = spec.stop_timeout.or(image.stop_timeout).map(|s| Duration::from_secs(s.into()));
        runtime.stop(&self.id, number).await?;
        // A frozen process cannot act on its signal.
        if state.status == ContainerStatus::Paused {
            runtime.resume(&self.id).await?;
        }
        let patience = timeout.or(own).unwrap_or(STOP_TIMEOUT);
        if tokio::time::timeout(patience, runtime.wait(&self.id)).await.is_err() {
            runtime.stop(&self.id, signal::SIGKILL).await?;
            runtime.wait(&self.id).await?;
        }
        self.engine.release_networks(record).await?;
        self.engine.emit(of_container(Action::Stop, record)).await;
        Ok(true)
    }

    pub(super) async fn kill(&self, signal: i32) -> Result<()> {
        let record = self.record().await?;
        let state = self.engine.state_of(&record).await?;
        let runtime = &self.engine.inner.runtime;
        if !state.status.is_running() {
            return Err(self.conflict("kill container", "it is not running", "start it first"));
        }
        let ends = signal == signal::SIGKILL
            || signal == launch::stop_signal(&record.data.spec, &record.data.defaults)?;
        if ends || state.status == ContainerStatus::Restarting {
            return runtime.stop(&self.id, signal).await;
        }
        runtime.signal(&self.id, signal).await
    }

    pub(super) async fn pause(&self) -> Result<()> {
        let _turn = self.turn().await?;
        if self.require_process("pause container").await?.status == ContainerStatus::Paused {
            return Ok(());
        }
        let event = of_container(Action::Pause, &self.record().await?);
        let (runtime, id) = (Arc::clone(&self.engine.inner.runtime), self.id.clone());
        self.engine.change(event, async move { runtime.pause(&id).await }).await
    }

    pub(super) async fn resume(&self) -> Result<()> {
        let _turn = self.turn().await?;
        if self.require_process("unpause container").await?.status != ContainerStatus::Paused {
            return Ok(());
        }
        let event = of_container(Action::Unpause, &self.record().await?);
        let (runtime, id) = (Arc::clone(&self.engine.inner.runtime), self.id.clone());
        self.engine.change(event, async move { runtime.resume(&id).await }).await
    }

    pub(super) async fn remove(&self, options: RemoveOptions) -> Result<()> {
        let Some(record) = self.engine.inner.records.by_id(&self.id)? else { return Ok(()) };
        if !options.force && self.engine.state_of(&record).await?.status.is_running() {
            return Err(self.conflict(
                "remove container",
                "it is running",
                "stop it first, or force the removal",
            ));
        }
        self.engine.remove_record(&record, options.volumes).await
    }

    pub(super) async fn attach(&self, options: AttachOptions) -> Result<Streams> {
        self.require_process("attach to container").await?;
        let streams = self.engine.inner.runtime.attach(&self.id, options).await?;
        self.engine.emit(of_container(Action::Attach, &self.record().await?)).await;
        Ok(streams)
    }

    pub(super) async fn detached(&self) -> Result<()> {
        self.engine.emit(of_container(Action::Detach, &self.record().await?)).await;
        Ok(())
    }

    pub(super) async fn resize(&self, size: TerminalSize) -> Result<()> {
        self.require_process("resize terminal").await?;
        self.engine.inner.runtime.resize(&self.id, size).await?;
        let event = of_container(Action::Resize, &self.record().await?);
        self.engine.emit(event.with("height", size.rows).with("width", size.columns)).await;
        Ok(())
    }

    pub(super) async fn logs(&self, query: &LogQuery) -> Result<LogStream> {
        if self.record().await?.data.spec.log.driver == LogDriver::None {
            return Err(Error::new(ErrorKind::Unsupported, "read log")
                .with("container", self.id.short())
                .with_message("its log driver is none, so its output is not kept")
                .with_hint("attach to it, or create it with another log driver"));
        }
        match self.engine.inner.runtime.logs(&self.id, query).await {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(Box::pin(futures_util::stream::empty())),
            other => other,
        }
    }

    pub(super) async fn update_restart_policy(&self, policy: RestartPolicy) -> Result<()> {
        let record = self.record().await?;
        if record.data.spec.auto_remove && policy.is_on() {
            return Err(Error::new(ErrorKind::InvalidArgument, "update container")
                .with("container", self.id.short())
                .with_message("restart policy cannot be updated because it is removed after its end"));
        }
        if self.engine.state_of(&record).await?.status.is_running() {
            match self.engine.inner.runtime.set_restart_policy(&self.id, policy).await {
                // It has just ended: the policy is for its next start.
                Err(error) if error.kind() == ErrorKind::Conflict => {}
                changed => changed?,
            }
        }
        let revised = self.engine.inner.records.revise(&self.id, move |record| {
            record.data.spec.restart = policy;
            Ok(((), of_container(Action::Update, record)))
        });
        revised.await
    }

    pub(super) async fn record(&self) -> Result<Record> {
        self.engine.inner.records.by_id(&self.id)?.ok_or_else(|| {
            Error::new(ErrorKind::NotFound, "find container")
                .with("container", &self.id)
                .with_message("no such container")
        })
    }

    /// Waits until nobody else holds the container still.
    pub(super) async fn turn(&self) -> Result<Turn> {
        self.engine.inner.turns.take(&self.id).await
    }

    pub(super) async fn require_running(&self, operation: &'static str) -> Result<RuntimeState> {
        self.require_running_of(&self.record().await?, operation).await
    }

    async fn require_running_of(&self, record: &Record, operation: &'static str) -> Result<RuntimeState> {
        let state = self.engine.state_of(record).await?;
        if state.status.is_running() {
            return Ok(state);
        }
        Err(self.conflict(operation, "it is not running", "start it first"))
    }

    /// As [`require_running`](Self::require_running), and not between two runs.
    pub(super) async fn require_process(&self, operation: &'static str) -> Result<RuntimeState> {
        self.require_process_of(&self.record().await?, operation).await
    }

    pub(super) async fn require_process_of(
        &self,
        record: &Record,
        operation: &'static str,
    ) -> Result<RuntimeState> {
        let state = self.require_running_of(record, operation).await?;
        if state.status == ContainerStatus::Restarting {
            return Err(self.conflict(operation, "it is restarting", "wait until it is running"));
        }
        Ok(state)
    }

    pub(super) fn conflict(&self, operation: &'static str, why: &'static str, hint: &'static str) -> Error {
        Error::new(ErrorKind::Conflict, operation)
            .with("container", self.id.short())
            .with_message(why)
            .with_hint(hint)
    }
}
