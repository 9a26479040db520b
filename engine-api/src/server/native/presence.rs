//! Whether the client of a request is there still.
//!
//! hyper does not read while a request is answered, so it does not see a client go. The kernel tells (`EPOLLRDHUP`, epoll_ctl(2)): our clients
//! close no half of a connection, so one that has closed its own is gone.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// The socket of a connection, which each of its requests has among its extensions.
#[derive(Clone, Debug)]
pub(in crate::server) struct ClientSocket(pub(in crate::server) Arc<OwnedFd>);

/// The client of one request.
#[derive(Debug)]
pub(super) struct Client(Option<AsyncFd<OwnedFd>>);

impl Client {
    /// Of a connection that nothing is known of, the client stays for ever.
    pub(super) fn of(socket: Option<&ClientSocket>) -> Self {
        let watch = |socket: &ClientSocket| -> io::Result<AsyncFd<OwnedFd>> {
            Ok(AsyncFd::register_with_interest(socket.0.try_clone()?, Interest::READABLE)?)
        };
        Self(socket.and_then(|socket| match watch(socket) {
            Ok(watched) => Some(watched),
            Err(error) => {
                tracing::debug!(%error, "client not watched");
                None
            }
        }))
    }

    /// Returns once the client is gone.
    pub(super) async fn gone(&self) {
        let Some(socket) = &self.0 else { return std::future::pending().await };
        loop {
            match socket.readable().await {
                Ok(guard) if guard.ready().is_read_closed() || guard.ready().is_error() => return,
                // It has sent something, which is not for us to read. The end is told anew.
                Ok(mut guard) => guard.clear_ready(),
                Err(_) => return std::future::pending().await,
            }
        }
    }
}
