//! Configuring and opening an [`Engine`].

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use crate::cgroups::CgroupOptions;
use crate::container_spec::IdMappings;
use crate::database::Database;
use crate::error::{Error, ErrorKind, Result};
use crate::events::{Event, Journal};
use crate::id::Name;
use crate::image_store::ImageStore;
use crate::limit::DEFAULT_MAX_BYTES;
use crate::network::{Network, NoNetwork};
use crate::registry_client::{NoRegistry, RegistryClient};
use crate::runtime::Runtime;
use crate::url_fetcher::{NoUrls, UrlFetcher};
use crate::volume_driver::VolumeDriver;

use super::hooks::{Admission, Follower, Hooks, ImageRequest, MountRequest, PortRequest};
use super::outbox::Outbox;
use super::records::Records;
use super::secrets::{self, Secrets};
use super::turns::Turns;
use super::{Engine, IdPool, Inner, LocalEngine, SpecPatch, defaults, launch};

/// Where vendors' tools put CDI files.
const CDI_DIRS: [&str; 2] = ["/etc/cdi", "/var/run/cdi"];

/// Configures an [`Engine`]. What is not given gets the embedded default.
#[derive(Debug, Default)]
#[must_use = "a builder does nothing until open() is called"]
pub struct EngineBuilder {
    root: Option<PathBuf>,
    run_root: Option<PathBuf>,
    images: Option<Arc<dyn ImageStore>>,
    runtime: Option<Arc<dyn Runtime>>,
    network: Option<Arc<dyn Network>>,
    volumes: Option<Arc<dyn VolumeDriver>>,
    registry: Option<Arc<dyn RegistryClient>>,
    urls: Option<Arc<dyn UrlFetcher>>,
    default_network: Option<Name>,
    id_pool: IdPool,
    user_namespace: Option<IdMappings>,
    cdi_dirs: Option<Vec<PathBuf>>,
    cgroups: CgroupOptions,
    spec_patch: Option<SpecPatch>,
    max_bytes: Option<u64>,
    hooks: Hooks,
}

impl EngineBuilder {
    pub(super) fn new(root: Option<PathBuf>) -> Self {
        Self { root, ..Self::default() }
    }

    /// Puts what need not survive a reboot (sockets) beneath `path`. The default is `run` beneath the root.
    pub fn run_root(mut self, path: impl Into<PathBuf>) -> Self {
        self.run_root = Some(path.into());
        self
    }

    /// Uses this image store.
    pub fn image_store(mut self, images: impl ImageStore) -> Self {
        self.images = Some(Arc::new(images));
        self
    }

    /// Uses this runtime.
    pub fn runtime(mut self, runtime: impl Runtime) -> Self {
        self.runtime = Some(Arc::new(runtime));
        self
    }

    /// Uses this network implementation. Without one, the modes `none`, `host` and `container:ID` work.
    pub fn network(mut self, network: impl Network) -> Self {
        self.network = Some(Arc::new(network));
        self
    }

    /// Puts containers that name no network on this one. Without it they get none.
    pub fn default_network(mut self, name: Name) -> Self {
        self.default_network = Some(name);
        self
    }

    /// Takes the ids of containers with a user namespace of their own ([`UserNamespace::Auto`]) from this pool.
    ///
    /// [`UserNamespace::Auto`]: crate::container_spec::UserNamespace::Auto
    pub fn id_pool(mut self, pool: IdPool) -> Self {
        self.id_pool = pool;
        self
    }

    /// Gives every container that asks for no user namespace one with these maps: the same for all of them, as dockerd's
    /// `userns-remap`. [`UserNamespace::Host`] opts a container out, and one that is privileged or shares a namespace of the
    /// host's has to, or is refused. One that shares namespaces of another container shares its user namespace too.
    /// Containers that are there stay as they were created. [`IdMappings::from_subids`] reads the maps where the host's
    /// administrator wrote them.
    ///
    /// [`UserNamespace::Host`]: crate::container_spec::UserNamespace::Host
    pub fn user_namespace(mut self, maps: IdMappings) -> Self {
        self.user_namespace = Some(maps);
        self
    }

