//! Taking connections: as many at once as there are places, until it is time to stop.

use std::io;
use std::pin::Pin;
use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Duration, sleep};

/// How long to wait after a connection could not be accepted.
const PAUSE: Duration = Duration::from_millis(50);

/// Returns the next connection and its place, which is free again when it is dropped; `None` once `stop` is ready.
pub(super) async fn next<T, F: Future<Output = io::Result<T>>>(
    slots: &Arc<Semaphore>,
    mut stop: Pin<&mut impl Future<Output = ()>>,
    accept: impl Fn() -> F,
) -> Option<(OwnedSemaphorePermit, T)> {
    loop {
        let next = async {
            // Nobody closes it.
            let slot = Arc::clone(slots).acquire_owned().await.ok()?;
            Some((slot, accept().await))
        };
        let (slot, accepted) = tokio::select! {
            () = &mut stop => return None,
            next = next => next?,
        };
        match accepted {
            Ok(accepted) => return Some((slot, accepted)),
            Err(error) => {
                // Out of descriptors, or the client went before it was served: the others are not to suffer.
                tracing::warn!(%error, "connection not accepted");
                sleep(PAUSE).await;
            }
        }
    }
}
