//! Standard streams between callers and shims: pipes, the caller's own descriptors, terminals.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use rustix::pipe::PipeFlags;
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::unix::pipe::{Receiver, Sender};

use crate::io::{AttachOptions, Stdio, Streams};
use crate::linux::shim::wire::flag;

/// Descriptors for the shim, with the flags that tell what they are.
#[derive(Debug, Default)]
pub(super) struct Ends {
    pub(super) flags: u32,
    fds: Vec<OwnedFd>,
}

impl Ends {
    pub(super) fn borrow(&self) -> Vec<BorrowedFd<'_>> {
        self.fds.iter().map(AsFd::as_fd).collect()
    }

    fn push(&mut self, flag: u32, fd: OwnedFd) {
        self.flags |= flag;
        self.fds.push(fd);
    }
}

/// Makes the shim's ends and the caller's.
pub(super) fn connect(options: AttachOptions) -> io::Result<(Ends, Streams)> {
    let (mut ends, mut streams) = (Ends::default(), Streams::default());
    match options.stdin {
        Stdio::Null => {}
        Stdio::Fd(fd) => ends.push(flag::STDIN, fd),
        Stdio::Piped => {
            let (read, write) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
            ends.push(flag::STDIN, read);
            streams.stdin = Some(Box::pin(Sender::from_owned_fd(write)?));
        }
    }
    for (wanted, bit) in [(options.stdout, flag::STDOUT), (options.stderr, flag::STDERR)] {
        let reader = match wanted {
            Stdio::Null => continue,
            Stdio::Fd(fd) => {
                ends.push(bit, fd);
                continue;
            }
            Stdio::Piped => {
                let (read, write) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
                ends.push(bit, write);
                Receiver::from_owned_fd(read)?
            }
        };
        if bit == flag::STDOUT {
            streams.stdout = Some(Box::pin(reader));
        } else {
            streams.stderr = Some(Box::pin(reader));
        }
    }
    if options.blocking {
        ends.flags |= flag::BLOCKING;
    }
    Ok((ends, streams))
}

/// The master of a terminal, shared by its reader, its writer and whoever resizes it.
#[derive(Clone, Debug)]
pub(super) struct Terminal {
    master: Arc<AsyncFd<OwnedFd>>,
}

impl Terminal {
    #[allow(
        deprecated,
        reason = "an owned descriptor stays open as long as its AsyncFd, and `register` is unsafe"
    )]
    pub(super) fn new(master: OwnedFd) -> io::Result<Self> {
        rustix::io::ioctl_fionbio(&master, true)?;
        Ok(Self { master: Arc::new(AsyncFd::new(master)?) })
    }

    pub(super) fn resize(&self, rows: u16, columns: u16) -> io::Result<()> {
        let size = rustix::termios::Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        Ok(rustix::termios::tcsetwinsize(self.master.get_ref(), size)?)
    }

    /// Connects the caller's streams to the terminal.
    pub(super) fn connect(&self, options: AttachOptions) -> Streams {
        let mut streams = Streams::default();
        match options.stdin {
            Stdio::Null => {}
            Stdio::Piped => streams.stdin = Some(Box::pin(self.clone())),
            Stdio::Fd(fd) => copy(tokio::fs::File::from_std(fd.into()), self.clone()),
        }
        match options.stdout {
            Stdio::Null => {}
            Stdio::Piped => streams.stdout = Some(Box::pin(self.clone())),
            Stdio::Fd(fd) => copy(self.clone(), tokio::fs::File::from_std(fd.into())),
        }
        streams
    }
}

/// Copies until either side ends.
fn copy(mut from: impl AsyncRead + Send + Unpin + 'static, mut to: impl AsyncWrite + Send + Unpin + 'static) {
    tokio::spawn(async move {
        let _ = tokio::io::copy(&mut from, &mut to).await;
        let _ = tokio::io::AsyncWriteExt::flush(&mut to).await;
    });
}

impl AsRawFd for Terminal {
    fn as_raw_fd(&self) -> RawFd {
        self.master.get_ref().as_raw_fd()
    }
}

impl AsyncRead for Terminal {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            let mut guard = ready!(self.master.poll_read_ready(context))?;
            let read =
                guard.try_io(|master| Ok(rustix::io::read(master.get_ref(), buffer.initialize_unfilled())?));
            match read {
                Ok(Ok(count)) => {
                    buffer.advance(count);
                    return Poll::Ready(Ok(()));
                }
                // The other side is closed: for a terminal, that is the end (pty(7)).
                Ok(Err(error)) if error.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error()) => {
                    return Poll::Ready(Ok(()));
                }
                Ok(Err(error)) => return Poll::Ready(Err(error)),
                Err(_would_block) => {}
            }
        }
    }
}

impl AsyncWrite for Terminal {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        loop {
            let mut guard = ready!(self.master.poll_write_ready(context))?;
            if let Ok(written) = guard.try_io(|master| Ok(rustix::io::write(master.get_ref(), bytes)?)) {
                return Poll::Ready(written);
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // A terminal has no end of input of its own: the other side would hang up.
        Poll::Ready(Ok(()))
    }
}
