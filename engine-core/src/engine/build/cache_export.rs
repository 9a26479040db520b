//! The steps of a build for builds elsewhere: in a registry, or in a directory.

use std::collections::HashSet;
use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};

use futures_util::StreamExt as _;
use serde_json::json;
use tokio::io::AsyncWriteExt as _;

use crate::descriptor::{Descriptor, media_type};
use crate::digest::Digest;
use crate::engine::archive::{LAYOUT, blob_path};
use crate::engine::import::to_json;
use crate::engine::operation::Operation;
use crate::engine::push::PushOptions;
use crate::engine::{LocalEngine, blocking};
use crate::error::{Error, ErrorKind, Result};
use crate::id::ContainerId;
use crate::io::ByteStream;

use super::Build;
use super::cache_manifest::{CacheManifest, MadeStep};
use super::cache_spec::{CacheMode, CacheTarget};
use super::event::BuildEvent;
use super::stage::State;

impl Build {
    /// Takes down what a step made.
    pub(super) fn made(&self, step: MadeStep) {
        // Nothing in it can be half done.
        self.made.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(step);
    }

    /// The steps that `mode` means, of a build whose last stages are `states`.
    pub(super) fn steps_of(&self, states: &[&State], mode: CacheMode) -> Vec<MadeStep> {
        let layers = states.iter().flat_map(|state| &state.layers);
        let kept: HashSet<&Digest> = layers.map(|(blob, _)| &blob.digest).collect();
        let mut steps = self.made.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone();
        if mode == CacheMode::Min {
            steps.retain(|step| step.layer.as_ref().is_none_or(|(blob, _)| kept.contains(&blob.digest)));
        }
        steps
    }

    /// Writes the steps to where they are wanted, but for the image itself.
    pub(super) async fn export_cache(&self, states: &[&State]) -> Result<()> {
        for target in &self.spec.cache_to {
            let (CacheTarget::Registry { mode, .. } | CacheTarget::Directory { mode, .. }) = target else {
                continue;
            };
            let cache = CacheManifest::of(&self.steps_of(states, *mode))?;
            let exported = self.export_to(target, &cache).await;
            exported.map_err(|error| {
                error
                    .with("cache", target)
                    .with_hint("the image is there; leave --cache-to out, or see that it can be written")
            })?;
            self.progress
                .report(BuildEvent::CacheExported { target: target.to_string(), steps: cache.steps });
        }
        Ok(())
    }

    async fn export_to(&self, target: &CacheTarget, cache: &CacheManifest) -> Result<()> {
        let engine = &self.engine;
        if cache.layers.iter().any(|layer| layer.media_type == media_type::OCI_EMPTY) {
            engine.put_blob(&Descriptor::of(media_type::OCI_EMPTY, b"{}"), &b"{}"[..]).await?;
        }
        for (document, bytes) in [&cache.config, &cache.manifest] {
            engine.put_blob(document, bytes.clone()).await?;
        }
        match target {
            CacheTarget::Registry { reference, .. } => {
                let credentials = self.spec.credentials.get(reference.registry()).cloned();
                let options = PushOptions { credentials, ..PushOptions::default() };
                let (engine, reference) = (engine.clone(), reference.clone());
                let manifest = cache.manifest.0.clone();
                let push = Operation::new(move |progress| async move {
                    engine.push_target(&reference, manifest, &options, &progress).await
                });
                push.await.map(drop)
            }
            CacheTarget::Directory { path, .. } => engine.write_cache(path, cache).await,
            CacheTarget::Inline => Ok(()),
        }
    }
}

