//! Building images: a Dockerfile's stages as a graph, each step from the cache or carried out.
//!
//! The language is [`crate::dockerfile`]'s. Here `spec` says what is asked for, `event` what is told, `graph` which stages are
//! needed, `stage` what a stage is so far, `steps` what the instructions that make layers have in common: `running` with `run` and
//! `mounts`, `copying` with `copy` and `tree`, `add` for what comes from elsewhere. `cache` has what was made before. `verify`
//! builds twice and compares.
//!
//! Invariants: a layer depends on nothing but what its key has (SECURITY C6), so the same input gives the same digests (files that are
//! copied keep their times, which are in no key, as with Docker: the cache may have others); nothing is
//! named before all of it is there; a build that ends early leaves no more than entries of the cache, which are whole.

mod add;
mod agent;
mod archive;
mod cache;
mod cache_export;
mod cache_import;
mod cache_list;
mod cache_manifest;
mod cache_spec;
mod caches;
mod container;
mod copy;
mod copying;
mod digests;
mod empty;
mod event;
mod finish;
mod flights;
mod git;
mod graph;
mod growth;
mod gzip;
mod ignore;
mod mounts;
mod pack;
mod provenance;
mod remote;
mod run;
mod running;
mod scratch;
mod sources;
mod spec;
mod stage;
mod steps;
mod texts;
mod tree;
mod unpack;
mod url;
mod verify;
mod view;

use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::descriptor::Descriptor;
use crate::digest::Digest;
use crate::dockerfile::{Dockerfile, IgnorePatterns, Warning};
use crate::error::{Error, ErrorKind, Result};
use crate::files::{ContainerFiles, KnownDigests};
use crate::platform::Platform;

use super::operation::{Operation, Progress};
use super::{LocalEngine, blocking};
pub use archive::ContextArchive;
use cache_import::ImportedCache;
pub use cache_list::{BuildCacheEntry, PruneBuildCache, PrunedBuildCache};
use cache_manifest::MadeStep;
pub use cache_spec::{CacheMode, CacheSource, CacheTarget};
pub use caches::BUILD_CACHE_LABEL;
use digests::Digests;
pub use event::{BuildEvent, OutputStream, StepDescription, StepId};
use flights::Flights;
pub use pack::pack_context;
use provenance::Origins;
pub use provenance::ProvenanceMode;
use remote::Remote;
use scratch::Scratch;
pub(in crate::engine) use scratch::{Removals, sweep};
use sources::Sources;
pub use spec::{BuildContext, BuildNetwork, BuildSpec, DockerfileSource};
pub use texts::BuildTexts;
use tree::{Tree, TreeKind};
use verify::Apart;
pub use verify::Rebuild;

/// What a build made.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct BuiltImage {
    /// Its manifest; an index if it was built for several platforms.
    pub manifest: Descriptor,
    /// Its id: the digest of its configuration. Of several, that of the one for this host, or the index's digest if there is none.
    pub id: Digest,
    /// How it was built, if that was asked for: an in-toto statement with SLSA's provenance, as JSON. It is no part of the image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provenance: Option<String>,
}

/// A build under way.
struct Build {
    engine: LocalEngine,
    spec: BuildSpec,
    file: Dockerfile,
    context: Tree,
    ignore: Option<IgnorePatterns>,
    progress: Progress<BuildEvent>,
    next_step: AtomicU32,
    /// What contexts were unpacked into.
    _scratch: Vec<Scratch>,
    /// Warnings so far.
    warnings: Mutex<Vec<Warning>>,
    /// The platforms that it is for, each of them once.
    platforms: Vec<Platform>,
    /// What comes from elsewhere.
    sources: Sources,
    /// What it is made of, for whoever wants to know.
    origins: Origins,
    /// Caches elsewhere, in the order in which they are asked.
    imported: Vec<ImportedCache>,
    /// What steps made, or were found to have made.
    made: Mutex<Vec<MadeStep>>,
    /// Steps that are done more than once at a time.
    flights: Flights,
    /// What the cache is for a build whose steps nobody else shall find.
    apart: Option<Arc<Apart>>,
}

