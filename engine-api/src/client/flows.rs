//! Output on its way into the caller's descriptors.
//!
//! In the engine's own process, a process writes to a descriptor itself, so that all is written when its end is known. Here its output
//! comes by another connection than the news of its end, which therefore waits for it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

/// How long the news of an end waits for output. What the process left behind may keep its output open for ever.
const PATIENCE: Duration = Duration::from_secs(2);

/// The output of all processes, by the id of a container or an exec.
#[derive(Clone, Debug, Default)]
pub(super) struct Flows(Arc<Mutex<HashMap<String, Vec<CancellationToken>>>>);

/// One that goes on, until this is dropped.
#[derive(Debug)]
pub(super) struct Flow {
    flows: Flows,
    id: String,
    over: CancellationToken,
}

impl Flows {
    pub(super) fn begin(&self, id: &str) -> Flow {
        let over = CancellationToken::new();
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.entry(id.to_owned()).or_default().push(over.clone());
        Flow { flows: self.clone(), id: id.to_owned(), over }
    }

    /// Returns once the output of `id` has come to its end.
    pub(super) async fn settle(&self, id: &str) {
        let all = {
            let flows = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            flows.get(id).cloned().unwrap_or_default()
        };
        let settled = async {
            for one in all {
                one.cancelled().await;
            }
        };
        // The end is told in any case.
        let _ = tokio::time::timeout(PATIENCE, settled).await;
    }
}

impl Drop for Flow {
    fn drop(&mut self) {
        self.over.cancel();
        let mut all = self.flows.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(flows) = all.get_mut(&self.id) {
            flows.retain(|one| !one.is_cancelled());
            if flows.is_empty() {
                all.remove(&self.id);
            }
        }
    }
}
