//! The streams of a process over a connection that was taken over.
//!
//! One task copies in both directions. It ends when the process has closed its output, and when the caller has dropped everything,
//! which closes the connection: that is how one leaves a process.
//! Invariant: what is on its way to the caller is [`DEPTH`] pieces for each stream; a reader that does not read makes the other side wait.
//! Both outputs come by one connection, so it makes its fellow wait as well: who reads one of two reads both.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use engine_core::error::ErrorDocument;
use engine_core::io::{AttachOptions, Reader, Stdio, Streams};
use engine_core::{Error, Result};
use futures_util::StreamExt as _;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadHalf, WriteHalf};
use tokio::sync::mpsc;
use tokio_util::io::StreamReader;

use super::call::misunderstood;
use super::descriptor;
use super::flows::{Flow, Queued};
use super::transport::Answer;
use crate::wire;
use crate::wire::frame;

/// Pieces of one stream that are kept for its reader.
const DEPTH: usize = 4;
/// What is read of input at once.
const PIECE: usize = 32 << 10;
/// How large a frame may be. The first has a document.
const FRAME: usize = 4 << 20;

/// A connection that was taken over for the streams of a process.
pub(super) struct Session {
    from: ReadHalf<TokioIo<Upgraded>>,
    to: WriteHalf<TokioIo<Upgraded>>,
}

/// One side of an output. What is on its way into a descriptor is known to its flow.
#[derive(Clone)]
struct Output {
    pieces: mpsc::Sender<Piece>,
    flow: Option<Arc<Flow>>,
}

/// What is on its way to a reader.
pub(super) type Piece = (io::Result<Bytes>, Option<Queued>);

impl Output {
    /// Sends a piece. Returns false once nobody reads.
    async fn send(&self, piece: io::Result<Bytes>) -> bool {
        let queued = self.flow.as_ref().map(Flow::queued);
        self.pieces.send((piece, queued)).await.is_ok()
    }
}

impl Session {
    /// Takes the connection of `answer` over, and reads what it begins with.
    pub(super) async fn begin<T: DeserializeOwned>(answer: Answer) -> Result<(T, Self)> {
        let Answer { response, lease } = answer;
        let upgraded = hyper::upgrade::on(response).await.map_err(|error| lease.lost(error))?;
        let (from, to) = tokio::io::split(TokioIo::new(upgraded));
        let mut session = Self { from, to };
        match frame::read(&mut session.from, FRAME).await {
            Ok(Some((frame::ITEM, began))) => Ok((wire::parsed(&began)?, session)),
            Ok(Some(_)) => Err(misunderstood("a session begins with something else")),
            Ok(None) => Err(lease.lost(io::Error::from(io::ErrorKind::UnexpectedEof))),
            Err(error) => Err(lease.lost(error)),
        }
    }

    /// Connects the streams to what `options` say. Returns the caller's ends. The flow ends when all output is where it is to be.
    pub(super) fn connect(self, options: AttachOptions, flow: Flow) -> Result<Streams> {
        let flow = Arc::new(flow);
        let mut written = Vec::new();
        let mut streams = Streams::default();
        let stdin: Option<Box<dyn AsyncRead + Send + Unpin>> = match options.stdin {
            Stdio::Null => None,
            Stdio::Fd(fd) => Some(Box::new(descriptor::reader(fd)?)),
            _ => {
                let (ours, theirs) = tokio::io::duplex(PIECE);
                streams.stdin = Some(Box::pin(theirs));
                Some(Box::new(ours))
            }
        };
        let mut output = |side: Stdio, reader: &mut Option<Reader>| -> Result<Option<Output>> {
            let (pieces, receiver) = mpsc::channel::<Piece>(DEPTH);
            // Pipes are the caller's to read to their end.
            let mut known = None;
            match side {
                Stdio::Null => return Ok(None),
                Stdio::Fd(fd) => {
                    written.push(descriptor::write(fd, receiver)?);
                    known = Some(Arc::clone(&flow));
                }
                _ => {
                    let pieces = futures_util::stream::unfold(receiver, |mut receiver| async {
                        receiver.recv().await.map(|(piece, _)| (piece, receiver))
                    });
                    *reader = Some(Box::pin(StreamReader::new(pieces.boxed())));
                }
            }
            Ok(Some(Output { pieces, flow: known }))
        };
        let stdout = output(options.stdout, &mut streams.stdout)?;
        let stderr = output(options.stderr, &mut streams.stderr)?;
        let flow = Some(flow).filter(|_| !written.is_empty());
        tokio::spawn(async move {
            copy(self, stdin, stdout, stderr).await;
            for written in written {
                // It is ready when the other side is dropped.
                let _ = written.await;
            }
            drop(flow);
        });
        Ok(streams)
    }
}