impl Build {
    fn step(&self) -> StepId {
        self.next_step.fetch_add(1, Ordering::Relaxed)
    }

    /// Tells of what is not good in the Dockerfile.
    fn warn(&self, warnings: impl IntoIterator<Item = Warning>) {
        let mut all = self.warnings.lock().unwrap_or_else(PoisonError::into_inner);
        for warning in warnings {
            // Each platform has it.
            if all.contains(&warning) {
                continue;
            }
            // The first of two builds that are compared has told of it.
            if self.apart.is_none() {
                self.progress.report(BuildEvent::Warning(warning.clone()));
            }
            all.push(warning);
        }
    }

    /// Fails if the Dockerfile wants that for what was warned of.
    fn verdict(&self) -> Result<()> {
        self.file.checks.verdict(&self.warnings.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl LocalEngine {
    pub(super) fn build(&self, spec: BuildSpec) -> Operation<BuildEvent, BuiltImage> {
        let engine = self.clone();
        Operation::new(move |progress| async move {
            let built = engine.build_image(spec, progress, None).await;
            engine.inner.removals.end().await;
            built
        })
    }

    async fn build_image(
        &self,
        mut spec: BuildSpec,
        progress: Progress<BuildEvent>,
        apart: Option<Arc<Apart>>,
    ) -> Result<BuiltImage> {
        if let Some(name) = spec.names.iter().find(|name| name.digest().is_some()) {
            return Err(Error::new(ErrorKind::InvalidArgument, "build image")
                .with("name", name)
                .with_message("a name with a digest cannot be given"));
        }
        let platforms = platforms(&spec)?;
        let mut scratch = Vec::new();
        // In this order: an engine elsewhere is sent one behind the other.
        for context in std::iter::once(&mut spec.context).chain(spec.contexts.values_mut()) {
            scratch.extend(self.unpack_context(context).await?);
        }
        // Nothing leads to what is made until the end.
        let _lease = self.inner.images.lease().await?;
        let sources = Sources::default();
        let files = Box::pin(self.files_of_context(&mut spec, &sources)).await?;
        let (name, text) = dockerfile(&spec.dockerfile, &*files).await?;
        let origins = Origins::of(&text);
        let file = Dockerfile::parse_with(&name, &text, spec.checks()?)?;
        let ignore =
            ignore::of_context(&*files, spec.dockerfile.in_context(), spec.ignore.as_deref()).await?;
        let known = self.known_digests(&spec.context, &scratch).await?;
        let mut context = Tree::new(files, TreeKind::Context, ignore.clone().and_then(ignore::ignoring));
        if let Some(known) = &known {
            context = context.with_known(Arc::clone(known) as Arc<dyn KnownDigests>);
        }
        let imported = match apart {
            Some(_) => Vec::new(),
            None => self.imported_caches(&spec, &platforms, &progress).await,
        };
        let build = Build {
            engine: self.clone(),
            spec,
            file,
            context,
            ignore,
            progress,
            next_step: AtomicU32::new(1),
            _scratch: scratch,
            warnings: Mutex::default(),
            platforms,
            sources,
            origins,
            imported,
            made: Mutex::default(),
            flights: Flights::default(),
            apart,
        };
        build.warn(build.file.warnings.clone());
        build.verdict()?;
        let built = Box::pin(graph::run(Arc::new(build))).await;
        if let Some(known) = known
            && let Err(error) = blocking(move || known.save()).await
        {
            tracing::warn!(%error, "the next build reads its context again");
        }
        built
    }

    /// What is known of a context's files; of one that was unpacked for this build, nothing can be.
    async fn known_digests(
        &self,
        context: &BuildContext,
        unpacked: &[Scratch],
    ) -> Result<Option<Arc<Digests>>> {
        match (context, self.inner.root.clone()) {
            (BuildContext::Directory(dir), Some(root))
                if !unpacked.iter().any(|scratch| dir.starts_with(scratch.path())) =>
            {
                let dir = dir.clone();
                blocking(move || {
                    // What is wrong with it has been told, or is when it is opened.
                    let dir = std::fs::canonicalize(&dir).unwrap_or(dir);
                    Ok(Some(Arc::new(Digests::open(&root, &dir))))
                })
                .await
            }
            _ => Ok(None),
        }
    }

    /// The files of a build's own context. A text behind a URL is the Dockerfile, as with Docker.
    async fn files_of_context(
        &self,
        spec: &mut BuildSpec,
        sources: &Sources,
    ) -> Result<Arc<dyn ContainerFiles>> {
        let BuildContext::Remote(url) = &spec.context else {
            return Ok(self.context_files(&spec.context)?.into());
        };
        match self.remote(spec, url, sources).await? {
            Remote::Files(tree) => Ok(Arc::clone(tree.files())),
            Remote::Text(text) => {
                if let DockerfileSource::InContext(_) = spec.dockerfile {
                    spec.dockerfile =
                        DockerfileSource::Text { name: "Dockerfile".to_owned(), text: text.into() };
                }
                Ok(Arc::new(empty::NoFiles))
            }
        }
    }

    fn context_files(&self, context: &BuildContext) -> Result<Box<dyn ContainerFiles>> {
        match context {
            BuildContext::Directory(dir) => files_of_directory(dir),
            BuildContext::Empty => Ok(Box::new(empty::NoFiles)),
            other => Err(Error::new(ErrorKind::Unsupported, "open build context")
                .with_message(format!("{other:?} cannot be one"))),
        }
    }
}

/// The platforms to build for, each of them once.
fn platforms(spec: &BuildSpec) -> Result<Vec<Platform>> {
    let mut all: Vec<Platform> = Vec::new();
    for wanted in &spec.platforms {
        if wanted.os != "linux" {
            return Err(Error::new(ErrorKind::Unsupported, "build image")
                .with("platform", wanted)
                .with_message("only images for Linux can be built"));
        }
        let wanted = Platform::new(&wanted.os, &wanted.architecture, wanted.variant.as_deref());
        if !all.contains(&wanted) {
            all.push(wanted);
        }
    }
    if all.is_empty() {
        all.push(Platform::host());
    }
    Ok(all)
}

/// The files of a directory of this host.
fn files_of_directory(dir: &Path) -> Result<Box<dyn ContainerFiles>> {
    let fail = |e| Error::from_io("open build context", e).with("path", dir.display());
    let dir = std::fs::canonicalize(dir).map_err(fail)?;
    if !dir.is_dir() {
        return Err(Error::new(ErrorKind::InvalidArgument, "open build context")
            .with("path", dir.display())
            .with_message("it is no directory"));
    }
    #[cfg(feature = "linux")]
    return Ok(crate::linux::files::host_files(dir));
    #[cfg(not(feature = "linux"))]
    Err(Error::new(ErrorKind::Unsupported, "open build context")
        .with("path", dir.display())
        .with_message("directories are read with the feature \"linux\" alone"))
}

/// The Dockerfile's name and text.
async fn dockerfile(source: &DockerfileSource, files: &dyn ContainerFiles) -> Result<(String, Bytes)> {
    match source {
        DockerfileSource::Text { name, text } => Ok((name.clone(), text.clone())),
        DockerfileSource::InContext(path) => {
            tree::inside(path)?;
            let text = ignore::read(files, path).await?.ok_or_else(|| no_dockerfile(path))?;
            Ok((path.clone(), text.into()))
        }
    }
}

fn no_dockerfile(path: &str) -> Error {
    Error::new(ErrorKind::NotFound, "read Dockerfile")
        .with("path", path)
        .with_message("the build context has no such file")
        .with_hint("name the file, or give the directory that it is in")
}
