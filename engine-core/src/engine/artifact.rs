//! Artifacts: files in a registry that are no image, by themselves or attached to one.
//!
//! Source: OCI image-spec 1.1, "Guidelines for Artifact Usage". Pulling and pushing an artifact is pulling and pushing its
//! name; this makes new ones and lists what is attached.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;

use futures_util::StreamExt as _;
use serde::{Deserialize, Serialize};

use crate::descriptor::{Descriptor, media_type};
use crate::error::{Error, ErrorKind, Result};
use crate::events::Action;
use crate::io::ByteStream;
use crate::reference::Reference;

use super::LocalEngine;
use super::archive::Member;
use super::events::of_image;
use super::import::{Incoming, to_json};
use super::operation::Operation;
use super::push::{PushEvent, PushOptions};

/// The annotation with a layer's file name.
const TITLE: &str = "org.opencontainers.image.title";
const UNKNOWN_TYPE: &str = "application/vnd.unknown.artifact.v1";
const FILE_TYPE: &str = "application/octet-stream";

/// A file of a new artifact.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ArtifactFile {
    /// Where it is.
    pub path: PathBuf,
    /// Its media type; `application/octet-stream` by default.
    pub media_type: String,
    /// The file itself, where that is open already.
    open: Option<Arc<File>>,
}

impl ArtifactFile {
    /// Creates the description of a file that is open, and is called `title`, of the default type.
    pub fn of_open(title: impl Into<PathBuf>, file: File) -> Self {
        Self { open: Some(Arc::new(file)), ..Self::new(title) }
    }

    /// Names a file of no particular type.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), media_type: FILE_TYPE.to_owned(), open: None }
    }

    /// Opens it.
    ///
    /// # Errors
    /// What the file system says.
    pub fn open(&self) -> std::io::Result<File> {
        match &self.open {
            Some(file) => file.try_clone(),
            None => File::open(&self.path),
        }
    }

    /// Sets the media type.
    #[must_use]
    pub fn with_media_type(mut self, media_type: impl Into<String>) -> Self {
        self.media_type = media_type.into();
        self
    }
}

/// What a new artifact says of itself.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct ArtifactOptions {
    /// Its type, such as `application/spdx+json`; `application/vnd.unknown.artifact.v1` by default.
    pub artifact_type: Option<String>,
    /// Arbitrary metadata.
    pub annotations: BTreeMap<String, String>,
}

impl ArtifactOptions {
    /// Sets the type.
    #[must_use]
    pub fn with_artifact_type(mut self, artifact_type: impl Into<String>) -> Self {
        self.artifact_type = Some(artifact_type.into());
        self
    }
}

/// A file of an artifact in the store.
#[non_exhaustive]
pub struct ArtifactContent {
    /// Its name, if it has one. It comes from whoever made the artifact, and is no path.
    pub title: Option<String>,
    /// What it is.
    pub descriptor: Descriptor,
    /// Its bytes, checked against the digest.
    pub content: ByteStream,
}

impl ArtifactContent {
    /// Creates what an engine tells of a file.
    #[must_use]
    pub fn new(title: Option<String>, descriptor: Descriptor, content: ByteStream) -> Self {
        Self { title, descriptor, content }
    }
}

impl std::fmt::Debug for ArtifactContent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ArtifactContent").field("title", &self.title).finish_non_exhaustive()
    }
}

impl LocalEngine {
    pub(super) async fn create_artifact(
        &self,
        name: &Reference,
        files: &[ArtifactFile],
        options: &ArtifactOptions,
    ) -> Result<Descriptor> {
        let incoming = Incoming::begin(self).await?;
        let target = self.put_artifact(files, options, None).await?;
        let event = of_image(Action::Import, &target.digest, name.familiar());
        self.name_image(event, name, &target).await?;
        incoming.arrived();
        Ok(target)
    }

