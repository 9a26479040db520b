//! A request: its arguments, the bytes behind them, and the ways to answer.

use std::convert::Infallible;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use bytes::{Bytes, BytesMut};
use engine_core::engine::{ContainerEngine, Operation};
use engine_core::error::ErrorDocument;
use engine_core::io::ByteStream;
use engine_core::{Error, ErrorKind, Result};
use futures_core::Stream;
use futures_util::StreamExt as _;
use futures_util::stream::{self, BoxStream};
use hyper::StatusCode;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::presence::{Client, ClientSocket};
use crate::server::api::Api;
use crate::server::body;
use crate::server::error::status_of;
use crate::server::hijack::Hijack;
use crate::server::left::Left;
use crate::server::limits::Limits;
use crate::server::unread;
use crate::wire::{self, frame};

/// The engine that is asked.
pub(super) type Ops = Arc<dyn ContainerEngine>;
/// The frames of an answer.
pub(super) type FrameStream = BoxStream<'static, Bytes>;

/// A request whose arguments have come.
pub(super) struct Call {
    pub(super) api: Arc<Api>,
    pub(super) client: Client,
    pub(super) hijack: Option<Hijack>,
    line: Bytes,
    rest: ByteStream,
}

type Refused = (StatusCode, Error);

impl Call {
    /// Reads the arguments.
    pub(super) async fn read(api: Arc<Api>, mut request: Request) -> Result<Self, Refused> {
        let given = request.headers().get(CONTENT_TYPE).map(HeaderValue::as_bytes);
        if given != Some(wire::MEDIA_TYPE.as_bytes()) {
            return Err((
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                invalid("its content is of another type").with_hint("it takes an engine's own client"),
            ));
        }
        let hijack = Hijack::of(&mut request).ok();
        let client = Client::of(request.extensions().get::<ClientSocket>());
        let mut pieces = body::stream(request.into_body());
        let reading = arguments(&mut pieces, &api.limits);
        let (line, rest) = match tokio::time::timeout(api.limits.body, reading).await {
            Ok(read) => read?,
            Err(_) => {
                return Err((StatusCode::REQUEST_TIMEOUT, invalid("its arguments did not come in time")));
            }
        };
        let first = Some(Ok(rest)).filter(|piece| piece.as_ref().is_ok_and(|rest: &Bytes| !rest.is_empty()));
        Ok(Self { api, client, hijack, line, rest: stream::iter(first).chain(pieces).boxed() })
    }

    pub(super) fn engine(&self) -> Ops {
        Arc::clone(self.api.engine.operations())
    }

    pub(super) fn arguments<A: DeserializeOwned>(&self) -> Result<A> {
        // The text of the failure would quote what may be secret: it is told where, and not what.
        serde_json::from_slice(&self.line).map_err(|error| {
            invalid("its arguments are not understood")
                .with("line", error.line())
                .with("column", error.column())
        })
    }

    /// Answers with a document.
    pub(super) async fn plain<A, T, F>(self, work: impl FnOnce(Ops, A) -> F) -> Response
    where
        A: DeserializeOwned,
        T: Serialize,
        F: Future<Output = Result<T>>,
    {
        let arguments = match self.arguments() {
            Ok(arguments) => arguments,
            Err(error) => return failed(&error),
        };
        tokio::select! {
            result = work(self.engine(), arguments) => document(result.and_then(|result| wire::text(&result))),
            () = self.client.gone() => gone(),
        }
    }

    /// As [`plain`](Self::plain), of what may last for ever: it ends when the server is to stop.
    pub(super) async fn waiting<A, T, F>(self, work: impl FnOnce(Ops, A) -> F) -> Response
    where
        A: DeserializeOwned,
        T: Serialize,
        F: Future<Output = Result<T>>,
    {
        let api = Arc::clone(&self.api);
        self.plain(async move |engine, arguments| {
            tokio::select! {
                result = work(engine, arguments) => result,
                () = api.stopped() => Err(stopping()),
            }
        })
        .await
    }

