//! Where things lie beneath the engine's root, and who may hold what.
//!
//! ```text
//! images/lock                        leases hold it shared, garbage collection exclusively (flock(2))
//! images/blobs/<algorithm>/<hex>     content, mode 0600
//! images/layers/<hex>/{info,fs/}     unpacked layers by diff ID
//! images/frozen/<snapshot>/          writable layers that were frozen, and are lower ones since
//! images/ingest/<owner>-<random>/    one for each store that writes, locked (flock(2)) while it lives
//! containers/<id>/{upper,work}       the writable layer (or rootfs/, where layers are copied)
//! ```
//! Invariant: what is in `blobs` or `layers` came there by one rename and is whole. What is in an ingest
//! directory that nobody holds is rubbish.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use rustix::fs::FlockOperation;
use rustix::io::Errno;

use super::remove::remove_tree;
use crate::digest::{Digest, DigestAlgorithm};
use crate::error::{Error, ErrorKind, Result};
use crate::id::ContainerId;

/// The directories of a store.
#[derive(Debug)]
pub(super) struct Layout {
    images: PathBuf,
    containers: PathBuf,
    /// For syncfs(2).
    images_fd: OwnedFd,
    syncs: Syncs,
}

impl Layout {
    /// Makes what is missing, closes what is open to others (SECURITY B9), sweeps what dead stores left.
    pub(super) fn open(root: &Path) -> Result<Self> {
        let fail = |path: &Path| {
            let path = path.to_owned();
            move |e| Error::from_io("open image store", e).with("path", path.display())
        };
        let root = std::path::absolute(root).map_err(fail(root))?;
        let images = root.join("images");
        let containers = root.join("containers");
        for dir in [
            &root,
            &images,
            &images.join("blobs"),
            &images.join("layers"),
            &images.join("ingest"),
            &images.join("frozen"),
            &containers,
        ] {
            private_dir(dir).map_err(fail(dir))?;
        }
        for algorithm in [DigestAlgorithm::Sha256, DigestAlgorithm::Sha512] {
            let dir = images.join("blobs").join(algorithm.as_str());
            private_dir(&dir).map_err(fail(&dir))?;
        }
        // A default ACL of a parent would be inherited by everything we unpack.
        for dir in [&images.join("ingest"), &images.join("layers"), &containers] {
            match rustix::fs::removexattr(dir, c"system.posix_acl_default") {
                Ok(()) | Err(Errno::NODATA | Errno::NOTSUP) => {}
                Err(errno) => return Err(fail(dir)(errno.into())),
            }
        }
        let images_fd = OwnedFd::from(File::open(&images).map_err(fail(&images))?);
        let layout = Self { images, containers, images_fd, syncs: Syncs::default() };
        layout.sweep()?;
        Ok(layout)
    }

    pub(super) fn images(&self) -> &Path {
        &self.images
    }

    pub(super) fn blob(&self, digest: &Digest) -> PathBuf {
        self.blob_dir(digest.algorithm()).join(digest.hex())
    }

    pub(super) fn blob_dir(&self, algorithm: DigestAlgorithm) -> PathBuf {
        self.images.join("blobs").join(algorithm.as_str())
    }

    pub(super) fn layers(&self) -> PathBuf {
        self.images.join("layers")
    }

    pub(super) fn frozen(&self) -> PathBuf {
        self.images.join("frozen")
    }

    /// A directory that is always empty.
    pub(super) fn empty_dir(&self) -> io::Result<PathBuf> {
        let path = self.images.join("empty");
        private_dir(&path).map(|()| path)
    }

    pub(super) fn layer(&self, diff_id: &Digest) -> PathBuf {
        self.layers().join(diff_id.hex())
    }

    pub(super) fn container(&self, id: &ContainerId) -> PathBuf {
        self.containers.join(id.as_str())
    }

    /// Brings everything written to the store's file system to the disk. Calls that wait for another's turn
    /// share the next one (group commit): forty layers do not cost forty times.
    pub(super) fn sync(&self) -> Result<()> {
        let sync = || rustix::fs::syncfs(&self.images_fd).map_err(io::Error::from);
        self.syncs.run(sync).map_err(|error| Error::from_io("sync image store", error))
    }

