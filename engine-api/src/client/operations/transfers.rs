//! Images and artifacts that come and go.

use std::path::Path;

use async_trait::async_trait;
use engine_core::descriptor::Descriptor;
use engine_core::engine::{
    ArtifactContent, ArtifactFile, ArtifactOptions, Image, ImportOptions, LayoutDirectory, LoadEvent,
    LoadOptions, LoadSource, LoadedImage, Operation, Progress, PullEvent, PullOptions, PushEvent,
    PushOptions, SaveEvent, SaveOptions, TransferOperations, archive_directory,
};
use engine_core::io::{ByteStream, Writer};
use engine_core::reference::Reference;
use engine_core::registry_client::Credentials;
use engine_core::{DEFAULT_MAX_BYTES, Error, Platform, Result};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use tokio::io::AsyncWriteExt as _;
use tokio::sync::mpsc;
use tokio_util::io::ReaderStream;

use super::super::RemoteEngine;
use super::super::artifacts;
use super::super::call::{follow, line};
use super::super::frames::{Frames, Next};
use crate::wire;
use crate::wire::secret::WireCredentials;

#[async_trait]
impl TransferOperations for RemoteEngine {
    fn pull(&self, reference: &Reference, mut options: PullOptions) -> Operation<PullEvent, Image> {
        let credentials = options.credentials.take().map(WireCredentials::from);
        self.operation("pull", (reference, options, credentials))
    }

    fn push(&self, reference: &Reference, mut options: PushOptions) -> Operation<PushEvent, Descriptor> {
        let credentials = options.credentials.take().map(WireCredentials::from);
        self.operation("push", (reference, options, credentials))
    }

    async fn remote_tags(&self, repository: &Reference) -> Result<Vec<String>> {
        self.call("remote_tags", (repository,)).await
    }

    async fn check_credentials(&self, registry: &str, credentials: &Credentials) -> Result<()> {
        self.call("check_credentials", (registry, WireCredentials::from(credentials.clone()))).await
    }

    fn load(&self, source: LoadSource, options: LoadOptions) -> Operation<LoadEvent, Vec<LoadedImage>> {
        let engine = self.clone();
        Operation::new(move |progress| async move {
            let (name, archive) = archive(source).await?;
            follow(engine.frames_with("load", line((options, name)), archive).await?, &progress).await
        })
    }

    fn save(&self, images: Vec<String>, out: Writer, options: SaveOptions) -> Operation<SaveEvent, ()> {
        let (engine, line, mut out) = (self.clone(), line((&images, options)), out);
        Operation::new(move |progress| async move {
            let mut frames = engine.frames("save", line).await?;
            let name = images.join(" ");
            let failed = |error| wrapped(Error::from_io("write archive", error), "save image", &name);
            loop {
                match frames.next().await? {
                    Next::Item(event) => progress.report(wire::parsed(&event)?),
                    Next::Bytes(piece) => out.write_all(&piece).await.map_err(failed)?,
                    Next::End(_) => return out.shutdown().await.map_err(failed),
                }
            }
        })
    }

    fn save_layout(&self, images: Vec<String>, dir: &Path, options: SaveOptions) -> Operation<SaveEvent, ()> {
        let (engine, line, dir) = (self.clone(), line((&images, options)), dir.to_owned());
        Operation::new(move |progress| async move {
            let frames = engine.frames("save", line).await?;
            let name = images.join(" ");
            layout(frames, &dir, &progress, |error| wrapped(error, "save image", &name)).await
        })
    }

    async fn export_image(&self, name: &str, platform: &Platform) -> Result<ByteStream> {
        self.bytes("export_image", (name, platform)).await
    }

    async fn import(
        &self,
        name: Option<&Reference>,
        archive: ByteStream,
        options: ImportOptions,
    ) -> Result<Image> {
        self.call_with("import", (name, options), archive).await
    }

    async fn create_artifact(
        &self,
        name: &Reference,
        files: &[ArtifactFile],
        options: &ArtifactOptions,
    ) -> Result<Descriptor> {
        let (told, contents) = artifacts::open(files).await?;
        self.call_with("create_artifact", (name, told, options), contents).await
    }

