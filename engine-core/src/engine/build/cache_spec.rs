//! The cache elsewhere: where steps of earlier builds are found, and where those of this one go.

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::reference::Reference;

/// Where steps are found that are not in the engine's own cache.
///
/// Whoever can write there decides what a step made: what it says is believed because it was named here. Layers have the digests that it
/// says, or are not used.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum CacheSource {
    /// A cache in a registry, or an image there that was built with [`CacheTarget::Inline`].
    Registry(Reference),
    /// A directory of this host that a [`CacheTarget::Directory`] was written to.
    Directory(PathBuf),
}

/// Where the steps of a build go, for builds elsewhere.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum CacheTarget {
    /// A registry, under this name.
    Registry {
        /// The name.
        reference: Reference,
        /// Which steps.
        mode: CacheMode,
    },
    /// A directory of this host, as an OCI layout. What is there already is not written again, and stays.
    Directory {
        /// The directory.
        path: PathBuf,
        /// Which steps.
        mode: CacheMode,
    },
    /// The image itself: its manifest says which steps made its layers.
    Inline,
}

/// Which steps are exported.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum CacheMode {
    /// Those whose layers the image has.
    #[default]
    Min,
    /// All that were needed, of every stage.
    Max,
}

impl fmt::Display for CacheSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Registry(reference) => reference.fmt(f),
            Self::Directory(path) => path.display().fmt(f),
        }
    }
}

impl fmt::Display for CacheTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Registry { reference, .. } => reference.fmt(f),
            Self::Directory { path, .. } => path.display().fmt(f),
            Self::Inline => f.write_str("inline"),
        }
    }
}
