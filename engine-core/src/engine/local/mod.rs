//! The engine in this process behind the traits of its operations.

mod build;
mod containers;
mod files;
mod images;
mod networks;
mod processes;
mod secrets;
mod system;
mod transfers;
mod volumes;

use super::LocalEngine;
use super::container::LocalContainer;
use super::operations::ContainerEngine;
use crate::id::ContainerId;

impl ContainerEngine for LocalEngine {
    fn as_local(&self) -> Option<&LocalEngine> {
        Some(self)
    }
}

impl LocalEngine {
    fn handle(&self, id: &ContainerId) -> LocalContainer {
        LocalContainer::new(self.clone(), id.clone())
    }
}
