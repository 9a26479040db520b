//! Calls: arguments in, an answer out.

use std::future::ready;

use bytes::{Bytes, BytesMut};
use engine_core::engine::{Operation, Progress};
use engine_core::error::ErrorDocument;
use engine_core::io::ByteStream;
use engine_core::{Error, ErrorKind, Result};
use futures_util::stream::BoxStream;
use futures_util::{StreamExt as _, TryStreamExt as _};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::header::{CONNECTION, CONTENT_TYPE, HOST, UPGRADE};
use hyper::{Request, StatusCode};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::frames::{Frames, Next};
use super::remote::RemoteEngine;
use super::session::Session;
use super::transport::{Answer, Lease};
use super::upload::{self, Upload};
use crate::wire;

/// How large a document of an answer may be.
const DOCUMENT: usize = 256 << 20;

/// Arguments as they are sent, if they can be.
pub(super) type Line = Result<Bytes>;

/// Writes arguments, of which there are any number: a tuple.
pub(super) fn line(arguments: impl Serialize) -> Line {
    let mut line = BytesMut::from(wire::text(&arguments)?);
    line.extend_from_slice(b"\n");
    Ok(line.freeze())
}

impl RemoteEngine {
    /// Calls an operation that answers with a document.
    pub(super) async fn call<T: DeserializeOwned>(
        &self,
        operation: &'static str,
        arguments: impl Serialize,
    ) -> Result<T> {
        let request = self.request(operation, upload::line(line(arguments)?), false)?;
        document(succeeded(self.transport.send(request).await?).await?).await
    }

    /// Calls an operation that takes bytes and answers with a document.
    pub(super) async fn call_with<T: DeserializeOwned>(
        &self,
        operation: &'static str,
        arguments: impl Serialize,
        bytes: ByteStream,
    ) -> Result<T> {
        let (upload, body) = Upload::begin(line(arguments)?, bytes);
        let request = self.request(operation, body, false)?;
        let answered = async {
            let answer = self.transport.send(request).await?;
            upload.stop();
            document(succeeded(answer).await?).await
        };
        answered.await.map_err(|error| upload.reason(error))
    }

    /// Calls an operation that answers with frames.
    pub(super) async fn frames(&self, operation: &'static str, arguments: Line) -> Result<Frames> {
        let request = self.request(operation, upload::line(arguments?), false)?;
        Ok(Frames::of(succeeded(self.transport.send(request).await?).await?, None))
    }

    /// Calls an operation that takes bytes and answers with frames.
    pub(super) async fn frames_with(
        &self,
        operation: &'static str,
        arguments: Line,
        bytes: ByteStream,
    ) -> Result<Frames> {
        let (upload, body) = Upload::begin(arguments?, bytes);
        let request = self.request(operation, body, false)?;
        let answered = async {
            let answer = self.transport.send(request).await?;
            if !answer.response.status().is_success() {
                upload.stop();
            }
            succeeded(answer).await
        };
        match answered.await {
            Ok(answer) => Ok(Frames::of(answer, Some(upload))),
            Err(error) => Err(upload.reason(error)),
        }
    }

    /// Calls an operation that answers with a stream of items.
    pub(super) async fn stream<T: Send + 'static>(
        &self,
        operation: &'static str,
        arguments: impl Serialize,
        read: impl Fn(&Bytes) -> Result<T> + Send + 'static,
    ) -> Result<BoxStream<'static, Result<T>>> {
        let frames = self.frames(operation, line(arguments)).await?;
        Ok(frames.items().and_then(move |item| ready(read(&item))).boxed())
    }

    /// Calls an operation that answers with bytes.
    pub(super) async fn bytes(
        &self,
        operation: &'static str,
        arguments: impl Serialize,
    ) -> Result<ByteStream> {
        Ok(self.frames(operation, line(arguments)).await?.items().boxed())
    }

    /// Begins an operation with progress.
    pub(super) fn operation<E, T>(
        &self,
        operation: &'static str,
        arguments: impl Serialize,
    ) -> Operation<E, T>
    where
        E: DeserializeOwned + Send + 'static,
        T: DeserializeOwned + Send + 'static,
    {
        let (engine, line) = (self.clone(), line(arguments));
        Operation::new(move |progress| async move {
            follow(engine.frames(operation, line).await?, &progress).await
        })
    }

    /// Takes a connection over for the streams of a process. Returns the answer, and the streams.
    pub(super) async fn session<T: DeserializeOwned>(
        &self,
        operation: &'static str,
        arguments: impl Serialize,
    ) -> Result<(T, Session)> {
        let request = self.request(operation, upload::line(line(arguments)?), true)?;
        let answer = succeeded(self.transport.send(request).await?).await?;
        if answer.response.status() != StatusCode::SWITCHING_PROTOCOLS {
            return Err(misunderstood("the connection was not taken over"));
        }
        Session::begin(answer).await
    }

    fn request(
        &self,
        operation: &str,
        body: super::transport::Body,
        upgrade: bool,
    ) -> Result<Request<super::transport::Body>> {
        let mut request = Request::post(format!("{}{operation}", wire::PATH))
            .header(HOST, "engine")
            .header(CONTENT_TYPE, wire::MEDIA_TYPE);
        if upgrade {
            request = request.header(CONNECTION, "Upgrade").header(UPGRADE, wire::UPGRADE);
        }
        request.body(body).map_err(|error| Error::new(ErrorKind::Other, "call engine").with_source(error))
    }
}

/// Reports the items, and returns the result.
pub(super) async fn follow<E, T>(mut frames: Frames, progress: &Progress<E>) -> Result<T>
where
    E: DeserializeOwned,
    T: DeserializeOwned,
{
    loop {
        match frames.next().await? {
            Next::Item(event) => progress.report(wire::parsed(&event)?),
            Next::Bytes(_) => {}
            Next::End(result) => return wire::parsed(&result),
        }
    }
}

/// Returns the error that an answer is, if it is one.
async fn succeeded(answer: Answer) -> Result<Answer> {
    let status = answer.response.status();
    if status.is_success() || status == StatusCode::SWITCHING_PROTOCOLS {
        return Ok(answer);
    }
    let (bytes, lease) = whole(answer).await?;
    let document = serde_json::from_slice::<ErrorDocument>(&bytes);
    lease.release();
    Err(match document {
        Ok(document) => document.into(),
        Err(_) => misunderstood("its answer is no error of this engine's").with("status", status),
    })
}

async fn document<T: DeserializeOwned>(answer: Answer) -> Result<T> {
    let (bytes, lease) = whole(answer).await?;
    lease.release();
    wire::parsed(&bytes)
}

pub(super) async fn whole(answer: Answer) -> Result<(Bytes, Lease)> {
    let Answer { response, lease } = answer;
    let mut body: Incoming = response.into_body();
    let mut bytes = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| lease.lost(error))?;
        let Ok(piece) = frame.into_data() else { continue };
        if bytes.len() + piece.len() > DOCUMENT {
            return Err(misunderstood("its answer is too large"));
        }
        bytes.extend_from_slice(&piece);
    }
    Ok((bytes.freeze(), lease))
}

/// The other side does not keep to the protocol.
pub(super) fn misunderstood(why: &'static str) -> Error {
    Error::new(ErrorKind::Corrupt, "call engine").with_message(why)
}