    fn attach_artifact(
        &self,
        subject: &Reference,
        files: Vec<ArtifactFile>,
        options: ArtifactOptions,
    ) -> Operation<PushEvent, Descriptor> {
        let (engine, subject) = (self.clone(), subject.clone());
        Operation::new(move |progress| async move {
            let (told, contents) = artifacts::open(&files).await?;
            let line = line((subject, told, options));
            follow(engine.frames_with("attach_artifact", line, contents).await?, &progress).await
        })
    }

    async fn referrers(&self, subject: &Reference, artifact_type: Option<&str>) -> Result<Vec<Descriptor>> {
        self.call("referrers", (subject, artifact_type)).await
    }

    async fn artifact_files(&self, name: &str) -> Result<Vec<ArtifactContent>> {
        let files: Vec<(Option<String>, Descriptor)> = self.call("artifact_files", (name,)).await?;
        let content = |(index, (title, descriptor)): (usize, (Option<String>, Descriptor))| {
            let (engine, name, digest) = (self.clone(), name.to_owned(), descriptor.digest.clone());
            // Asked for when it is read.
            let opened = async move { engine.bytes("artifact_content", (name, index, digest)).await };
            let content = futures_util::stream::once(opened).try_flatten().boxed();
            ArtifactContent::new(title, descriptor, content)
        };
        Ok(files.into_iter().enumerate().map(content).collect())
    }
}

/// Makes a directory of an archive that comes in frames.
async fn layout(
    mut frames: Frames,
    dir: &Path,
    progress: &Progress<SaveEvent>,
    wrap: impl Fn(Error) -> Error,
) -> Result<()> {
    // All that could be missing was looked for when the first frame comes: now something is made.
    let mut next = frames.next().await?;
    let layout = LayoutDirectory::begin(dir).await.map_err(&wrap)?;
    let (sender, receiver) = mpsc::channel(4);
    let pieces = stream::unfold(receiver, |mut receiver| async {
        receiver.recv().await.map(|piece| (Ok(piece), receiver))
    });
    let coming = async move {
        loop {
            match next {
                Next::Item(event) => progress.report(wire::parsed(&event)?),
                // A receiver that is gone has an error to tell.
                Next::Bytes(piece) => drop(sender.send(piece).await),
                Next::End(_) => return Ok(()),
            }
            next = frames.next().await?;
        }
    };
    // As large as what is loaded may be.
    let limit = DEFAULT_MAX_BYTES;
    let filling = async { layout.fill(pieces.boxed(), limit).await.map_err(&wrap) };
    tokio::try_join!(coming, filling).map(drop)
}

/// Opens what is to be loaded: it is read here. Returns what failures call it.
async fn archive(source: LoadSource) -> Result<(Option<String>, ByteStream)> {
    let (name, pieces) = match source {
        LoadSource::Stream(pieces) => (None, pieces),
        LoadSource::Named(name, pieces) => (Some(name), pieces),
        LoadSource::Path(path) => {
            let shown = path.display().to_string();
            (Some(shown.clone()), open(&path).await.map_err(|error| wrapped(error, "load image", &shown))?)
        }
        _ => return Err(RemoteEngine::unsupported("load image", "read from there")),
    };
    let shown = name.clone().unwrap_or_else(|| "-".to_owned());
    Ok((name, pieces.map_err(move |error| wrapped(error, "load image", &shown)).boxed()))
}

async fn open(path: &Path) -> Result<ByteStream> {
    let shown = path.display().to_string();
    let failed = |error| Error::from_io("open archive", error).with("path", &shown);
    let file = tokio::fs::File::open(path).await.map_err(failed)?;
    if file.metadata().await.map_err(failed)?.is_dir() {
        return archive_directory(path).await;
    }
    let pieces = ReaderStream::with_capacity(file, wire::frame::PIECE);
    Ok(pieces.map_err(move |error| Error::from_io("read archive", error).with("path", &shown)).boxed())
}

/// A failure here, as the engine there would tell it.
fn wrapped(error: Error, operation: &'static str, image: &str) -> Error {
    let mut outer =
        Error::new(error.kind(), operation).with("image", image).with_retryable(error.is_retryable());
    if let Some(hint) = error.hint() {
        outer = outer.with_hint(hint.to_owned());
    }
    outer.with_source(error)
}
