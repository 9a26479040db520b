//! Images and artifacts that come and go.

use std::path::Path;

use async_trait::async_trait;
use engine_core::descriptor::Descriptor;
use engine_core::engine::{
    ArtifactContent, ArtifactFile, ArtifactOptions, Image, ImportOptions, LoadEvent, LoadOptions, LoadSource,
    LoadedImage, Operation, PullEvent, PullOptions, PushEvent, PushOptions, SaveEvent, SaveOptions,
    TransferOperations,
};
use engine_core::io::{ByteStream, Writer};
use engine_core::reference::Reference;
use engine_core::{Error, Result};
use futures_util::{StreamExt as _, TryStreamExt as _};
use tokio::io::AsyncWriteExt as _;
use tokio_util::io::ReaderStream;

use super::super::RemoteEngine;
use super::super::call::{follow, line};
use super::super::frames::Next;
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
            let failed = |error| Error::from_io("save image", error).with("image", images.join(" "));
            loop {
                match frames.next().await? {
                    Next::Item(event) => progress.report(wire::parsed(&event)?),
                    Next::Bytes(piece) => out.write_all(&piece).await.map_err(failed)?,
                    Next::End(_) => return out.shutdown().await.map_err(failed),
                }
            }
        })
    }

    fn save_layout(
        &self,
        _images: Vec<String>,
        _dir: &Path,
        _options: SaveOptions,
    ) -> Operation<SaveEvent, ()> {
        Operation::new(|_| async {
            Err(Self::unsupported("save image", "save to a directory")
                .with_hint("save to an archive, and unpack it"))
        })
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
        _name: &Reference,
        _files: &[ArtifactFile],
        _options: &ArtifactOptions,
    ) -> Result<Descriptor> {
        Err(Self::unsupported("create artifact", "make an artifact of files here"))
    }

    fn attach_artifact(
        &self,
        _subject: &Reference,
        _files: Vec<ArtifactFile>,
        _options: ArtifactOptions,
    ) -> Operation<PushEvent, Descriptor> {
        Operation::new(|_| async {
            Err(Self::unsupported("attach artifact", "make an artifact of files here"))
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

/// Opens what is to be loaded: it is read here. Returns what failures call it.
async fn archive(source: LoadSource) -> Result<(Option<String>, ByteStream)> {
    let (name, pieces) = match source {
        LoadSource::Stream(pieces) => (None, pieces),
        LoadSource::Named(name, pieces) => (Some(name), pieces),
        LoadSource::Path(path) => {
            let pieces = open(&path).await.map_err(|error| in_load(error, &path.display()))?;
            (Some(path.display().to_string()), pieces)
        }
        _ => return Err(RemoteEngine::unsupported("load image", "read from there")),
    };
    let shown = name.clone().unwrap_or_else(|| "-".to_owned());
    Ok((name, pieces.map_err(move |error| in_load(error, &shown)).boxed()))
}

async fn open(path: &Path) -> Result<ByteStream> {
    let shown = path.display().to_string();
    let failed = |error| Error::from_io("open archive", error).with("path", &shown);
    let file = tokio::fs::File::open(path).await.map_err(failed)?;
    if file.metadata().await.map_err(failed)?.is_dir() {
        return Err(RemoteEngine::unsupported("open archive", "load a directory of this machine")
            .with("path", &shown)
            .with_hint("make a tar archive of it"));
    }
    let pieces = ReaderStream::with_capacity(file, wire::frame::PIECE);
    Ok(pieces.map_err(move |error| Error::from_io("read archive", error).with("path", &shown)).boxed())
}

/// A failure of reading here, as the engine there would tell it.
fn in_load(error: Error, name: &impl std::fmt::Display) -> Error {
    let retryable = error.is_retryable();
    let mut outer = Error::new(error.kind(), "load image").with("image", name).with_retryable(retryable);
    if let Some(hint) = error.hint() {
        outer = outer.with_hint(hint.to_owned());
    }
    outer.with_source(error)
}
