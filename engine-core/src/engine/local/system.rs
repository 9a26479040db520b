//! The engine as a whole.

use async_trait::async_trait;

use crate::engine::{Diagnosis, DiskUsage, EngineInfo, LocalEngine, SystemOperations};
use crate::error::Result;
use crate::events::{Cursor, EventQuery, EventStream};
use crate::id::ContainerId;

#[async_trait]
impl SystemOperations for LocalEngine {
    async fn info(&self) -> Result<EngineInfo> {
        Ok(Self::info(self))
    }

    async fn events(&self, query: EventQuery) -> Result<EventStream> {
        Self::events(self, query).await
    }

    async fn event_cursor(&self) -> Result<Cursor> {
        Self::event_cursor(self).await
    }

    async fn diagnose(&self) -> Result<Diagnosis> {
        Ok(Self::diagnose(self).await)
    }

    async fn disk_usage(&self) -> Result<DiskUsage> {
        Self::disk_usage(self).await
    }

    async fn container_usage(&self, id: &ContainerId) -> Result<u64> {
        Self::container_usage(self, id).await
    }
}
