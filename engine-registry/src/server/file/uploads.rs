//! The files of uploads.
//!
//! A file's length is how far the upload got, so there is nothing else to keep. Whoever changes one holds its lock (flock(2)), in
//! whichever program; a file that has lost its name is no upload any more, nor is one that has two: it is a blob. The hash of what was written is kept in memory
//! and computed anew where another program, or this one before a restart, wrote.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use engine_core::digest::{Digest, DigestAlgorithm, DigestHasher};
use engine_core::error::{Error, ErrorKind, Result};
use futures_util::StreamExt as _;
use rustix::fs::{FlockOperation, flock};

use super::blobs::private_dir;
use super::blocking;
use crate::server::names::{RepositoryName, UploadId};
use crate::server::storage::Incoming;

/// Bytes that are gathered before they are hashed and written.
const BATCH: usize = 256 << 10;
/// Hashes that are kept; with more uploads than that at once, some are hashed anew in the end.
const MAX_HASHES: usize = 4096;

#[derive(Debug)]
pub(super) struct Uploads {
    dir: PathBuf,
    /// The state of the hash after so many bytes.
    hashes: Mutex<HashMap<UploadId, (u64, DigestHasher)>>,
}

/// An upload that nobody else changes.
#[derive(Debug)]
pub(super) struct Locked {
    file: File,
    path: PathBuf,
    size: u64,
}

impl Drop for Locked {
    fn drop(&mut self) {
        // Closing it is not enough: a process that this program is just starting has the descriptor, too, until its execve.
        let _ = flock(&self.file, FlockOperation::Unlock);
    }
}

/// An upload whose bytes were found right; what is left of it goes when this is dropped.
#[derive(Debug)]
pub(super) struct Finished(Locked);

impl Finished {
    /// Brings the bytes to the disk.
    pub(super) fn sync(&self) -> Result<()> {
        self.0
            .file
            .sync_all()
            .map_err(|e| Error::from_io("store blob", e).with("path", self.0.path.display()))
    }

    pub(super) fn path(&self) -> &Path {
        &self.0.path
    }

    pub(super) fn size(&self) -> u64 {
        self.0.size
    }
}

impl Drop for Finished {
    fn drop(&mut self) {
        // Still under its lock. If it became a blob, that has another name.
        let _ = fs::remove_file(&self.0.path);
    }
}

impl Uploads {
    pub(super) fn open(dir: &Path) -> Result<Self> {
        private_dir(dir)?;
        Ok(Self { dir: dir.to_owned(), hashes: Mutex::default() })
    }

    /// A repository's name may be longer than a file's, and has slashes.
    fn path(&self, repository: &RepositoryName, id: &UploadId) -> PathBuf {
        let repository = Digest::sha256(repository.as_str().as_bytes());
        self.dir.join(format!("{id}-{}", &repository.hex()[..32]))
    }

    fn hashes(&self) -> MutexGuard<'_, HashMap<UploadId, (u64, DigestHasher)>> {
        self.hashes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn begin(&self, repository: &RepositoryName) -> Result<UploadId> {
        let id = UploadId::random();
        let path = self.path(repository, &id);
        OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)
            .map_err(|error| Error::from_io("begin upload", error).with("path", path.display()))?;
        Ok(id)
    }

    pub(super) fn size(&self, repository: &RepositoryName, id: &UploadId) -> Result<Option<u64>> {
        match fs::metadata(self.path(repository, id)) {
            Ok(metadata) => Ok((metadata.nlink() == 1).then_some(metadata.len())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::from_io("read upload", error).with("upload", id)),
        }
    }

    pub(super) async fn append(
        &self,
        repository: &RepositoryName,
        id: &UploadId,
        offset: Option<u64>,
        body: &mut Incoming<'_>,
    ) -> Result<u64> {
        let (path, of) = (self.path(repository, id), id.clone());
        let mut upload = blocking(move || Locked::open(path, &of)).await?;
        if offset.is_some_and(|offset| offset != upload.size) {
            return Err(Error::new(ErrorKind::Conflict, "append to upload")
                .with("upload", id)
                .with_message(format!("it has {} bytes", upload.size)));
        }
        let mut hash = match (upload.size, self.hashes().remove(id)) {
            (0, _) => Some(DigestHasher::new(DigestAlgorithm::Sha256)),
            (size, Some((known, hash))) if known == size => Some(hash),
            _ => None,
        };
        loop {
            let (batch, end) = gather(body).await;
            if !batch.is_empty() {
                (upload, hash) = blocking(move || upload.write(&batch, hash)).await?;
            }
            if let Some(end) = end {
                self.remember(id, upload.size, hash);
                return end.map(|()| upload.size);
            }
        }
    }

    fn remember(&self, id: &UploadId, size: u64, hash: Option<DigestHasher>) {
        let Some(hash) = hash else { return };
        let mut hashes = self.hashes();
        // Some are of uploads that were given up.
        if hashes.len() >= MAX_HASHES
            && let Some(other) = hashes.keys().next().cloned()
        {
            hashes.remove(&other);
        }
        hashes.insert(id.clone(), (size, hash));
    }

    /// Ends an upload, if its bytes are those of `digest` or not.
    pub(super) fn finish(
        &self,
        repository: &RepositoryName,
        id: &UploadId,
        digest: &Digest,
    ) -> Result<Finished> {
        let upload = Locked::open(self.path(repository, id), id)?;
        let known = self.hashes().remove(id).filter(|(size, _)| *size == upload.size);
        let known = known.map(|(_, hash)| hash.finish());
        let mut finished = Finished(upload);
        let actual = match known {
            Some(known) if known.algorithm() == digest.algorithm() => known,
            _ => finished
                .0
                .hash(digest.algorithm())
                .map_err(|error| Error::from_io("read upload", error).with("upload", id))?,
        };
        if actual != *digest {
            return Err(Error::new(ErrorKind::Corrupt, "store blob")
                .with("blob", digest)
                .with_message(format!("the bytes have the digest {actual}")));
        }
        Ok(finished)
    }

    pub(super) fn cancel(&self, repository: &RepositoryName, id: &UploadId) -> Result<bool> {
        self.hashes().remove(id);
        match fs::remove_file(self.path(repository, id)) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(Error::from_io("cancel upload", error).with("upload", id)),
        }
    }

    pub(super) fn sweep(&self, idle: Duration) -> Result<u64> {
        let failed = |error| Error::from_io("sweep uploads", error).with("path", self.dir.display());
        let mut swept = 0;
        for entry in fs::read_dir(&self.dir).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let name = entry.file_name();
            let id = name.to_str().and_then(|name| name.split('-').next()?.parse::<UploadId>().ok());
            let Some(id) = id else { continue };
            // A clock that was set back makes an upload young.
            let is_old = |found: io::Result<fs::Metadata>| {
                let touched = found.and_then(|metadata| metadata.modified());
                touched.is_ok_and(|at| SystemTime::now().duration_since(at).unwrap_or_default() >= idle)
            };
            // Whoever is about to go on with a young one is not to find it locked.
            if !is_old(entry.metadata()) {
                continue;
            }
            // Also what has become a blob, and was not cleared away.
            let Ok(upload) = Locked::lock(entry.path(), &id) else { continue };
            if is_old(upload.file.metadata()) {
                self.hashes().remove(&id);
                fs::remove_file(&upload.path).map_err(failed)?;
                swept += 1;
            }
        }
        Ok(swept)
    }
}

