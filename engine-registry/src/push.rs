//! Pushing blobs and manifests.
//!
//! Owns uploads. A blob goes in one PUT, as a stream. When that breaks, a large one goes on in pieces from where the registry
//! says it is, or begins anew. Invariant: nothing is visible before the registry has hashed it; what is sent has the
//! descriptor's size, or the upload fails.

use std::ops::Range;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use engine_core::descriptor::Descriptor;
use engine_core::digest::Digest;
use engine_core::error::{Error, ErrorKind};
use engine_core::io::ByteStream;
use engine_core::registry_client::{BlobSource, PushOutcome};
use futures_core::Stream;
use reqwest::header::{CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, HeaderMap, HeaderValue, LOCATION, RANGE};
use reqwest::{Body, Method, Request, Response, StatusCode, Url};
use tokio::time::{Instant, sleep, sleep_until};

use crate::auth::apply;
use crate::endpoint::Endpoint;
use crate::fault::Fault;
use crate::manifests::told_digest;
use crate::session::{Answer, Ask, Session, Target};

/// Registries hash and move what they got before they answer.
const VERDICT_FACTOR: u32 = 5;

/// Bytes of a piece of a blob whose upload broke once; smaller blobs begin anew.
const PIECE: u64 = 8 << 20;

/// An upload that the registry knows of, and how much of the blob it has.
#[derive(Clone, Debug)]
struct Upload {
    url: Url,
    sent: u64,
}

/// Where a push goes.
#[derive(Debug)]
pub(crate) struct Push<'a> {
    pub(crate) session: &'a Session,
    pub(crate) endpoint: &'a Endpoint,
    pub(crate) repository: &'a str,
    pub(crate) scopes: Vec<String>,
}

