//! Bodies of answers, as hyper gets them.

use std::io::IoSlice;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use axum::body::{Body, Bytes, HttpBody};
use bytes::Buf;
use hyper::Response;
use hyper::body::{Frame, SizeHint};

use super::FilePart;
use super::line::{Hole, Line};

/// The body of an answer.
#[derive(Debug)]
pub(in crate::server) enum AnswerBody {
    /// As the router made it.
    Usual(Body),
    /// A part of a file, until it was handed out.
    File(Option<(Arc<Line>, FilePart, usize, Body)>),
}

impl AnswerBody {
    /// Takes the body of an answer, or the file beside it, if the connection has a line for that.
    pub(in crate::server) fn of(mut answer: Response<Body>, line: Option<&Arc<Line>>) -> Response<Self> {
        let part = answer.extensions_mut().remove::<FilePart>();
        answer.map(|body| match (line, part) {
            (Some(line), Some(part)) => match usize::try_from(part.size()) {
                Ok(size @ 1..) => Self::File(Some((Arc::clone(line), part, size, body))),
                // More than there is memory to stand for it, where pointers have 32 bits.
                _ => Self::Usual(body),
            },
            _ => Self::Usual(body),
        })
    }
}

impl HttpBody for AnswerBody {
    type Data = Data;
    type Error = axum::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Data>, axum::Error>>> {
        Poll::Ready(match self.get_mut() {
            Self::Usual(body) => ready!(Pin::new(body).poll_frame(cx))
                .map(|frame| frame.map(|frame| frame.map_data(Data::Bytes))),
            Self::File(file) => file
                .take()
                .map(|(line, part, size, body)| Ok(Frame::data(Data::File(line.begin(part, size, body))))),
        })
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Usual(body) => body.is_end_stream(),
            Self::File(file) => file.is_none(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Usual(body) => body.size_hint(),
            Self::File(file) => SizeHint::with_exact(file.as_ref().map_or(0, |(_, part, _, _)| part.size())),
        }
    }
}

/// A piece of a body.
#[derive(Debug)]
pub(in crate::server) enum Data {
    Bytes(Bytes),
    File(Hole),
}

impl Buf for Data {
    fn remaining(&self) -> usize {
        match self {
            Self::Bytes(bytes) => bytes.remaining(),
            Self::File(hole) => hole.remaining(),
        }
    }

    fn chunk(&self) -> &[u8] {
        match self {
            Self::Bytes(bytes) => bytes.chunk(),
            Self::File(hole) => hole.chunk(),
        }
    }

    fn chunks_vectored<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        match self {
            Self::Bytes(bytes) => bytes.chunks_vectored(slices),
            Self::File(hole) => hole.chunks_vectored(slices),
        }
    }

    fn advance(&mut self, count: usize) {
        match self {
            Self::Bytes(bytes) => bytes.advance(count),
            Self::File(hole) => hole.advance(count),
        }
    }
}
