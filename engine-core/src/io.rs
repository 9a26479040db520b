//! The standard streams of containers and of processes started in them.

use std::fmt;
use std::os::fd::OwnedFd;
use std::pin::Pin;

use bytes::Bytes;
use futures_core::Stream;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::error::Result;

/// Bytes that arrive in pieces, each checked by whoever hands them out.
pub type ByteStream = Pin<Box<dyn Stream<Item = Result<Bytes>> + Send>>;
/// A readable stream of a process.
pub type Reader = Pin<Box<dyn AsyncRead + Send>>;
/// A writable stream of a process.
pub type Writer = Pin<Box<dyn AsyncWrite + Send>>;

/// What one standard stream of an attached process is connected to.
#[derive(Debug, Default)]
#[non_exhaustive]
pub enum Stdio {
    /// Nothing: reads see the end, writes are dropped.
    #[default]
    Null,
    /// A pipe whose other end the caller gets in [`Streams`].
    Piped,
    /// The caller's own descriptor, used by the process without a copy in between.
    Fd(OwnedFd),
}

/// The size of a terminal.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
pub struct TerminalSize {
    /// Characters in a line.
    pub columns: u16,
    /// Lines.
    pub rows: u16,
}

/// How to attach to a process.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct AttachOptions {
    /// The caller's side of standard input.
    pub stdin: Stdio,
    /// The caller's side of standard output; with a terminal it carries everything.
    pub stdout: Stdio,
    /// The caller's side of standard error; unused with a terminal.
    pub stderr: Stdio,
    /// Whether a reader that does not keep up makes the process wait (a foreground `run`) instead of being
    /// cut off. It never makes other readers wait for data that is there.
    pub blocking: bool,
}

impl AttachOptions {
    /// Returns options with pipes for stdout and stderr, and for stdin if `stdin`.
    #[must_use]
    pub fn piped(stdin: bool) -> Self {
        Self {
            stdin: if stdin { Stdio::Piped } else { Stdio::Null },
            stdout: Stdio::Piped,
            stderr: Stdio::Piped,
            blocking: true,
        }
    }

    /// Returns the same options once more, with duplicates of descriptors.
    pub(crate) fn try_clone(&self) -> std::io::Result<Self> {
        let side = |side: &Stdio| -> std::io::Result<Stdio> {
            Ok(match side {
                Stdio::Null => Stdio::Null,
                Stdio::Piped => Stdio::Piped,
                Stdio::Fd(fd) => Stdio::Fd(fd.try_clone()?),
            })
        };
        let (stdin, stdout, stderr) = (side(&self.stdin)?, side(&self.stdout)?, side(&self.stderr)?);
        Ok(Self { stdin, stdout, stderr, blocking: self.blocking })
    }
}

/// The caller's ends of the pipes that [`Stdio::Piped`] asked for.
#[derive(Default)]
#[non_exhaustive]
pub struct Streams {
    /// Writes to the process's standard input. Dropping it ends the input, unless it is a container's that stays
    /// open for other clients ([`LaunchSpec::stdin_once`](crate::LaunchSpec::stdin_once)).
    pub stdin: Option<Writer>,
    /// Reads the process's standard output.
    pub stdout: Option<Reader>,
    /// Reads the process's standard error.
    pub stderr: Option<Reader>,
}

impl fmt::Debug for Streams {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Streams")
            .field("stdin", &self.stdin.is_some())
            .field("stdout", &self.stdout.is_some())
            .field("stderr", &self.stderr.is_some())
            .finish()
    }
}
