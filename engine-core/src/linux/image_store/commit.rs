//! A container's changes as a layer: into the store for an image, or unpacked for a snapshot.

use std::fs::{self, File};
use std::io::{self, BufReader, Write};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;

use flate2::Compression;
use flate2::write::GzEncoder;

use super::changes::{self, Trees};
use super::ingest::Temporary;
use super::layout::lost;
use super::store::Shared;
use super::unpack::{UnpackOptions, Whiteouts, split_path, unpack};
use crate::descriptor::{Descriptor, media_type};
use crate::digest::{Digest, DigestAlgorithm, DigestHasher};
use crate::error::{Error, Result};
use crate::files::ChangeKind;
use crate::id::ContainerId;
use crate::image_store::LayerOptions;
use crate::linux::files::pack::{Clamp, PackOptions, Packer};
use crate::linux::files::work::settle;
use crate::tar::{ArchiveWriter, TarLimits, Timestamp};

/// Writes the differences as the archive of a layer. The same differences give the same bytes.
fn write_layer<W: Write>(trees: &Trees, clamp: Option<Clamp>, target: W) -> io::Result<W> {
    let mut writer = ArchiveWriter::new(target);
    // Where a file has holes is the file system's affair.
    let options = PackOptions { sparse: false, clamp, ..PackOptions::default() };
    let mut packer = Packer::new(options, &mut writer);
    changes::walk(trees, &mut |found| match found.now {
        Some((handle, stat)) => packer.add(handle, stat, found.path).map(drop),
        None => {
            debug_assert_eq!(found.kind, ChangeKind::Deleted);
            let (parent, name) = split_path(found.path);
            let hidden = super::unpack::join(parent, &[b".wh.", name].concat());
            packer.mark(&hidden, Timestamp::default())
        }
    })?;
    writer.finish()
}

/// Hashes and counts what passes.
struct Hashed<W> {
    target: W,
    hasher: DigestHasher,
    bytes: u64,
}

impl<W> Hashed<W> {
    fn new(target: W) -> Self {
        Self { target, hasher: DigestHasher::new(DigestAlgorithm::Sha256), bytes: 0 }
    }
}

impl<W: Write> Write for Hashed<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.target.write(bytes)?;
        self.hasher.update(&bytes[..count]);
        self.bytes += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.target.flush()
    }
}

impl Shared {
    /// Makes a layer of what the container changed: its blob and its files are in the store then.
    pub(super) fn commit_rootfs(
        &self,
        id: &ContainerId,
        options: &LayerOptions,
    ) -> Result<(Descriptor, Digest)> {
        let fail = |e: io::Error| Error::from_io("commit container", e).with("container", id);
        let mut trees = self.trees("commit container", id, None)?;
        let relative =
            |path: &PathBuf| path.strip_prefix("/").unwrap_or(path).as_os_str().as_bytes().to_vec();
        trees.mount_points = options.mount_points.iter().map(relative).collect();
        let clamp = options.clamp.map(|(later_than, to)| Clamp { later_than, to });
        let session = self.session()?;
        let blob = Temporary::new(&session, "blob");
        let file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&blob.path);
        // What compresses little more costs several times as much; a header without a time keeps the bytes the same.
        let packed = Hashed::new(io::BufWriter::with_capacity(1 << 17, file.map_err(fail)?));
        let plain = Hashed::new(GzEncoder::new(packed, Compression::fast()));
        let plain = write_layer(&trees, clamp, plain).map_err(fail)?;
        let diff_id = plain.hasher.finish();
        let packed = plain.target.finish().map_err(fail)?;
        let (bytes, digest) = (packed.bytes, packed.hasher.finish());
        let file = packed.target.into_inner().map_err(|e| fail(e.into_error()))?;
        file.sync_data().map_err(fail)?;
        drop((file, trees));
        fs::rename(&blob.path, self.layout.blob(&digest)).map_err(fail)?;
        self.set_verified(&digest, true);
        self.unsynced.store(true, std::sync::atomic::Ordering::Release);
        let descriptor = Descriptor::new(media_type::OCI_LAYER_GZIP, digest, bytes);
        // Of a layer that is here, this blob was made just now.
        match self.layer_info(&diff_id)? {
            Some(_) => self.note_blob_of(&descriptor.digest, &diff_id)?,
            None => self.unpack_stored(&descriptor, &diff_id)?,
        }
        Ok((descriptor, diff_id))
    }

    /// Copies what the container changed into the empty directory `root`, in the form that overlayfs takes.
    pub(super) fn copy_changes(&self, trees: &Trees, root: OwnedFd, scratch: &OwnedFd) -> Result<()> {
        let fail = |e: io::Error| Error::from_io("copy container's changes", e);
        let (source, target) = io::pipe().map_err(fail)?;
        std::thread::scope(|scope| {
            let writer = scope.spawn(move || {
                settle()?;
                let limits = TarLimits { entries: u64::MAX, ..TarLimits::default() };
                let options = UnpackOptions { whiteouts: Whiteouts::Overlay, tar: limits, copy: None };
                unpack(BufReader::with_capacity(1 << 17, source), root, scratch, options)
                    .map_err(|error| error.into_error("copy container's changes"))
            });
            // The end of the pipe is dropped before the reader is waited for.
            let written = write_layer(trees, None, io::BufWriter::with_capacity(1 << 17, target)).map(drop);
            let read = writer.join().unwrap_or_else(|_| Err(lost("copy container's changes")));
            // A reader that gave up is why writing failed.
            read?;
            written.map_err(fail)
        })
    }

    /// Opens a directory as a descriptor.
    pub(super) fn open_dir(path: &std::path::Path) -> io::Result<OwnedFd> {
        Ok(File::open(path)?.into())
    }
}
