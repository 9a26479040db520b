//! Starts of containers, one at a time for each: who asks while another start is under way waits for what that comes to, as with
//! Docker's daemon.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use engine_core::ContainerId;

type Turn = tokio::sync::Mutex<()>;

/// Whose turn it is, by container.
#[derive(Debug, Default)]
pub(super) struct Starts(Mutex<HashMap<ContainerId, Weak<Turn>>>);

impl Starts {
    /// Returns what is locked while a container is started.
    pub(super) fn turn(&self, id: &ContainerId) -> Arc<Turn> {
        let mut turns = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(turn) = turns.get(id).and_then(Weak::upgrade) {
            return turn;
        }
        turns.retain(|_, turn| turn.strong_count() > 0);
        let turn = Arc::default();
        turns.insert(id.clone(), Arc::downgrade(&turn));
        turn
    }
}
