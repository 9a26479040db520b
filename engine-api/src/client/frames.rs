//! An answer in frames.

use std::io;

use bytes::Bytes;
use engine_core::error::ErrorDocument;
use engine_core::{Error, Result};
use futures_core::Stream;
use futures_util::TryStreamExt as _;
use futures_util::stream::BoxStream;
use http_body_util::BodyExt as _;
use tokio_util::io::StreamReader;

use super::call::misunderstood;
use super::transport::{Answer, Lease};
use super::upload::Upload;
use crate::wire;
use crate::wire::frame;

/// How large a frame may be: it may be the result of an operation.
const FRAME: usize = 64 << 20;

/// The frames of an answer, in their order.
pub(super) struct Frames {
    body: StreamReader<BoxStream<'static, io::Result<Bytes>>, Bytes>,
    lease: Option<Lease>,
    upload: Option<Upload>,
}

/// What comes next.
pub(super) enum Next {
    Item(Bytes),
    Bytes(Bytes),
    End(Bytes),
}

impl Frames {
    pub(super) fn of(answer: Answer, upload: Option<Upload>) -> Self {
        let Answer { response, lease } = answer;
        let pieces = response.into_body().into_data_stream().map_err(io::Error::other);
        Self { body: StreamReader::new(Box::pin(pieces)), lease: Some(lease), upload }
    }

    /// Returns the next frame. An error, and the end, are the last.
    pub(super) async fn next(&mut self) -> Result<Next> {
        match frame::read(&mut self.body, FRAME).await {
            Ok(Some((frame::ITEM, item))) => Ok(Next::Item(item)),
            Ok(Some((frame::STDOUT, bytes))) => Ok(Next::Bytes(bytes)),
            Ok(Some((frame::END, result))) => {
                self.finish().await;
                Ok(Next::End(result))
            }
            Ok(Some((frame::ERROR, document))) => {
                self.finish().await;
                let document: ErrorDocument = wire::parsed(&document)?;
                Err(self.reason(document.into()))
            }
            Ok(Some(_)) => Err(misunderstood("a frame is of no kind that is known")),
            Ok(None) => Err(self.broken(io::ErrorKind::UnexpectedEof.into())),
            Err(error) => Err(self.broken(error)),
        }
    }

    /// Returns the items until the end.
    pub(super) fn items(self) -> impl Stream<Item = Result<Bytes>> + Send + 'static {
        futures_util::stream::try_unfold(Some(self), |frames| async {
            let Some(mut frames) = frames else { return Ok(None) };
            Ok(match frames.next().await? {
                Next::Item(item) | Next::Bytes(item) => Some((item, Some(frames))),
                Next::End(_) => None,
            })
        })
    }

    /// Keeps the connection, if nothing comes behind the last frame.
    async fn finish(&mut self) {
        if let Some(upload) = &self.upload {
            upload.stop();
        }
        if let Some(lease) = self.lease.take()
            && matches!(frame::read(&mut self.body, 0).await, Ok(None))
        {
            lease.release();
        }
    }

    fn broken(&self, error: io::Error) -> Error {
        match &self.lease {
            Some(lease) => self.reason(lease.lost(error)),
            None => misunderstood("it goes on behind the end"),
        }
    }

    fn reason(&self, error: Error) -> Error {
        match &self.upload {
            Some(upload) => upload.reason(error),
            None => error,
        }
    }
}
