//! Requests that take their connection over: raw bytes in both directions, and the end of each direction for itself.

use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use hyper::StatusCode;
use hyper::header::{CONNECTION, CONTENT_TYPE, HeaderValue, UPGRADE};
use hyper::upgrade::OnUpgrade;

use super::connection::Slot;
use super::error::{ApiError, Result};
use super::raw::Raw;
use super::reply;
use super::unasked::UNASKED;
use super::version::ApiVersion;
use crate::wire;

/// How output is written to a client.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Framing {
    /// As it is: that of a terminal.
    Raw,
    /// In frames that tell the two streams apart.
    Multiplexed,
}

impl Framing {
    pub(super) fn of_terminal(terminal: bool) -> Self {
        if terminal { Self::Raw } else { Self::Multiplexed }
    }

    /// The type of a stream, which clients are told from 1.42 on.
    pub(super) fn content_type(self, version: ApiVersion) -> HeaderValue {
        HeaderValue::from_static(match self {
            Self::Multiplexed if version >= ApiVersion::v1(42) => "application/vnd.docker.multiplexed-stream",
            _ => "application/vnd.docker.raw-stream",
        })
    }
}

/// A request whose connection can be taken over.
#[derive(Debug)]
pub(super) struct Hijack {
    upgrade: OnUpgrade,
    /// What the client asked for, in the answer's words.
    asked: Option<HeaderValue>,
    /// What the connection counts as, for as long as somebody uses it.
    slot: Option<Slot>,
}

impl Hijack {
    /// Takes what is needed out of a request.
    pub(super) fn of(request: &mut Request) -> Result<Self> {
        let asked = request.headers().get(UPGRADE).filter(|value| *value != UNASKED);
        let asked = asked.map(|value| {
            HeaderValue::from_static(if value == wire::UPGRADE { wire::UPGRADE } else { "tcp" })
        });
        let upgrade = request.extensions_mut().remove::<OnUpgrade>();
        let upgrade = upgrade.filter(|_| request.headers().contains_key(UPGRADE)).ok_or_else(|| {
            ApiError::bad_request("this connection cannot be taken over: it takes HTTP/1.1 and the head of the request in one piece")
        })?;
        Ok(Self { upgrade, asked, slot: request.extensions_mut().remove::<Slot>() })
    }

    /// Answers, and hands the connection to `work` as soon as the answer is on its way.
    pub(super) fn answer<F>(
        self,
        content_type: HeaderValue,
        work: impl FnOnce(Raw) -> F + Send + 'static,
    ) -> Response
    where
        F: Future<Output = ()> + Send,
    {
        let asked = self.asked.clone();
        tokio::spawn(async move {
            match self.upgrade.await {
                Ok(upgraded) => {
                    let mut connection = Raw::new(upgraded);
                    // Our own clients lose nothing that comes with it.
                    if self.asked.is_none_or(|asked| asked != wire::UPGRADE) {
                        connection.head_is_read().await;
                    }
                    work(connection).await;
                }
                Err(error) => tracing::debug!(%error, "connection not taken over"),
            }
            drop(self.slot);
        });
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        if let Some(asked) = asked {
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("Upgrade"));
            response.headers_mut().insert(UPGRADE, asked);
        }
        reply::with_header(response, CONTENT_TYPE, content_type)
    }
}

/// Returns the eight bytes before a frame of output: the stream's number, and the length (Docker's "stdcopy").
pub(super) fn frame_head(stream: u8, length: usize) -> [u8; 8] {
    let [a, b, c, d] = u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes();
    [stream, 0, 0, 0, a, b, c, d]
}
