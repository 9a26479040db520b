//! Output on its way into the caller's descriptors.
//!
//! In the engine's own process, a process writes to a descriptor itself, so that all is written when its end is known. Here its output
//! comes by another connection than the news of its end, which therefore waits for it.

use std::collections::HashMap;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

/// How long the news of an end waits for output of which nothing is seen. What the process left behind may keep its output open for ever;
/// what came and is not written yet is waited for, however slow its reader is.
const PATIENCE: Duration = Duration::from_secs(2);

/// The output of all processes, by the id of a container or an exec.
#[derive(Clone, Debug)]
pub(super) struct Flows {
    all: Arc<Mutex<HashMap<String, Vec<Arc<State>>>>>,
    patience: Duration,
}

/// One that goes on, until this is dropped.
#[derive(Debug)]
pub(super) struct Flow {
    flows: Flows,
    id: String,
    state: Arc<State>,
}

/// A piece of a flow that is not written yet, until this is dropped.
#[derive(Debug)]
pub(super) struct Queued(Arc<State>);

#[derive(Debug)]
struct State {
    over: CancellationToken,
    traffic: Mutex<Traffic>,
}

#[derive(Debug)]
struct Traffic {
    /// Pieces that are not written yet.
    queued: usize,
    /// When a piece came or was written.
    last: Instant,
}

impl Default for Flows {
    fn default() -> Self {
        Self { all: Arc::default(), patience: PATIENCE }
    }
}

impl Flows {
    pub(super) fn begin(&self, id: &str) -> Flow {
        let traffic = Mutex::new(Traffic { queued: 0, last: Instant::now() });
        let state = Arc::new(State { over: CancellationToken::new(), traffic });
        self.all().entry(id.to_owned()).or_default().push(Arc::clone(&state));
        Flow { flows: self.clone(), id: id.to_owned(), state }
    }

    /// Returns once the output of `id` has come to its end, or nothing of it was seen for a while.
    pub(super) async fn settle(&self, id: &str) {
        let asked = Instant::now();
        let all = self.all().get(id).cloned().unwrap_or_default();
        let settled = async {
            for one in &all {
                one.over.cancelled().await;
            }
        };
        let mut settled = pin!(settled);
        loop {
            let ongoing = all.iter().filter(|one| !one.over.is_cancelled());
            let Some(last) = ongoing.map(|one| one.last_traffic()).max() else { return };
            let until = last.max(asked) + self.patience;
            // The end is told in any case.
            if until <= Instant::now() || timeout_at(until, &mut settled).await.is_ok() {
                return;
            }
        }
    }

    fn all(&self) -> MutexGuard<'_, HashMap<String, Vec<Arc<State>>>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Flow {
    /// Tells of a piece that is to be written.
    pub(super) fn queued(self: &Arc<Self>) -> Queued {
        let state = Arc::clone(&self.state);
        state.change(|queued| queued + 1);
        Queued(state)
    }
}

impl State {
    fn change(&self, change: impl FnOnce(usize) -> usize) {
        let mut traffic = self.traffic.lock().unwrap_or_else(PoisonError::into_inner);
        *traffic = Traffic { queued: change(traffic.queued), last: Instant::now() };
    }

    /// Returns when a piece came or was written; now, while one waits.
    fn last_traffic(&self) -> Instant {
        let traffic = self.traffic.lock().unwrap_or_else(PoisonError::into_inner);
        if traffic.queued > 0 { Instant::now() } else { traffic.last }
    }
}

impl Drop for Queued {
    fn drop(&mut self) {
        self.0.change(|queued| queued - 1);
    }
}

impl Drop for Flow {
    fn drop(&mut self) {
        self.state.over.cancel();
        let mut all = self.flows.all();
        if let Some(flows) = all.get_mut(&self.id) {
            flows.retain(|one| !one.over.is_cancelled());
            if flows.is_empty() {
                all.remove(&self.id);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use bytes::Bytes;
    use tokio::sync::mpsc;
    use tokio::time::timeout;

    use super::*;
    use crate::client::descriptor;

    #[tokio::test]
    async fn the_end_waits_for_what_came_and_for_nothing_else() {
        let flows = Flows { patience: Duration::from_millis(20), ..Flows::default() };
        let flow = Arc::new(flows.begin("box"));
        let long = flows.patience * 15;
        // A process left something behind that keeps its output open, and says nothing.
        timeout(Duration::from_secs(20), flows.settle("box")).await.expect("it is not waited for");
        // Its output is written to a pipe whose reader does something else for longer than that.
        let (mut read, write) = std::io::pipe().unwrap();
        let (sender, receiver) = mpsc::channel(4);
        let written = descriptor::write(write.into(), receiver).unwrap();
        for _ in 0..4 {
            sender.send((Ok(Bytes::from(vec![b'x'; 50_000])), Some(flow.queued()))).await.unwrap();
        }
        assert!(timeout(long, flows.settle("box")).await.is_err(), "there is output on its way");
        drop(sender);
        let reading = tokio::task::spawn_blocking(move || {
            let mut all = Vec::new();
            read.read_to_end(&mut all).map(|_| all.len())
        });
        timeout(Duration::from_secs(20), flows.settle("box")).await.expect("all is written");
        written.await.unwrap_err();
        assert_eq!(reading.await.unwrap().unwrap(), 200_000);
        drop(flow);
        assert!(flows.all().is_empty());
    }
}