    /// Answers with a document when the bytes behind the arguments were taken.
    pub(super) async fn taking<A, T, F>(mut self, work: impl FnOnce(Ops, A, ByteStream) -> F) -> Response
    where
        A: DeserializeOwned,
        T: Serialize,
        F: Future<Output = Result<T>>,
    {
        let (bytes, left) = self.take_bytes();
        left.answer(self.plain(async move |engine, arguments| work(engine, arguments, bytes).await).await)
    }

    /// Answers with a stream of items.
    pub(super) async fn stream<A, T, S, F>(
        self,
        work: impl FnOnce(Ops, A) -> F,
        write: impl Fn(&T) -> Result<Bytes> + Send + 'static,
    ) -> Response
    where
        A: DeserializeOwned,
        T: Send + 'static,
        S: Stream<Item = Result<T>> + Send + 'static,
        F: Future<Output = Result<S>>,
    {
        let arguments = match self.arguments() {
            Ok(arguments) => arguments,
            Err(error) => return failed(&error),
        };
        let items = tokio::select! {
            items = work(self.engine(), arguments) => items,
            () = self.client.gone() => return gone(),
        };
        match items {
            Ok(items) => self.framed(listing(items.map(move |item| item.and_then(|item| write(&item))))),
            Err(error) => failed(&error),
        }
    }

    /// Answers with a document, and with bytes behind it.
    pub(super) async fn described<A, T, F>(self, work: impl FnOnce(Ops, A) -> F) -> Response
    where
        A: DeserializeOwned,
        T: Serialize,
        F: Future<Output = Result<(T, ByteStream)>>,
    {
        let described = async move |engine, arguments| {
            let (document, bytes) = work(engine, arguments).await?;
            Ok(stream::iter([wire::text(&document)]).chain(bytes))
        };
        self.stream(described, |piece: &Bytes| Ok(piece.clone())).await
    }

    /// Answers with bytes.
    pub(super) async fn bytes<A, F>(self, work: impl FnOnce(Ops, A) -> F) -> Response
    where
        A: DeserializeOwned,
        F: Future<Output = Result<ByteStream>>,
    {
        self.stream(work, |piece: &Bytes| Ok(piece.clone())).await
    }

    /// Answers with the progress and the result of an operation.
    pub(super) fn operation<A, E, T>(self, work: impl FnOnce(Ops, A) -> Operation<E, T>) -> Response
    where
        A: DeserializeOwned,
        E: Serialize + Send + 'static,
        T: Serialize + Send + 'static,
    {
        match self.arguments() {
            Ok(arguments) => {
                let operation = work(self.engine(), arguments);
                self.framed_in_time(following(operation))
            }
            Err(error) => failed(&error),
        }
    }

    /// As [`operation`](Self::operation), of one that takes the bytes behind the arguments.
    pub(super) fn taking_operation<A, E, T>(
        mut self,
        work: impl FnOnce(Ops, A, ByteStream) -> Operation<E, T>,
    ) -> Response
    where
        A: DeserializeOwned,
        E: Serialize + Send + 'static,
        T: Serialize + Send + 'static,
    {
        let (bytes, left) = self.take_bytes();
        left.answer(self.operation(|engine, arguments| work(engine, arguments, bytes)))
    }

    /// Answers with frames. They stop when the client goes, and with an error when the server is to stop.
    pub(super) fn framed(self, frames: FrameStream) -> Response {
        let Self { api, client, .. } = self;
        let cut = Box::pin(async move {
            tokio::select! {
                () = client.gone() => None,
                () = api.stopped() => Some(error_frame(&stopping())),
            }
        });
        let whole = stream::unfold(Some((frames, cut)), |state| async {
            let (mut frames, mut cut) = state?;
            tokio::select! {
                frame = frames.next() => frame.map(|frame| (frame, Some((frames, cut)))),
                last = &mut cut => last.map(|last| (last, None)),
            }
        });
        answered(StatusCode::OK, Body::from_stream(whole.map(Ok::<_, Infallible>)))
    }

    /// As [`framed`](Self::framed), of what others may have to wait for: an operation that has nobody to tell its progress to stands still
    /// with all that it holds, so it ends when the client takes nothing for too long.
    pub(super) fn framed_in_time(self, frames: FrameStream) -> Response {
        let limit = self.api.limits.unread;
        let late = move || {
            let error = Error::new(ErrorKind::DeadlineExceeded, "call engine");
            error_frame(&error.with_message(format!("the client took nothing of the answer for {limit:?}")))
        };
        self.framed(unread::in_time(frames, limit, late).boxed())
    }

