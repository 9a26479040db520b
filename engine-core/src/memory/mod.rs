//! In-memory implementations of the five traits, for tests of whatever is built on them.
//!
//! They keep the contracts (the suites of `testing` run on them) and touch neither files, processes nor the
//! network: [`MemoryRuntime`] runs Rust closures in place of programs. Each value is a world of its own; clones
//! of it see the same world, as two programs over one directory would. Each consults its [`Faults`] before it
//! acts, so a test can make the n-th call of a method fail.
//! Invariant: nothing here is global, and nothing depends on the clock but timestamps and what was asked to wait.

mod archive;
mod faults;
mod image_store;
mod network;
mod registry;
mod runtime;
mod urls;
mod volumes;

pub use faults::{Call, Faults};
pub use image_store::MemoryImageStore;
pub use network::MemoryNetwork;
pub use registry::MemoryRegistry;
pub use runtime::{Input, MemoryRuntime, Output, Process, Program, Signals};
pub use urls::MemoryUrls;
pub use volumes::MemoryVolumes;

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks `mutex`. No value here is left half changed by a panic, so a poisoned lock is as good as another.
fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