    /// Looks for descriptions of devices (CDI files, `*.json`, `*.yaml` and `*.yml`) in these directories, the last of which
    /// wins. The default is `/etc/cdi`, then `/var/run/cdi`. Their hooks are never run.
    pub fn cdi_dirs(mut self, dirs: impl IntoIterator<Item = impl Into<PathBuf>>) -> Self {
        self.cdi_dirs = Some(dirs.into_iter().map(Into::into).collect());
        self
    }

    /// Says who makes control groups, the engine or systemd, and beneath which: an engine to which a subtree was delegated
    /// stays in it. For the embedded runtime.
    pub fn cgroups(mut self, options: CgroupOptions) -> Self {
        self.cgroups = options;
        self
    }

    /// Lets `patch` change the OCI runtime spec of every container that this engine starts, last in line: see
    /// [`SpecPatch`].
    pub fn spec_patch(mut self, patch: SpecPatch) -> Self {
        self.spec_patch = Some(patch);
        self
    }

    /// Lets one thing that comes from outside take at most so many bytes; [`DEFAULT_MAX_BYTES`] without it. That is a layer or
    /// another blob, an archive that is loaded, imported, added by a build or copied into a container, a context that arrives as
    /// one, a file behind a URL, or a repository of git. Archives count decompressed, with the holes of their files written out.
    ///
    /// What takes more fails with [`ErrorKind::ResourceExhausted`] as soon as that is seen. [`LoadOptions`](super::LoadOptions) and
    /// [`UnpackFiles`](crate::files::UnpackFiles) may say otherwise for one call, and a store that is
    /// [given](Self::image_store) has a limit of its own for layers.
    pub fn max_bytes(mut self, bytes: u64) -> Self {
        self.max_bytes = Some(bytes);
        self
    }

    /// Uses this volume driver.
    pub fn volume_driver(mut self, volumes: impl VolumeDriver) -> Self {
        self.volumes = Some(Arc::new(volumes));
        self
    }

    /// Uses this registry client. Without one, pulling and pushing say so.
    pub fn registry(mut self, registry: impl RegistryClient) -> Self {
        self.registry = Some(Arc::new(registry));
        self
    }

    /// Has builds fetch files behind URLs by this. Without one, `ADD` of a URL says so.
    pub fn url_fetcher(mut self, urls: impl UrlFetcher) -> Self {
        self.urls = Some(Arc::new(urls));
        self
    }

