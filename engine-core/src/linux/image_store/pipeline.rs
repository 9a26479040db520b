//! One pass over a layer: decompress on one thread, hash and write files on another.
//!
//! Inflating and creating files are the two slow stages, and take about the same time, so each has a thread;
//! hashing the compressed bytes goes with the first and hashing the uncompressed ones with the second.
//! Buffers go round between the two: memory is the same for every layer (SECURITY C4).

use std::io::{self, BufRead, Read};
use std::os::fd::OwnedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};

use super::input::Input;
use super::layout::lost;
use super::options::LocalImageStoreOptions;
use super::unpack::{UnpackOptions, UnpackSummary, Whiteouts, check, unpack};
use crate::decode::Decoder;
use crate::descriptor::media_type::Compression;
use crate::digest::{Digest, DigestAlgorithm, DigestHasher};
use crate::error::{Error, ErrorKind, Result};
use crate::linux::files::work::settle;
use crate::tar::TarLimits;

/// Bytes of one buffer, and how many wait between the threads.
const BUFFER: usize = 128 << 10;
const QUEUE: usize = 8;
/// Below this, any ratio is fine.
const RATIO_FROM: u64 = 256 << 20;

/// Where a layer goes.
#[derive(Debug)]
pub(super) enum Target {
    /// Into this empty directory. `scratch` is a directory on the same file system.
    Directory { root: OwnedFd, scratch: OwnedFd, whiteouts: Whiteouts },
    /// Nowhere: it is only checked.
    Check,
}

/// What one pass over a layer tells.
#[derive(Debug)]
pub(super) struct Unpacking {
    pub(super) summary: UnpackSummary,
    /// The digest of what was unpacked.
    pub(super) diff_id: Digest,
    pub(super) compression: Compression,
}

/// Reads a layer from `input` to its end, unpacks it, and checks the digest of what was unpacked if that is known.
pub(super) fn run(
    input: &mut Input<'_>,
    diff_id: Option<&Digest>,
    target: Target,
    options: &LocalImageStoreOptions,
) -> Result<Unpacking> {
    let (full_sender, full) = sync_channel(QUEUE);
    let (empty_sender, empty) = channel();
    std::thread::scope(|scope| {
        // A thread of its own, and not of the runtime's blocking pool: the two wait for each other, and a
        // pool that is full would never start the second. It also gets a umask of its own.
        let writer = std::thread::Builder::new()
            .name("layer-files".into())
            .spawn_scoped(scope, move || {
                let source = Buffers {
                    full,
                    empty: empty_sender,
                    current: Vec::new(),
                    position: 0,
                    ended: false,
                    hasher: DigestHasher::new(diff_id.map_or(DigestAlgorithm::Sha256, Digest::algorithm)),
                };
                write_files(source, diff_id, target, options)
            })
            .map_err(|e| Error::from_io("start thread", e))?;
        let decoded = catch_unwind(AssertUnwindSafe(|| decode(input, full_sender, empty, options)))
            .unwrap_or_else(|_| Err(corrupt("its compressed data made the decoder fail")));
        let written = writer.join().unwrap_or_else(|_| Err(lost("unpack layer")));
        match (decoded, written) {
            (Err(error), _) | (Ok(_), Err(error)) => Err(error),
            (Ok(compression), Ok((summary, diff_id))) => Ok(Unpacking { summary, diff_id, compression }),
        }
    })
}

