//! The streams of a process, in frames over a connection that was taken over.
//!
//! Invariant: what is on its way in one direction is a buffer of [`PIECE`] bytes for each stream, whatever the client does.

use std::io;

use axum::response::Response;
use engine_core::Result;
use engine_core::io::{Reader, Streams, Writer};
use hyper::header::HeaderValue;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::oneshot;

use super::call::{Call, Ops, error_frame, failed, invalid, stopping};
use crate::server::raw::{Presence, Raw};
use crate::wire::{self, frame};

const PIECE: usize = 32 << 10;
/// How large a frame of input may be.
const INPUT: usize = 1 << 20;

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
            let presence = connection.take_presence();
            let (mut from, mut to) = tokio::io::split(connection);
            if to.write_all(&frame::frame(frame::ITEM, &began)).await.is_err() {
                return;
            }
            let Streams { stdin, stdout, stderr, .. } = streams;
            let (refused, refusal) = oneshot::channel();
            let stopped = tokio::select! {
                _ = copy_out(&mut to, stdout, stderr, refusal) => false,
                // One that sends nothing more is gone: the end of the input is a frame.
                _ = copy_in(&mut from, stdin, refused) => false,
                () = client.gone() => false,
                () = Presence::end(presence.as_ref()) => false,
                () = api.stopped() => true,
            };
            // Nobody may be there to be told.
            if stopped {
                let _ = to.write_all(&error_frame(&stopping())).await;
            }
            let _ = to.shutdown().await;
        })
    }
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

/// Copies the output of the process to the client, and its end.
async fn copy_out(
    client: &mut (impl AsyncWrite + Unpin),
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
        client.write_all(&frame::frame(kind, bytes)).await?;
        client.flush().await?;
    }
    client.write_all(&frame::frame(frame::END, b"null")).await?;
    client.flush().await
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
