//! The [`Engine`] facade: images, containers and volumes as one library.
//!
//! `handle` is what callers use, over the traits in `operations`. The rest is their implementation in this process,
//! [`LocalEngine`]: it owns what belongs to none of the five traits, which are container records, names, the translation of
//! a user's wishes into a launch specification, repair after a crash. It names no implementation of those; defaults are picked
//! in `defaults`.

mod archive;
mod artifact;
mod build;
mod builder;
mod change;
mod closure;
mod commit;
mod container;
mod containers;
#[cfg(feature = "linux")]
mod copy;
mod create;
mod defaults;
mod diagnose;
mod endpoints;
mod ensure;
mod events;
mod exec;
mod files;
mod fork;
mod handle;
mod history;
mod hooks;
mod id_pool;
mod image;
mod image_copy;
mod image_export;
mod image_names;
mod image_platforms;
mod image_remove;
mod image_usage;
mod images;
mod import;
mod info;
mod launch;
mod layers;
mod links;
mod load;
mod local;
mod mounts;
mod name_files;
mod names;
mod network_use;
mod networks;
mod observe;
mod operation;
mod operations;
mod outbox;
mod prune;
mod pull;
mod push;
mod records;
mod repair;
mod save;
mod scoped;
mod secrets;
mod spec_patch;
mod start_all;
mod task;
mod turns;
mod usage;
mod userns;
mod volumes;

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

pub use archive::{LayoutDirectory, LoadSource, archive_directory};
pub use artifact::{ArtifactContent, ArtifactFile, ArtifactOptions};
pub use build::{
    BUILD_CACHE_LABEL, BuildCacheEntry, BuildContext, BuildEvent, BuildNetwork, BuildSpec, BuildTexts,
    BuiltImage, CacheMode, CacheSource, CacheTarget, ContextArchive, DockerfileSource, OutputStream,
    ProvenanceMode, PruneBuildCache, PrunedBuildCache, Rebuild, StepDescription, StepId, pack_context,
};
pub use builder::EngineBuilder;
pub use commit::CommitOptions;
pub use container::{ContainerInfo, RemoveOptions};
#[cfg(feature = "linux")]
pub use copy::CopyOptions;
pub use diagnose::{Check, Diagnosis, Verdict};
pub use ensure::{Ensured, SPEC_HASH_LABEL};
pub use exec::{Exec, ExecOptions, ExecSnapshot};
pub use fork::{ForkOptions, Snapshot};
pub use handle::{Container, Engine};
pub use history::HistoryEntry;
pub use hooks::{Admission, ImageRequest, MountRequest, PortRequest, Refusal};
pub use id_pool::IdPool;
pub use image::{Image, ImageSummary, ImportOptions, RemovedImage};
pub use image_copy::CopyImageOptions;
pub use image_platforms::ImagePlatform;
pub use image_remove::{ImagePruneOptions, PrunedImages};
pub use image_usage::{ImageUsage, ImagesUsage};
pub use info::{EngineInfo, HostInfo};
pub use layers::LayerProgress;
pub use load::{LoadEvent, LoadOptions, LoadedImage};
pub use network_use::ContainerNetwork;
pub use operation::{Operation, Progress};
pub use operations::{
    BuildOperations, ContainerEngine, ContainerOperations, FileOperations, ImageOperations,
    NetworkOperations, ProcessOperations, SecretOperations, SystemOperations, TransferOperations,
    VolumeOperations,
};
pub use prune::{LabelFilter, PruneOptions, Pruned};
pub use pull::{PullEvent, PullOptions};
pub use push::{PushEvent, PushOptions};
pub use save::{ArchiveFormat, SaveEvent, SaveOptions};
pub use scoped::ScopedContainer;
pub use spec_patch::SpecPatch;
pub use start_all::Started;
pub use usage::{ContainerUsage, DiskUsage, VolumeUsage};

use crate::image_store::ImageStore;
use crate::network::Network;
use crate::registry_client::RegistryClient;
use crate::runtime::Runtime;
use crate::url_fetcher::UrlFetcher;
use crate::volume_driver::VolumeDriver;
use hooks::{Follower, Hooks};
use outbox::Outbox;
use records::Records;
use secrets::Secrets;
use task::blocking;
use turns::Turns;

/// The engine in this process: what [`EngineBuilder::open`](EngineBuilder::open) makes an [`Engine`] of.
///
/// An engine shows it ([`Engine::local`]) to whoever needs the parts it is made of.
#[derive(Clone, Debug)]
pub struct LocalEngine {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    root: Option<PathBuf>,
    images: Arc<dyn ImageStore>,
    runtime: Arc<dyn Runtime>,
    network: Arc<dyn Network>,
    volumes: Arc<dyn VolumeDriver>,
    registry: Arc<dyn RegistryClient>,
    urls: Arc<dyn UrlFetcher>,
    records: Records,
    secrets: Secrets,
    outbox: Outbox,
    turns: Turns,
    hooks: Hooks,
    /// Calls the hooks that see events, for as long as the engine is open.
    follower: OnceLock<Follower>,
    default_network: Option<crate::id::Name>,
    id_pool: IdPool,
    /// The maps of containers that ask for no user namespace.
    user_namespace: Option<crate::container_spec::IdMappings>,
    cdi_dirs: Vec<PathBuf>,
    spec_patch: Option<SpecPatch>,
    /// The most bytes that one thing from outside may take.
    max_bytes: u64,
    /// Directories of builds that are on their way out.
    removals: build::Removals,
}

impl LocalEngine {
    /// Returns the directory of the engine, if it has one.
    #[must_use]
    pub fn root(&self) -> Option<&Path> {
        self.inner.root.as_deref()
    }

    /// Returns the image store.
    #[must_use]
    pub fn image_store(&self) -> &Arc<dyn ImageStore> {
        &self.inner.images
    }

    /// Returns the runtime.
    #[must_use]
    pub fn runtime(&self) -> &Arc<dyn Runtime> {
        &self.inner.runtime
    }

    /// Returns the implementation of networks.
    #[must_use]
    pub fn network_driver(&self) -> &Arc<dyn Network> {
        &self.inner.network
    }

    /// Returns the volume driver.
    #[must_use]
    pub fn volume_driver(&self) -> &Arc<dyn VolumeDriver> {
        &self.inner.volumes
    }

    /// Returns the registry client.
    #[must_use]
    pub fn registry(&self) -> &Arc<dyn RegistryClient> {
        &self.inner.registry
    }
}
