//! Garbage collection: mark what names and root file systems reach, sweep the rest.
//!
//! Safe beside other processes: it runs only while nobody holds a lease (flock(2)), and marking and sweeping
//! are one write transaction, so no name and no rootfs comes between. What is swept is only renamed in there;
//! it is deleted after.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io;
use std::path::Path;

use rustix::fs::FlockOperation;

use super::store::Shared;
use crate::database::Durability;
use crate::digest::{Digest, DigestAlgorithm};
use crate::error::{Error, ErrorKind, Result};
use crate::image_config::ImageConfig;
use crate::image_store::{GarbageReport, StoreUsage};
use crate::manifest::{MAX_CONFIG_SIZE, MAX_MANIFEST_SIZE};

/// The digests a manifest or an index names, whatever else it says: reading leniently keeps too much, never
/// too little.
#[derive(serde::Deserialize)]
struct References {
    config: Option<Target>,
    #[serde(default)]
    layers: Option<Vec<Target>>,
    #[serde(default)]
    manifests: Option<Vec<Target>>,
}

#[derive(serde::Deserialize)]
struct Target {
    digest: Digest,
}

#[derive(Default)]
struct Marked {
    blobs: HashSet<Digest>,
    /// By the hex part of the diff ID.
    layers: HashSet<String>,
}

/// How often a lock is tried again that nobody holds on purpose, and after how long. What a collection leaves is the next one's.
const TRIES_TO_COLLECT: u32 = 3;
const TRIES_TO_REMOVE: u32 = 10;
const MOMENT: std::time::Duration = std::time::Duration::from_millis(10);

impl Shared {
    /// Keeps leases out while content is removed; `None` if somebody has one.
    fn lock_alone(&self, tries: u32) -> Result<Option<File>> {
        let mut lock = self.layout.lock(FlockOperation::NonBlockingLockExclusive)?;
        // A lease that has just ended is held for a moment more by a process that is being started elsewhere in this program.
        for _ in 0..tries {
            if lock.is_some() {
                break;
            }
            std::thread::sleep(MOMENT);
            lock = self.layout.lock(FlockOperation::NonBlockingLockExclusive)?;
        }
        Ok(lock)
    }

    pub(super) fn collect_garbage(&self) -> Result<GarbageReport> {
        let mut report = GarbageReport::default();
        let Some(_lock) = self.lock_alone(TRIES_TO_COLLECT)? else {
            tracing::debug!("content is in use, nothing is collected");
            return Ok(report);
        };
        self.layout.sweep()?;
        self.sweep_frozen()?;
        self.sweep_unrecorded()?;
        let session = self.session()?;
        let mut trash = Vec::new();
        let outcome = self.database.write(Durability::Crash, |tx| {
            let (images, layers) = Self::roots(tx)?;
            let mut marked = Marked::default();
            marked.layers.extend(layers.iter().map(|digest| digest.hex().to_owned()));
            for image in images {
                self.mark(&image, &mut marked)?;
            }
            for algorithm in [DigestAlgorithm::Sha256, DigestAlgorithm::Sha512] {
                let dir = self.layout.blob_dir(algorithm);
                for name in list(&dir)? {
                    let digest = format!("{}:{name}", algorithm.as_str()).parse::<Digest>();
                    if digest.as_ref().is_ok_and(|digest| marked.blobs.contains(digest)) {
                        continue;
                    }
                    let (temporary, path) = session.fresh("trash");
                    report.bytes += fs::metadata(dir.join(&name)).map(|m| m.len()).unwrap_or(0);
                    fs::rename(dir.join(&name), path).map_err(|e| failed(e, &dir))?;
                    trash.push(temporary);
                    if let Ok(digest) = digest {
                        self.set_verified(&digest, false);
                        report.blobs.push(digest);
                    }
                }
            }
            let dir = self.layout.layers();
            for name in list(&dir)? {
                if marked.layers.contains(&name) {
                    continue;
                }
                let (temporary, path) = session.fresh("trash");
                let info = super::layer::LayerInfo::read(&dir.join(&name)).ok().flatten();
                report.bytes += info.filter(|info| info.has_files).map_or(0, |info| info.bytes);
                fs::rename(dir.join(&name), path).map_err(|e| failed(e, &dir))?;
                trash.push(temporary);
                report.layers.extend(diff_id_of(&name));
            }
            Ok(())
        });
        // Whatever was moved is out of reach already, also when a later step failed.
        for name in trash {
            session.discard(&name);
        }
        outcome.map(|()| report)
    }

