//! Branching: a second container from the state of a first, and states of a container to go back to.
//!
//! Order of steps, so that a crash loses nothing: a record names the frozen state first, then the store makes it. A
//! state that no record names is garbage. A fork whose state was not made yet when a program died is completed by its
//! first use, from its source.

use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use crate::container_spec::MountSpec;
use crate::error::{Error, ErrorKind, Result};
use crate::events::{Action, Event};
use crate::files::Change;
use crate::id::{ContainerId, ExecId, Name, SnapshotId};
use crate::state::ContainerStatus;

use super::container::LocalContainer;
use super::events::of_container;
use super::records::Record;
use super::turns::Turn;
use super::{LocalEngine, names, task};

/// How a container is forked.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct ForkOptions {
    /// The new container's name; a random one without it.
    pub name: Option<Name>,
}

impl ForkOptions {
    /// Gives the new container a name.
    #[must_use]
    pub fn with_name(mut self, name: Option<Name>) -> Self {
        self.name = name;
        self
    }
}

/// A state of a container's root file system.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Snapshot {
    /// Its id.
    pub id: SnapshotId,
    /// Its name, one among the container's.
    pub name: Name,
    /// When it was taken.
    pub created_at: SystemTime,
    /// The exec it was taken before, see [`ExecSnapshot`](super::ExecSnapshot).
    #[serde(default)]
    pub exec: Option<ExecId>,
}

/// What a fork was made from.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub(crate) struct ForkBase {
    pub(crate) source: ContainerId,
    pub(crate) snapshot: SnapshotId,
}

impl LocalContainer {
    pub(super) async fn fork(&self, options: ForkOptions) -> Result<LocalContainer> {
        let source = self.clone();
        let work = async move { source.fork_whole(options).await };
        task::all_or_nothing(work, |container: LocalContainer| async move {
            let options = super::RemoveOptions::default().with_force(true).with_volumes(true);
            if let Err(error) = container.remove(options).await {
                tracing::warn!(container = %container.id(), %error, "removing an unwanted container failed");
            }
        })
        .await
    }

    async fn fork_whole(&self, options: ForkOptions) -> Result<LocalContainer> {
        let engine = self.engine();
        let source = self.record().await?;
        if source.data.owner.is_some() {
            return Err(Error::new(ErrorKind::Unsupported, "fork container")
                .with("container", self.id().short())
                .with_message("it ends with the program that made it, and so would what its fork stands on")
                .with_hint("fork a detached container"));
        }
        engine.rootfs(&source).await?;
        let mut data = source.data.clone();
        data.linked_by.clear();
        for mount in &mut data.spec.mounts {
            if let MountSpec::Volume { name, .. } = mount
                && name.as_ref().is_some_and(|name| source.data.anonymous_volumes.contains(name))
            {
                *name = None;
            }
        }
        data.spec.name.clone_from(&options.name);
        data.anonymous_volumes = engine.make_volumes(&mut data.spec).await?;
        data.snapshots = Vec::new();
        data.base = Some(ForkBase { source: source.id.clone(), snapshot: SnapshotId::random() });
        let mut record = Record {
            id: ContainerId::random(),
            name: options.name.clone().unwrap_or_else(|| names::random_name(0)),
            created_at: SystemTime::now(),
            data,
        };
        match engine.commit(&mut record, options.name.is_none()).await {
            Ok(()) => Ok(LocalContainer::new(engine.clone(), record.id)),
            Err(mut error) => {
                if let Some(base) = &record.data.base
                    && let Err(later) = engine.inner.images.remove_snapshot(&base.snapshot).await
                {
                    error.suppress(later);
                }
                for volume in &record.data.anonymous_volumes {
                    if let Err(later) = engine.destroy_volume(volume).await {
                        error.suppress(later);
                    }
                }
                Err(error)
            }
        }
    }

    pub(super) async fn snapshot(&self, name: Option<Name>) -> Result<Snapshot> {
        let container = self.clone();
        task::to_the_end(async move { container.snapshot_whole(name).await }).await
    }

