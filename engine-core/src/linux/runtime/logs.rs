//! Reading a container's log.
use super::Inner;
use crate::error::{Error, ErrorKind, Result};
use crate::id::ContainerId;
use crate::logs::{LogQuery, LogStream};
use crate::resources::Resources;
use crate::runtime::Stats;

/// Name of the log in a container's directory.
pub(super) const FILE: &str = "container-json.log";

impl Inner {
    pub(super) async fn logs(&self, _id: &ContainerId, _query: &LogQuery) -> Result<LogStream> {
        Err(Error::new(ErrorKind::Unsupported, "read log"))
    }
    pub(super) async fn freeze(&self, _id: &ContainerId, _frozen: bool) -> Result<()> {
        Err(Error::new(ErrorKind::Unsupported, "pause"))
    }
    pub(super) async fn update(&self, _id: &ContainerId, _resources: &Resources) -> Result<()> {
        Err(Error::new(ErrorKind::Unsupported, "update"))
    }
    pub(super) async fn stats(&self, _id: &ContainerId) -> Result<Stats> {
        Err(Error::new(ErrorKind::Unsupported, "stats"))
    }
}
