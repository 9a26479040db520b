//! Which blobs are known to unpack to a layer (SECURITY C6).
//!
//! An image says it of its blobs, and may say anything. A blob is known once its bytes were decompressed and had the layer's diff ID:
//! the one that was unpacked stands in the layer's `info`, and each other one is an empty file in the layer's `blobs`. So what is
//! known goes with the layer, and what a crash takes is found out again.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::PathBuf;

use super::input::Input;
use super::layer::LayerInfo;
use super::pipeline::{self, Target};
use super::store::Shared;
use crate::digest::Digest;
use crate::error::{Error, Result};

impl Shared {
    /// Whether `blob` is known to unpack to the layer of which `info` is known.
    pub(super) fn is_blob_of(&self, blob: &Digest, diff_id: &Digest, info: &LayerInfo) -> bool {
        info.blob.as_ref().is_some_and(|(known, _)| known == blob) || self.note(blob, diff_id).exists()
    }

    /// Decompresses a blob and compares it with the diff ID of a layer that is here. Nothing is unpacked.
    pub(super) fn compare(&self, input: &mut Input<'_>, diff_id: &Digest) -> Result<()> {
        pipeline::run(input, Some(diff_id), Target::Check, &self.options).map(drop)
    }

    /// Notes that `blob` unpacks to a layer, unless that is known.
    pub(super) fn note_blob_of(&self, blob: &Digest, diff_id: &Digest) -> Result<()> {
        match self.layer_info(diff_id)? {
            Some(info) if self.is_blob_of(blob, diff_id, &info) => return Ok(()),
            Some(_) => {}
            None => return Ok(()),
        }
        let note = self.note(blob, diff_id);
        let made = make_dir(&self.notes(diff_id)).and_then(|()| {
            fs::OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&note)
        });
        match made {
            // The layer is gone by now.
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            made => {
                made.map(drop).map_err(|e| Error::from_io("note blob of layer", e).with("diff id", diff_id))
            }
        }
    }

    fn notes(&self, diff_id: &Digest) -> PathBuf {
        self.layout.layer(diff_id).join("blobs")
    }

    fn note(&self, blob: &Digest, diff_id: &Digest) -> PathBuf {
        self.notes(diff_id).join(format!("{}-{}", blob.algorithm().as_str(), blob.hex()))
    }
}

fn make_dir(path: &std::path::Path) -> io::Result<()> {
    match DirBuilder::new().mode(0o700).create(path) {
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => Err(e),
        _ => Ok(()),
    }
}
