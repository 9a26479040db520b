//! Conformance suites: what each of the five traits promises, as functions anybody can run on an implementation.
//!
//! A module for each trait has one function for each promise of its contract, and `all`, which runs every one
//! of them on a fresh instance. A promise that is broken panics; `all` goes on after it and names every broken
//! one in the end. Our own implementations run these very suites:
//!
//! ```
//! use std::sync::Arc;
//! use engine_core::memory::MemoryVolumes;
//! use engine_core::testing::{Subject, volume_driver};
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() {
//! volume_driver::all(async || {
//!     let volumes = MemoryVolumes::new();
//!     Subject::new(Arc::new(volumes.clone()), Arc::new(volumes))
//! })
//! .await;
//! # }
//! ```
//!
//! The functions need a tokio runtime with time enabled, and files only where the implementation has them.

pub mod content;
pub mod image_store;
pub mod network;
pub mod registry_client;
pub mod rootfs;
pub mod runtime;
pub mod volume_driver;

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;

use crate::error::{ErrorKind, Result};
use crate::id::Name;

/// How long one promise may take. A promise that hangs is broken.
const LIMIT: Duration = Duration::from_secs(60);

/// What a suite runs on: two instances over the same state, as two programs over one directory.
///
/// The state is fresh: nothing was made in it before.
#[derive(Debug)]
#[non_exhaustive]
pub struct Subject<T: ?Sized> {
    /// The instance that most promises are checked on.
    pub first: Arc<T>,
    /// Another one, which sees what the first acknowledged.
    pub second: Arc<T>,
}

impl<T: ?Sized> Subject<T> {
    /// Creates a subject of two instances over the same state.
    pub fn new(first: Arc<T>, second: Arc<T>) -> Self {
        Self { first, second }
    }

    /// Creates a subject of an implementation that cannot be opened twice.
    #[must_use]
    pub fn single(instance: Arc<T>) -> Self {
        Self { second: Arc::clone(&instance), first: instance }
    }
}

/// Runs promises one after the other and remembers which were broken.
pub(crate) struct Suite {
    name: &'static str,
    kept: usize,
    broken: Vec<String>,
}

impl Suite {
    pub(crate) fn new(name: &'static str) -> Self {
        Self { name, kept: 0, broken: Vec::new() }
    }

    pub(crate) async fn run(&mut self, promise: &str, check: impl Future<Output = ()>) {
        let outcome = AssertUnwindSafe(tokio::time::timeout(LIMIT, check)).catch_unwind().await;
        let why = match outcome {
            Ok(Ok(())) => {
                self.kept += 1;
                return;
            }
            Ok(Err(_)) => format!("not done after {LIMIT:?}"),
            Err(panic) => match (panic.downcast_ref::<String>(), panic.downcast_ref::<&str>()) {
                (Some(text), _) => text.clone(),
                (None, Some(text)) => (*text).to_owned(),
                (None, None) => "it panicked".to_owned(),
            },
        };
        self.broken.push(format!("{promise}: {why}"));
    }

    pub(crate) fn finish(self) {
        let Self { name, kept, broken } = self;
        assert!(
            broken.is_empty(),
            "{name}: {} of {} promises are broken:\n  {}",
            broken.len(),
            kept + broken.len(),
            broken.join("\n  ")
        );
    }
}

/// Runs the named promises, each on what `$factory` makes anew.
macro_rules! run_promises {
    ($suite:ident, $factory:ident, |$subject:ident| $($promise:ident($($argument:expr),*);)*) => {
        $(
            $suite.run(stringify!($promise), async {
                let $subject = $factory().await;
                $promise($($argument),*).await;
            }).await;
        )*
    };
}
pub(crate) use run_promises;

/// Asserts that `result` failed with one of `kinds`.
#[track_caller]
pub(crate) fn assert_kind<T>(result: Result<T>, kinds: &[ErrorKind], what: &str) {
    match result {
        Ok(_) => panic!("{what} succeeded, but {kinds:?} was expected"),
        Err(error) => assert!(kinds.contains(&error.kind()), "{what}: {kinds:?} was expected, not {error:?}"),
    }
}

/// Returns a name that nothing else has.
pub(crate) fn fresh_name(prefix: &str) -> Name {
    let random = Name::random_hex();
    format!("{prefix}-{}", &random.as_str()[..12]).parse().expect("a short prefix and hex digits are a name")
}
