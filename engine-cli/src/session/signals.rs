//! The signals a session hears.

use std::future::poll_fn;
use std::task::Poll;

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::failure::{Failure, Result};

/// SIGINT.
pub(crate) const SIGINT: i32 = 2;
/// SIGTERM.
pub(crate) const SIGTERM: i32 = 15;
/// SIGWINCH: the terminal changed its size.
pub(crate) const SIGWINCH: i32 = 28;

/// HUP, INT, QUIT, USR1, USR2, ALRM, TERM, CONT and WINCH (signal(7)). Stops are left to the user's shell.
const HEARD: [i32; 9] = [1, SIGINT, 3, 10, 12, 14, SIGTERM, 18, SIGWINCH];

/// Signals sent to this program, which they no longer end.
#[derive(Debug)]
pub(crate) struct Signals(Vec<(i32, Signal)>);

impl Signals {
    /// Begins to listen.
    pub(crate) fn new() -> Result<Self> {
        let listen = |number| {
            let stream = signal(SignalKind::from_raw(number))
                .map_err(|error| Failure::usage(format!("cannot listen for signal {number}: {error}")))?;
            Ok((number, stream))
        };
        HEARD.into_iter().map(listen).collect::<Result<_>>().map(Self)
    }

    /// Waits for the next one.
    pub(crate) async fn next(&mut self) -> i32 {
        poll_fn(|context| {
            for (number, stream) in &mut self.0 {
                if let Poll::Ready(Some(())) = stream.poll_recv(context) {
                    return Poll::Ready(*number);
                }
            }
            Poll::Pending
        })
        .await
    }
}