impl Push<'_> {
    pub(crate) async fn has_blob(&self, digest: &Digest) -> Result<bool, Fault> {
        let path = format!("/v2/{}/blobs/{digest}", self.repository);
        let ask = Ask::new(Method::HEAD, Target::Path(&path), &self.scopes);
        let answer = self.session.send(self.endpoint, &ask, self.session.retry.attempts).await?;
        if answer.status() == StatusCode::NOT_FOUND {
            return Ok(false);
        }
        self.session.expect(self.endpoint, answer, &[StatusCode::OK]).await.map(|_| true)
    }

    /// Returns the size of a blob, if the repository has it and the registry says how long it is.
    #[cfg(feature = "server")]
    pub(crate) async fn blob_size(&self, digest: &Digest) -> Result<Option<u64>, Fault> {
        let path = format!("/v2/{}/blobs/{digest}", self.repository);
        let ask = Ask::new(Method::HEAD, Target::Path(&path), &self.scopes);
        let answer = self.session.send(self.endpoint, &ask, self.session.retry.attempts).await?;
        if answer.status() == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        let answer = self.session.expect(self.endpoint, answer, &[StatusCode::OK]).await?;
        // Of a HEAD, the body has no length.
        let length = answer.headers().get(reqwest::header::CONTENT_LENGTH);
        Ok(length.and_then(|length| length.to_str().ok()?.parse().ok()))
    }

    /// Pushes a blob, by whatever way is shortest.
    pub(crate) async fn blob(
        &self,
        blob: &Descriptor,
        mount_from: Option<&str>,
        source: &dyn BlobSource,
    ) -> Result<PushOutcome, Fault> {
        if self.has_blob(&blob.digest).await? {
            return Ok(PushOutcome::Existed);
        }
        let mut upload = None;
        if let Some(from) = mount_from.filter(|from| *from != self.repository) {
            match self.mount(&blob.digest, from).await {
                Ok(None) => return Ok(PushOutcome::Mounted),
                Ok(Some(url)) => upload = Some(Upload { url, sent: 0 }),
                // An optimisation that failed is no reason not to push.
                Err(fault) => tracing::debug!(registry = self.endpoint.name, %fault, "no mount"),
            }
        }
        let mut failed = 0;
        let (mut in_pieces, mut may_be_pieces) = (false, blob.size > PIECE);
        loop {
            let mut current = match upload.take() {
                Some(upload) => upload,
                None => Upload { url: self.begin().await?, sent: 0 },
            };
            let pushed = match in_pieces {
                true => self.pieces(&mut current, blob, source).await,
                false => self.whole(current.url.clone(), blob, source).await,
            };
            let fault = match pushed {
                Ok(()) => return Ok(PushOutcome::Uploaded),
                Err(fault) => fault,
            };
            failed += 1;
            // Some registries take blobs whole only.
            if in_pieces && !fault.is_retryable() && fault.kind() != ErrorKind::Corrupt {
                tracing::debug!(registry = self.endpoint.name, %fault, "pushing whole");
                (in_pieces, may_be_pieces) = (false, false);
                if failed < self.session.retry.attempts {
                    continue;
                }
            }
            if !fault.is_retryable() || failed >= self.session.retry.attempts {
                return Err(fault);
            }
            let Some(wait) = self.session.retry.delay(failed, fault.waits()) else { return Err(fault) };
            tracing::debug!(registry = self.endpoint.name, %fault, ?wait, "pushing again");
            sleep(wait).await;
            if may_be_pieces {
                in_pieces = true;
                upload = self.status(current).await.filter(|upload| upload.sent <= blob.size);
            }
        }
    }

    /// Asks how much of an upload has arrived; `None` if the registry does not tell.
    async fn status(&self, upload: Upload) -> Option<Upload> {
        let ask = Ask::new(Method::GET, Target::Url(&upload.url), &self.scopes);
        let answer = self.session.send(self.endpoint, &ask, 1).await.ok()?;
        if answer.status() != StatusCode::NO_CONTENT {
            return None;
        }
        let sent = received(answer.headers())?;
        let url = match answer.headers().contains_key(LOCATION) {
            true => self.session.location(&answer.response, "upload").ok()?,
            false => upload.url,
        };
        Some(Upload { url, sent })
    }

    /// Sends what is left of a blob, piece by piece. `upload` tells how far it got.
    async fn pieces(
        &self,
        upload: &mut Upload,
        blob: &Descriptor,
        source: &dyn BlobSource,
    ) -> Result<(), Fault> {
        while upload.sent < blob.size {
            let range = upload.sent..blob.size.min(upload.sent + PIECE);
            let end = range.end;
            let wanted = [StatusCode::ACCEPTED, StatusCode::NO_CONTENT, StatusCode::CREATED];
            let answer =
                self.transfer(Method::PATCH, upload.url.clone(), blob, source, range, &wanted).await?;
            upload.url = self.session.location(&answer.response, "upload")?;
            upload.sent =
                received(answer.headers()).filter(|sent| *sent > upload.sent && *sent <= end).unwrap_or(end);
        }
        self.close(upload.url.clone(), blob, source, blob.size..blob.size).await
    }

    /// Sends a blob in one request.
    async fn whole(&self, url: Url, blob: &Descriptor, source: &dyn BlobSource) -> Result<(), Fault> {
        self.close(url, blob, source, 0..blob.size).await
    }

    /// Sends the last bytes of a blob and its digest.
    async fn close(
        &self,
        mut url: Url,
        blob: &Descriptor,
        source: &dyn BlobSource,
        range: Range<u64>,
    ) -> Result<(), Fault> {
        url.query_pairs_mut().append_pair("digest", &blob.digest.to_string());
        let wanted = [StatusCode::CREATED, StatusCode::NO_CONTENT];
        let answer = self.transfer(Method::PUT, url, blob, source, range, &wanted).await?;
        match told_digest(answer.headers())? {
            Some(told) if told.algorithm() == blob.digest.algorithm() && told != blob.digest => {
                Err(Fault::corrupt(format!("it stored {told} for {}", blob.digest)))
            }
            _ => Ok(()),
        }
    }

    /// Asks to take the blob over from another repository: `None` if it was, else where to upload it.
    async fn mount(&self, digest: &Digest, from: &str) -> Result<Option<Url>, Fault> {
        let mut query = Url::parse("query:").map_err(|_| Fault::corrupt("query"))?;
        query.query_pairs_mut().append_pair("mount", &digest.to_string()).append_pair("from", from);
        let path = format!("/v2/{}/blobs/uploads/?{}", self.repository, query.query().unwrap_or_default());
        let mut scopes = self.scopes.clone();
        scopes.push(format!("repository:{from}:pull"));
        let ask = Ask::new(Method::POST, Target::Path(&path), &scopes);
        let answer = self.session.send(self.endpoint, &ask, self.session.retry.attempts).await?;
        let wanted = [StatusCode::CREATED, StatusCode::ACCEPTED];
        let answer = self.session.expect(self.endpoint, answer, &wanted).await?;
        if answer.status() == StatusCode::CREATED {
            return Ok(None);
        }
        self.session.location(&answer.response, "upload").map(Some)
    }

    async fn begin(&self) -> Result<Url, Fault> {
        let path = format!("/v2/{}/blobs/uploads/", self.repository);
        let ask = Ask::new(Method::POST, Target::Path(&path), &self.scopes);
        let answer = self.session.send(self.endpoint, &ask, self.session.retry.attempts).await?;
        let answer = self.session.expect(self.endpoint, answer, &[StatusCode::ACCEPTED]).await?;
        self.session.location(&answer.response, "upload")
    }

    /// Sends a range of a blob as the body of one request.
    async fn transfer(
        &self,
        method: Method,
        url: Url,
        blob: &Descriptor,
        source: &dyn BlobSource,
        range: Range<u64>,
        wanted: &[StatusCode],
    ) -> Result<Answer, Fault> {
        let size = range.end - range.start;
        let transport = &self.session.transport;
        let own = self.session.own_origin(self.endpoint)?;
        let authorization = self.session.authorization(self.endpoint, &own, &url, &self.scopes).await?;
        let content = source.open(range.start).await.map_err(of_source)?;
        let sent = Arc::new(Sent::default());
        // A source goes on to the blob's end; a piece does not.
        let cut = range.end < blob.size;
        let counted = Counted { content, left: size, cut, sent: Arc::clone(&sent) };
        let origin = crate::origin::Origin::of(&url).ok_or_else(|| Fault::corrupt("no upload URL"))?;
        let client = transport.client(&origin).await?;
        let mut request = Request::new(method, url);
        let headers = request.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
        headers.insert(CONTENT_LENGTH, size.into());
        if size < blob.size && size > 0 {
            // As the distribution specification has it, without the unit and the whole.
            let text = format!("{}-{}", range.start, range.end - 1);
            headers.insert(CONTENT_RANGE, HeaderValue::from_str(&text).map_err(|_| Fault::corrupt("range"))?);
        }
        apply(headers, authorization.as_ref());
        if size > 0 {
            *request.body_mut() = Some(Body::wrap_stream(counted));
        }
        tracing::debug!(%origin, blob = %blob.digest, size, "upload");
        let result = self.watched(client.execute(request), &sent, size).await;
        // What the source said explains why the request broke.
        if let Some(error) = sent.failure.lock().unwrap_or_else(PoisonError::into_inner).take() {
            return Err(of_source(error));
        }
        let response = result?;
        let answer = Answer::new(response, own, authorization.as_ref());
        match self.session.expect(self.endpoint, answer, wanted).await {
            Ok(answer) => Ok(answer),
            // The token ran out on the way: the next upload begins with a fresh one.
            Err(fault) if fault.kind() == ErrorKind::Unauthenticated && authorization.is_some() => {
                if let Some(refused) = &authorization {
                    self.session.authorizer.reject(self.endpoint, refused).await;
                }
                Err(Fault::passing(ErrorKind::Unauthenticated, fault.message()))
            }
            // An upload that is gone can begin anew.
            Err(fault) if fault.kind() == ErrorKind::NotFound => {
                Err(Fault::passing(ErrorKind::Unavailable, "it forgot the upload"))
            }
            Err(fault) => Err(fault),
        }
    }

    /// Waits for an upload as long as it moves.
    async fn watched(
        &self,
        request: impl Future<Output = reqwest::Result<Response>>,
        sent: &Sent,
        size: u64,
    ) -> Result<Response, Fault> {
        let timeouts = &self.session.transport.timeouts;
        let mut request = std::pin::pin!(request);
        let mut before = 0;
        // Connecting counts as the first piece.
        let mut end = Instant::now() + timeouts.idle + timeouts.connect;
        loop {
            let result = tokio::select! {
                result = &mut request => Some(result),
                () = sleep_until(end) => None,
            };
            if let Some(result) = result {
                return result.map_err(Fault::from_transport);
            }
            let now = sent.bytes.load(Ordering::Relaxed);
            if now == before {
                return Err(Fault::late("it did not take the blob", timeouts.idle));
            }
            before = now;
            let wait = if now == size { timeouts.answer * VERDICT_FACTOR } else { timeouts.idle };
            end = Instant::now() + wait;
        }
    }

    /// Pushes a manifest under `target`, a tag or a digest. Returns whether the registry listed it among the referrers of
    /// its subject.
    pub(crate) async fn manifest(
        &self,
        target: &str,
        manifest: &Descriptor,
        bytes: Bytes,
    ) -> Result<bool, Fault> {
        let actual = manifest.digest.rehash(&bytes);
        if actual != manifest.digest || bytes.len() as u64 != manifest.size {
            return Err(Fault::corrupt(format!("the manifest has digest {actual}, not {}", manifest.digest)));
        }
        let path = format!("/v2/{}/manifests/{target}", self.repository);
        let mut ask = Ask::new(Method::PUT, Target::Path(&path), &self.scopes);
        let kind = HeaderValue::from_str(&manifest.media_type)
            .map_err(|_| Fault::new(ErrorKind::InvalidArgument, "its media type is no header value"))?;
        ask.headers.insert(CONTENT_TYPE, kind);
        ask.body = Some(bytes.clone());
        let answer = self.session.send(self.endpoint, &ask, self.session.retry.attempts).await?;
        let wanted = [StatusCode::CREATED, StatusCode::OK, StatusCode::ACCEPTED];
        let answer = self.session.expect(self.endpoint, answer, &wanted).await?;
        match told_digest(answer.headers())? {
            Some(told) if told != told.rehash(&bytes) => {
                Err(Fault::corrupt(format!("it stored {told} for manifest {}", manifest.digest)))
            }
            _ => Ok(answer.headers().contains_key("oci-subject")),
        }
    }
}

