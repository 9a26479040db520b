//! Between a client's connection and the streams of a process.
//!
//! Each direction ends for itself: a client that has sent all its input still gets the output.
//! Invariant: what is on its way in one direction is a buffer of [`PIECE`] bytes for each stream, whatever the client does.

use std::io;

use engine_core::io::{AttachOptions, Reader, Stdio, Streams, Writer};
use hyper::header::HeaderValue;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use super::api::Api;
use super::hijack::{Framing, frame_head};
use super::raw::{Presence, Raw};
use crate::DetachKeys;

const PIECE: usize = 32 << 10;

/// The numbers of the streams in frames.
const STDOUT: u8 = 1;
const STDERR: u8 = 2;

/// Which streams a client is connected to, and how.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    pub(super) stdin: bool,
    pub(super) stdout: bool,
    pub(super) stderr: bool,
    pub(super) framing: Framing,
    /// The keys that leave a terminal.
    pub(super) keys: Option<DetachKeys>,
}

/// Why a session has ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Ended {
    /// The process closed its output.
    Output,
    /// The client pressed its detach keys.
    Detached,
    /// The client has gone.
    Gone,
    /// The server is to stop.
    Stopped,
}

impl Wanted {
    /// Returns the options that ask for these streams. A client that reads slowly makes the process wait, as Docker's do.
    pub(super) fn options(&self) -> AttachOptions {
        let mut options = AttachOptions::piped(self.stdin);
        if !self.stdout {
            options.stdout = Stdio::Null;
        }
        // A terminal has one stream.
        if !self.stderr || self.framing == Framing::Raw {
            options.stderr = Stdio::Null;
        }
        options
    }

    pub(super) fn content_type(&self, version: super::ApiVersion) -> HeaderValue {
        self.framing.content_type(version)
    }
}

/// Copies until the process has closed its output and `end` is ready, the client leaves, or the server is to stop. The
/// connection is closed then.
pub(super) async fn run(
    mut connection: Raw,
    streams: Streams,
    wanted: &Wanted,
    api: &Api,
    end: impl Future<Output = ()>,
) -> Ended {
    let presence = connection.take_presence();
    let (mut from_client, mut to_client) = tokio::io::split(connection);
    let Streams { stdin, stdout, stderr, .. } = streams;
    let output = async {
        copy_out(&mut to_client, stdout, stderr, wanted.framing).await?;
        end.await;
        io::Result::Ok(())
    };
    let input = async {
        match copy_in(&mut from_client, stdin, wanted.keys.clone()).await {
            Ok(true) => Ended::Detached,
            // It has sent all that it will, and may well read on.
            Ok(false) => std::future::pending().await,
            Err(_) => Ended::Gone,
        }
    };
    let ended = tokio::select! {
        written = output => if written.is_ok() { Ended::Output } else { Ended::Gone },
        ended = input => ended,
        () = Presence::end(presence.as_ref()) => Ended::Gone,
        () = api.stopped() => Ended::Stopped,
    };
    // Nobody is there to be told of a failure.
    let _ = to_client.shutdown().await;
    ended
}

/// Writes a text to the client as output of the process, as Docker tells of a command that cannot be executed.
pub(super) async fn tell(mut connection: Raw, text: &str, framing: Framing) {
    let text = format!("{text}\r\n");
    let written = async {
        if framing == Framing::Multiplexed {
            connection.write_all(&frame_head(STDOUT, text.len())).await?;
        }
        connection.write_all(text.as_bytes()).await?;
        connection.shutdown().await
    };
    if let Err(error) = written.await {
        tracing::debug!(%error, "the client went before it was told");
    }
}

/// Copies the client's input to the process, and its end. Returns whether the client detached.
async fn copy_in(
    client: &mut (impl AsyncRead + Unpin),
    stdin: Option<Writer>,
    mut keys: Option<DetachKeys>,
) -> io::Result<bool> {
    let mut stdin = stdin;
    let mut piece = vec![0; PIECE];
    loop {
        let read = client.read(&mut piece).await?;
        if read == 0 {
            // Dropping the writer ends the process's input.
            return Ok(false);
        }
        let Some(writer) = &mut stdin else { continue };
        let (bytes, detached) = match &mut keys {
            Some(keys) => {
                let (bytes, detached) = keys.filter(&piece[..read]);
                (std::borrow::Cow::Owned(bytes), detached)
            }
            None => (std::borrow::Cow::Borrowed(&piece[..read]), false),
        };
        if writer.write_all(&bytes).await.is_err() {
            // The process has closed its input, which is no reason to end its output.
            stdin = None;
        }
        if detached {
            return Ok(true);
        }
    }
}

/// Copies both outputs of the process to the client, until both have ended.
async fn copy_out(
    client: &mut (impl AsyncWrite + Unpin),
    mut stdout: Option<Reader>,
    mut stderr: Option<Reader>,
    framing: Framing,
) -> io::Result<()> {
    if stdout.is_none() && stderr.is_none() {
        // A client with nothing but input: it ends when the client does.
        return std::future::pending().await;
    }
    // The beginning is for the head of the frame, so that it goes out in one write with the rest.
    const HEAD: usize = 8;
    let (mut out, mut err) = (vec![0; HEAD + PIECE], vec![0; HEAD + PIECE]);
    while stdout.is_some() || stderr.is_some() {
        let (stream, read) = tokio::select! {
            read = read(&mut stdout, &mut out[HEAD..]) => (STDOUT, read),
            read = read(&mut stderr, &mut err[HEAD..]) => (STDERR, read),
        };
        // A stream that fails has ended.
        let read = read.unwrap_or(0);
        let (source, buffer) =
            if stream == STDOUT { (&mut stdout, &mut out) } else { (&mut stderr, &mut err) };
        if read == 0 {
            *source = None;
            continue;
        }
        let begin = match framing {
            Framing::Raw => HEAD,
            Framing::Multiplexed => {
                buffer[..HEAD].copy_from_slice(&frame_head(stream, read));
                0
            }
        };
        client.write_all(&buffer[begin..HEAD + read]).await?;
        client.flush().await?;
    }
    Ok(())
}

async fn read(reader: &mut Option<Reader>, into: &mut [u8]) -> io::Result<usize> {
    match reader {
        Some(reader) => reader.read(into).await,
        None => std::future::pending().await,
    }
}
