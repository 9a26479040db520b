//! Blobs as streams that survive a broken connection.
//!
//! Owns range requests and their checks (RFC 9110, section 14). Invariant: a stream yields the bytes from its offset to
//! the descriptor's size, each once, and never one more; what it cannot place exactly, it refuses.

use std::sync::Arc;

use bytes::Bytes;
use engine_core::descriptor::Descriptor;
use engine_core::error::{ErrorKind, Result};
use engine_core::io::ByteStream;
use futures_util::stream;
use reqwest::header::{ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_RANGE, HeaderMap, HeaderValue, RANGE};
use reqwest::{Response, StatusCode};
use tokio::time::sleep;

use crate::endpoint::Endpoint;
use crate::fault::Fault;
use crate::session::{Ask, Session};

/// However much progress each makes, more connections than this are no transfer.
const MAX_CONNECTIONS: u32 = 200;

/// A blob being fetched.
#[derive(Debug)]
pub(crate) struct BlobStream {
    pub(crate) session: Arc<Session>,
    /// The places to try, the best first.
    pub(crate) endpoints: Vec<Endpoint>,
    pub(crate) registry: String,
    pub(crate) repository: String,
    pub(crate) scopes: Vec<String>,
    pub(crate) blob: Descriptor,
    /// The next byte to hand out.
    pub(crate) position: u64,
    body: Option<Body>,
    /// Failures in a row without a byte in between.
    failed: u32,
    connections: u32,
}

#[derive(Debug)]
struct Body {
    response: Response,
    /// What this answer repeats and is to be dropped.
    skip: u64,
    /// Whether the answer said how long it is.
    sized: bool,
}

impl BlobStream {
    pub(crate) fn new(
        session: Arc<Session>,
        endpoints: Vec<Endpoint>,
        (registry, repository): (&str, &str),
        scopes: Vec<String>,
        blob: Descriptor,
        position: u64,
    ) -> Self {
        Self {
            session,
            endpoints,
            registry: registry.to_owned(),
            repository: repository.to_owned(),
            scopes,
            blob,
            position,
            body: None,
            failed: 0,
            connections: 0,
        }
    }

    /// Opens the first connection, so that an absent blob is an error here and not in the stream.
    pub(crate) async fn start(mut self) -> Result<ByteStream> {
        if self.position < self.blob.size
            && let Err(fault) = self.open().await
        {
            return Err(self.error(fault));
        }
        Ok(Box::pin(stream::try_unfold(self, |mut this| async move {
            match this.next().await {
                Ok(piece) => Ok(piece.map(|piece| (piece, this))),
                Err(fault) => Err(this.error(fault)),
            }
        })))
    }

    fn error(&self, fault: Fault) -> engine_core::error::Error {
        fault.into_error("fetch blob", &self.registry, Some(&self.repository)).with("blob", &self.blob.digest)
    }

    async fn next(&mut self) -> Result<Option<Bytes>, Fault> {
        loop {
            if self.position == self.blob.size && self.body.as_ref().is_none_or(|body| body.sized) {
                return Ok(None);
            }
            let fault = match &mut self.body {
                None => match self.open().await {
                    Ok(()) => continue,
                    // Tries, waits and other places are behind it already.
                    Err(fault) => return Err(fault),
                },
                Some(body) => match self.session.transport.chunk(&mut body.response).await {
                    Ok(Some(mut piece)) => {
                        let skipped = body.skip.min(piece.len() as u64);
                        body.skip -= skipped;
                        let _ = piece.split_to(skipped as usize);
                        if piece.is_empty() {
                            continue;
                        }
                        let after = self.position + piece.len() as u64;
                        if after > self.blob.size {
                            return Err(Fault::corrupt(format!(
                                "it sends more than the {} bytes the blob has",
                                self.blob.size
                            )));
                        }
                        self.position = after;
                        self.failed = 0;
                        return Ok(Some(piece));
                    }
                    Ok(None) if self.position == self.blob.size => return Ok(None),
                    Ok(None) => Fault::passing(
                        ErrorKind::Unavailable,
                        format!("the blob ended after {} of {} bytes", self.position, self.blob.size),
                    ),
                    // All bytes are there; how the connection ends does not matter.
                    Err(_) if self.position == self.blob.size => return Ok(None),
                    Err(fault) => fault,
                },
            };
            self.body = None;
            self.failed += 1;
            if !fault.is_retryable() || self.connections >= MAX_CONNECTIONS {
                return Err(fault);
            }
            if self.failed >= self.session.retry.attempts {
                self.leave(fault)?;
            } else {
                tracing::debug!(registry = self.registry, %fault, position = self.position, "resuming blob");
                sleep(self.session.retry.delay(self.failed, None).unwrap_or_default()).await;
            }
        }
    }

