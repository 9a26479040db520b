//! Containers that end with this program: each has a request that stays open for as long as it is to live.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use engine_core::id::ContainerId;

use super::frames::Frames;

/// The requests, by their containers.
#[derive(Clone, Default)]
pub(super) struct Scoped(Arc<Mutex<HashMap<ContainerId, Frames>>>);

impl Scoped {
    pub(super) fn keep(&self, id: ContainerId, request: Frames) {
        self.all().insert(id, request);
    }

    /// Ends the request of a container that is gone.
    pub(super) fn forget(&self, id: &ContainerId) {
        self.all().remove(id);
    }

    fn all(&self) -> MutexGuard<'_, HashMap<ContainerId, Frames>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Scoped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.all().keys()).finish()
    }
}
