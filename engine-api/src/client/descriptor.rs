//! The caller's descriptors as streams.
//!
//! They may be of any kind, and of others as well, so that nothing about them may be changed: files, which are never waited for, and
//! terminals and pipes, which must not become non-blocking under those who share them. So a thread of its own does what may block.
//! Invariant: no byte of input is taken once the stream was dropped, but for what a read takes that had begun by then: whether it was is
//! looked at right before each, and nothing can do both at once without making the descriptor non-blocking.

use std::io;
use std::os::fd::OwnedFd;
use std::thread;

use bytes::Bytes;
use engine_core::{Error, Result};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::pipe::{PipeFlags, pipe_with};
use tokio::io::AsyncRead;
use tokio::sync::{mpsc, oneshot};
use tokio_util::io::StreamReader;

use super::session::Piece;

const PIECE: usize = 32 << 10;

/// Reads `fd`, until its end.
pub(super) fn reader(fd: OwnedFd) -> Result<impl AsyncRead + Send + Unpin + use<>> {
    // The thread wakes when its other end is closed, which the stream holds.
    let (dropped, alive) = pipe_with(PipeFlags::CLOEXEC).map_err(|error| failed(error.into()))?;
    let (sender, receiver) = mpsc::channel::<io::Result<Bytes>>(1);
    spawn("engine-stdin", move || {
        loop {
            let mut piece = vec![0; PIECE];
            if !wait(&fd, &dropped) || is_closed(&dropped) {
                return;
            }
            let read = match rustix::io::read(&fd, &mut piece[..]) {
                Ok(0) => return,
                Ok(read) => read,
                Err(rustix::io::Errno::INTR | rustix::io::Errno::AGAIN) => continue,
                Err(error) => {
                    let _ = sender.blocking_send(Err(error.into()));
                    return;
                }
            };
            piece.truncate(read);
            if sender.blocking_send(Ok(piece.into())).is_err() {
                return;
            }
        }
    })?;
    let pieces = futures_util::stream::unfold((receiver, alive), |(mut receiver, alive)| async {
        receiver.recv().await.map(|piece| (piece, (receiver, alive)))
    });
    Ok(StreamReader::new(Box::pin(pieces)))
}

/// Waits until there is something to read, or its end. Returns false once nobody wants it.
fn wait(fd: &OwnedFd, dropped: &OwnedFd) -> bool {
    loop {
        let mut both = [PollFd::new(fd, PollFlags::IN), PollFd::new(dropped, PollFlags::empty())];
        match poll(&mut both, None) {
            Ok(_) if !both[1].revents().is_empty() => return false,
            Ok(_) if !both[0].revents().is_empty() => return true,
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            // Reading tells what is wrong.
            Err(_) => return true,
        }
    }
}

/// Whether the other end of a pipe that nobody writes to is closed.
fn is_closed(pipe: &OwnedFd) -> bool {
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    let mut one = [PollFd::new(pipe, PollFlags::empty())];
    poll(&mut one, Some(&now)).is_ok_and(|ready| ready > 0)
}

/// Writes the pieces to `fd`, until there are no more. What is returned is ready once they are written.
pub(super) fn write(fd: OwnedFd, mut pieces: mpsc::Receiver<Piece>) -> Result<oneshot::Receiver<()>> {
    let (over, written) = oneshot::channel();
    spawn("engine-stdout", move || {
        // Dropped at the end, whatever that is.
        let _over: oneshot::Sender<()> = over;
        // What is queued is no more once it is written.
        while let Some((Ok(piece), _queued)) = pieces.blocking_recv() {
            let mut left = &piece[..];
            while !left.is_empty() {
                match rustix::io::write(&fd, left) {
                    Ok(written) => left = &left[written..],
                    Err(rustix::io::Errno::INTR) => {}
                    Err(rustix::io::Errno::AGAIN) => {
                        let mut one = [PollFd::new(&fd, PollFlags::OUT)];
                        // What is wrong with it, writing tells.
                        let _ = poll(&mut one, None);
                    }
                    Err(_) => return,
                }
            }
        }
    })?;
    Ok(written)
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> Result<()> {
    thread::Builder::new().name(name.to_owned()).spawn(work).map(drop).map_err(failed)
}

fn failed(error: io::Error) -> Error {
    Error::from_io("connect streams", error)
}