    /// Asks `hook` about each image before it is pulled and before a container is made of it. A refusal fails the
    /// operation with [`ErrorKind::PermissionDenied`] and the hook's reason; so for the other hooks.
    ///
    /// Hooks run on the tasks of the operations and should be quick. Several of one kind are asked in turn.
    ///
    /// ```
    /// # use engine_core::Engine;
    /// let builder = Engine::builder("/var/lib/my-tool").admit_image(|image| {
    ///     if image.name.starts_with("registry.example/") {
    ///         Ok(())
    ///     } else {
    ///         Err("only images of registry.example may run".into())
    ///     }
    /// });
    /// ```
    pub fn admit_image(
        mut self,
        hook: impl Fn(&ImageRequest<'_>) -> Admission + Send + Sync + 'static,
    ) -> Self {
        self.hooks.images.push(Arc::new(hook));
        self
    }

    /// Asks `hook` about each bind, volume and tmpfs, before a container is created with it and at each start.
    pub fn admit_mount(
        mut self,
        hook: impl Fn(&MountRequest<'_>) -> Admission + Send + Sync + 'static,
    ) -> Self {
        self.hooks.mounts.push(Arc::new(hook));
        self
    }

    /// Asks `hook` about each published port, before a container is created with it and at each start.
    pub fn admit_port(
        mut self,
        hook: impl Fn(&PortRequest<'_>) -> Admission + Send + Sync + 'static,
    ) -> Self {
        self.hooks.ports.push(Arc::new(hook));
        self
    }

    /// Shows `hook` each event from the opening on, also those of other programs, in order, for as long as the engine
    /// is open. See [`Engine::events`] for a stream of them.
    pub fn on_event(mut self, hook: impl Fn(&Event) + Send + Sync + 'static) -> Self {
        self.hooks.events.push(Arc::new(hook));
        self
    }

    /// Opens the engine: checks the host, makes the directories, and repairs what a crash left.
    ///
    /// # Errors
    /// [`ErrorKind::PermissionDenied`] or [`ErrorKind::Unsupported`] with what is missing on this host;
    /// [`ErrorKind::InvalidArgument`] for an engine without a root that lacks an implementation, or for maps of ids that
    /// overlap or have no root.
    pub async fn open(self) -> Result<Engine> {
        if let Some(maps) = &self.user_namespace {
            launch::check_maps(maps)?;
        }
        let max_bytes = self.max_bytes.unwrap_or(DEFAULT_MAX_BYTES);
        let root = self.root.clone();
        let run_root = self.run_root.or_else(|| root.as_ref().map(|r| r.join("run")));
        let dirs = root.clone().zip(run_root);
        let needs_defaults = self.images.is_none() || self.runtime.is_none() || self.volumes.is_none();
        let (database, journal) = match dirs.clone() {
            Some((root, run_root)) => {
                super::blocking(move || {
                    if needs_defaults {
                        defaults::check_host(&root)?;
                    }
                    defaults::make_private_dir(&root)?;
                    defaults::make_private_dir(&run_root)?;
                    defaults::make_private_dir(&root.join(secrets::DIRECTORY))?;
                    Ok((Database::open(&root.join("engine.db"))?, Journal::open(&root.join("events"))?))
                })
                .await?
            }
            None => (Database::in_memory()?, Journal::in_memory()),
        };
        let chosen = if needs_defaults {
            let (root, run_root) = dirs.clone().ok_or_else(|| {
                Error::new(ErrorKind::InvalidArgument, "open engine").with_message(
                    "an engine in memory needs an image store, a runtime and a volume driver of its own",
                )
            })?;
            Some(defaults::open(&root, &run_root, &database, self.cgroups, max_bytes).await?)
        } else {
            None
        };
        let (images, runtime, volumes) = match chosen {
            Some(default) => (
                self.images.unwrap_or(default.images),
                self.runtime.unwrap_or(default.runtime),
                self.volumes.unwrap_or(default.volumes),
            ),
            None => match (self.images, self.runtime, self.volumes) {
                (Some(images), Some(runtime), Some(volumes)) => (images, runtime, volumes),
                _ => return Err(Error::new(ErrorKind::Other, "open engine")),
            },
        };
        let turns = Turns::new(dirs.map(|(_, run_root)| run_root));
        let outbox = Outbox::open(database, journal)?;
        let secrets_dir = root.as_ref().map(|root| root.join(secrets::DIRECTORY));
        let engine = LocalEngine {
            inner: Arc::new(Inner {
                root,
                images,
                runtime,
                network: self.network.unwrap_or_else(|| Arc::new(NoNetwork)),
                volumes,
                registry: self.registry.unwrap_or_else(|| Arc::new(NoRegistry)),
                urls: self.urls.unwrap_or_else(|| Arc::new(NoUrls)),
                records: Records::open(outbox.clone())?,
                secrets: Secrets::open(outbox.clone(), secrets_dir),
                outbox,
                turns,
                hooks: self.hooks,
                follower: OnceLock::new(),
                default_network: self.default_network,
                id_pool: self.id_pool,
                user_namespace: self.user_namespace,
                cdi_dirs: self.cdi_dirs.unwrap_or_else(|| CDI_DIRS.map(PathBuf::from).to_vec()),
                spec_patch: self.spec_patch,
                max_bytes,
                removals: super::build::Removals::default(),
            }),
        };
        if let Some(follower) = Follower::begin(&engine).await? {
            let _ = engine.inner.follower.set(follower);
        }
        engine.recover_events().await?;
        engine.repair().await?;
        Ok(Engine::from(engine))
    }
}