/// Returns how many bytes a registry says it has: `Range: 0-N`, where N is the last one.
fn received(headers: &HeaderMap) -> Option<u64> {
    let text = headers.get(RANGE)?.to_str().ok()?;
    let (first, last) = text.strip_prefix("bytes=").unwrap_or(text).split_once('-')?;
    let last = last.parse::<u64>().ok().filter(|_| first == "0")?;
    // Of nothing and of a single byte it says the same.
    Some(if last == 0 { 0 } else { last + 1 })
}

fn of_source(error: Error) -> Fault {
    Fault::new(error.kind(), "the content to push cannot be read").source(error)
}

/// How an upload is doing, seen from outside.
#[derive(Debug, Default)]
struct Sent {
    bytes: AtomicU64,
    failure: Mutex<Option<Error>>,
}

/// The content of an upload, held to its size.
struct Counted {
    content: ByteStream,
    left: u64,
    /// Whether what follows is left out, and not too much.
    cut: bool,
    sent: Arc<Sent>,
}

impl Stream for Counted {
    type Item = Result<Bytes, std::io::Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.cut && self.left == 0 {
            return Poll::Ready(None);
        }
        let failure = match std::task::ready!(self.content.as_mut().poll_next(cx)) {
            Some(Ok(piece)) if piece.len() as u64 <= self.left => {
                self.left -= piece.len() as u64;
                self.sent.bytes.fetch_add(piece.len() as u64, Ordering::Relaxed);
                return Poll::Ready(Some(Ok(piece)));
            }
            Some(Ok(mut piece)) if self.cut => {
                piece.truncate(usize::try_from(self.left).unwrap_or(usize::MAX));
                self.left = 0;
                self.sent.bytes.fetch_add(piece.len() as u64, Ordering::Relaxed);
                return Poll::Ready(Some(Ok(piece)));
            }
            Some(Ok(_)) => {
                Error::new(ErrorKind::Corrupt, "read blob").with_message("it is longer than its size")
            }
            Some(Err(error)) => error,
            None if self.left == 0 => return Poll::Ready(None),
            None => Error::new(ErrorKind::Corrupt, "read blob").with_message("it is shorter than its size"),
        };
        *self.sent.failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(failure);
        Poll::Ready(Some(Err(std::io::Error::other("the content to push cannot be read"))))
    }
}