/// Decompresses into buffers. Ends with `Ok` also when the other thread gave up: then that one has the error.
fn decode(
    input: &mut Input<'_>,
    full: SyncSender<Option<Vec<u8>>>,
    empty: Receiver<Vec<u8>>,
    options: &LocalImageStoreOptions,
) -> Result<Compression> {
    if let Err(error) = input.prime() {
        return Err(decode_error(input, error));
    }
    let mut total: u64 = 0;
    let mut decoder =
        Decoder::new(&mut *input, options.max_zstd_window).map_err(|e| Error::from_io("read layer", e))?;
    let compression = decoder.compression().ok_or_else(|| {
        Error::new(ErrorKind::Unsupported, "read layer").with_message("it is compressed by xz or bzip2")
    })?;
    loop {
        let mut buffer = empty.try_recv().unwrap_or_default();
        buffer.resize(BUFFER, 0);
        let mut filled = 0;
        while filled < BUFFER {
            match decoder.read(&mut buffer[filled..]) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(decode_error(decoder.into_inner(), e)),
            }
        }
        if filled == 0 {
            let _ = full.send(None);
            return Ok(compression);
        }
        total += filled as u64;
        if total > RATIO_FROM {
            let received = decoder_received(&mut decoder);
            if total / options.max_ratio.max(1) > received {
                return Err(too_large(format!("it grows more than {} times", options.max_ratio)));
            }
        }
        buffer.truncate(filled);
        if full.send(Some(buffer)).is_err() {
            return Ok(compression);
        }
    }
}

fn decoder_received(decoder: &mut Decoder<&mut Input<'_>>) -> u64 {
    decoder.source().received()
}

fn decode_error(input: &mut Input<'_>, error: io::Error) -> Error {
    if let Some(failure) = input.take_failure() {
        return failure;
    }
    match error.kind() {
        io::ErrorKind::OutOfMemory => too_large(error.to_string()),
        // Whatever flate2 and ruzstd say of the data, it is the data that is wrong.
        _ => corrupt("its compressed data is malformed").with_source(error),
    }
}

fn write_files(
    source: Buffers,
    diff_id: Option<&Digest>,
    target: Target,
    options: &LocalImageStoreOptions,
) -> Result<(UnpackSummary, Digest)> {
    let tar = TarLimits { entries: options.max_entries, bytes: options.max_bytes, ..TarLimits::default() };
    let (summary, source) = match target {
        Target::Check => check(source, tar)?,
        Target::Directory { root, scratch, whiteouts } => {
            settle()?;
            unpack(source, root, &scratch, UnpackOptions { whiteouts, tar, copy: None })?
        }
    };
    let actual = source.hasher.finish();
    if let Some(diff_id) = diff_id.filter(|diff_id| **diff_id != actual) {
        return Err(Error::new(ErrorKind::Corrupt, "unpack layer")
            .with("diff id", diff_id)
            .with_message(format!("its uncompressed content has the digest {actual}")));
    }
    Ok((summary, actual))
}

/// The uncompressed bytes on the second thread, hashed as they come.
#[derive(Debug)]
struct Buffers {
    full: Receiver<Option<Vec<u8>>>,
    empty: Sender<Vec<u8>>,
    current: Vec<u8>,
    position: usize,
    ended: bool,
    hasher: DigestHasher,
}

impl Read for Buffers {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let count = self.fill_buf()?.read(buf)?;
        self.consume(count);
        Ok(count)
    }
}

impl BufRead for Buffers {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        while self.position == self.current.len() && !self.ended {
            // A sender that is gone without the end mark has failed.
            let next = self.full.recv().map_err(|_| io::Error::other("the layer's data stopped"))?;
            let used = match next {
                Some(buffer) => std::mem::replace(&mut self.current, buffer),
                None => {
                    self.ended = true;
                    std::mem::take(&mut self.current)
                }
            };
            let _ = self.empty.send(used);
            self.position = 0;
            self.hasher.update(&self.current);
        }
        Ok(&self.current[self.position..])
    }

    fn consume(&mut self, count: usize) {
        self.position += count;
    }
}

fn corrupt(why: &str) -> Error {
    Error::new(ErrorKind::Corrupt, "unpack layer").with_message(why)
}

fn too_large(why: String) -> Error {
    Error::new(ErrorKind::ResourceExhausted, "unpack layer")
        .with_message(why)
        .with_hint("raise the limit in LocalImageStoreOptions if the image is to be trusted")
}
