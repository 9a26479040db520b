//! The files of blobs.
//!
//! Invariant: what has a blob's name is whole and synced.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::ops::Range;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use engine_core::digest::{Digest, DigestAlgorithm};
use engine_core::error::{Error, Result};
use engine_core::io::ByteStream;
use futures_util::stream;
use rustix::buffer::spare_capacity;
use tokio::task::{JoinHandle, spawn_blocking};

/// Bytes of a piece that is read at once.
const PIECE: u64 = 256 << 10;

const ALGORITHMS: [DigestAlgorithm; 2] = [DigestAlgorithm::Sha256, DigestAlgorithm::Sha512];

#[derive(Debug)]
pub(super) struct Blobs {
    dir: PathBuf,
}

impl Blobs {
    pub(super) fn open(dir: &Path) -> Result<Self> {
        for algorithm in ALGORITHMS {
            private_dir(&dir.join(algorithm.as_str()))?;
        }
        sync_dir(dir)?;
        Ok(Self { dir: dir.to_owned() })
    }

    fn dir(&self, digest: &Digest) -> PathBuf {
        self.dir.join(digest.algorithm().as_str())
    }

    /// A digest's hash is hex digits, checked when it was parsed.
    fn path(&self, digest: &Digest) -> PathBuf {
        self.dir(digest).join(digest.hex())
    }

    pub(super) fn has(&self, digest: &Digest) -> bool {
        self.path(digest).exists()
    }

    /// Makes a blob of the file at `path`, which is synced and whose bytes are those of `digest`. The file keeps its other
    /// name, for if the blob is removed as garbage before it has a row.
    pub(super) fn take(&self, digest: &Digest, path: &Path) -> Result<()> {
        let failed = |error| Error::from_io("store blob", error).with("blob", digest);
        let beside = path.with_extension("blob");
        fs::hard_link(path, &beside).map_err(failed)?;
        // Where the same blob lies without a row, it is replaced by the same bytes.
        fs::rename(&beside, self.path(digest)).map_err(failed)?;
        sync_dir(&self.dir(digest))
    }

    /// Calls `see` with the digest of every file, whether it has a row or not.
    pub(super) fn each(&self, mut see: impl FnMut(Digest) -> Result<()>) -> Result<()> {
        for algorithm in ALGORITHMS {
            let dir = self.dir.join(algorithm.as_str());
            let failed = |error| Error::from_io("list blobs", error).with("path", dir.display());
            for entry in fs::read_dir(&dir).map_err(failed)? {
                let name = entry.map_err(failed)?.file_name();
                let text = format!("{}:{}", algorithm.as_str(), name.to_string_lossy());
                // What has another name is not ours.
                if let Ok(digest) = text.parse() {
                    see(digest)?;
                }
            }
        }
        Ok(())
    }

    /// Returns the size of a file and when it came to its place, in seconds since 1970.
    pub(super) fn age(&self, digest: &Digest) -> Result<Option<(u64, i64)>> {
        match fs::metadata(self.path(digest)) {
            Ok(found) => Ok(Some((found.len(), found.ctime()))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::from_io("read blob", error).with("blob", digest)),
        }
    }

    pub(super) fn remove(&self, digest: &Digest) -> Result<()> {
        fs::remove_file(self.path(digest)).map_err(|e| Error::from_io("remove blob", e).with("blob", digest))
    }

    pub(super) fn read(&self, digest: &Digest, range: Range<u64>) -> Result<ByteStream> {
        let failed = |error| Error::from_io("read blob", error).with("blob", digest);
        let file = Arc::new(File::open(self.path(digest)).map_err(failed)?);
        // The first piece comes with the opening: for most blobs that is all.
        let first = piece(&file, &range)?;
        let at = range.start + first.len() as u64;
        let state = Reading { file, range: at..range.end, first: Some(first), next: None };
        Ok(Box::pin(stream::try_unfold(state, |mut state| async {
            let piece = match (state.first.take(), state.next.take()) {
                (Some(first), _) => first,
                (None, Some(next)) => {
                    next.await.map_err(|e| Error::from_io("read blob", io::Error::other(e)))??
                }
                (None, None) => return Ok(None),
            };
            state.read_ahead();
            Ok((!piece.is_empty()).then_some((piece, state)))
        })))
    }
}

/// A blob on its way out: while one piece is sent, the next is read.
struct Reading {
    file: Arc<File>,
    range: Range<u64>,
    first: Option<Bytes>,
    next: Option<JoinHandle<Result<Bytes>>>,
}

impl Reading {
    fn read_ahead(&mut self) {
        if self.range.is_empty() {
            return;
        }
        let (file, range) = (Arc::clone(&self.file), self.range.clone());
        self.range.start = (self.range.start + PIECE).min(self.range.end);
        self.next = Some(spawn_blocking(move || piece(&file, &range)));
    }
}

/// Reads the first piece of a range, which the file has.
fn piece(file: &File, range: &Range<u64>) -> Result<Bytes> {
    let size = usize::try_from(PIECE.min(range.end.saturating_sub(range.start))).unwrap_or(0);
    let mut buffer = Vec::with_capacity(size);
    while buffer.len() < size {
        let at = range.start + buffer.len() as u64;
        match rustix::io::pread(file, spare_capacity(&mut buffer), at) {
            Ok(0) => return Err(Error::from_io("read blob", io::ErrorKind::UnexpectedEof.into())),
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(Error::from_io("read blob", error.into())),
        }
    }
    // The capacity, and the file, may be more than was asked for.
    buffer.truncate(size);
    Ok(buffer.into())
}

/// Makes a directory that only its owner may enter.
pub(super) fn private_dir(path: &Path) -> Result<()> {
    DirBuilder::new()
        .mode(0o700)
        .recursive(true)
        .create(path)
        .map_err(|error| Error::from_io("make directory", error).with("path", path.display()))
}

/// fsync(2) of a directory, so that renames into it last.
fn sync_dir(path: &Path) -> Result<()> {
    File::open(path)
        .and_then(|dir| dir.sync_all())
        .map_err(|error| Error::from_io("sync directory", error).with("path", path.display()))
}
