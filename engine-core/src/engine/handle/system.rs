//! An engine as a whole.

use crate::engine::{Diagnosis, DiskUsage, Engine, EngineInfo};
use crate::error::Result;
use crate::events::{Cursor, EventQuery, EventStream};

impl Engine {
    /// Reads events: those kept since [`EventQuery::since`], then those to come, of every program that has this root
    /// open. What happens after this returned is not missed.
    ///
    /// ```no_run
    /// # async fn example(engine: engine_core::Engine) -> engine_core::Result<()> {
    /// use engine_core::events::EventQuery;
    /// use futures_util::StreamExt;
    ///
    /// let mut events = engine.events(EventQuery::default()).await?;
    /// while let Some(event) = events.next().await {
    ///     let event = event?;
    ///     println!("{} {} {}", event.object, event.action, event.id);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// What the file system says; see [`Journal::read`](crate::events::Journal::read) for those of the stream.
    pub async fn events(&self, query: EventQuery) -> Result<EventStream> {
        self.backend.events(query).await
    }

    /// Returns the place of the last event. Ask for it, then list, then follow the events after it: whatever the list does not
    /// show yet, an event tells. Whoever keeps the cursor of the last event seen goes on from there, also after having been
    /// away, or is told that events in between are no longer kept and lists again.
    ///
    /// ```no_run
    /// # async fn example(engine: engine_core::Engine) -> engine_core::Result<()> {
    /// use engine_core::events::EventQuery;
    ///
    /// let cursor = engine.event_cursor().await?;
    /// let known = engine.containers().await?;
    /// let changes = engine.events(EventQuery::default().with_after(cursor)).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// What the file system says.
    pub async fn event_cursor(&self) -> Result<Cursor> {
        self.backend.event_cursor().await
    }

    /// Says what the engine is made of.
    ///
    /// # Errors
    /// What the way to an engine elsewhere says.
    pub async fn info(&self) -> Result<EngineInfo> {
        self.backend.info().await
    }

    /// Says what works on the engine's host and in the engine, what does not, and why.
    ///
    /// # Errors
    /// As [`info`](Self::info).
    pub async fn diagnose(&self) -> Result<Diagnosis> {
        self.backend.diagnose().await
    }

    /// Measures what containers and volumes take on disk. It reads every volume's and container's directories.
    ///
    /// # Errors
    /// What the parts say. What goes meanwhile is left out.
    pub async fn disk_usage(&self) -> Result<DiskUsage> {
        self.backend.disk_usage().await
    }
}
