//! A blob's bytes on their way in: counted, hashed and written to the blob file exactly once.

use std::fs::File;
use std::io::{self, BufRead, Read, Write as _};

use bytes::{Buf as _, Bytes};

use crate::descriptor::Descriptor;
use crate::digest::{Digest, DigestAlgorithm, DigestHasher};
use crate::error::{Error, ErrorKind, Result};
use crate::limit::too_large;

/// Hands out a blob's bytes to a decoder and checks them against a descriptor as they pass.
///
/// Its `io::Error`s are markers: the typed error waits in [`failure`](Self::failure).
pub(super) struct Input<'a> {
    /// The next piece; `None` at the end.
    next: Box<dyn FnMut() -> Result<Option<Bytes>> + 'a>,
    /// Where the bytes are kept, if they come from outside.
    file: Option<File>,
    current: Bytes,
    hasher: DigestHasher,
    /// What the bytes must be; `None` if that is to be found out.
    descriptor: Option<&'a Descriptor>,
    /// The most bytes that are taken in.
    limit: u64,
    received: u64,
    ended: bool,
    failure: Option<Error>,
}

impl<'a> Input<'a> {
    pub(super) fn new(
        descriptor: &'a Descriptor,
        file: Option<File>,
        next: impl FnMut() -> Result<Option<Bytes>> + 'a,
    ) -> Self {
        Self {
            next: Box::new(next),
            file,
            current: Bytes::new(),
            hasher: DigestHasher::new(descriptor.digest.algorithm()),
            descriptor: Some(descriptor),
            limit: descriptor.size,
            received: 0,
            ended: false,
            failure: None,
        }
    }

    /// Takes in bytes of which nothing is known, at most `limit` of them.
    pub(super) fn unknown(file: File, limit: u64, next: impl FnMut() -> Result<Option<Bytes>> + 'a) -> Self {
        Self {
            next: Box::new(next),
            file: Some(file),
            current: Bytes::new(),
            hasher: DigestHasher::new(DigestAlgorithm::Sha256),
            descriptor: None,
            limit,
            received: 0,
            ended: false,
            failure: None,
        }
    }

    /// Reads the bytes of `file` instead of new ones.
    pub(super) fn from_file(descriptor: &'a Descriptor, mut file: File) -> Self {
        Self::new(descriptor, None, move || {
            let mut buffer = vec![0; 1 << 17];
            let count = file.read(&mut buffer).map_err(|e| Error::from_io("read blob", e))?;
            buffer.truncate(count);
            Ok((count > 0).then(|| buffer.into()))
        })
    }

    /// Makes sure that the first buffer is long enough to tell a compression from.
    pub(super) fn prime(&mut self) -> io::Result<()> {
        while self.current.len() < 4 && !self.ended {
            let before = std::mem::take(&mut self.current);
            self.pull()?;
            if !before.is_empty() {
                self.current = [&before[..], &self.current[..]].concat().into();
            }
        }
        Ok(())
    }

    /// Bytes taken in so far.
    pub(super) fn received(&self) -> u64 {
        self.received
    }

    pub(super) fn take_failure(&mut self) -> Option<Error> {
        self.failure.take()
    }

    /// Takes in what is left, checks the digest and returns the blob file with its digest and size.
    pub(super) fn finish(mut self) -> Result<(Option<File>, Digest, u64)> {
        while !self.ended {
            if let Err(error) = self.pull() {
                return Err(self.failure.unwrap_or_else(|| Error::from_io("receive blob", error)));
            }
        }
        let digest = self.hasher.finish();
        if let Some(descriptor) = self.descriptor
            && digest != descriptor.digest
        {
            return Err(Error::new(ErrorKind::Corrupt, "receive blob")
                .with("digest", &descriptor.digest)
                .with_message(format!("its content has the digest {digest}")));
        }
        Ok((self.file, digest, self.received))
    }

    /// Gets the next piece into `current`, which is used up.
    fn pull(&mut self) -> io::Result<()> {
        self.try_pull().map_err(|error| {
            self.failure = Some(error);
            io::Error::other("no more input")
        })
    }

    fn try_pull(&mut self) -> Result<()> {
        let (limit, descriptor) = (self.limit, self.descriptor);
        let about = |error: Error| match descriptor {
            Some(descriptor) => error.with("digest", &descriptor.digest),
            None => error,
        };
        let wrong = |why: String| about(Error::new(ErrorKind::Corrupt, "receive blob")).with_message(why);
        let Some(chunk) = (self.next)()? else {
            self.ended = true;
            if descriptor.is_some() && self.received != limit {
                return Err(wrong(format!("it ends after {} of {limit} bytes", self.received)));
            }
            return Ok(());
        };
        self.received += chunk.len() as u64;
        if self.received > limit {
            return Err(match descriptor {
                Some(_) => wrong(format!("it is longer than the {limit} bytes it should have")),
                None => too_large("receive blob", limit),
            });
        }
        self.hasher.update(&chunk);
        if let Some(file) = &mut self.file {
            file.write_all(&chunk).map_err(|e| about(Error::from_io("write blob", e)))?;
        }
        self.current = chunk;
        Ok(())
    }
}

impl Read for Input<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let count = self.fill_buf()?.read(buf)?;
        self.consume(count);
        Ok(count)
    }
}

impl BufRead for Input<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        while self.current.is_empty() && !self.ended {
            self.pull()?;
        }
        Ok(&self.current)
    }

    fn consume(&mut self, count: usize) {
        self.current.advance(count);
    }
}

impl std::fmt::Debug for Input<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Input").field("received", &self.received).finish_non_exhaustive()
    }
}
