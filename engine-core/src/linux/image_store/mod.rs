//! [`LocalImageStore`]: content-addressed files and overlayfs layers beneath one directory.
//!
//! Owns what `layout` draws. Mounts nothing that anybody could see: a root file system is described as
//! [`Mount`](crate::Mount)s. That a layer is a directory is this module's secret.
//!
//! # Invariants
//! - Content appears by one rename, after it was checked and synced. A crash leaves only what the next
//!   [`open`](LocalImageStore::open) sweeps.
//! - Rows are in the engine's database; whoever reads them and then the files, does both in one write
//!   transaction, or holds a lease, so that no collection comes between.
//! - Memory does not grow with the size of an image (SECURITY C4).

mod blobs;
mod changes;
mod commit;
mod gc;
mod implied;
mod ingest;
mod input;
mod layer;
mod layout;
mod names;
mod options;
mod pairs;
mod pipeline;
mod probe;
pub(in crate::linux) mod remove;
mod rootfs;
mod snapshots;
mod store;
pub(in crate::linux) mod unpack;

#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_real;
#[cfg(test)]
mod tests_snapshots;

pub use options::{LayerDriver, LocalImageStoreOptions};
pub use store::LocalImageStore;
