//! Events of an engine: following them, and the one way in which the facade's operations make them.
//!
//! # How an operation tells what it changed
//!
//! One event per change, made with [`of_container`], [`of_image`] or [`of_volume`], in one of four ways:
//!
//! - *Records* (the database): push it in the transaction. `Records::insert`, `update`, `delete` do; a new one is
//!   `self.0.write(durability, |tx, events| { …; events.push(of_container(Action::Rename, &record)); Ok(()) })`.
//! - *Elsewhere*, and a look at the object tells later whether it happened (image names, volumes, a frozen group):
//!   `self.change(event, async move { store.set_name(&name, &target).await }).await`, and a line in
//!   [`Engine::has_happened`].
//! - *Nothing lasting* (attach, cp out, export, top): `self.emit(event).await` after it succeeded.
//! - *A container's life* (start, die, oom, kill, exec_…, and what is to follow them, such as the unmounts of its
//!   volumes) is the runtime's to tell, since no program of ours may be alive then: see [`LifeEvents`]. An end that the
//!   runtime could not tell ([`RuntimeState::lost`]) is told here, by whoever looks at the container next.
//!
//! After a rename call [`Engine::describe`], so that the shim of a running container uses the new name.

use std::collections::BTreeMap;
use std::future::Future;
use std::time::SystemTime;

use futures_util::StreamExt as _;

use crate::container_spec::MountSpec;
use crate::error::Result;
use crate::events::{Action, Cursor, Event, EventFilters, EventQuery, EventStream, ObjectKind};
use crate::id::ContainerId;
use crate::launch::LifeEvents;
use crate::reference::Reference;
use crate::state::{ContainerStatus, ExitStatus, RuntimeState};

use super::records::Record;
use super::{LocalEngine, blocking, task};

impl LocalEngine {
    pub(super) async fn events(&self, query: EventQuery) -> Result<EventStream> {
        // Ends that nothing could tell belong to what has happened.
        for record in self.inner.records.all().await? {
            if let Err(error) = self.state_of(&record).await {
                tracing::warn!(container = %record.id, %error, "whether its end was told is not known");
            }
        }
        self.inner.outbox.journal().read(query).await
    }

    pub(super) async fn event_cursor(&self) -> Result<Cursor> {
        let journal = self.inner.outbox.journal().clone();
        blocking(move || journal.cursor()).await
    }

    /// How a container that is no more has ended, as events have told it, if they are still kept.
    pub(super) async fn told_exit(&self, id: &ContainerId) -> Result<Option<ExitStatus>> {
        let mut filters = EventFilters::default().with_object(ObjectKind::Container);
        filters.containers.push(id.to_string());
        filters.actions = vec![Action::Die, Action::Oom];
        let kept = EventQuery::default().with_since(SystemTime::UNIX_EPOCH).with_until(SystemTime::now());
        let mut kept = self.inner.outbox.journal().read(kept.with_filters(filters)).await?;
        let (mut exit, mut oom_killed) = (None, false);
        while let Some(event) = kept.next().await {
            let event = event?;
            if event.action == Action::Oom {
                oom_killed = true;
                continue;
            }
            let code = event.attributes.get("exitCode").and_then(|code| code.parse().ok());
            exit = code.map(|code| ExitStatus::new(code).with_oom_killed(oom_killed));
            oom_killed = false;
        }
        Ok(exit)
    }

    /// Tells of something that has happened and changed nothing lasting. Failing to tell does not undo it.
    pub(super) async fn emit(&self, event: Event) {
        let journal = self.inner.outbox.journal().clone();
        if let Err(error) = blocking(move || journal.append(&[event])).await {
            tracing::warn!(%error, "an event is lost");
        }
    }

