//! `RUN --mount=type=ssh`: an agent's socket, as the command finds it.
//!
//! A socket of our own, with the owner and mode that are asked for, passes on what comes to the agent's. So the command sees nothing else of
//! the host, and who may speak to the agent is not changed by it. It goes with the step.

use std::os::fd::AsRawFd as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::{fs, io};

use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::task::AbortHandle;

use crate::error::{Error, Result};

/// Connections that one socket serves at once.
const CONNECTIONS: usize = 32;

/// How long nobody is let in after somebody could not be.
const PAUSE: std::time::Duration = std::time::Duration::from_millis(100);

/// What is to be mounted of an agent.
#[derive(Clone, Debug)]
pub(super) struct Agent {
    /// The agent's own socket.
    pub(super) socket: PathBuf,
    /// Where the command finds it.
    pub(super) target: PathBuf,
    pub(super) mode: u32,
    pub(super) owner: (u32, u32),
}

/// A socket that passes on what comes, until it is dropped.
#[derive(Debug)]
pub(super) struct AgentSocket {
    /// Where it is on this host.
    pub(super) path: PathBuf,
    serving: AbortHandle,
}

impl AgentSocket {
    /// Opens a socket called `name` in `dir`.
    pub(super) fn open(agent: &Agent, dir: &Path, name: &str) -> Result<Self> {
        let path = dir.join(name);
        let fail = |e| Error::from_io("open socket for ssh agent", e).with("path", path.display());
        let listener = listen(dir, name).map_err(fail)?;
        std::os::unix::fs::chown(&path, Some(agent.owner.0), Some(agent.owner.1)).map_err(fail)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(agent.mode & 0o777)).map_err(fail)?;
        let socket = agent.socket.clone();
        let serving = tokio::spawn(serve(listener, socket)).abort_handle();
        Ok(Self { path, serving })
    }
}

impl Drop for AgentSocket {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// Binds by descriptor: the path may be longer than an address (unix(7)).
fn listen(dir: &Path, name: &str) -> io::Result<UnixListener> {
    let dir = fs::File::open(dir)?;
    UnixListener::bind(format!("/proc/self/fd/{}/{name}", dir.as_raw_fd()))
}

async fn serve(listener: UnixListener, socket: PathBuf) {
    let free = Arc::new(Semaphore::new(CONNECTIONS));
    // They end with this.
    let mut connections = tokio::task::JoinSet::new();
    loop {
        let Ok(permit) = Arc::clone(&free).acquire_owned().await else { return };
        let mut client = match listener.accept().await {
            Ok((client, _)) => client,
            Err(error) => {
                // One client's, or too many files at the moment.
                tracing::warn!(%error, "a client of an ssh agent was not let in");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        while connections.try_join_next().is_some() {}
        let socket = socket.clone();
        connections.spawn(async move {
            let _permit = permit;
            match UnixStream::connect(&socket).await {
                // How the connection ends is their affair.
                Ok(mut agent) => drop(tokio::io::copy_bidirectional(&mut client, &mut agent).await),
                Err(error) => tracing::warn!(socket = %socket.display(), %error, "there is no ssh agent"),
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    #[tokio::test]
    async fn what_comes_goes_to_the_agent_and_ends_with_the_step() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("real");
        let real = UnixListener::bind(&socket).unwrap();
        let agent = Agent { socket, target: "/x".into(), mode: 0o620, owner: (7, 8) };
        let deep = dir.path().join("long/".repeat(40));
        fs::create_dir_all(&deep).unwrap();
        let opened = AgentSocket::open(&agent, &deep, "agent.0").unwrap();
        use std::os::unix::fs::MetadataExt as _;
        let stat = fs::metadata(&opened.path).unwrap();
        assert_eq!((stat.mode() & 0o777, stat.uid(), stat.gid()), (0o620, 7, 8));
        let held = fs::File::open(&deep).unwrap();
        let path = format!("/proc/self/fd/{}/agent.0", held.as_raw_fd());
        let mut client = UnixStream::connect(&path).await.unwrap();
        client.write_all(b"asked").await.unwrap();
        let (mut asked, _) = real.accept().await.unwrap();
        let mut buffer = [0; 5];
        asked.read_exact(&mut buffer).await.unwrap();
        assert_eq!(&buffer, b"asked");
        asked.write_all(b"told").await.unwrap();
        client.read_exact(&mut buffer[..4]).await.unwrap();
        assert_eq!(&buffer[..4], b"told");
        drop(opened);
        // The connection ends with it, too.
        assert_eq!(client.read(&mut buffer).await.unwrap_or(0), 0);
    }
}
