//! Importing: an image of one layer from a tar archive that comes from outside.

use futures_util::StreamExt as _;

use crate::descriptor::{Descriptor, media_type};
use crate::error::{Error, ErrorKind, Result};
use crate::events::Action;
use crate::image_config::{History, ImageConfig, RootFs};
use crate::image_store::{CreatedLayer, Lease};
use crate::io::ByteStream;
use crate::platform::Platform;
use crate::reference::Reference;

use super::LocalEngine;
use super::events::of_image;
use super::image::{Image, ImportOptions};
use super::pull::wrap;

impl LocalEngine {
    pub(super) async fn import_stream(
        &self,
        name: Option<&Reference>,
        mut archive: ByteStream,
        options: ImportOptions,
    ) -> Result<Image> {
        if let Some(name) = name.filter(|name| name.digest().is_some()) {
            return Err(Error::new(ErrorKind::InvalidArgument, "import image")
                .with("name", name)
                .with_message("a name with a digest cannot be given"));
        }
        let incoming = Incoming::begin(self).await?;
        let layer = async {
            let mut writer = self.inner.images.create_layer().await?;
            while let Some(piece) = archive.next().await {
                writer.write(piece?).await?;
            }
            writer.commit().await
        };
        let shown = name.map_or_else(|| "-".to_owned(), Reference::familiar);
        let layer = layer.await.map_err(|error| wrap(error, "import image", shown))?;
        let target = self.put_import(layer, options).await?;
        match name {
            Some(name) => {
                let event = of_image(Action::Import, self.id_of(&target).await, name.familiar());
                self.name_image(event, name, &target).await?;
            }
            None => {
                self.keep_dangling(&target).await?;
                let id = self.id_of(&target).await;
                self.emit(of_image(Action::Import, &id, &id)).await;
            }
        }
        incoming.arrived();
        let names = self.all_names().await?;
        self.load_image(&target, &Platform::host(), &names).await
    }

    /// Writes the configuration and the manifest of an imported layer.
    async fn put_import(&self, layer: CreatedLayer, options: ImportOptions) -> Result<Descriptor> {
        let created = options.created.map(crate::time::rfc3339);
        let platform = options.platform.unwrap_or_else(Platform::host);
        let config = ImageConfig {
            created: created.clone().unwrap_or_default(),
            architecture: platform.architecture.clone(),
            os: platform.os.clone(),
            variant: platform.variant.clone(),
            config: options.config,
            rootfs: RootFs { kind: "layers".to_owned(), diff_ids: vec![layer.diff_id] },
            history: vec![History { created, comment: options.comment, ..History::default() }],
            ..ImageConfig::default()
        };
        let config_bytes = to_json(&config)?;
        let config = Descriptor::of(media_type::OCI_CONFIG, &config_bytes);
        let manifest_bytes = to_json(&serde_json::json!({
            "schemaVersion": 2,
            "mediaType": media_type::OCI_MANIFEST,
            "config": config,
            "layers": [layer.descriptor],
        }))?;
        let manifest = Descriptor::of(media_type::OCI_MANIFEST, &manifest_bytes);
        self.put_blob(&config, config_bytes).await?;
        self.put_blob(&manifest, manifest_bytes).await?;
        Ok(manifest)
    }
}

pub(super) fn to_json(value: &impl serde::Serialize) -> Result<Vec<u8>> {
    serde_json::to_vec(value).map_err(|e| Error::new(ErrorKind::Other, "write image").with_source(e))
}

/// Content on its way in. If the work ends before the content has a name, it is collected.
pub(super) struct Incoming {
    engine: LocalEngine,
    lease: Option<Lease>,
}

impl Incoming {
    pub(super) async fn begin(engine: &LocalEngine) -> Result<Self> {
        Ok(Self { engine: engine.clone(), lease: Some(engine.inner.images.lease().await?) })
    }

    /// Says that names hold what came in.
    pub(super) fn arrived(mut self) {
        self.lease = None;
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        if self.lease.take().is_none() {
            return;
        }
        // A future that is dropped cannot wait. Where no runtime is left, the next collection does it.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let store = std::sync::Arc::clone(&self.engine.inner.images);
            runtime.spawn(async move {
                if let Err(error) = store.collect_garbage().await {
                    tracing::warn!(%error, "collecting unfinished content failed");
                }
            });
        }
    }
}
