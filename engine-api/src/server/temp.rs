//! A server in this process, for tests and tools that speak Docker's API.

use std::path::{Path, PathBuf};

use engine_core::{Error, Result};
use tempfile::TempDir;
use tokio::task::JoinHandle;

use super::api::ApiServer;
use super::listen::Listener;

/// A server at a private socket, which goes with this value. Containers stay.
#[derive(Debug)]
pub struct TempServer {
    task: JoinHandle<()>,
    socket: PathBuf,
    // Goes last.
    _dir: TempDir,
}

impl TempServer {
    pub(super) fn start(server: ApiServer) -> Result<Self> {
        let dir = tempfile::Builder::new()
            .prefix("engine-api-")
            .tempdir()
            .map_err(|error| Error::from_io("make socket directory", error))?;
        let socket = dir.path().join("docker.sock");
        let listener = Listener::unix(&socket, 0o600, None)?;
        let task = tokio::spawn(async move {
            // It returns nothing that is not logged.
            let _ = server.serve(listener).await;
        });
        Ok(Self { task, socket, _dir: dir })
    }

    /// Returns the path of the socket.
    #[must_use]
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Returns what clients take as `DOCKER_HOST`.
    #[must_use]
    pub fn docker_host(&self) -> String {
        format!("unix://{}", self.socket.display())
    }
}

impl Drop for TempServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}