    /// Removes a manifest that an index leads to. Safe beside other processes as a collection is.
    pub(super) fn remove_manifest(&self, manifest: &Digest) -> Result<()> {
        let conflict = |why: &'static str, hint: &'static str| {
            Error::new(ErrorKind::Conflict, "remove manifest")
                .with("digest", manifest)
                .with_message(why)
                .with_hint(hint)
        };
        let Some(_lock) = self.lock_alone(TRIES_TO_REMOVE)? else {
            return Err(conflict("somebody brings content into the store, or takes it out", "try again"));
        };
        let session = self.session()?;
        let mut trash = None;
        let outcome = self.database.write(Durability::Crash, |tx| {
            if Self::roots(tx)?.0.contains(manifest) {
                let hint = "remove the name or the container first";
                return Err(conflict("a name points at it, or a container is made of it", hint).into());
            }
            let (temporary, path) = session.fresh("trash");
            match fs::rename(self.layout.blob(manifest), path) {
                Ok(()) => trash = Some(temporary),
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                Err(e) => return Err(failed(e, &self.layout.blob(manifest)).into()),
            }
            self.set_verified(manifest, false);
            Ok(())
        });
        if let Some(name) = trash {
            session.discard(&name);
        }
        outcome
    }

    /// Lists all content with its size.
    pub(super) fn usage(&self) -> Result<StoreUsage> {
        let mut usage = StoreUsage::default();
        for algorithm in [DigestAlgorithm::Sha256, DigestAlgorithm::Sha512] {
            let dir = self.layout.blob_dir(algorithm);
            for name in list(&dir)? {
                let Ok(digest) = format!("{}:{name}", algorithm.as_str()).parse() else { continue };
                // One that was collected meanwhile is not there.
                if let Some(size) = self.blob_size(&digest)? {
                    usage.blobs.insert(digest, size);
                }
            }
        }
        let dir = self.layout.layers();
        for name in list(&dir)? {
            let info = super::layer::LayerInfo::read(&dir.join(&name)).map_err(|e| failed(e, &dir))?;
            if let (Some(info), Some(diff_id)) = (info, diff_id_of(&name)) {
                usage.layers.insert(diff_id, if info.has_files { info.bytes } else { 0 });
            }
        }
        Ok(usage)
    }

    fn mark(&self, image: &Digest, marked: &mut Marked) -> Result<()> {
        let mut pending = vec![image.clone()];
        while let Some(digest) = pending.pop() {
            if !marked.blobs.insert(digest.clone()) {
                continue;
            }
            let bytes = match self.read_blob(&digest, MAX_MANIFEST_SIZE) {
                Ok(bytes) => bytes,
                // An index of which one platform was pulled names manifests that are not here.
                Err(e) if e.kind() == ErrorKind::NotFound => continue,
                // What a damaged manifest reached is unknown, so nothing may go.
                Err(e) => return Err(e),
            };
            let references: References = serde_json::from_slice(&bytes).map_err(|e| {
                Error::new(ErrorKind::Corrupt, "collect garbage")
                    .with("image", &digest)
                    .with_message("its manifest is malformed")
                    .with_source(e)
            })?;
            pending.extend(references.manifests.into_iter().flatten().map(|target| target.digest));
            marked.blobs.extend(references.layers.into_iter().flatten().map(|target| target.digest));
            if let Some(Target { digest: config }) = references.config {
                self.mark_config(&config, marked)?;
            }
        }
        Ok(())
    }

    fn mark_config(&self, config: &Digest, marked: &mut Marked) -> Result<()> {
        if !marked.blobs.insert(config.clone()) {
            return Ok(());
        }
        match self.read_blob(config, MAX_CONFIG_SIZE) {
            Ok(bytes) => {
                // An artifact's config is anything.
                if let Ok(config) = ImageConfig::parse(&bytes) {
                    marked.layers.extend(config.rootfs.diff_ids.iter().map(|id| id.hex().to_owned()));
                }
                Ok(())
            }
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(()),
            Err(e) => Err(e),
        }
    }
}

/// The diff ID that a layer's directory is named by.
fn diff_id_of(name: &str) -> Option<Digest> {
    let algorithm = if name.len() == 64 { "sha256" } else { "sha512" };
    format!("{algorithm}:{name}").parse().ok()
}

fn list(dir: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(dir).map_err(|e| failed(e, dir))? {
        names.extend(entry.map_err(|e| failed(e, dir))?.file_name().into_string());
    }
    names.sort_unstable();
    Ok(names)
}

fn failed(error: io::Error, dir: &Path) -> Error {
    Error::from_io("collect garbage", error).with("path", dir.display())
}
