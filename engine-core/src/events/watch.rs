//! Being told that a journal's files changed.

use std::path::Path;

use crate::error::{Error, Result};

/// Announces changes of a directory.
#[cfg(feature = "linux")]
#[derive(Debug)]
pub(super) struct Watch(tokio::io::unix::AsyncFd<std::os::fd::OwnedFd>);

#[cfg(feature = "linux")]
impl Watch {
    pub(super) fn new(dir: &Path) -> Result<Self> {
        use rustix::fs::inotify::{CreateFlags, WatchFlags, add_watch, init};
        let failed =
            |error: std::io::Error| Error::from_io("follow events", error).with("path", dir.display());
        let fd = init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK).map_err(|error| failed(error.into()))?;
        add_watch(&fd, dir, WatchFlags::MODIFY | WatchFlags::CREATE | WatchFlags::DELETE_SELF)
            .map_err(|error| failed(error.into()))?;
        #[allow(
            deprecated,
            reason = "an owned descriptor stays open as long as its AsyncFd, and `register` is unsafe"
        )]
        tokio::io::unix::AsyncFd::new(fd).map(Self).map_err(failed)
    }

    /// Waits until something changed, and takes all that is announced.
    pub(super) async fn changed(&self) {
        let mut events = [0; 4096];
        if let Ok(mut ready) = self.0.readable().await {
            while let Ok(Ok(count)) = ready.try_io(|fd| Ok(rustix::io::read(fd.get_ref(), &mut events)?)) {
                if count == 0 {
                    break;
                }
            }
        }
    }
}

/// Without the feature `linux` there is no inotify: the files are looked at ten times a second.
#[cfg(not(feature = "linux"))]
#[derive(Debug)]
pub(super) struct Watch;

#[cfg(not(feature = "linux"))]
impl Watch {
    pub(super) fn new(dir: &Path) -> Result<Self> {
        std::fs::metadata(dir).map(|_| Self).map_err(|error| Error::from_io("follow events", error))
    }

    pub(super) async fn changed(&self) {
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
}
