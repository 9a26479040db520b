//! Steps that several stages or platforms have at once: the first one makes it, and the others wait for that.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::digest::Digest;

use super::cache::Layer;

/// What a step made in this build, once it has.
type Flight = Arc<tokio::sync::Mutex<Option<Option<Layer>>>>;

/// The steps of a build, by key. A step waits for parts of its own alone, so nobody waits for itself.
#[derive(Debug, Default)]
pub(super) struct Flights(Mutex<HashMap<Digest, Flight>>);

impl Flights {
    /// The step `key`.
    pub(super) fn of(&self, key: &Digest) -> Flight {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(all.entry(key.clone()).or_default())
    }
}