    pub(super) fn attach_artifact(
        &self,
        subject: &Reference,
        files: Vec<ArtifactFile>,
        options: ArtifactOptions,
    ) -> Operation<PushEvent, Descriptor> {
        let (engine, subject) = (self.clone(), subject.clone());
        Operation::new(move |progress| async move {
            // Whatever happens, it does not stay here.
            let _incoming = Incoming::begin(&engine).await?;
            let about = engine.inner.registry.resolve(&subject).await?;
            let target = engine.put_artifact(&files, &options, Some(&about)).await?;
            let pinned = subject.with_digest(target.digest.clone());
            engine.push_target(&pinned, target, &PushOptions::default(), &progress).await
        })
    }

    pub(super) async fn referrers(
        &self,
        subject: &Reference,
        artifact_type: Option<&str>,
    ) -> Result<Vec<Descriptor>> {
        let pinned = match subject.digest() {
            Some(_) => subject.clone(),
            None => subject.with_digest(self.inner.registry.resolve(subject).await?.digest),
        };
        self.inner.registry.list_referrers(&pinned, artifact_type).await
    }

    pub(super) async fn artifact_files(&self, name: &str) -> Result<Vec<ArtifactContent>> {
        let _lease = self.inner.images.lease().await?;
        let target = self.find_image(name).await?;
        let closure = self.closure(&target).await?;
        let [(_, image)] = &closure.images[..] else {
            return Err(no_artifact(name));
        };
        if image.is_container_image() {
            return Err(no_artifact(name));
        }
        let mut files = Vec::with_capacity(image.layers.len());
        for layer in image.layers.iter().filter(|layer| layer.media_type != media_type::OCI_EMPTY) {
            files.push(ArtifactContent {
                title: layer.annotations.get(TITLE).cloned(),
                descriptor: layer.clone(),
                content: self.inner.images.open_blob(&layer.digest, 0).await?,
            });
        }
        Ok(files)
    }

    /// Writes an artifact's files and its manifest.
    async fn put_artifact(
        &self,
        files: &[ArtifactFile],
        options: &ArtifactOptions,
        subject: Option<&Descriptor>,
    ) -> Result<Descriptor> {
        let empty = Descriptor::of(media_type::OCI_EMPTY, b"{}");
        self.put_blob(&empty, &b"{}"[..]).await?;
        let mut layers = Vec::with_capacity(files.len());
        for file in files {
            layers.push(self.put_file(file).await?);
        }
        // A manifest has a layer at least.
        if layers.is_empty() {
            layers.push(empty.clone());
        }
        let mut manifest = serde_json::json!({
            "schemaVersion": 2,
            "mediaType": media_type::OCI_MANIFEST,
            "artifactType": options.artifact_type.as_deref().unwrap_or(UNKNOWN_TYPE),
            "config": empty,
            "layers": layers,
        });
        if let Some(subject) = subject {
            manifest["subject"] = serde_json::json!({
                "mediaType": subject.media_type, "digest": subject.digest, "size": subject.size,
            });
        }
        if !options.annotations.is_empty() {
            manifest["annotations"] = serde_json::json!(options.annotations);
        }
        let bytes = to_json(&manifest)?;
        let target = Descriptor::of(media_type::OCI_MANIFEST, &bytes);
        self.put_blob(&target, bytes).await?;
        Ok(target)
    }

    async fn put_file(&self, file: &ArtifactFile) -> Result<Descriptor> {
        let member = match &file.open {
            Some(open) => Member::of_open(Arc::clone(open), &file.path)?,
            None => Member::of_file(file.path.clone()).await?,
        };
        let mut layer = Descriptor::new(file.media_type.clone(), member.digest().await?, member.size);
        if let Some(name) = file.path.file_name() {
            layer.annotations.insert(TITLE.to_owned(), name.to_string_lossy().into_owned());
        }
        if self.inner.images.blob_size(&layer.digest).await? != Some(layer.size) {
            let mut ingest = self.inner.images.ingest(&layer, None).await?;
            let mut pieces = member.stream();
            while let Some(piece) = pieces.next().await {
                ingest.write(piece?).await?;
            }
            ingest.commit().await?;
        }
        Ok(layer)
    }
}

fn no_artifact(name: &str) -> Error {
    Error::new(ErrorKind::InvalidArgument, "read artifact")
        .with("artifact", name)
        .with_message("it is an image, or several, and no artifact")
}
