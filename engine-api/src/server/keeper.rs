//! What a server does without being asked: containers that are to be removed after their end are, as soon as they have ended; and what
//! it remembers of one that is gone, whoever removed it, goes.

use std::sync::Arc;
use std::time::Duration;

use engine_core::events::{Action, EventFilters, EventQuery, ObjectKind};
use engine_core::{ContainerId, Engine, ErrorKind};
use futures_util::StreamExt as _;

use super::api::Api;

/// How long it waits where it cannot follow what happens.
const PAUSE: Duration = Duration::from_secs(1);

/// Works until the future is dropped.
pub(super) async fn keep(api: Arc<Api>) {
    loop {
        if let Err(error) = follow(&api).await {
            tracing::warn!(error = %error.report(), "ended containers are not removed for now");
        }
        tokio::time::sleep(PAUSE).await;
    }
}

async fn follow(api: &Api) -> engine_core::Result<()> {
    let engine = &api.engine;
    let filters = EventFilters::default()
        .with_object(ObjectKind::Container)
        .with_action(Action::Die)
        .with_action(Action::Destroy);
    let mut ends = engine.events(EventQuery::default().with_filters(filters)).await?;
    // A look removes what ended before.
    engine.containers().await?;
    while let Some(event) = ends.next().await {
        let event = event?;
        let id = event.id;
        if event.action == Action::Destroy {
            if let Ok(id) = id.parse() {
                api.forget(&id);
            }
            continue;
        }
        let engine = engine.clone();
        // One that takes long holds up no other.
        tokio::spawn(async move {
            if let Err(error) = remove_ended(&engine, &id).await {
                tracing::warn!(container = id, error = %error.report(), "ended container not removed");
            }
        });
    }
    Ok(())
}

impl Api {
    /// Forgets a container that is gone.
    pub(super) fn forget(&self, id: &ContainerId) {
        self.pending.forget(id);
        self.failures.clear(id);
    }
}

/// Removes a container whose run has ended, if it is one that goes then.
async fn remove_ended(engine: &Engine, id: &str) -> engine_core::Result<()> {
    let gone = |error: engine_core::Error| match error.kind() {
        ErrorKind::NotFound => Ok(()),
        _ => Err(error),
    };
    let container = match engine.container(id).await {
        Ok(container) => container,
        Err(error) => return gone(error),
    };
    match container.inspect().await {
        Ok(info) if info.spec.auto_remove && !info.scoped => {}
        Ok(_) => return Ok(()),
        Err(error) => return gone(error),
    }
    // The end is told before it has come to its end; this waits for that, and removes.
    container.wait().await.map(drop).or_else(gone)
}
