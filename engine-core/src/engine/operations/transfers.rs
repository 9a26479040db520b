//! Images and artifacts that come and go.

use std::fmt;
use std::path::Path;

use async_trait::async_trait;

use crate::descriptor::Descriptor;
use crate::engine::{
    ArtifactContent, ArtifactFile, ArtifactOptions, Image, ImportOptions, LoadEvent, LoadOptions, LoadSource,
    LoadedImage, Operation, PullEvent, PullOptions, PushEvent, PushOptions, SaveEvent, SaveOptions,
};
use crate::error::Result;
use crate::io::{ByteStream, Writer};
use crate::platform::Platform;
use crate::reference::Reference;
use crate::registry_client::Credentials;

/// Images and artifacts that come and go.
#[async_trait]
pub trait TransferOperations: fmt::Debug + Send + Sync {
    /// See [`Engine::pull`](crate::engine::Engine::pull).
    fn pull(&self, reference: &Reference, options: PullOptions) -> Operation<PullEvent, Image>;
    /// See [`Engine::push`](crate::engine::Engine::push).
    fn push(&self, reference: &Reference, options: PushOptions) -> Operation<PushEvent, Descriptor>;
    /// See [`Engine::remote_tags`](crate::engine::Engine::remote_tags).
    async fn remote_tags(&self, repository: &Reference) -> Result<Vec<String>>;
    /// See [`Engine::check_credentials`](crate::engine::Engine::check_credentials).
    async fn check_credentials(&self, registry: &str, credentials: &Credentials) -> Result<()>;
    /// See [`Engine::load`](crate::engine::Engine::load).
    fn load(&self, source: LoadSource, options: LoadOptions) -> Operation<LoadEvent, Vec<LoadedImage>>;
    /// See [`Engine::save`](crate::engine::Engine::save).
    fn save(&self, images: Vec<String>, out: Writer, options: SaveOptions) -> Operation<SaveEvent, ()>;
    /// See [`Engine::save_layout`](crate::engine::Engine::save_layout).
    fn save_layout(&self, images: Vec<String>, dir: &Path, options: SaveOptions) -> Operation<SaveEvent, ()>;
    /// See [`Engine::export_image`](crate::engine::Engine::export_image).
    async fn export_image(&self, name: &str, platform: &Platform) -> Result<ByteStream>;
    /// See [`Engine::import_stream`](crate::engine::Engine::import_stream).
    async fn import(
        &self,
        name: Option<&Reference>,
        archive: ByteStream,
        options: ImportOptions,
    ) -> Result<Image>;
    /// See [`Engine::create_artifact`](crate::engine::Engine::create_artifact).
    async fn create_artifact(
        &self,
        name: &Reference,
        files: &[ArtifactFile],
        options: &ArtifactOptions,
    ) -> Result<Descriptor>;
    /// See [`Engine::attach_artifact`](crate::engine::Engine::attach_artifact).
    fn attach_artifact(
        &self,
        subject: &Reference,
        files: Vec<ArtifactFile>,
        options: ArtifactOptions,
    ) -> Operation<PushEvent, Descriptor>;
    /// See [`Engine::referrers`](crate::engine::Engine::referrers).
    async fn referrers(&self, subject: &Reference, artifact_type: Option<&str>) -> Result<Vec<Descriptor>>;
    /// See [`Engine::artifact_files`](crate::engine::Engine::artifact_files).
    async fn artifact_files(&self, name: &str) -> Result<Vec<ArtifactContent>>;
}