    /// Takes the store's lock: shared for a lease, exclusive to collect garbage. `None`: somebody holds a
    /// lease. Each call has an own open file, so leases of one process count one by one.
    pub(super) fn lock(&self, operation: FlockOperation) -> Result<Option<File>> {
        let path = self.images.join("lock");
        let fail = |e: io::Error| Error::from_io("lock image store", e).with("path", path.display());
        let mut options = fs::OpenOptions::new();
        let file = options.create(true).truncate(false).write(true).mode(0o600).open(&path).map_err(fail)?;
        loop {
            match rustix::fs::flock(&file, operation) {
                Ok(()) => return Ok(Some(file)),
                Err(Errno::WOULDBLOCK) => return Ok(None),
                Err(Errno::INTR) => {}
                Err(errno) => return Err(fail(errno.into())),
            }
        }
    }

    /// Removes the ingest directories whose owners died.
    pub(super) fn sweep(&self) -> Result<()> {
        let ingest = self.images.join("ingest");
        let fail = |e: io::Error| Error::from_io("sweep image store", e).with("path", ingest.display());
        let dir = OwnedFd::from(File::open(&ingest).map_err(fail)?);
        for entry in fs::read_dir(&ingest).map_err(fail)? {
            let name = entry.map_err(fail)?.file_name();
            let held = match File::open(ingest.join(&name)) {
                Ok(file) => rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).map(|()| file),
                Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
                Err(e) => return Err(fail(e)),
            };
            // The lock is kept during the removal: a maker that lost the race sees that its directory is gone.
            match held {
                Ok(_lock) => {
                    tracing::debug!(directory = ?name, "removing what a dead store left");
                    remove_tree(dir.as_fd(), name.as_bytes()).map_err(fail)?;
                }
                // A program that was killed while it started another one: the child has our descriptors, and the lock
                // with them, until it executes.
                Err(Errno::WOULDBLOCK) if owner_is_dead(&name.to_string_lossy()) => {
                    remove_tree(dir.as_fd(), name.as_bytes()).map_err(fail)?;
                }
                Err(Errno::WOULDBLOCK) => {}
                Err(errno) => return Err(fail(errno.into())),
            }
        }
        Ok(())
    }
}

/// Turns at bringing a file system to the disk.
#[derive(Debug, Default)]
struct Syncs {
    begun: AtomicU64,
    ended: Mutex<Ended>,
}

/// How many of the calls begun so far have ended, and how many of them with those that failed.
#[derive(Debug, Default)]
struct Ended {
    done: u64,
    failed: u64,
    errno: Option<i32>,
}

impl Syncs {
    /// Returns once a whole `sync` has come to its end since this was called.
    ///
    /// The kernel tells a failure once (syncfs(2)) and takes the pages for written then. So whoever waited meanwhile, whose data may have been
    /// among them, fails as well, rather than hear of the next `sync` that all is well.
    fn run(&self, sync: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        let mine = self.begun.fetch_add(1, Ordering::SeqCst) + 1;
        let mut ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        if ended.failed >= mine {
            return Err(ended
                .errno
                .map_or_else(|| io::ErrorKind::Other.into(), io::Error::from_raw_os_error));
        }
        if ended.done >= mine {
            return Ok(());
        }
        let begun = self.begun.load(Ordering::SeqCst);
        match sync() {
            Ok(()) => {
                ended.done = begun;
                Ok(())
            }
            Err(error) => {
                ended.failed = self.begun.load(Ordering::SeqCst);
                ended.errno = error.raw_os_error();
                Err(error)
            }
        }
    }
}

/// A directory for what is being written. It goes with the value, or is swept after our death.
#[derive(Debug)]
pub(super) struct Session {
    path: PathBuf,
    fd: OwnedFd,
    next: AtomicU64,
}

