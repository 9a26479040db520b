//! Clients that attached to a container before its start: `docker run` does, to miss nothing.
//!
//! Who starts the container takes them along. Invariant: a client is in here only while its container does not run.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use engine_core::ContainerId;
use engine_core::io::Streams;
use tokio::sync::oneshot;

use super::pump::Wanted;

/// Those that wait, by container.
#[derive(Debug, Default)]
pub(super) struct Pending(Mutex<HashMap<ContainerId, Vec<Waiting>>>);

/// One that waits.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) wanted: Wanted,
    streams: oneshot::Sender<Streams>,
}

impl Waiting {
    /// Hands over what the client waits for. It may have gone.
    pub(super) fn ready(self, streams: Streams) {
        let _ = self.streams.send(streams);
    }
}

impl Pending {
    /// Waits for the container's next start. What the receiver gets an error from is a start that failed, or the container's end.
    pub(super) fn add(&self, id: &ContainerId, wanted: Wanted) -> oneshot::Receiver<Streams> {
        let (streams, receiver) = oneshot::channel();
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Those of any container: of one that is gone, nobody may ask again.
        all.retain(|_, waiting| {
            waiting.retain(|other| !other.streams.is_closed());
            !waiting.is_empty()
        });
        all.entry(id.clone()).or_default().push(Waiting { wanted, streams });
        receiver
    }

    /// Lets those wait on that were taken for a start which was not one.
    pub(super) fn put_back(&self, id: &ContainerId, waiting: Vec<Waiting>) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.entry(id.clone()).or_default().extend(waiting);
    }

    /// Ends the waiting for a container that is gone.
    pub(super) fn forget(&self, id: &ContainerId) {
        drop(self.take(id));
    }

    /// Takes those that wait for this container and are still there.
    pub(super) fn take(&self, id: &ContainerId) -> Vec<Waiting> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut waiting = all.remove(id).unwrap_or_default();
        waiting.retain(|one| !one.streams.is_closed());
        waiting
    }
}
