//! The body of a request, as a stream that cannot take for ever.
//!
//! Owns the time-out between two pieces (SECURITY E7), and the length that a body has to have.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::{Body, BodyDataStream};
use bytes::{Bytes, BytesMut};
use engine_core::error::{Error, ErrorKind, Result};
use futures_core::Stream;
use futures_util::StreamExt as _;
use tokio::time::{Instant, Sleep, sleep};

/// What is read and thrown away of a request that failed, so that its sender gets to read the answer.
const DRAIN: usize = 1 << 20;
const DRAIN_TIME: Duration = Duration::from_secs(5);

pub(super) struct RequestBody {
    body: BodyDataStream,
    idle: Duration,
    timer: Option<Pin<Box<Sleep>>>,
    /// How many bytes have to come.
    left: Option<u64>,
    /// How many bytes may come, and whether more did.
    room: u64,
    too_long: bool,
    /// How many bytes have come.
    received: Arc<AtomicU64>,
}

impl RequestBody {
    pub(super) fn new(body: Body, idle: Duration, received: Arc<AtomicU64>) -> Self {
        Self {
            body: body.into_data_stream(),
            idle,
            timer: None,
            left: None,
            room: u64::MAX,
            too_long: false,
            received,
        }
    }

    /// Makes more or fewer bytes than `length` an error.
    pub(super) fn expect(&mut self, length: u64) {
        self.left = Some(length);
    }

    /// Makes more bytes than `room` an error.
    pub(super) fn limit(&mut self, room: u64) {
        self.room = room;
    }

    /// Whether more came than there is room for.
    pub(super) fn is_too_long(&self) -> bool {
        self.too_long
    }

    /// Reads all of it; `None` if it has more than `limit` bytes.
    pub(super) async fn read(&mut self, limit: usize) -> Result<Option<Bytes>> {
        let mut whole = BytesMut::new();
        while let Some(piece) = self.next().await {
            let piece = piece?;
            if whole.len() + piece.len() > limit {
                return Ok(None);
            }
            whole.extend_from_slice(&piece);
        }
        Ok(Some(whole.freeze()))
    }

    /// Reads what is left of a request that failed, within reason.
    pub(super) async fn drain(&mut self) {
        (self.left, self.room) = (None, u64::MAX);
        let mut taken = 0;
        let all = async {
            while taken < DRAIN
                && let Some(Ok(piece)) = self.next().await
            {
                taken += piece.len();
            }
        };
        let _ = tokio::time::timeout(DRAIN_TIME, all).await;
    }
}

impl Stream for RequestBody {
    type Item = Result<Bytes>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        let wrong = |why: &str| {
            Error::new(ErrorKind::InvalidArgument, "read request")
                .with_message(format!("the body is {why} than its range"))
        };
        match this.body.poll_next_unpin(cx) {
            Poll::Ready(Some(Ok(piece))) => {
                this.received.fetch_add(piece.len() as u64, Ordering::Relaxed);
                if let Some(timer) = &mut this.timer {
                    timer.as_mut().reset(Instant::now() + this.idle);
                }
                match this.room.checked_sub(piece.len() as u64) {
                    Some(room) => this.room = room,
                    None => {
                        this.too_long = true;
                        return Poll::Ready(Some(Err(Error::new(ErrorKind::Conflict, "read request")
                            .with_message("there is no room for the body"))));
                    }
                }
                if let Some(left) = &mut this.left {
                    match left.checked_sub(piece.len() as u64) {
                        Some(rest) => *left = rest,
                        None => return Poll::Ready(Some(Err(wrong("longer")))),
                    }
                }
                Poll::Ready(Some(Ok(piece)))
            }
            Poll::Ready(Some(Err(error))) => {
                Poll::Ready(Some(Err(Error::new(ErrorKind::Canceled, "read request").with_source(error))))
            }
            Poll::Ready(None) => match this.left.take() {
                Some(1..) => Poll::Ready(Some(Err(wrong("shorter")))),
                _ => Poll::Ready(None),
            },
            Poll::Pending => {
                let idle = this.idle;
                ready!(this.timer.get_or_insert_with(|| Box::pin(sleep(idle))).as_mut().poll(cx));
                Poll::Ready(Some(Err(Error::new(ErrorKind::DeadlineExceeded, "read request")
                    .with_message(format!("nothing came for {idle:?}")))))
            }
        }
    }
}
