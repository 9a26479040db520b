//! The streams of a process, in frames over a connection that was taken over.
//!
//! Each direction ends for itself: what a client sent before it went still reaches the process.
//! Invariant: what is on its way is a buffer of [`PIECE`] bytes for each output, and a frame of at most [`INPUT`] bytes of input, whatever
//! the client does; and a client gets whole frames.

use std::io;
use std::pin::pin;
use std::time::Duration;

use axum::response::Response;
use bytes::{Buf as _, Bytes};
use engine_core::io::{Reader, Streams, Writer};
use engine_core::{Error, Result};
use hyper::header::HeaderValue;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::call::{Call, Ops, error_frame, failed, invalid, stopping};
use crate::server::raw::{Presence, Raw};
use crate::wire::{self, frame};

const PIECE: usize = 32 << 10;
/// How large a frame of input may be: clients send [`PIECE`] bytes at most.
const INPUT: usize = 2 * PIECE;
/// How long a client may take to hear that the server is about to stop.
const LAST_WORDS: Duration = Duration::from_secs(2);

impl Call {
    /// Takes the connection over for the streams that `work` returns, beside what the client is told first.
    pub(super) async fn session<A, T, F>(mut self, work: impl FnOnce(Ops, A) -> F) -> Response
    where
        A: DeserializeOwned,
        T: Serialize,
        F: Future<Output = Result<(T, Streams)>>,
    {
        let Some(hijack) = self.hijack.take() else {
            return failed(&invalid("it takes a connection that can be taken over"));
        };
        let arguments = match self.arguments() {
            Ok(arguments) => arguments,
            Err(error) => return failed(&error),
        };
        // A client that goes meanwhile leaves the streams right after.
        let begun = work(self.engine(), arguments).await;
        let begun = begun.and_then(|(began, streams)| Ok((wire::text(&began)?, streams)));
        let (began, streams) = match begun {
            Ok(begun) => begun,
            Err(error) => return failed(&error),
        };
        let Self { api, client, .. } = self;
        hijack.answer(HeaderValue::from_static(wire::MEDIA_TYPE), async move |mut connection: Raw| {
            // A socket that is watched tells sooner.
            let presence = connection.take_presence().filter(|_| client.is_unknown());
            let gone = async {
                tokio::select! {
                    () = client.gone() => {}
                    () = Presence::end(presence.as_ref()) => {}
                }
            };
            let (mut from, to) = tokio::io::split(connection);
            let mut to = Sender::new(to);
            let (reason, stops) = tokio::select! {
                reason = copy(&mut from, &mut to, &began, streams, gone) => (reason, false),
                () = api.stopped() => (Some(stopping()), true),
            };
            let ended = async {
                to.end(reason.as_ref()).await?;
                // By TCP, closing the connection on what was not read would take back what is on its way to the client. It closes its
                // own side when it has seen the end.
                drain(&mut from).await
            };
            // A client that takes nothing any more is not waited for.
            let patience = if stops { LAST_WORDS.min(api.limits.unread) } else { api.limits.unread };
            tokio::select! {
                ended = timeout(patience, ended) => {
                    if !matches!(ended, Ok(Ok(()))) {
                        tracing::debug!("the client did not see the end of its session");
                    }
                }
                () = api.stopped(), if !stops => {}
            }
        })
    }
}

/// Copies until the process has closed its output, or the client is gone and all that it had sent is with the process. Returns what the
/// client did wrong, if that is why it ends.
async fn copy(
    from: &mut (impl AsyncRead + Unpin),
    to: &mut Sender<impl AsyncWrite + Unpin>,
    began: &[u8],
    streams: Streams,
    gone: impl Future<Output = ()>,
) -> Option<Error> {
    let Streams { stdin, stdout, stderr, .. } = streams;
    let (refused, refusal) = oneshot::channel();
    let mut input = pin!(copy_in(from, stdin, refused));
    let output = async {
        to.send(frame::ITEM, began).await?;
        copy_out(to, stdout, stderr, refusal).await
    };
    // The select drops the output with its readers: a process whose output nobody reads is to notice.
    tokio::select! {
        written = output => if written.is_ok() { return None },
        // One that sends nothing more is gone: the end of the input is a frame.
        read = &mut input => return wrong(read),
        () = gone => {}
    }
    wrong(input.await)
}

/// What the client did wrong: an error of the connection is none.
fn wrong(read: io::Result<()>) -> Option<Error> {
    let error = read.err().filter(|error| error.kind() == io::ErrorKind::InvalidData)?;
    Some(invalid("it has a frame that is none of a client's").with_source(error))
}

