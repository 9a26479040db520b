//! Reading blobs: nothing is handed out that this process has not compared with its digest (SECURITY C6).

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::FileExt as _;

use bytes::Bytes;
use futures_util::stream;

use super::layer::{Fingerprint, LayerInfo};
use super::store::Shared;
use crate::digest::{Digest, DigestHasher};
use crate::error::{Error, ErrorKind, Result};
use crate::io::ByteStream;

/// Bytes of one piece of a stream.
const CHUNK: usize = 256 << 10;
/// What is read at once, without another thread: manifests and configurations are rarely larger.
const SMALL: usize = 64 << 10;

impl Shared {
    pub(super) fn blob_size(&self, digest: &Digest) -> Result<Option<u64>> {
        match std::fs::metadata(self.layout.blob(digest)) {
            Ok(metadata) => Ok(Some(metadata.len())),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(Error::from_io("look up blob", e).with("digest", digest)),
        }
    }

    /// Opens a blob, after comparing it with its digest if this process has not done so.
    pub(super) fn open_verified(&self, digest: &Digest) -> Result<File> {
        let fail = |e: io::Error| Error::from_io("open blob", e).with("digest", digest);
        let mut file = File::open(self.layout.blob(digest)).map_err(|e| match e.kind() {
            io::ErrorKind::NotFound => Error::new(ErrorKind::NotFound, "open blob")
                .with("digest", digest)
                .with_message("it is not in the store"),
            _ => fail(e),
        })?;
        if self.is_verified(digest) {
            return Ok(file);
        }
        let mut hasher = DigestHasher::new(digest.algorithm());
        let mut buffer = vec![0; CHUNK];
        loop {
            match file.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => hasher.update(&buffer[..count]),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(fail(e)),
            }
        }
        let actual = hasher.finish();
        if actual != *digest {
            return Err(Error::new(ErrorKind::Corrupt, "open blob")
                .with("digest", digest)
                .with_message(format!("its content on the disk was changed and has the digest {actual}"))
                .with_hint("pull the image again"));
        }
        self.set_verified(digest, true);
        file.seek(SeekFrom::Start(0)).map_err(fail)?;
        Ok(file)
    }

    /// Reads a whole blob of at most `limit` bytes.
    pub(super) fn read_blob(&self, digest: &Digest, limit: u64) -> Result<Vec<u8>> {
        let file = self.open_verified(digest)?;
        let mut bytes = Vec::new();
        file.take(limit + 1)
            .read_to_end(&mut bytes)
            .map_err(|e| Error::from_io("read blob", e).with("digest", digest))?;
        if bytes.len() as u64 > limit {
            return Err(Error::new(ErrorKind::Corrupt, "read blob")
                .with("digest", digest)
                .with_message(format!("it has more than {limit} bytes")));
        }
        Ok(bytes)
    }

    /// Reads a blob that is one piece, from `offset` on, if it can be had at once: nothing is left to be compared with its digest.
    pub(super) fn small_blob(&self, digest: &Digest, offset: u64) -> Result<Option<Bytes>> {
        if !self.is_verified(digest) {
            return Ok(None);
        }
        let file = self.open_verified(digest)?;
        let fail = |e: io::Error| Error::from_io("read blob", e).with("digest", digest);
        let size = file.metadata().map_err(fail)?.len();
        if size > SMALL as u64 {
            return Ok(None);
        }
        let mut bytes = vec![0; size.saturating_sub(offset) as usize];
        file.read_exact_at(&mut bytes, offset).map_err(fail)?;
        Ok(Some(bytes.into()))
    }

    pub(super) fn stream_blob(&self, digest: &Digest, offset: u64) -> Result<ByteStream> {
        let mut file = self.open_verified(digest)?;
        let fail = |e: io::Error| Error::from_io("read blob", e).with("digest", digest);
        file.seek(SeekFrom::Start(offset)).map_err(fail)?;
        // A manifest or config is one piece and needs no further thread.
        let first = read_chunk(&mut file, digest)?;
        if first.len() < CHUNK {
            let only = (!first.is_empty()).then_some(Ok(first));
            return Ok(Box::pin(stream::iter(only)));
        }
        let digest = digest.clone();
        Ok(Box::pin(stream::try_unfold((file, Some(first)), move |(mut file, ready)| {
            let digest = digest.clone();
            async move {
                if let Some(chunk) = ready {
                    return Ok(Some((chunk, (file, None))));
                }
                let (file, chunk) = tokio::task::spawn_blocking(move || {
                    let chunk = read_chunk(&mut file, &digest);
                    (file, chunk)
                })
                .await
                .map_err(|e| Error::new(ErrorKind::Other, "read blob").with_source(e))?;
                let chunk = chunk?;
                Ok((!chunk.is_empty()).then_some((chunk, (file, None))))
            }
        })))
    }

    /// Checks the blob behind an unpacked layer, without reading it while stat(2) says that nobody wrote to it
    /// since the layer was made.
    pub(super) fn check_layer_blob(&self, info: &LayerInfo) -> Result<()> {
        let Some((digest, print)) = &info.blob else { return Ok(()) };
        match std::fs::metadata(self.layout.blob(digest)) {
            Ok(metadata) if Fingerprint::of(&metadata).matches(print) => Ok(()),
            Ok(_) => self.open_verified(digest).map(drop),
            // The layer does not need it any more.
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(e) => Err(Error::from_io("look up blob", e).with("digest", digest)),
        }
    }
}

/// Reads up to a full chunk; less only at the end.
fn read_chunk(file: &mut File, digest: &Digest) -> Result<Bytes> {
    let mut buffer = Vec::with_capacity(CHUNK);
    file.take(CHUNK as u64)
        .read_to_end(&mut buffer)
        .map_err(|e| Error::from_io("read blob", e).with("digest", digest))?;
    Ok(buffer.into())
}