    /// Gives the present place up for the next one.
    fn leave(&mut self, fault: Fault) -> Result<(), Fault> {
        if self.endpoints.len() <= 1 {
            return Err(fault);
        }
        tracing::debug!(mirror = self.endpoints[0].name, %fault, "leaving mirror");
        self.endpoints.remove(0);
        self.failed = 0;
        Ok(())
    }

    /// Opens a connection at the position, at the first place that has the blob.
    async fn open(&mut self) -> Result<(), Fault> {
        loop {
            let last = self.endpoints.len() <= 1;
            let attempts = if last { self.session.retry.attempts } else { 1 };
            match self.connect(attempts).await {
                Ok(body) => {
                    self.body = Some(body);
                    return Ok(());
                }
                Err(fault) => self.leave(fault)?,
            }
        }
    }

    async fn connect(&mut self, attempts: u32) -> Result<Body, Fault> {
        self.connections += 1;
        let endpoint = &self.endpoints[0];
        let path = format!("/v2/{}/blobs/{}", self.repository, self.blob.digest);
        let mut ask = Ask::get(&path, &self.scopes);
        // A proxy that compresses would make other bytes of it.
        ask.headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        if self.position > 0 {
            let range = HeaderValue::from_str(&format!("bytes={}-", self.position));
            ask.headers.insert(RANGE, range.map_err(|_| Fault::corrupt("range"))?);
        }
        let answer = self.session.send(endpoint, &ask, attempts).await?;
        let wanted = [StatusCode::OK, StatusCode::PARTIAL_CONTENT];
        let answer = self.session.expect(endpoint, answer, &wanted).await?;
        let partial = answer.status() == StatusCode::PARTIAL_CONTENT;
        let length = answer.response.content_length();
        let skip = check(answer.headers(), partial, length, self.position, self.blob.size)?;
        Ok(Body { response: answer.response, skip, sized: length.is_some() })
    }
}

/// Checks the head of an answer about a blob of `size` bytes asked for from `position`; returns how much to skip.
fn check(
    headers: &HeaderMap,
    partial: bool,
    length: Option<u64>,
    position: u64,
    size: u64,
) -> Result<u64, Fault> {
    let encoding = headers.get(CONTENT_ENCODING).map(HeaderValue::as_bytes);
    if encoding.is_some_and(|encoding| !encoding.eq_ignore_ascii_case(b"identity") && !encoding.is_empty()) {
        return Err(Fault::corrupt("it sends the blob re-encoded"));
    }
    if !partial {
        // The range was ignored, or none was asked for.
        return match length {
            Some(length) if length != size => {
                Err(Fault::corrupt(format!("its blob has {length} bytes, and the descriptor says {size}")))
            }
            _ => Ok(position),
        };
    }
    let range = headers.get(CONTENT_RANGE).and_then(|value| content_range(value.to_str().ok()?));
    match range {
        Some((start, end, total))
            if start == position
                && end < size
                && total.is_none_or(|total| total == size)
                && length.is_none_or(|length| length == end - start + 1) =>
        {
            Ok(0)
        }
        _ => Err(Fault::corrupt(format!("it answers a request from byte {position} with another range"))),
    }
}

/// Reads `bytes START-END/TOTAL`, where TOTAL may be `*`.
fn content_range(text: &str) -> Option<(u64, u64, Option<u64>)> {
    let (range, total) = text.trim().strip_prefix("bytes ")?.split_once('/')?;
    let (start, end) = range.split_once('-')?;
    let (start, end) = (start.parse().ok()?, end.parse().ok()?);
    let total = if total == "*" { None } else { Some(total.parse().ok()?) };
    (start <= end).then_some((start, end, total))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_range_asked_for_is_taken() {
        let with =
            |range: &'static str| HeaderMap::from_iter([(CONTENT_RANGE, HeaderValue::from_static(range))]);
        let partial = |range, length| check(&with(range), true, length, 5, 10).ok();
        assert_eq!(partial("bytes 5-9/10", Some(5)), Some(0));
        assert_eq!(partial("bytes 5-7/*", None), Some(0));
        for wrong in
            ["bytes 4-9/10", "bytes 6-9/10", "bytes 5-10/10", "bytes 5-9/11", "bytes 9-5/10", "5-9/10", ""]
        {
            assert_eq!(partial(wrong, None), None, "{wrong}");
        }
        assert_eq!(partial("bytes 5-9/10", Some(6)), None);
        assert_eq!(check(&HeaderMap::new(), true, None, 5, 10).ok(), None);
        // Ignored: skip what is there already, but only of a blob of the right size.
        assert_eq!(check(&HeaderMap::new(), false, Some(10), 5, 10).ok(), Some(5));
        assert_eq!(check(&HeaderMap::new(), false, Some(11), 5, 10).ok(), None);
    }
}
