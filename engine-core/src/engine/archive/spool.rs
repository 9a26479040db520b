//! An archive that cannot be read twice (a pipe, or compressed) is written to a file without a name first.
//!
//! Invariant: the file has no name, so nothing is left of it after any death; it is never larger than the limit.

use std::fs::File;
use std::io::{self, BufReader, Read, Write as _};
use std::path::Path;

use bytes::{Buf as _, Bytes};
use rustix::fs::{MemfdFlags, Mode, OFlags};
use tokio::sync::mpsc;

use crate::decode::{Decoder, MAX_RATIO, MAX_WINDOW, RATIO_FROM};
use crate::error::{Error, ErrorKind, Result};
use crate::limit::too_large;

const BUFFER: usize = 256 << 10;

/// Makes a file without a name: beneath `dir`, or in memory.
pub(super) fn nameless(dir: Option<&Path>) -> Result<File> {
    let fail = |e: io::Error| Error::from_io("create temporary file", e);
    let Some(dir) = dir else {
        return Ok(rustix::fs::memfd_create("image archive", MemfdFlags::CLOEXEC)
            .map_err(|e| fail(e.into()))?
            .into());
    };
    let mode = Mode::RUSR | Mode::WUSR;
    match rustix::fs::open(dir, OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC, mode) {
        Ok(fd) => return Ok(fd.into()),
        // A file system without O_TMPFILE, see open(2).
        Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::ISDIR | rustix::io::Errno::NOENT) => {}
        Err(errno) => return Err(fail(errno.into())),
    }
    let mut random = [0; 16];
    getrandom::fill(&mut random).map_err(|e| fail(io::Error::other(e.to_string())))?;
    let path = dir.join(format!(".archive-{}", hex::encode(random)));
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::RDWR | OFlags::CLOEXEC;
    let file = rustix::fs::open(&path, flags, mode).map_err(|e| fail(e.into()))?;
    rustix::fs::unlink(&path).map_err(|e| fail(e.into()))?;
    Ok(file.into())
}

/// Writes what `source` holds, decompressed, to `file`: at most `limit` bytes.
pub(super) fn fill(file: &File, source: impl Read, limit: u64) -> Result<()> {
    let fail = |e: io::Error| match e.kind() {
        io::ErrorKind::OutOfMemory => exhausted(e.to_string()),
        io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidInput => {
            Error::new(ErrorKind::Corrupt, "read archive")
                .with_message("its compressed data is malformed")
                .with_source(e)
        }
        _ => match e.downcast::<Error>() {
            Ok(error) => error,
            Err(e) => Error::from_io("read archive", e),
        },
    };
    let mut source = Counted { source, taken: 0 };
    // The decoder looks at the first four bytes, which a pipe may hand out one by one.
    let mut head = Vec::new();
    source.by_ref().take(4).read_to_end(&mut head).map_err(fail)?;
    let reader = BufReader::with_capacity(BUFFER, Read::chain(io::Cursor::new(head), source));
    let mut decoder = Decoder::new(reader, MAX_WINDOW).map_err(fail)?;
    let mut buffer = vec![0; BUFFER];
    let (mut total, mut out) = (0_u64, file);
    loop {
        let count = match decoder.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(count) => count,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            Err(e) => return Err(fail(e)),
        };
        total += count as u64;
        let taken = decoder.source().get_ref().get_ref().1.taken;
        if total > limit {
            return Err(too_large("read archive", limit));
        }
        if total > RATIO_FROM && total / MAX_RATIO > taken {
            return Err(exhausted(format!("it grows more than {MAX_RATIO} times")));
        }
        out.write_all(&buffer[..count])
            .map_err(|e| Error::from_io("write archive to a temporary file", e))?;
    }
}

fn exhausted(why: String) -> Error {
    Error::new(ErrorKind::ResourceExhausted, "read archive").with_message(why)
}

/// Counts the bytes that were read.
struct Counted<R> {
    source: R,
    taken: u64,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let count = self.source.read(buf)?;
        self.taken += count as u64;
        Ok(count)
    }
}

/// The blocking end of a stream of pieces. A sender that goes without the end mark has failed or was dropped.
pub(super) struct Pieces {
    receiver: mpsc::Receiver<Option<Result<Bytes>>>,
    current: Bytes,
    ended: bool,
}

impl Pieces {
    pub(super) fn new(receiver: mpsc::Receiver<Option<Result<Bytes>>>) -> Self {
        Self { receiver, current: Bytes::new(), ended: false }
    }
}

impl Read for Pieces {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        while self.current.is_empty() && !self.ended {
            match self.receiver.blocking_recv() {
                Some(Some(piece)) => self.current = piece.map_err(io::Error::other)?,
                Some(None) => self.ended = true,
                None => return Err(io::Error::other(Error::new(ErrorKind::Canceled, "read archive"))),
            }
        }
        let count = self.current.len().min(buf.len());
        buf[..count].copy_from_slice(&self.current[..count]);
        self.current.advance(count);
        Ok(count)
    }
}