    /// Does `work`, which changes what `event` says if it succeeds. It is carried to its end also when the caller stops
    /// waiting, and after a crash [`has_happened`](Self::has_happened) says whether there is an event.
    pub(super) async fn change<T: Send + 'static>(
        &self,
        event: Event,
        work: impl Future<Output = Result<T>> + Send + 'static,
    ) -> Result<T> {
        self.change_when(event, work, |_| true).await
    }

    /// As [`change`](Self::change), of work that may have had nothing to change: `changed` tells by its result.
    pub(super) async fn change_when<T: Send + 'static>(
        &self,
        event: Event,
        work: impl Future<Output = Result<T>> + Send + 'static,
        changed: impl FnOnce(&T) -> bool + Send + 'static,
    ) -> Result<T> {
        let outbox = self.inner.outbox.clone();
        task::to_the_end(async move {
            let own = outbox.clone();
            let intent = blocking(move || own.intend(&event)).await?;
            let result = work.await;
            let changed = result.as_ref().is_ok_and(changed);
            blocking(move || {
                if changed {
                    outbox.happened(intent);
                } else {
                    outbox.withdraw(&intent);
                }
                Ok(())
            })
            .await?;
            result
        })
        .await
    }

    /// Tells of an end that nothing could tell, once, and of what follows one. How long the run lasted is known up to when
    /// its end is found.
    pub(super) async fn tell_lost(&self, record: &Record, state: &RuntimeState) -> Result<()> {
        let Some(started) = state.started_at else { return Ok(()) };
        let code = state.exit.map_or(u8::MAX, |exit| exit.code);
        let mut die = of_container(Action::Die, record).with("exitCode", code);
        // Unknown, if the clock was put back meanwhile.
        if let Ok(lasted) = state.finished_at.unwrap_or_else(SystemTime::now).duration_since(started) {
            die = die.with("execDuration", lasted.as_secs());
        }
        let mut events = vec![die];
        let networks = self.network_use(record).await?;
        let networks = networks.iter().filter_map(|used| used.network.as_ref());
        events.extend(self.life_events(record, networks).at_end);
        self.inner.records.lost(record, started, events).await
    }

    /// Makes the shim of a running container use the name and labels in `record` from now on.
    pub(super) async fn describe(&self, record: &Record) -> Result<()> {
        let journal = self.inner.outbox.journal().clone();
        let (id, attributes) = (record.id.clone(), attributes(record));
        blocking(move || journal.describe(id.as_str(), &attributes)).await
    }

    /// Settles the events of programs that were killed amid a change.
    pub(super) async fn recover_events(&self) -> Result<()> {
        let outbox = self.inner.outbox.clone();
        let unsettled = blocking(move || outbox.recover()).await?;
        if unsettled.is_empty() {
            return Ok(());
        }
        let mut settled = Vec::with_capacity(unsettled.len());
        for unsettled in unsettled {
            let happened = self.has_happened(&unsettled.event).await?;
            settled.push((unsettled, happened));
        }
        let outbox = self.inner.outbox.clone();
        blocking(move || outbox.settle(settled)).await
    }

    /// Whether the change that `event` tells of has come to pass, as far as its object shows.
    async fn has_happened(&self, event: &Event) -> Result<bool> {
        let name = event.attributes.get("name").map_or("", String::as_str);
        Ok(match (&event.object, &event.action) {
            (ObjectKind::Image, Action::Pull) => self.has_image_name(&event.id).await?,
            (ObjectKind::Image, Action::Tag | Action::Load | Action::Import) => {
                self.has_image_name(name).await?
            }
            (ObjectKind::Image, Action::Untag) => !self.has_image_name(name).await?,
            (ObjectKind::Image, Action::Delete) => match event.id.parse() {
                Ok(digest) => self.inner.images.blob_size(&digest).await?.is_none(),
                Err(_) => false,
            },
            (ObjectKind::Volume, Action::Create | Action::Destroy) => match event.id.parse() {
                Ok(name) => {
                    let is_there = self.inner.volumes.inspect(&name).await?.is_some();
                    is_there == (event.action == Action::Create)
                }
                Err(_) => false,
            },
            (ObjectKind::Network, Action::Destroy) => {
                !self.inner.network.list().await?.iter().any(|network| network.id == event.id)
            }
            (ObjectKind::Volume, Action::Rename) => {
                let old = event.attributes.get("oldName").map_or("", String::as_str);
                match (event.id.parse(), old.parse()) {
                    (Ok(new), Ok(old)) => {
                        self.inner.volumes.inspect(&new).await?.is_some()
                            && self.inner.volumes.inspect(&old).await?.is_none()
                    }
                    _ => false,
                }
            }
            (ObjectKind::Container, Action::Pause | Action::Unpause) => {
                let wanted = if event.action == Action::Pause {
                    ContainerStatus::Paused
                } else {
                    ContainerStatus::Running
                };
                match event.id.parse() {
                    Ok(id) => self.inner.runtime.state(&id).await.is_ok_and(|state| state.status == wanted),
                    Err(_) => false,
                }
            }
            _ => false,
        })
    }

    async fn has_image_name(&self, name: &str) -> Result<bool> {
        match name.parse::<Reference>() {
            Ok(reference) => Ok(self.inner.images.resolve_name(&reference).await?.is_some()),
            Err(_) => Ok(false),
        }
    }

    /// What the runtime is to tell of a container's life on these networks.
    pub(super) fn life_events<'a>(
        &self,
        record: &Record,
        networks: impl IntoIterator<Item = &'a crate::network::NetworkInfo>,
    ) -> LifeEvents {
        let driver = self.inner.volumes.name();
        let mut events = LifeEvents::new(self.inner.outbox.journal().clone(), attributes(record));
        for network in networks {
            let event = |action| of_container_on(of_network(action, network), &record.id);
            events.at_start.push(event(Action::Connect));
            events.at_end.push(event(Action::Disconnect));
        }
        for mount in &record.data.spec.mounts {
            let MountSpec::Volume { name: Some(name), target, options, .. } = mount else { continue };
            let event = |action| of_volume(action, name, driver).with("container", &record.id);
            events.at_start.push(
                event(Action::Mount)
                    .with("destination", target.display())
                    .with("propagation", "")
                    .with("read/write", !options.read_only),
            );
            events.at_end.push(event(Action::Unmount));
        }
        events
    }
}

