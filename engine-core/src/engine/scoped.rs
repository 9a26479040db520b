//! Containers that end with their handle.

use std::ops::Deref;

use tokio::runtime::Handle;

use crate::error::Result;

use super::{Container, RemoveOptions};

/// A container that ends with this value, and with this program however it ends.
///
/// It has all methods of [`Container`]. When it is dropped, the container is killed and removed in the
/// background; [`close`](Self::close) does so and waits. After SIGKILL of the program the container's shim
/// kills it, and the next [`Engine`](super::Engine) that opens the same root removes what is left.
#[derive(Debug)]
#[must_use = "a scoped container ends when it is dropped"]
pub struct ScopedContainer {
    container: Option<Container>,
    handle: Handle,
}

impl ScopedContainer {
    pub(super) fn new(container: Container) -> Self {
        Self { container: Some(container), handle: Handle::current() }
    }

    /// Kills and removes the container, and waits until it is gone.
    ///
    /// # Errors
    /// What the removal says.
    pub async fn close(mut self) -> Result<()> {
        match self.container.take() {
            Some(container) => container.remove(RemoveOptions { force: true, volumes: true }).await,
            None => Ok(()),
        }
    }
}

impl Deref for ScopedContainer {
    type Target = Container;

    fn deref(&self) -> &Container {
        self.container.as_ref().expect("only close() and drop() take the container, and both end this value")
    }
}

impl Drop for ScopedContainer {
    fn drop(&mut self) {
        let Some(container) = self.container.take() else { return };
        // If the runtime is shutting down, the task is dropped; then the shim sees this program, or this
        // engine, go, and the next open removes the record.
        drop(self.handle.spawn(async move {
            if let Err(error) = container.remove(RemoveOptions { force: true, volumes: true }).await {
                tracing::warn!(container = %container.id(), %error, "removing a scoped container failed");
            }
        }));
    }
}