/// Waits for a batch of a body, and tells how the body ended if it did.
async fn gather(body: &mut Incoming<'_>) -> (Vec<Bytes>, Option<Result<()>>) {
    let (mut batch, mut length) = (Vec::new(), 0);
    while length < BATCH {
        match body.next().await {
            Some(Ok(piece)) => {
                length += piece.len();
                batch.push(piece);
            }
            Some(Err(error)) => return (batch, Some(Err(error))),
            None => return (batch, Some(Ok(()))),
        }
    }
    (batch, None)
}

impl Locked {
    /// Locks what is an upload still: after a crash, the file may be a blob's, which nobody may write to any more.
    fn open(path: PathBuf, id: &UploadId) -> Result<Self> {
        let upload = Self::lock(path, id)?;
        match upload.file.metadata() {
            Ok(own) if own.nlink() == 1 => Ok(upload),
            Ok(_) => Err(Error::new(ErrorKind::NotFound, "open upload").with("upload", id)),
            Err(error) => Err(Error::from_io("open upload", error).with("upload", id)),
        }
    }

    fn lock(path: PathBuf, id: &UploadId) -> Result<Self> {
        let failed = |error: io::Error| Error::from_io("open upload", error).with("upload", id);
        let mut file = OpenOptions::new().read(true).write(true).open(&path).map_err(failed)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::AGAIN) => {
                return Err(Error::new(ErrorKind::Unavailable, "open upload")
                    .with("upload", id)
                    .with_message("it is being written to"));
            }
            Err(error) => return Err(failed(error.into())),
        }
        // Whoever had the lock may have ended the upload.
        let (own, named) = (file.metadata().map_err(failed)?, fs::metadata(&path).map_err(failed)?);
        if (own.dev(), own.ino()) != (named.dev(), named.ino()) {
            return Err(failed(io::ErrorKind::NotFound.into()));
        }
        let size = file.seek(SeekFrom::End(0)).map_err(failed)?;
        Ok(Self { file, path, size })
    }

    /// Appends a batch. When that fails, the file is as long as it was, or its hash is forgotten.
    fn write(
        mut self,
        batch: &[Bytes],
        mut hash: Option<DigestHasher>,
    ) -> Result<(Self, Option<DigestHasher>)> {
        for piece in batch {
            if let Err(error) = self.file.write_all(piece) {
                let _ = self.file.set_len(self.size);
                return Err(Error::from_io("write upload", error).with("path", self.path.display()));
            }
            self.size += piece.len() as u64;
            if let Some(hash) = &mut hash {
                hash.update(piece);
            }
        }
        Ok((self, hash))
    }

    fn hash(&mut self, algorithm: DigestAlgorithm) -> io::Result<Digest> {
        self.file.seek(SeekFrom::Start(0))?;
        let mut hash = DigestHasher::new(algorithm);
        let mut buffer = vec![0; BATCH];
        loop {
            match self.file.read(&mut buffer)? {
                0 => return Ok(hash.finish()),
                read => hash.update(&buffer[..read]),
            }
        }
    }
}
