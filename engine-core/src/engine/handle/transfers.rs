//! Images and artifacts that come to an engine and go from it.

use std::path::Path;

use bytes::Bytes;
use futures_util::stream;
use tokio::io::AsyncWrite;

use crate::descriptor::Descriptor;
use crate::engine::image_copy::copy_as_archive;
use crate::engine::{
    ArtifactContent, ArtifactFile, ArtifactOptions, CopyImageOptions, Engine, Image, ImportOptions,
    LoadEvent, LoadOptions, LoadSource, LoadedImage, Operation, PullEvent, PullOptions, PushEvent,
    PushOptions, SaveEvent, SaveOptions,
};
use crate::error::Result;
use crate::io::ByteStream;
use crate::platform::Platform;
use crate::reference::Reference;
use crate::registry_client::Credentials;

/// Bytes handed to a store at once.
const PIECE: usize = 64 << 10;

impl Engine {
    /// Pulls an image.
    ///
    /// The operation reports each layer's progress and results in the image. Dropped or failed, it leaves
    /// nothing but whole layers that the next pull takes up, or the next garbage collection removes.
    ///
    /// # Errors
    /// [`NotFound`](crate::ErrorKind::NotFound) if the registry has no such image, or none for the platform;
    /// [`Unauthenticated`](crate::ErrorKind::Unauthenticated) or
    /// [`PermissionDenied`](crate::ErrorKind::PermissionDenied) if it wants other credentials;
    /// [`Unavailable`](crate::ErrorKind::Unavailable) if it cannot be reached; [`Corrupt`](crate::ErrorKind::Corrupt)
    /// if content is wrong; [`ResourceExhausted`](crate::ErrorKind::ResourceExhausted) if the disk is full.
    pub fn pull(&self, reference: &Reference, options: PullOptions) -> Operation<PullEvent, Image> {
        self.backend.pull(reference, options)
    }

    /// Pushes the image that `reference` names in the store to the registry it names.
    ///
    /// # Errors
    /// [`NotFound`](crate::ErrorKind::NotFound) if there is no such image here; else as [`pull`](Engine::pull).
    pub fn push(&self, reference: &Reference, options: PushOptions) -> Operation<PushEvent, Descriptor> {
        self.backend.push(reference, options)
    }

    /// Loads the images of an archive: `docker save`'s (with `manifest.json`), an OCI archive, or an OCI layout
    /// directory; archives may be compressed by gzip or zstd. Everything keeps its bytes, and so its digests.
    ///
    /// Layers for this host are unpacked, those for others kept as they are. Dropped or failed, it leaves nothing.
    ///
    /// # Errors
    /// [`Corrupt`](crate::ErrorKind::Corrupt) if it is no such archive, or says one thing and holds another;
    /// [`ResourceExhausted`](crate::ErrorKind::ResourceExhausted) if it passes a limit;
    /// [`NotFound`](crate::ErrorKind::NotFound) if it has nothing for the platform.
    pub fn load(
        &self,
        source: impl Into<LoadSource>,
        options: LoadOptions,
    ) -> Operation<LoadEvent, Vec<LoadedImage>> {
        self.backend.load(source.into(), options)
    }

    /// Saves images, named as for [`image`](Self::image), to a tar archive, which `out` gets in order. Content keeps
    /// its bytes, and so its digests. An image named by id is saved without a name.
    ///
    /// # Errors
    /// [`NotFound`](crate::ErrorKind::NotFound) if there is no such image, or nothing for the platform; what writing
    /// says.
    pub fn save(
        &self,
        images: &[impl AsRef<str>],
        out: impl AsyncWrite + Send + 'static,
        options: SaveOptions,
    ) -> Operation<SaveEvent, ()> {
        self.backend.save(words(images), Box::pin(out), options)
    }

    /// Saves images to an OCI layout in the directory `dir`, which must be empty or not there. Failed or dropped, it
    /// leaves no layout.
    ///
    /// # Errors
    /// As [`save`](Self::save); [`AlreadyExists`](crate::ErrorKind::AlreadyExists) if the directory is not empty.
    pub fn save_layout(
        &self,
        images: &[impl AsRef<str>],
        dir: impl AsRef<Path>,
        options: SaveOptions,
    ) -> Operation<SaveEvent, ()> {
        self.backend.save_layout(words(images), dir.as_ref(), options)
    }

    /// Returns the files of an image, named as for [`image`](Self::image), as a tar archive: what a container of it begins with,
    /// without its layers and its configuration. Of an image for several platforms, those for `platform`.
    ///
    /// # Errors
    /// [`NotFound`](crate::ErrorKind::NotFound) if there is no such image, or nothing for the platform;
    /// [`InvalidArgument`](crate::ErrorKind::InvalidArgument) if it is an artifact. What fails later comes in the stream.
    pub async fn export_image(&self, name: &str, platform: &Platform) -> Result<ByteStream> {
        self.backend.export_image(name, platform).await
    }