impl LocalEngine {
    /// Writes a cache into a directory, which may have another one: each blob that is not there, and the index at the end.
    async fn write_cache(&self, dir: &Path, cache: &CacheManifest) -> Result<()> {
        let fail = |e| Error::from_io("write build cache", e).with("path", dir.display());
        let looked = dir.to_owned();
        let other = blocking(move || Ok(foreign(&looked))).await?;
        if let Some(other) = other.map_err(fail)? {
            return Err(Error::new(ErrorKind::AlreadyExists, "write build cache")
                .with("path", dir.display())
                .with_message(format!("it has {other:?}, which is no part of a cache"))
                .with_hint("give an empty directory, or one of an earlier cache"));
        }
        tokio::fs::create_dir_all(dir.join("blobs/sha256")).await.map_err(fail)?;
        let looked = dir.to_owned();
        blocking(move || Ok(sweep(&looked))).await?.map_err(fail)?;
        let documents = [&cache.config.0, &cache.manifest.0];
        for blob in cache.layers.iter().chain(documents) {
            let path = dir.join(blob_path(&blob.digest));
            let there = tokio::fs::symlink_metadata(&path).await;
            if there.is_ok_and(|there| there.is_file() && there.len() == blob.size) {
                continue;
            }
            write(&path, self.inner.images.open_blob(&blob.digest, 0).await?).await?;
        }
        let index = to_json(&json!({
            "schemaVersion": 2,
            "mediaType": media_type::OCI_INDEX,
            "manifests": [cache.manifest.0],
        }))?;
        for (name, bytes) in [("oci-layout", LAYOUT.as_bytes().to_vec()), ("index.json", index)] {
            let pieces = futures_util::stream::iter([Ok(bytes::Bytes::from(bytes))]).boxed();
            write(&dir.join(name), pieces).await?;
        }
        Ok(())
    }
}

/// Something in the directory that no cache has.
fn foreign(dir: &Path) -> std::io::Result<Option<std::ffi::OsString>> {
    let entries = match std::fs::read_dir(dir) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        entries => entries?,
    };
    for entry in entries {
        let name = entry?.file_name();
        let ours = ["blobs", "oci-layout", "index.json"].iter().any(|part| name == *part);
        if !ours && !name.to_string_lossy().starts_with(PART) {
            return Ok(Some(name));
        }
    }
    Ok(None)
}

/// Removes files that exports left behind that were killed: those that nobody writes.
fn sweep(dir: &Path) -> std::io::Result<()> {
    for dir in [dir.to_owned(), dir.join("blobs/sha256")] {
        for entry in std::fs::read_dir(dir)? {
            let entry = entry?;
            if !entry.file_name().to_string_lossy().starts_with(PART) || !entry.file_type()?.is_file() {
                continue;
            }
            let path = entry.path();
            // Held until it is removed.
            let lock = File::open(&path);
            if !lock.as_ref().is_ok_and(|file| file.try_lock().is_ok()) {
                // Somebody writes it, or it is gone.
                continue;
            }
            tracing::info!(path = %path.display(), "removing what a killed export left behind");
            match std::fs::remove_file(&path) {
                Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(e),
                _ => {}
            }
        }
    }
    Ok(())
}

/// What the name of a file begins with that is not whole.
const PART: &str = ".part.";

/// A file on its way, removed unless it gets its name. Its lock (flock(2)) is held while somebody writes it.
struct Part(Option<PathBuf>);

impl Part {
    /// Makes the file for what will be called `path`.
    fn create(path: &Path) -> std::io::Result<(Self, File)> {
        loop {
            let part = path.with_file_name(format!("{PART}{}", ContainerId::random()));
            let file = File::options().write(true).create_new(true).open(&part)?;
            // Somebody who looks for what was left may have been faster than the lock. Where nothing can be locked, nobody looks.
            if matches!(file.try_lock(), Err(TryLockError::WouldBlock)) {
                continue;
            }
            match std::fs::symlink_metadata(&part) {
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
                there => return there.map(|_| (Self(Some(part)), file)),
            }
        }
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        if let Some(path) = self.0.take() {
            // Whatever kept it from being written is the error.
            let _ = std::fs::remove_file(path);
        }
    }
}

/// Writes a file that is there when it is whole. Others may write the same one.
async fn write(path: &Path, mut pieces: ByteStream) -> Result<()> {
    let fail = |e| Error::from_io("write build cache", e).with("path", path.display());
    let whole = path.to_owned();
    let (mut part, file) = blocking(move || Ok(Part::create(&whole))).await?.map_err(fail)?;
    let mut file = tokio::fs::File::from_std(file);
    while let Some(piece) = pieces.next().await {
        file.write_all(&piece?).await.map_err(fail)?;
    }
    file.flush().await.map_err(fail)?;
    file.sync_data().await.map_err(fail)?;
    if let Some(written) = &part.0 {
        tokio::fs::rename(written, path).await.map_err(fail)?;
    }
    part.0 = None;
    Ok(())
}
