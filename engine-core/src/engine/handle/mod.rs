//! The handles that callers use: [`Engine`] and [`Container`], over whichever engine it is.

mod build;
mod container;
mod containers;
mod files;
mod images;
mod networks;
mod processes;
mod secrets;
mod system;
mod transfers;
mod volumes;

use std::path::PathBuf;
use std::sync::Arc;

pub use container::Container;

use super::{ContainerEngine, EngineBuilder, LocalEngine};

/// A container engine: images, containers and volumes under one directory.
///
/// Cloning is cheap, and clones are the same engine. Several engines in one program, and several programs over
/// one directory, do not disturb each other. Dropping the last clone leaves detached containers running and
/// ends scoped ones.
///
/// It is a handle of whatever does the work: the engine in this process that [`open`](EngineBuilder::open) makes, or
/// anything else that implements [`ContainerEngine`], such as a client of a daemon.
#[derive(Clone, Debug)]
pub struct Engine {
    backend: Arc<dyn ContainerEngine>,
}

impl<E: ContainerEngine + 'static> From<E> for Engine {
    fn from(backend: E) -> Self {
        Self { backend: Arc::new(backend) }
    }
}

impl Engine {
    /// Begins to configure an engine whose every file lies beneath `root` (see
    /// [`EngineBuilder::run_root`] for those that may lie elsewhere).
    pub fn builder(root: impl Into<PathBuf>) -> EngineBuilder {
        EngineBuilder::new(Some(root.into()))
    }

    /// Begins to configure an engine that keeps its records in memory. It has no defaults: the image store,
    /// the runtime and the volume driver must be given.
    pub fn in_memory() -> EngineBuilder {
        EngineBuilder::new(None)
    }

    /// Returns the engine in this process with the parts it is made of; `None` where the work is done elsewhere.
    #[must_use]
    pub fn local(&self) -> Option<&LocalEngine> {
        self.backend.as_local()
    }

    /// Returns the operations themselves, for what passes them on.
    #[must_use]
    pub fn operations(&self) -> &Arc<dyn ContainerEngine> {
        &self.backend
    }
}