impl Session {
    pub(super) fn create(layout: &Layout) -> Result<Self> {
        let ingest = layout.images.join("ingest");
        let fail = |e: io::Error| Error::from_io("create ingest directory", e).with("path", ingest.display());
        loop {
            let mut random = [0; 16];
            getrandom::fill(&mut random).map_err(|e| fail(io::Error::other(e.to_string())))?;
            let path = ingest.join(format!("{}-{}", owner(), hex::encode(random)));
            DirBuilder::new().mode(0o700).create(&path).map_err(fail)?;
            let Ok(file) = File::open(&path) else { continue };
            // A sweep may have come between; then the directory is locked or gone.
            if rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
                continue;
            }
            let ours = file.metadata().map_err(fail)?.ino();
            if fs::symlink_metadata(&path).is_ok_and(|there| there.ino() == ours) {
                return Ok(Self { path, fd: file.into(), next: AtomicU64::new(0) });
            }
        }
    }

    /// The directory itself.
    pub(super) fn fd(&self) -> &OwnedFd {
        &self.fd
    }

    /// A name in the directory that was never used, and its path.
    pub(super) fn fresh(&self, kind: &str) -> (String, PathBuf) {
        let name = format!("{}.{kind}", self.next.fetch_add(1, Ordering::Relaxed));
        let path = self.path.join(&name);
        (name, path)
    }

    /// Removes something in the directory. Failures are left to the sweep.
    pub(super) fn discard(&self, name: &str) {
        if let Err(error) = remove_tree(self.fd.as_fd(), name.as_bytes()) {
            tracing::warn!(%error, name, "cannot remove a temporary file");
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if let (Some(parent), Some(name)) = (self.path.parent(), self.path.file_name())
            && let Ok(parent) = File::open(parent)
        {
            let _ = remove_tree(parent.as_fd(), name.as_bytes());
        }
    }
}

/// This process: its pid namespace and its number there.
fn owner() -> String {
    let namespace = fs::metadata("/proc/self/ns/pid").map_or(0, |namespace| namespace.ino());
    format!("{namespace}-{}", std::process::id())
}

/// Whether the maker of an ingest directory was a process of our pid namespace that is gone.
fn owner_is_dead(name: &str) -> bool {
    let Some((theirs, _)) = name.rsplit_once('-') else { return false };
    let (own, pid) = (owner(), theirs.rsplit_once('-').map_or("", |(_, pid)| pid));
    let same_namespace = own.split('-').next() == theirs.split('-').next();
    same_namespace && !own.starts_with("0-") && !Path::new("/proc").join(pid).exists()
}

/// Makes a directory that only its owner may enter, or makes an existing one so.
fn private_dir(path: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(0o700).recursive(false).create(path) {
        Ok(()) => Ok(()),
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
            let metadata = fs::symlink_metadata(path)?;
            if !metadata.is_dir() {
                return Err(io::Error::new(io::ErrorKind::NotADirectory, "it is not a directory"));
            }
            if metadata.permissions().mode() & 0o077 != 0 {
                fs::set_permissions(path, fs::Permissions::from_mode(0o700))?;
            }
            Ok(())
        }
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            DirBuilder::new().mode(0o700).recursive(true).create(path)
        }
        Err(e) => Err(e),
    }
}

/// fsync(2) of a directory, so that renames into it last.
pub(super) fn sync_dir(path: &Path) -> Result<()> {
    File::open(path)
        .and_then(|dir| dir.sync_all())
        .map_err(|e| Error::from_io("sync directory", e).with("path", path.display()))
}

/// The error for work that ended because its thread or task did.
pub(super) fn lost(operation: &'static str) -> Error {
    Error::new(ErrorKind::Other, operation).with_message("its worker stopped")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_waited_for_a_sync_that_failed_fails_as_well() {
        let syncs = Syncs::default();
        std::thread::scope(|scope| {
            let mut waiting = None;
            let failed = syncs.run(|| {
                waiting = Some(scope.spawn(|| syncs.run(|| Ok(()))));
                while syncs.begun.load(Ordering::SeqCst) < 2 {
                    std::thread::yield_now();
                }
                Err(Errno::IO.into())
            });
            let waited = waiting.unwrap().join().unwrap();
            for result in [failed, waited] {
                assert_eq!(result.unwrap_err().raw_os_error(), Some(Errno::IO.raw_os_error()));
            }
        });
        assert!(syncs.run(|| Ok(())).is_ok(), "what was written since is another's");
    }

    #[test]
    fn only_a_process_of_our_namespace_is_taken_for_dead() {
        let namespace = owner().split_once('-').unwrap().0.to_owned();
        assert!(!owner_is_dead(&format!("{}-abc", owner())));
        // Beyond the kernel's highest process number.
        assert!(owner_is_dead(&format!("{namespace}-5000000-abc")));
        assert!(!owner_is_dead("1-5000000-abc"));
        assert!(!owner_is_dead("abc"));
    }
}