    async fn snapshot_whole(&self, name: Option<Name>) -> Result<Snapshot> {
        let turn = self.turn().await?;
        self.take_snapshot(&turn, name, None).await
    }

    /// Takes a snapshot, for `exec` if one is to follow.
    pub(super) async fn take_snapshot(
        &self,
        turn: &Turn,
        name: Option<Name>,
        exec: Option<ExecId>,
    ) -> Result<Snapshot> {
        let engine = self.engine();
        engine.rootfs(&self.record().await?).await?;
        let made = engine.inner.images.snapshot_list().await?;
        let id = SnapshotId::random();
        let revised = engine.inner.records.revise(self.id(), move |record| {
            let known = &mut record.data.snapshots;
            // Since this has the turn, one that is not made is none that is being made: a program died over it.
            known.retain(|known| made.contains(&known.id));
            let is_taken = |name: &Name| known.iter().any(|known| known.name == *name);
            let name = match name {
                Some(name) if is_taken(&name) => {
                    return Err(Error::new(ErrorKind::AlreadyExists, "take snapshot")
                        .with("snapshot", &name)
                        .with_message("the container has one of this name")
                        .with_hint("choose another name, or remove that snapshot"));
                }
                Some(name) => name,
                None => free_name(known.len() + 1, is_taken)?,
            };
            let snapshot = Snapshot { id, name, created_at: SystemTime::now(), exec };
            known.push(snapshot.clone());
            let told = event(record, "snapshot", &snapshot);
            Ok(((record.clone(), snapshot), told))
        });
        let (record, snapshot) = revised.await?;
        match engine.freeze(turn, &record, &snapshot.id).await {
            Ok(()) => Ok(snapshot),
            Err(error) => Err(self.undo_snapshot(turn, snapshot, error).await),
        }
    }

    /// Removes a snapshot because `error` came after it.
    pub(super) async fn undo_snapshot(&self, turn: &Turn, snapshot: Snapshot, mut error: Error) -> Error {
        match self.forget_snapshot(turn, move |known| known.id == snapshot.id).await {
            Err(later) if later.kind() != ErrorKind::NotFound => error.suppress(later),
            _ => {}
        }
        error
    }

    pub(super) async fn snapshots(&self) -> Result<Vec<Snapshot>> {
        let record = self.record().await?;
        let made = self.engine().inner.images.snapshot_list().await?;
        // One that a program died over was never made.
        Ok(record.data.snapshots.into_iter().filter(|known| made.contains(&known.id)).collect())
    }

    pub(super) async fn changes_since(&self, name: &Name) -> Result<Vec<Change>> {
        let snapshot = self.find_snapshot(name).await?;
        self.engine().inner.images.rootfs_changes(self.id(), Some(&snapshot.id)).await
    }

    pub(super) async fn restore(&self, name: &Name) -> Result<()> {
        let (snapshot, record) = (self.find_snapshot(name).await?, self.record().await?);
        if self.engine().is_in_use(&record).await? {
            return Err(Error::new(ErrorKind::Conflict, "restore snapshot")
                .with("container", self.id().short())
                .with_message("it is running")
                .with_hint("stop it first"));
        }
        let engine = self.engine().clone();
        task::to_the_end(async move { engine.inner.images.restore_rootfs(&record.id, &snapshot.id).await })
            .await
    }

    pub(super) async fn remove_snapshot(&self, name: &Name) -> Result<()> {
        let (container, name) = (self.clone(), self.find_snapshot(name).await?.name);
        task::to_the_end(async move {
            let turn = container.turn().await?;
            container.forget_snapshot(&turn, move |known| known.name == name).await
        })
        .await
    }

