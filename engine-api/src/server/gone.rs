//! Answers that follow something or tell of a long operation, and end with their client.
//!
//! hyper does not look for a client's end while it answers, since a half of a connection may be closed before: a follower that has
//! nothing to write would stay for good, and so would an operation that is silent. The kernel tells (poll(2)): a unix socket whose other side is closed has hung up. Of
//! TCP, it tells of each half alone; who closes the half that asks is taken for gone there, as by Docker's daemon.

use std::convert::Infallible;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::FromRequestParts;
use hyper::http::request::Parts;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::api::Api;
use super::native::ClientSocket;

/// How often it is looked whether a silent client is there still.
const LOOK: Duration = Duration::from_secs(2);

/// The client of a request whose answer follows something.
#[derive(Debug)]
pub(super) struct Follower(Option<ClientSocket>);

impl<S: Sync> FromRequestParts<S> for Follower {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Self(parts.extensions.get().cloned()))
    }
}

impl Follower {
    /// Returns when there is nobody left to follow for: the client is gone, or the server is to stop.
    pub(super) async fn end(self, api: Arc<Api>) {
        tokio::select! {
            () = self.gone() => {}
            () = api.stopped() => {}
        }
    }

    /// Returns when the client is gone.
    pub(super) async fn gone(self) {
        match &self.0 {
            Some(ClientSocket::Unix(socket)) => hung_up(socket, PollFlags::HUP).await,
            Some(ClientSocket::Tcp(socket)) => hung_up(socket, PollFlags::HUP | PollFlags::RDHUP).await,
            None => std::future::pending().await,
        }
    }
}

/// Returns once one of `flags` is true of a socket, or it has failed.
pub(super) async fn hung_up(socket: &OwnedFd, flags: PollFlags) {
    loop {
        tokio::time::sleep(LOOK).await;
        let mut sockets = [PollFd::new(socket, flags)];
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        if poll(&mut sockets, Some(&now)).is_ok() && sockets[0].revents().intersects(flags | PollFlags::ERR) {
            return;
        }
    }
}