/// A container's attributes, as Docker gives them to its events: labels, image and name.
fn attributes(record: &Record) -> BTreeMap<String, String> {
    let mut attributes = record.data.defaults.labels.clone();
    attributes.extend(record.data.spec.labels.clone());
    attributes.insert("image".to_owned(), record.data.image.clone());
    attributes.insert("name".to_owned(), record.name.to_string());
    attributes
}

/// An event of a container.
pub(super) fn of_container(action: Action, record: &Record) -> Event {
    let mut event = Event::new(ObjectKind::Container, action, record.id.as_str());
    event.attributes = attributes(record);
    event
}

/// An event of an image: its id and its name, or what it was asked for by and its repository, as Docker has it for that
/// action.
pub(super) fn of_image(action: Action, id: impl ToString, name: impl ToString) -> Event {
    Event::new(ObjectKind::Image, action, id.to_string()).with("name", name.to_string())
}

/// The end of a prune that freed so many bytes; as Docker has it, of no object, and also if there was none.
pub(super) fn of_prune(object: ObjectKind, bytes: u64) -> Event {
    Event::new(object, Action::Prune, "").with("reclaimed", bytes)
}

/// An event of a network.
pub(super) fn of_network(action: Action, info: &crate::network::NetworkInfo) -> Event {
    Event::new(ObjectKind::Network, action, info.id.as_str())
        .with("name", &info.name)
        .with("type", info.options.driver.as_deref().unwrap_or_default())
}

/// An event of a network about one container.
pub(super) fn of_container_on(event: Event, id: &crate::id::ContainerId) -> Event {
    event.with("container", id)
}

/// An event of a volume.
pub(super) fn of_volume(action: Action, name: &crate::id::Name, driver: &str) -> Event {
    Event::new(ObjectKind::Volume, action, name.as_str()).with("driver", driver)
}