/// Copies the client's input to the process, until the client goes.
async fn copy_in(
    client: &mut (impl AsyncRead + Unpin),
    mut stdin: Option<Writer>,
    refused: oneshot::Sender<()>,
) -> io::Result<()> {
    let mut refused = Some(refused);
    while let Some((kind, bytes)) = frame::read(client, INPUT).await? {
        match (kind, &mut stdin) {
            (frame::STDIN, Some(writer)) => {
                let written = async {
                    writer.write_all(&bytes).await?;
                    writer.flush().await
                };
                if written.await.is_err() {
                    // The process has closed its input, which is no reason to end its output.
                    stdin = None;
                    if let Some(refused) = refused.take() {
                        // Without output there is nobody to tell the client.
                        let _ = refused.send(());
                    }
                }
            }
            (frame::STDIN, None) => {}
            // Dropping the writer ends the input.
            (frame::STDIN_END, _) => stdin = None,
            _ => return Err(io::ErrorKind::InvalidData.into()),
        }
    }
    Ok(())
}

/// Copies the output of the process to the client, until its end.
async fn copy_out(
    client: &mut Sender<impl AsyncWrite + Unpin>,
    mut stdout: Option<Reader>,
    mut stderr: Option<Reader>,
    mut refusal: oneshot::Receiver<()>,
) -> io::Result<()> {
    let endless = stdout.is_none() && stderr.is_none();
    let (mut out, mut err) = (vec![0; PIECE], vec![0; PIECE]);
    let mut listens = true;
    while endless || stdout.is_some() || stderr.is_some() {
        let (kind, bytes) = tokio::select! {
            read = read(&mut stdout, &mut out) => (frame::STDOUT, &out[..read]),
            read = read(&mut stderr, &mut err) => (frame::STDERR, &err[..read]),
            refused = &mut refusal, if listens => {
                listens = false;
                if refused.is_err() {
                    continue;
                }
                (frame::STDIN_END, &[][..])
            }
        };
        client.send(kind, bytes).await?;
    }
    Ok(())
}

/// Reads a piece. One that has ended is forgotten, and told as an empty piece, as a stream that fails is.
async fn read(reader: &mut Option<Reader>, into: &mut [u8]) -> usize {
    let Some(stream) = reader else { return std::future::pending().await };
    let read = stream.read(into).await.unwrap_or(0);
    if read == 0 {
        *reader = None;
    }
    read
}

/// Reads until the client has closed its side.
async fn drain(from: &mut (impl AsyncRead + Unpin)) -> io::Result<()> {
    let mut piece = vec![0; PIECE];
    while from.read(&mut piece).await? > 0 {}
    Ok(())
}

/// Writes frames one behind the other, also when one is left amid its writing.
struct Sender<W> {
    to: W,
    /// What is left of the last frame, and whether some of it is written.
    rest: Bytes,
    begun: bool,
}

impl<W: AsyncWrite + Unpin> Sender<W> {
    fn new(to: W) -> Self {
        Self { to, rest: Bytes::new(), begun: false }
    }

    async fn send(&mut self, kind: u8, payload: &[u8]) -> io::Result<()> {
        self.begin(frame::frame(kind, payload)).await
    }

    async fn begin(&mut self, frame: Bytes) -> io::Result<()> {
        (self.rest, self.begun) = (frame, false);
        self.go_on().await
    }

    async fn go_on(&mut self) -> io::Result<()> {
        while !self.rest.is_empty() {
            let written = self.to.write(&self.rest).await?;
            if written == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            self.rest.advance(written);
            self.begun = true;
        }
        self.to.flush().await
    }

    /// Writes the end, or why it ends, and nothing more. What is half written comes before.
    async fn end(&mut self, reason: Option<&Error>) -> io::Result<()> {
        if self.begun {
            self.go_on().await?;
        }
        match reason {
            Some(error) => self.begin(error_frame(error)).await?,
            None => self.send(frame::END, b"null").await?,
        }
        self.to.shutdown().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_end_comes_behind_whole_frames() {
        for (room, frames) in [
            (100, vec![frame::STDOUT, frame::ERROR]),
            (5000, vec![frame::STDOUT, frame::STDOUT, frame::ERROR]),
        ] {
            // The client reads nothing for now.
            let (client, server) = tokio::io::duplex(room);
            let mut to = Sender::new(server);
            let endless = async {
                loop {
                    to.send(frame::STDOUT, &[b'x'; 3000]).await?;
                }
            };
            let left: Result<io::Result<()>, _> = timeout(Duration::from_millis(20), endless).await;
            left.unwrap_err();
            let reading = tokio::spawn(async move {
                let (mut client, mut kinds) = (client, Vec::new());
                while let Some((kind, payload)) = frame::read(&mut client, INPUT).await.unwrap() {
                    assert_eq!(payload.len() == 3000, kind == frame::STDOUT);
                    kinds.push(kind);
                }
                kinds
            });
            to.end(Some(&stopping())).await.unwrap();
            drop(to);
            assert_eq!(reading.await.unwrap(), frames);
        }
    }
}
