//! A container of a build's own: one that runs a command, or a root file system that files are put into.
//!
//! It has a record like any other and ends with this program. So whatever happens, what is left of it is found and removed by
//! whoever opens the root next.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::container_spec::{ContainerSpec, NetworkMode};
use crate::digest::Digest;
use crate::engine::container::{LocalContainer, RemoveOptions};
use crate::engine::records::{ProcessIdentity, Record, RecordData};
use crate::engine::{LocalEngine, names};
use crate::error::Result;
use crate::files::{ContainerFiles, FilesSpec, PackedFile, UnpackFiles};
use crate::id::ContainerId;
use crate::image_config::ProcessDefaults;
use crate::image_store::LayerOptions;
use crate::platform::Platform;

use super::cache::{Layer, empty_diff_id};
use super::graph::keeper;
use super::mounts::Opened;
use super::stage::{Keeper, State};

/// Clocks of file systems tick less often than others.
const TICK: Duration = Duration::from_millis(50);

/// The data of a container over `layers`, which `image` keeps.
pub(super) fn data(
    spec: ContainerSpec,
    image: Keeper,
    layers: Vec<Digest>,
    platform: &Platform,
) -> RecordData {
    RecordData {
        spec,
        image: image.name,
        manifest: image.manifest,
        config: image.config,
        layers,
        architecture: platform.architecture.clone(),
        defaults: ProcessDefaults::default(),
        anonymous_volumes: Vec::new(),
        base: None,
        snapshots: Vec::new(),
        mounted_images: Vec::new(),
        id_mappings: None,
        linked_by: Vec::new(),
        secrets: Vec::new(),
        owner: ProcessIdentity::current(),
    }
}

/// A container whose changes become a layer.
pub(super) struct StepContainer {
    record: Record,
    removed: Removed,
    begun: SystemTime,
}

impl LocalEngine {
    /// Makes a container, which `opened` is there for until it is removed. The caller holds a lease.
    pub(super) async fn step_container(
        &self,
        data: RecordData,
        opened: Option<Opened>,
    ) -> Result<StepContainer> {
        let id = ContainerId::random();
        let mut record = Record { id, name: names::random_name(0), created_at: SystemTime::now(), data };
        // From here on, also if nobody waits for the record any more: what is not there is removed as well.
        let removed = Removed::new(self, &record.id, opened);
        if let Err(error) = self.commit(&mut record, true).await {
            removed.keep();
            return Err(error);
        }
        Ok(StepContainer { record, removed, begun: SystemTime::now() - TICK })
    }
}

impl StepContainer {
    pub(super) fn record(&self) -> &Record {
        &self.record
    }

    /// Removes the container. If all went well, what it changed is a layer; `None` if that is nothing.
    pub(super) async fn finish(
        self,
        outcome: Result<()>,
        time: SystemTime,
        mount_points: BTreeSet<PathBuf>,
    ) -> Result<Option<Layer>> {
        let layer = match outcome {
            Ok(()) => {
                let options = LayerOptions { clamp: Some((self.begun, time)), mount_points };
                let images = &self.removed.engine().inner.images;
                images.commit_rootfs(&self.record.id, &options).await
            }
            Err(error) => Err(error),
        };
        // What it wrote goes first: on a full disk, nothing can be written down before there is room.
        if layer.is_err() {
            let _ = self.removed.engine().inner.images.remove_rootfs(&self.record.id).await;
        }
        let removed = self.removed.now().await;
        let (blob, diff_id) = layer?;
        removed?;
        Ok((diff_id != empty_diff_id()).then_some((blob, diff_id)))
    }
}

/// A root file system that files are put into.
pub(super) struct StepRoot {
    container: StepContainer,
    files: Arc<dyn ContainerFiles>,
}

impl LocalEngine {
    /// Makes a root file system over a stage's layers. `text` is for people who see it.
    pub(super) async fn step_root(&self, state: &State, text: &str) -> Result<StepRoot> {
        let image = match &state.image {
            Some(image) => image.clone(),
            None => keeper(self, state).await?,
        };
        // Nothing of it is ever run.
        let mut spec = ContainerSpec::command(["/"]);
        spec.network = NetworkMode::None;
        spec.labels.insert("engine.build".to_owned(), text.to_owned());
        let container =
            self.step_container(data(spec, image, state.diff_ids(), &state.platform), None).await?;
        let rootfs = self.rootfs(container.record()).await?;
        let files = self.inner.runtime.files(&container.record.id, &FilesSpec::new(rootfs, Vec::new()));
        Ok(StepRoot { container, files: files.into() })
    }
}

impl StepRoot {
    pub(super) fn files(&self) -> Arc<dyn ContainerFiles> {
        Arc::clone(&self.files)
    }

    /// Puts files of a tree where their names say.
    pub(super) async fn put(&self, tree: &dyn ContainerFiles, files: Vec<PackedFile>) -> Result<()> {
        if files.is_empty() {
            return Ok(());
        }
        let archive = tree.pack_files(files).await?;
        self.files.unpack(Path::new("/"), archive, &UnpackFiles::default()).await
    }

    /// Removes it. If all went well, what was put into it is a layer.
    pub(super) async fn finish(self, outcome: Result<()>, time: SystemTime) -> Result<Option<Layer>> {
        self.container.finish(outcome, time, BTreeSet::new()).await
    }
}

/// A container that is removed, whether or not anybody waits for it.
struct Removed {
    engine: LocalEngine,
    container: Option<LocalContainer>,
    /// Let go once it is removed: while its command runs, caches are not others', and what it writes to is there.
    opened: Option<Opened>,
}

impl Removed {
    fn new(engine: &LocalEngine, id: &ContainerId, opened: Option<Opened>) -> Self {
        let container = Some(LocalContainer::new(engine.clone(), id.clone()));
        Self { engine: engine.clone(), container, opened }
    }

    /// There is nothing to remove.
    fn keep(mut self) {
        self.container = None;
    }

    fn engine(&self) -> &LocalEngine {
        &self.engine
    }

    async fn now(mut self) -> Result<()> {
        match self.container.take() {
            Some(container) => remove(container).await,
            None => Ok(()),
        }
    }
}

async fn remove(container: LocalContainer) -> Result<()> {
    container.remove(RemoveOptions::default().with_force(true).with_volumes(true)).await
}

impl Drop for Removed {
    fn drop(&mut self) {
        if let (Some(container), Ok(runtime)) = (self.container.take(), tokio::runtime::Handle::try_current())
        {
            let opened = self.opened.take();
            drop(runtime.spawn(async move {
                let _opened = opened;
                if let Err(error) = remove(container).await {
                    tracing::warn!(%error, "removing a build's container failed");
                }
            }));
        }
    }
}
