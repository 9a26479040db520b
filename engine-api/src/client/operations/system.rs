//! The engine as a whole.

use async_trait::async_trait;
use engine_core::Result;
use engine_core::engine::{Diagnosis, DiskUsage, EngineInfo, SystemOperations};
use engine_core::events::{Cursor, EventQuery, EventStream};
use engine_core::id::ContainerId;

use super::super::RemoteEngine;
use crate::wire;

#[async_trait]
impl SystemOperations for RemoteEngine {
    async fn info(&self) -> Result<EngineInfo> {
        self.call("info", ()).await
    }

    async fn events(&self, query: EventQuery) -> Result<EventStream> {
        self.stream("events", (query,), |item| wire::parsed(item)).await
    }

    async fn event_cursor(&self) -> Result<Cursor> {
        self.call("event_cursor", ()).await
    }

    async fn diagnose(&self) -> Result<Diagnosis> {
        self.call("diagnose", ()).await
    }

    async fn disk_usage(&self) -> Result<DiskUsage> {
        self.call("disk_usage", ()).await
    }

    async fn container_usage(&self, id: &ContainerId) -> Result<u64> {
        self.call("container_usage", (id,)).await
    }
}