async fn copy(
    session: Session,
    stdin: Option<Box<dyn AsyncRead + Send + Unpin>>,
    stdout: Option<Output>,
    stderr: Option<Output>,
) {
    let Session { mut from, mut to } = session;
    let outputs = [stdout.clone(), stderr.clone()];
    let (refused, refusal) = tokio::sync::oneshot::channel();
    let coming = copy_out(&mut from, stdout, stderr, refused);
    let going = async {
        tokio::select! {
            // Input that does not get through is no reason to end the output: there may be some on its way, and its end.
            _ = copy_in(&mut to, stdin) => {}
            // Whoever writes sees that nobody reads.
            Ok(()) = refusal => {}
        }
        for output in outputs.iter().flatten() {
            output.pieces.closed().await;
        }
    };
    tokio::select! {
        () = coming => {}
        () = going => {}
    }
    // Nobody is there to be told.
    let _ = to.shutdown().await;
}

/// Copies the caller's input, and its end.
async fn copy_in(
    to: &mut (impl AsyncWrite + Unpin),
    stdin: Option<Box<dyn AsyncRead + Send + Unpin>>,
) -> io::Result<()> {
    let Some(mut stdin) = stdin else { return Ok(()) };
    let mut piece = vec![0; PIECE];
    loop {
        // Input that cannot be read has ended.
        let read = stdin.read(&mut piece).await.unwrap_or(0);
        if read == 0 {
            break;
        }
        to.write_all(&frame::frame(frame::STDIN, &piece[..read])).await?;
        to.flush().await?;
    }
    to.write_all(&frame::frame(frame::STDIN_END, &[])).await?;
    to.flush().await
}

/// Copies the output of the process to its readers, until the end.
async fn copy_out(
    from: &mut (impl AsyncRead + Unpin),
    mut stdout: Option<Output>,
    mut stderr: Option<Output>,
    refused: tokio::sync::oneshot::Sender<()>,
) {
    let mut refused = Some(refused);
    let failure = loop {
        let (output, bytes) = match frame::read(from, FRAME).await {
            Ok(Some((frame::STDOUT, bytes))) => (&mut stdout, bytes),
            Ok(Some((frame::STDERR, bytes))) => (&mut stderr, bytes),
            Ok(Some((frame::STDIN_END, _))) => {
                if let Some(refused) = refused.take() {
                    let _ = refused.send(());
                }
                continue;
            }
            Ok(Some((frame::END, _))) => return,
            Ok(Some((frame::ERROR, document))) => {
                let read = wire::parsed::<ErrorDocument>(&document).map(Error::from);
                break io::Error::other(read.unwrap_or_else(|error| error));
            }
            Ok(Some(_)) => break io::Error::other(misunderstood("a frame is of no kind that is known")),
            Ok(None) => break io::ErrorKind::UnexpectedEof.into(),
            Err(error) => break error,
        };
        // An empty piece would be an end to a reader. What has no reader any more is for nobody.
        if let Some(reader) = output
            && !bytes.is_empty()
            && !reader.send(Ok(bytes)).await
        {
            *output = None;
        }
    };
    for output in [stdout, stderr].into_iter().flatten() {
        let failure = io::Error::new(failure.kind(), failure.to_string());
        // Nobody may be there to be told.
        output.send(Err(failure)).await;
    }
}
