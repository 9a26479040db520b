//! Why containers did not start, as `State.Error` tells it.
//!
//! They are this server's: another one, and the same after a restart, does not know them. What the engine keeps of such a start
//! is its exit code. Invariant: there are no more than [`MOST`]; the oldest makes room.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use engine_core::ContainerId;

/// Most that are remembered.
const MOST: usize = 1000;

/// What went wrong when containers were started last.
#[derive(Debug, Default)]
pub(super) struct Failures(Mutex<VecDeque<(ContainerId, String)>>);

impl Failures {
    fn table(&self) -> MutexGuard<'_, VecDeque<(ContainerId, String)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps why a container did not start.
    pub(super) fn set(&self, id: &ContainerId, why: &str) {
        self.clear(id);
        let mut table = self.table();
        if table.len() >= MOST {
            table.pop_front();
        }
        table.push_back((id.clone(), why.to_owned()));
    }

    /// Forgets it: the container started, or was removed.
    pub(super) fn clear(&self, id: &ContainerId) {
        self.table().retain(|(known, _)| known != id);
    }

    /// Returns why a container did not start the last time; nothing if it did.
    pub(super) fn of(&self, id: &ContainerId) -> Option<String> {
        self.table().iter().find(|(known, _)| known == id).map(|(_, why)| why.clone())
    }
}
