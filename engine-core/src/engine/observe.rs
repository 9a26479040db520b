//! Looking at a running container: what it uses, which processes it has.

use std::time::Duration;

use futures_core::stream::BoxStream;
use futures_util::stream;

use crate::error::{ErrorKind, Result};
use crate::events::Action;
use crate::stats::{ProcessInfo, Stats};

use super::container::LocalContainer;
use super::events::of_container;

impl LocalContainer {
    pub(super) async fn stats(&self) -> Result<Stats> {
        self.require_running("read statistics").await?;
        self.engine.inner.runtime.stats(&self.id).await
    }

    pub(super) async fn stats_stream(&self, interval: Duration) -> Result<BoxStream<'static, Result<Stats>>> {
        self.require_running("read statistics").await?;
        // Tokio refuses a period of zero.
        let mut ticks = tokio::time::interval(interval.max(Duration::from_millis(1)));
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let state = Some((self.clone(), ticks));
        Ok(Box::pin(stream::unfold(state, |state| async move {
            let (container, mut ticks) = state?;
            ticks.tick().await;
            match container.engine.inner.runtime.stats(&container.id).await {
                Ok(stats) => stats.read_at.is_some().then_some((Ok(stats), Some((container, ticks)))),
                Err(error) if error.kind() == ErrorKind::NotFound => None,
                Err(error) => Some((Err(error), None)),
            }
        })))
    }

    pub(super) async fn processes(&self) -> Result<Vec<ProcessInfo>> {
        self.require_running("list processes").await?;
        let processes = self.engine.inner.runtime.processes(&self.id).await?;
        self.engine.emit(of_container(Action::Top, &self.record().await?)).await;
        Ok(processes)
    }
}