    /// Makes an image of one layer from a tar archive, plain or compressed by gzip or zstd, and gives it `name`.
    ///
    /// # Errors
    /// As [`import_stream`](Self::import_stream).
    pub async fn import(&self, name: &Reference, archive: Bytes, options: ImportOptions) -> Result<Image> {
        let pieces = stream::unfold(archive, |mut rest| async move {
            let piece = rest.split_to(rest.len().min(PIECE));
            (!piece.is_empty()).then_some((Ok(piece), rest))
        });
        self.import_stream(Some(name), Box::pin(pieces), options).await
    }

    /// Makes an image of one layer from a tar archive that arrives in pieces, plain or compressed by gzip or zstd. It
    /// is unpacked as it arrives. Without a name, the image is dangling: it is found by its id.
    ///
    /// Failed or dropped, it leaves nothing.
    ///
    /// # Errors
    /// [`Corrupt`](crate::ErrorKind::Corrupt) if it is no tar archive; [`Unsupported`](crate::ErrorKind::Unsupported)
    /// if it is compressed in another way; [`ResourceExhausted`](crate::ErrorKind::ResourceExhausted) if it passes a
    /// limit of the store or the disk is full.
    pub async fn import_stream(
        &self,
        name: Option<&Reference>,
        archive: ByteStream,
        options: ImportOptions,
    ) -> Result<Image> {
        self.backend.import(name, archive, options).await
    }

    /// Makes an artifact of files and gives it `name`; the same files make the same artifact.
    ///
    /// # Errors
    /// [`NotFound`](crate::ErrorKind::NotFound) if a file is not there; what the store says.
    pub async fn create_artifact(
        &self,
        name: &Reference,
        files: &[ArtifactFile],
        options: &ArtifactOptions,
    ) -> Result<Descriptor> {
        self.backend.create_artifact(name, files, options).await
    }

    /// Makes an artifact of files and pushes it beside the image `subject`, which its registry then lists it for.
    ///
    /// # Errors
    /// [`NotFound`](crate::ErrorKind::NotFound) if a file or the subject is not there; else as [`push`](Self::push).
    pub fn attach_artifact(
        &self,
        subject: &Reference,
        files: Vec<ArtifactFile>,
        options: ArtifactOptions,
    ) -> Operation<PushEvent, Descriptor> {
        self.backend.attach_artifact(subject, files, options)
    }

    /// Returns the manifests that are attached to `subject` in its registry; with `artifact_type` those of that type.
    ///
    /// # Errors
    /// As [`RegistryClient::resolve`](crate::RegistryClient::resolve).
    pub async fn referrers(
        &self,
        subject: &Reference,
        artifact_type: Option<&str>,
    ) -> Result<Vec<Descriptor>> {
        self.backend.referrers(subject, artifact_type).await
    }

    /// Opens the files of an artifact in the store.
    ///
    /// # Errors
    /// [`NotFound`](crate::ErrorKind::NotFound) if there is none of this name;
    /// [`InvalidArgument`](crate::ErrorKind::InvalidArgument) if it is an image.
    pub async fn artifact_files(&self, name: &str) -> Result<Vec<ArtifactContent>> {
        self.backend.artifact_files(name).await
    }

    /// Lists the tags of a repository in its registry.
    ///
    /// # Errors
    /// As [`RegistryClient::list_tags`](crate::RegistryClient::list_tags).
    pub async fn remote_tags(&self, repository: &Reference) -> Result<Vec<String>> {
        self.backend.remote_tags(repository).await
    }

    /// Asks a registry whether it takes these credentials.
    ///
    /// # Errors
    /// As [`RegistryClient::check_credentials`](crate::RegistryClient::check_credentials).
    pub async fn check_credentials(&self, registry: &str, credentials: &Credentials) -> Result<()> {
        self.backend.check_credentials(registry, credentials).await
    }

    /// Copies an image, named as for [`image`](Self::image), into the engine `to`. Everything keeps its digest, and
    /// between engines in this process only what that one lacks is read and written. An image named by its id has no
    /// name there unless the options give one.
    ///
    /// Dropped or failed, it leaves nothing there but what a garbage collection removes.
    ///
    /// # Errors
    /// [`NotFound`](crate::ErrorKind::NotFound) if there is no such image, or nothing for the platform;
    /// [`PermissionDenied`](crate::ErrorKind::PermissionDenied) if a hook of `to` refuses it;
    /// [`ResourceExhausted`](crate::ErrorKind::ResourceExhausted) if the disk is full.
    pub fn copy_image(
        &self,
        image: &str,
        to: &Engine,
        options: CopyImageOptions,
    ) -> Operation<LoadEvent, LoadedImage> {
        match (self.local(), to.local()) {
            (Some(from), Some(to)) => from.copy_image(image, to, options),
            _ => copy_as_archive(self, image, to, options),
        }
    }
}

fn words(images: &[impl AsRef<str>]) -> Vec<String> {
    images.iter().map(|image| image.as_ref().to_owned()).collect()
}
