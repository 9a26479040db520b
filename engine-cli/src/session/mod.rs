//! A person or a program at the standard streams of a container: foreground `run`, `start -a`, `attach`, `exec`.
//!
//! Owns raw mode, resizing, detach keys, signal forwarding and the copying of bytes. Invariant: the terminal is as
//! it was on every way out but SIGKILL.

pub(crate) mod signals;
pub(crate) mod terminal;

use std::io::{self, IsTerminal};
use std::pin::Pin;

use engine_core::ExitStatus;
use engine_core::io::{AttachOptions, Reader, Stdio, Streams, TerminalSize, Writer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;

use crate::failure::{Failure, Result};
use engine_api::DetachKeys;
use signals::Signals;

/// How a session ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Ended {
    /// The process ended, and all its output was copied.
    Exited(ExitStatus),
    /// The user pressed the detach keys.
    Detached,
    /// A signal that is not forwarded asked this program to end.
    Signal(i32),
}

/// Which streams a session connects.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted {
    pub(crate) stdin: bool,
    pub(crate) stdout: bool,
    pub(crate) stderr: bool,
    pub(crate) tty: bool,
}

impl Wanted {
    /// Returns the options that ask for these streams. Pipes lie between the container and our descriptors, so
    /// that no process in it ever holds the user's terminal.
    pub(crate) fn options(self) -> AttachOptions {
        let mut options = AttachOptions::piped(self.stdin);
        if !self.stdout {
            options.stdout = Stdio::Null;
        }
        if !self.stderr || self.tty {
            options.stderr = Stdio::Null;
        }
        options
    }

    /// Refuses a terminal in the container with something else on our standard input, as Docker does.
    pub(crate) fn check(self) -> Result<Self> {
        if self.tty && self.stdin && !io::stdin().is_terminal() {
            return Err(Failure::usage(
                "cannot attach stdin to a TTY-enabled container because stdin is not a terminal (leave -t or -i out)",
            ));
        }
        Ok(self)
    }
}

impl Ended {
    /// Returns the exit code of a command whose session ended so.
    pub(crate) fn code(self) -> u8 {
        match self {
            Self::Exited(status) => status.code,
            Self::Detached => 0,
            Self::Signal(number) => u8::try_from(128 + number).unwrap_or(1),
        }
    }
}

/// What a session does besides copying.
#[async_trait::async_trait]
pub(crate) trait Control: Send + Sync {
    /// Waits until the process has ended.
    async fn wait(&self) -> engine_core::Result<ExitStatus>;
    /// Sets the size of the terminal in the container.
    async fn resize(&self, size: TerminalSize) -> engine_core::Result<()>;
    /// Forwards a signal. Returns false if this session does not.
    async fn signal(&self, number: i32) -> bool;
    /// Notes that the user has left by the detach keys.
    async fn detached(&self) -> engine_core::Result<()>;
}

/// Copies until the process has ended, the user detaches, or a signal ends the session.
///
/// `signals` listens since before the process was started, so that none in between is lost, and none between here
/// and the end leaves the terminal raw.
pub(crate) async fn run(
    mut streams: Streams,
    wanted: Wanted,
    keys: Option<DetachKeys>,
    mut signals: Signals,
    control: &dyn Control,
) -> Result<Ended> {
    let raw = if wanted.tty && wanted.stdin { terminal::RawMode::enter()? } else { None };
    let (send, mut detached) = mpsc::channel::<()>(1);
    if let Some(writer) = streams.stdin.take() {
        let keys = keys.filter(|_| wanted.tty);
        tokio::spawn(copy_in(writer, keys, send.clone()));
    }
    // Kept, so that the channel does not end with the input.
    let _send = send;
    let output = async {
        let (out, err) = tokio::join!(
            copy_out(streams.stdout.take(), tokio::io::stdout()),
            copy_out(streams.stderr.take(), tokio::io::stderr()),
        );
        out.and(err)
    };
    tokio::pin!(output);
    if wanted.tty {
        resize(control).await;
    }
    // A process may close its output long before it ends.
    let (mut copied, mut interrupts) = (false, 0);
    let end = control.wait();
    tokio::pin!(end);
    let ended = loop {
        tokio::select! {
            done = &mut output, if !copied => match done {
                Ok(()) => copied = true,
                Err(failure) => break Err(failure),
            },
            status = &mut end, if copied => break Ok(Ended::Exited(status?)),
            _ = detached.recv() => break Ok(Ended::Detached),
            number = signals.next() => match number {
                signals::SIGWINCH => if wanted.tty { resize(control).await },
                number if control.signal(number).await => {
                    // Process 1 of a container ignores what it has no handler for: the third time the user means us.
                    if matches!(number, signals::SIGINT | signals::SIGTERM) {
                        interrupts += 1;
                        if interrupts >= 3 {
                            eprintln!("engine-cli: got 3 SIGTERM/SIGINTs, forcefully exiting; the container goes on");
                            break Ok(Ended::Signal(number));
                        }
                    }
                }
                number => break Ok(Ended::Signal(number)),
            },
        }
    };
    drop(raw);
    if let Ok(Ended::Detached) = ended
        && let Err(error) = control.detached().await
    {
        tracing::debug!(%error, "nobody was told of the detaching");
    }
    ended
}

async fn resize(control: &dyn Control) {
    if let Some(size) = terminal::size()
        && let Err(error) = control.resize(size).await
    {
        tracing::debug!(%error, "the terminal in the container keeps its size");
    }
}

/// Copies our standard input to the process until either ends.
async fn copy_in(mut writer: Writer, mut keys: Option<DetachKeys>, detached: mpsc::Sender<()>) {
    let mut input = terminal::stdin();
    while let Some(chunk) = input.recv().await {
        let (bytes, stop) = match &mut keys {
            Some(keys) => keys.filter(&chunk),
            None => (chunk, false),
        };
        if stop {
            let _ = detached.send(()).await;
            // Dropping the writer would be the end of input for the process, which lives on.
            std::future::pending::<()>().await;
        }
        if writer.write_all(&bytes).await.is_err() || writer.flush().await.is_err() {
            return;
        }
    }
    // The end of our input is the end of its input.
    let _ = writer.shutdown().await;
}

/// Copies one output stream of the process to one of ours.
async fn copy_out(reader: Option<Reader>, mut to: impl AsyncWriteExt + Unpin) -> Result<()> {
    let Some(mut reader): Option<Pin<Box<_>>> = reader else { return Ok(()) };
    let mut buffer = vec![0_u8; 64 << 10];
    loop {
        let count = match reader.read(&mut buffer).await {
            Ok(0) => return Ok(()),
            Ok(count) => count,
            // A pseudo-terminal ends so when its last process has gone, see pty(7).
            Err(error) if error.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error()) => return Ok(()),
            Err(error) => return Err(Failure::usage(format!("cannot read the container's output: {error}"))),
        };
        let written = match to.write_all(&buffer[..count]).await {
            Ok(()) => to.flush().await,
            Err(error) => Err(error),
        };
        match written {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Err(Failure::quiet(141)),
            Err(error) => return Err(Failure::usage(format!("cannot write the output: {error}"))),
        }
    }
}