    fn take_bytes(&mut self) -> (ByteStream, Left) {
        Left::of(std::mem::replace(&mut self.rest, stream::empty().boxed()), self.api.limits.body)
    }
}

/// Reads until the end of the line. Returns it, and what came with it.
async fn arguments(pieces: &mut ByteStream, limits: &Limits) -> Result<(Bytes, Bytes), Refused> {
    let mut read = BytesMut::new();
    while let Some(piece) = pieces.next().await {
        let piece = piece.map_err(|error| (StatusCode::BAD_REQUEST, error))?;
        let end = piece.iter().position(|byte| *byte == b'\n');
        let (line, rest) = piece.split_at(end.unwrap_or(piece.len()));
        if read.len() + line.len() > limits.document {
            return Err((
                StatusCode::PAYLOAD_TOO_LARGE,
                invalid("its arguments are too large").with("limit", limits.document),
            ));
        }
        read.extend_from_slice(line);
        if end.is_some() {
            return Ok((read.freeze(), piece.slice_ref(&rest[1..])));
        }
    }
    Err((StatusCode::BAD_REQUEST, invalid("its arguments are not there in full")))
}

/// The frames of items, and the end.
fn listing(items: impl Stream<Item = Result<Bytes>> + Send + 'static) -> FrameStream {
    let frames = stream::unfold(Some(items.boxed()), |items| async {
        let mut items = items?;
        Some(match items.next().await {
            Some(Ok(item)) => (frame::frame(frame::ITEM, &item), Some(items)),
            Some(Err(error)) => (error_frame(&error), None),
            None => (frame::frame(frame::END, b"null"), None),
        })
    });
    frames.boxed()
}

/// The frames of an operation: its progress, and its result.
fn following<E, T>(operation: Operation<E, T>) -> FrameStream
where
    E: Serialize + Send + 'static,
    T: Serialize + Send + 'static,
{
    let frames = stream::unfold(Some(operation), |operation| async {
        let mut operation = operation?;
        match operation.next().await {
            Some(event) => Some(match wire::text(&event) {
                Ok(event) => (frame::frame(frame::ITEM, &event), Some(operation)),
                Err(error) => (error_frame(&error), None),
            }),
            None => Some((end_frame(operation.await), None)),
        }
    });
    frames.boxed()
}

pub(super) fn end_frame(result: Result<impl Serialize>) -> Bytes {
    match result.and_then(|result| wire::text(&result)) {
        Ok(result) => frame::frame(frame::END, &result),
        Err(error) => error_frame(&error),
    }
}

pub(super) fn error_frame(error: &Error) -> Bytes {
    let document = wire::text(&ErrorDocument::from(error)).unwrap_or_default();
    frame::frame(frame::ERROR, &document)
}

fn document(result: Result<Bytes>) -> Response {
    match result {
        Ok(document) => answered(StatusCode::OK, document.into()),
        Err(error) => failed(&error),
    }
}

/// Answers with an error, and the status that Docker's API has for it.
pub(super) fn failed(error: &Error) -> Response {
    failed_with(status_of(error.kind()), error)
}

pub(super) fn failed_with(status: StatusCode, error: &Error) -> Response {
    // Of ours: no map in it has keys that are no text.
    let document = wire::text(&ErrorDocument::from(error)).unwrap_or_default();
    answered(status, document.into())
}

fn answered(status: StatusCode, body: Body) -> Response {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(wire::MEDIA_TYPE));
    response
}

/// An answer that nobody reads.
pub(super) fn gone() -> Response {
    failed(&Error::new(ErrorKind::Canceled, "call engine").with_message("the client is gone"))
}

pub(super) fn stopping() -> Error {
    Error::new(ErrorKind::Unavailable, "call engine").with_message("the daemon is about to stop")
}

pub(super) fn invalid(why: &'static str) -> Error {
    Error::new(ErrorKind::InvalidArgument, "read request").with_message(why)
}
