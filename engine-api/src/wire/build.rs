//! A build, and behind it the contexts that are sent, one after the other.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use engine_core::engine::{BuildContext, BuildSpec, CacheSource, CacheTarget, ContextArchive};
use engine_core::io::ByteStream;
use engine_core::{Error, ErrorKind, Result};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;

use super::secret::{WireCredentials, WireSecret};

/// What is asked for.
#[derive(Serialize, Deserialize)]
pub(crate) struct SentBuild {
    pub(crate) spec: BuildSpec,
    pub(crate) context: SentContext,
    pub(crate) contexts: BTreeMap<String, SentContext>,
    pub(crate) secrets: BTreeMap<String, WireSecret>,
    pub(crate) credentials: BTreeMap<String, WireCredentials>,
}

/// Where a context is.
#[derive(Serialize, Deserialize)]
pub(crate) enum SentContext {
    /// Whoever builds finds it.
    There(BuildContext),
    /// It follows, as an archive.
    Sent,
}

/// Frames a context: pieces with their lengths before them, and one of none behind the last.
pub(crate) fn framed(context: ByteStream) -> ByteStream {
    let pieces = context.try_filter(|piece| std::future::ready(!piece.is_empty())).and_then(|piece| {
        std::future::ready(match u32::try_from(piece.len()) {
            Ok(length) => Ok((Bytes::copy_from_slice(&length.to_be_bytes()), piece)),
            Err(_) => Err(Error::new(ErrorKind::ResourceExhausted, "send build context")),
        })
    });
    let flat = pieces.flat_map(|piece| {
        let (head, rest) = match piece {
            Ok((length, piece)) => (Ok(length), Some(Ok(piece))),
            Err(error) => (Err(error), None),
        };
        stream::iter(std::iter::once(head).chain(rest))
    });
    flat.chain(stream::iter([Ok(Bytes::from_static(&[0; 4]))])).boxed()
}

impl SentBuild {
    /// Returns what is to be built, with contexts that are read from `bytes`.
    ///
    /// # Errors
    /// [`PermissionDenied`](ErrorKind::PermissionDenied) if it names a directory of this host.
    pub(crate) fn into_spec(self, bytes: ByteStream) -> Result<BuildSpec> {
        let body =
            Arc::new(Mutex::new(Contexts { body: bytes, buffer: BytesMut::new(), left: 0, current: 0 }));
        let mut count = 0;
        let mut context = |sent| match sent {
            SentContext::Sent => {
                let archive = of(Arc::clone(&body), count);
                count += 1;
                Ok(BuildContext::Archive(ContextArchive::new(archive)))
            }
            SentContext::There(BuildContext::Directory(dir)) => {
                Err(Error::new(ErrorKind::PermissionDenied, "read build context")
                    .with("path", dir.display())
                    .with_message("a directory of the engine's host cannot be asked for from elsewhere"))
            }
            SentContext::There(context) => Ok(context),
        };
        let mut spec = self.spec;
        let there = spec.cache_from.iter().filter_map(|source| match source {
            CacheSource::Directory(dir) => Some(dir),
            _ => None,
        });
        let written = spec.cache_to.iter().filter_map(|target| match target {
            CacheTarget::Directory { path, .. } => Some(path),
            _ => None,
        });
        if let Some(dir) = there.chain(written).next() {
            return Err(Error::new(ErrorKind::PermissionDenied, "use build cache")
                .with("path", dir.display())
                .with_message("a directory of the engine's host cannot be asked for from elsewhere")
                .with_hint("use a cache in a registry"));
        }
        spec.context = context(self.context)?;
        for (name, sent) in self.contexts {
            spec.contexts.insert(name, context(sent)?);
        }
        let credentials = self.credentials.into_iter();
        spec.credentials = credentials
            .filter_map(|(registry, one)| Some((registry, WireCredentials::given(Some(one))?)))
            .collect();
        spec.secrets = self.secrets.into_iter().map(|(id, secret)| (id, secret.0)).collect();
        Ok(spec)
    }
}

/// Contexts that come one behind the other.
struct Contexts {
    body: ByteStream,
    buffer: BytesMut,
    /// Bytes of the piece under way that are still to come.
    left: usize,
    current: usize,
}

impl Contexts {
    /// The next piece of a context; those before it are passed over.
    async fn piece(&mut self, context: usize) -> Result<Option<Bytes>> {
        while self.current <= context {
            if self.left == 0 {
                while self.buffer.len() < 4 {
                    self.fill().await?;
                }
                self.left = self.buffer.get_u32() as usize;
                self.current += usize::from(self.left == 0);
                continue;
            }
            if self.buffer.is_empty() {
                self.fill().await?;
            }
            let piece = self.buffer.split_to(self.left.min(self.buffer.len()));
            self.left -= piece.len();
            if self.current == context {
                return Ok(Some(piece.freeze()));
            }
        }
        Ok(None)
    }

    async fn fill(&mut self) -> Result<()> {
        let piece = self.body.next().await.transpose()?.ok_or_else(|| {
            Error::new(ErrorKind::Corrupt, "read build context").with_message("it is not there in full")
        })?;
        if self.buffer.is_empty() && piece.len() > 4096 {
            // The usual case: no copy of what is large.
            self.buffer = piece.into();
        } else {
            self.buffer.put(piece);
        }
        Ok(())
    }
}

fn of(body: Arc<Mutex<Contexts>>, context: usize) -> ByteStream {
    let pieces = stream::try_unfold(body, move |body| async move {
        let piece = body.lock().await.piece(context).await?;
        Ok(piece.map(|piece| (piece, body)))
    });
    pieces.boxed()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn contexts_follow_one_another_however_they_are_cut() {
        let given = [&b"first"[..], &[7; 5000], b""];
        let whole: Vec<Bytes> = stream::iter(given)
            .flat_map(|content| {
                framed(
                    stream::iter(
                        content.chunks(1999).map(|c| Ok(Bytes::copy_from_slice(c))).collect::<Vec<_>>(),
                    )
                    .boxed(),
                )
            })
            .try_collect()
            .await
            .unwrap();
        let whole = whole.concat();
        for cut in [1, 3, 4096, 1 << 20] {
            let body =
                stream::iter(whole.chunks(cut).map(|c| Ok(Bytes::copy_from_slice(c))).collect::<Vec<_>>());
            let body = Arc::new(Mutex::new(Contexts {
                body: body.boxed(),
                buffer: BytesMut::new(),
                left: 0,
                current: 0,
            }));
            for (index, content) in given.iter().enumerate().filter(|(index, _)| cut != 3 || *index != 0) {
                let read: Vec<Bytes> = of(Arc::clone(&body), index).try_collect().await.unwrap();
                assert!(read.concat() == *content, "{cut} {index}");
            }
        }
        let cut = stream::iter([Ok(Bytes::copy_from_slice(&whole[..6]))]).boxed();
        let body = Arc::new(Mutex::new(Contexts { body: cut, buffer: BytesMut::new(), left: 0, current: 0 }));
        let error = of(body, 0).try_collect::<Vec<_>>().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt);
    }
}
