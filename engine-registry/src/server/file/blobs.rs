//! The files of blobs.
//!
//! Invariant: what has a blob's name is whole and synced, and is never written to again: whoever has it open reads the blob's bytes,
//! also when its name is gone.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::ops::Range;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use engine_core::digest::{Digest, DigestAlgorithm};
use engine_core::error::{Error, Result};
use engine_core::io::ByteStream;

use crate::server::pieces;

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
        // The first piece comes with the opening: for most blobs that is all.
        pieces::begun(Arc::new(self.file(digest)?), range)
    }

    pub(super) fn file(&self, digest: &Digest) -> Result<File> {
        File::open(self.path(digest)).map_err(|error| Error::from_io("read blob", error).with("blob", digest))
    }
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
