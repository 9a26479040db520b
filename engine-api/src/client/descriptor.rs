//! The caller's descriptors as streams.
//!
//! They may be of any kind, and of others as well, so that nothing about them may be changed: files, which are never waited for, and
//! terminals and pipes, which must not become non-blocking under those who share them. So a thread of its own does what may block.
//! Invariant: no byte of input is taken after the stream was dropped.

use std::io;
use std::os::fd::OwnedFd;
use std::thread;

use bytes::Bytes;
use engine_core::{Error, Result};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::pipe::{PipeFlags, pipe_with};
use tokio::io::AsyncRead;
use tokio::sync::{mpsc, oneshot};
use tokio_util::io::StreamReader;

const PIECE: usize = 32 << 10;

/// Reads `fd`, until its end.
pub(super) fn reader(fd: OwnedFd) -> Result<impl AsyncRead + Send + Unpin + use<>> {
    // The thread wakes when its other end is closed, which the stream holds.
    let (dropped, alive) = pipe_with(PipeFlags::CLOEXEC).map_err(|error| failed(error.into()))?;
    let (sender, receiver) = mpsc::channel::<io::Result<Bytes>>(1);
    spawn("engine-stdin", move || {
        while wait(&fd, &dropped) {
            let mut piece = vec![0; PIECE];
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

/// Writes the pieces to `fd`, until there are no more. What is returned is ready once they are written.
pub(super) fn write(
    fd: OwnedFd,
    mut pieces: mpsc::Receiver<io::Result<Bytes>>,
) -> Result<oneshot::Receiver<()>> {
    let (over, written) = oneshot::channel();
    spawn("engine-stdout", move || {
        // Dropped at the end, whatever that is.
        let _over: oneshot::Sender<()> = over;
        while let Some(Ok(piece)) = pieces.blocking_recv() {
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
