//! The engine as a whole.

use std::fmt;

use async_trait::async_trait;

use crate::engine::{Diagnosis, DiskUsage, EngineInfo};
use crate::error::Result;
use crate::events::{Cursor, EventQuery, EventStream};
use crate::id::ContainerId;

/// The engine as a whole.
#[async_trait]
pub trait SystemOperations: fmt::Debug + Send + Sync {
    /// See [`Engine::info`](crate::engine::Engine::info).
    async fn info(&self) -> Result<EngineInfo>;
    /// See [`Engine::events`](crate::engine::Engine::events).
    async fn events(&self, query: EventQuery) -> Result<EventStream>;
    /// See [`Engine::event_cursor`](crate::engine::Engine::event_cursor).
    async fn event_cursor(&self) -> Result<Cursor>;
    /// See [`Engine::diagnose`](crate::engine::Engine::diagnose).
    async fn diagnose(&self) -> Result<Diagnosis>;
    /// See [`Engine::disk_usage`](crate::engine::Engine::disk_usage).
    async fn disk_usage(&self) -> Result<DiskUsage>;
    /// See [`Engine::container_usage`](crate::engine::Engine::container_usage).
    async fn container_usage(&self, id: &ContainerId) -> Result<u64>;
}
