//! Images and artifacts that come and go.

use std::path::Path;

use async_trait::async_trait;

use crate::descriptor::Descriptor;
use crate::engine::{
    ArtifactContent, ArtifactFile, ArtifactOptions, Image, ImportOptions, LoadEvent, LoadOptions, LoadSource,
    LoadedImage, LocalEngine, Operation, PullEvent, PullOptions, PushEvent, PushOptions, SaveEvent,
    SaveOptions, TransferOperations,
};
use crate::error::Result;
use crate::io::{ByteStream, Writer};
use crate::platform::Platform;
use crate::reference::Reference;
use crate::registry_client::Credentials;

#[async_trait]
impl TransferOperations for LocalEngine {
    fn pull(&self, reference: &Reference, options: PullOptions) -> Operation<PullEvent, Image> {
        Self::pull(self, reference, options)
    }

    fn push(&self, reference: &Reference, options: PushOptions) -> Operation<PushEvent, Descriptor> {
        Self::push(self, reference, options)
    }

    async fn remote_tags(&self, repository: &Reference) -> Result<Vec<String>> {
        self.inner.registry.list_tags(repository).await
    }

    async fn check_credentials(&self, registry: &str, credentials: &Credentials) -> Result<()> {
        self.inner.registry.check_credentials(registry, credentials).await
    }

    fn load(&self, source: LoadSource, options: LoadOptions) -> Operation<LoadEvent, Vec<LoadedImage>> {
        Self::load(self, source, options)
    }

    fn save(&self, images: Vec<String>, out: Writer, options: SaveOptions) -> Operation<SaveEvent, ()> {
        Self::save(self, &images, out, options)
    }

    fn save_layout(&self, images: Vec<String>, dir: &Path, options: SaveOptions) -> Operation<SaveEvent, ()> {
        Self::save_layout(self, &images, dir, options)
    }

    async fn export_image(&self, name: &str, platform: &Platform) -> Result<ByteStream> {
        Self::export_image(self, name, platform).await
    }

    async fn import(
        &self,
        name: Option<&Reference>,
        archive: ByteStream,
        options: ImportOptions,
    ) -> Result<Image> {
        self.import_stream(name, archive, options).await
    }

    async fn create_artifact(
        &self,
        name: &Reference,
        files: &[ArtifactFile],
        options: &ArtifactOptions,
    ) -> Result<Descriptor> {
        Self::create_artifact(self, name, files, options).await
    }

    fn attach_artifact(
        &self,
        subject: &Reference,
        files: Vec<ArtifactFile>,
        options: ArtifactOptions,
    ) -> Operation<PushEvent, Descriptor> {
        Self::attach_artifact(self, subject, files, options)
    }

    async fn referrers(&self, subject: &Reference, artifact_type: Option<&str>) -> Result<Vec<Descriptor>> {
        Self::referrers(self, subject, artifact_type).await
    }

    async fn artifact_files(&self, name: &str) -> Result<Vec<ArtifactContent>> {
        Self::artifact_files(self, name).await
    }
}