    async fn forget_snapshot(
        &self,
        _turn: &Turn,
        which: impl Fn(&Snapshot) -> bool + Send + 'static,
    ) -> Result<()> {
        let revised = self.engine().inner.records.revise(self.id(), move |record| {
            let at = record.data.snapshots.iter().position(which).ok_or_else(|| {
                Error::new(ErrorKind::NotFound, "remove snapshot")
                    .with_message("the container has no such snapshot")
            })?;
            let snapshot = record.data.snapshots.remove(at);
            let told = event(record, "snapshot-remove", &snapshot);
            Ok((snapshot.id, told))
        });
        let id = revised.await?;
        self.engine().inner.images.remove_snapshot(&id).await
    }

    async fn find_snapshot(&self, name: &Name) -> Result<Snapshot> {
        let found = self.snapshots().await?.into_iter().find(|known| known.name == *name);
        found.ok_or_else(|| {
            Error::new(ErrorKind::NotFound, "find snapshot")
                .with("snapshot", name)
                .with_message("the container has no such snapshot")
        })
    }
}

/// The first name of the form `snapshot-N` that is free, from `number` on.
fn free_name(number: usize, is_taken: impl Fn(&Name) -> bool) -> Result<Name> {
    for number in number.. {
        let name = format!("snapshot-{number}").parse()?;
        if !is_taken(&name) {
            return Ok(name);
        }
    }
    Err(Error::new(ErrorKind::ResourceExhausted, "name snapshot"))
}

/// An event of one of a container's snapshots, which Docker has no words for.
fn event(record: &Record, action: &str, snapshot: &Snapshot) -> Event {
    let event = of_container(Action::Other(action.into()), record).with("snapshot", &snapshot.name);
    match &snapshot.exec {
        Some(exec) => event.with("execID", exec),
        None => event,
    }
}

impl LocalEngine {
    /// Whether a sandbox may have the root file system mounted.
    async fn is_in_use(&self, record: &Record) -> Result<bool> {
        match self.inner.runtime.state(&record.id).await {
            Ok(state) => Ok(state.status != ContainerStatus::Exited),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Freezes the state of a container's root file system, whether it runs or not.
    async fn freeze(&self, turn: &Turn, record: &Record, snapshot: &SnapshotId) -> Result<()> {
        let in_use = self.is_in_use(record).await?;
        let images = &self.inner.images;
        let work = images.freeze_rootfs(&record.id, snapshot, in_use);
        if in_use {
            LocalContainer::new(self.clone(), record.id.clone()).paused(turn, record, work).await?;
        } else {
            work.await?;
        }
        // Started between the two: its state is whole, and it goes on writing to what was frozen. So that is none.
        if !in_use && self.is_in_use(record).await? {
            images.remove_snapshot(snapshot).await?;
            return Err(Error::new(ErrorKind::Conflict, "freeze root file system")
                .with("container", record.id.short())
                .with_message("it was started meanwhile")
                .with_hint("try again"));
        }
        Ok(())
    }

    /// Makes the root file system of a fork, unless that was done.
    pub(super) async fn complete_fork(&self, record: &Record) -> Result<()> {
        let Some(base) = &record.data.base else { return Ok(()) };
        let images = &self.inner.images;
        match images.fork_rootfs(&record.id, &base.snapshot).await {
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            done => return done,
        }
        let source = self.inner.records.by_id(&base.source)?.ok_or_else(|| {
            Error::new(ErrorKind::NotFound, "fork container")
                .with("container", record.id.short())
                .with_message("the container it was to be forked from is gone")
                .with_hint("remove it")
        })?;
        let turn = self.inner.turns.take(&source.id).await?;
        self.freeze(&turn, &source, &base.snapshot).await?;
        images.fork_rootfs(&record.id, &base.snapshot).await
    }

    /// Removes the frozen states that only this record named.
    pub(super) async fn remove_snapshots(&self, record: &Record) -> Result<()> {
        let data = &record.data;
        for id in data.snapshots.iter().map(|s| &s.id).chain(data.base.iter().map(|base| &base.snapshot)) {
            self.inner.images.remove_snapshot(id).await?;
        }
        Ok(())
    }
}
