//! `commit`: an image of what a container is now.

use std::time::SystemTime;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::descriptor::{Descriptor, media_type};
use crate::digest::Digest;
use crate::error::{Error, ErrorKind, Result};
use crate::events::Action;
use crate::image_changes;
use crate::image_config::ProcessDefaults;
use crate::image_store::LayerOptions;
use crate::manifest::{MAX_CONFIG_SIZE, MAX_MANIFEST_SIZE, Manifest};
use crate::reference::Reference;
use crate::state::ContainerStatus;

use super::container::LocalContainer;
use super::events::of_container;
use super::records::Record;
use super::turns::Turn;
use super::{LocalEngine, launch};

/// How a container becomes an image.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct CommitOptions {
    /// The image's name; without one, its id leads to it.
    pub name: Option<Reference>,
    /// Who made it.
    pub author: String,
    /// A comment in its history.
    pub message: String,
    /// Instructions that change its configuration, see [`image_changes::apply`].
    pub changes: Vec<String>,
    /// What its configuration has instead of the container's; what is empty is the container's. Sets are joined.
    pub config: ProcessDefaults,
    /// Leaves the container's processes running meanwhile, which may tear what they write.
    pub no_pause: bool,
    /// The time it says it was made; now without it. With it, the same container gives the same image.
    pub created: Option<SystemTime>,
}

impl CommitOptions {
    /// Gives the image a name.
    #[must_use]
    pub fn with_name(mut self, name: Reference) -> Self {
        self.name = Some(name);
        self
    }

    /// Adds an instruction that changes its configuration.
    #[must_use]
    pub fn with_change(mut self, change: impl Into<String>) -> Self {
        self.changes.push(change.into());
        self
    }
}

impl LocalContainer {
    pub(super) async fn commit(&self, options: &CommitOptions) -> Result<Digest> {
        let record = self.record().await?;
        if options.name.as_ref().is_some_and(|name| name.digest().is_some()) {
            return Err(Error::new(ErrorKind::InvalidArgument, "commit container")
                .with("name", options.name.as_ref().map(ToString::to_string).unwrap_or_default())
                .with_message("a name with a digest cannot be given"));
        }
        let mut config = effective(&record);
        overlay(&mut config, &options.config);
        image_changes::apply(&mut config, &options.changes)?;
        let engine = self.engine();
        engine.rootfs(&record).await?;
        // Until something leads to it, the lease keeps what is made here.
        let _lease = engine.inner.images.lease().await?;
        let (layer, diff_id) = {
            let as_it_is = LayerOptions::default();
            let work = engine.inner.images.commit_rootfs(&record.id, &as_it_is);
            let turn = if options.no_pause { None } else { Some(self.turn().await?) };
            match &turn {
                Some(turn) => self.paused(turn, &record, work).await?,
                None => work.await?,
            }
        };
        let id = engine.commit_image(&record, options, &config, layer, &diff_id).await?;
        let name = options.name.as_ref().map_or_else(String::new, Reference::familiar);
        let event = of_container(Action::Commit, &record).with("comment", &options.message);
        engine.emit(event.with("imageID", &id).with("imageRef", name)).await;
        Ok(id)
    }

    /// Does `work` while the container's processes stand still, if it runs.
    pub(super) async fn paused<T>(
        &self,
        _turn: &Turn,
        record: &Record,
        work: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        let engine = self.engine();
        let runtime = &engine.inner.runtime;
        if engine.state_of(record).await?.status != ContainerStatus::Running {
            return work.await;
        }
        runtime.pause(&record.id).await?;
        // A caller that stops waiting must not leave it paused.
        let guard = Thaw(Some((engine.clone(), record.id.clone())));
        let done = work.await;
        let thawed = runtime.resume(&record.id).await;
        guard.forget();
        match (done, thawed) {
            (Ok(value), Ok(())) => Ok(value),
            // It ended meanwhile, by a signal.
            (Ok(value), Err(error)) if error.kind() == ErrorKind::Conflict => Ok(value),
            (Ok(_), Err(error)) => Err(error),
            (Err(mut error), thawed) => {
                if let Err(later) = thawed {
                    error.suppress(later);
                }
                Err(error)
            }
        }
    }
}

/// Thaws a container when it is dropped.
struct Thaw(Option<(LocalEngine, crate::id::ContainerId)>);

impl Thaw {
    fn forget(mut self) {
        self.0 = None;
    }
}

impl Drop for Thaw {
    fn drop(&mut self) {
        if let (Some((engine, id)), Ok(handle)) = (self.0.take(), tokio::runtime::Handle::try_current()) {
            drop(handle.spawn(async move {
                if let Err(error) = engine.inner.runtime.resume(&id).await {
                    tracing::warn!(container = %id, %error, "thawing a container failed");
                }
            }));
        }
    }
}

/// Puts what `own` says in the place of what `config` does, as Docker's commit.
fn overlay(config: &mut ProcessDefaults, own: &ProcessDefaults) {
    for (field, own) in [
        (&mut config.user, &own.user),
        (&mut config.working_dir, &own.working_dir),
        (&mut config.stop_signal, &own.stop_signal),
    ] {
        if !own.is_empty() {
            field.clone_from(own);
        }
    }
    if !own.entrypoint.is_empty() {
        // The other command was meant for the other entrypoint.
        config.entrypoint.clone_from(&own.entrypoint);
        config.cmd.clone_from(&own.cmd);
    }
    for (field, own) in [(&mut config.cmd, &own.cmd), (&mut config.shell, &own.shell)] {
        if !own.is_empty() {
            field.clone_from(own);
        }
    }
    for variable in &own.env {
        let name = variable.split('=').next().unwrap_or_default();
        config.env.retain(|known| known.split('=').next() != Some(name));
        config.env.push(variable.clone());
    }
    config.exposed_ports.extend(own.exposed_ports.clone());
    config.volumes.extend(own.volumes.clone());
    config.labels.extend(own.labels.clone());
    config.on_build.extend(own.on_build.iter().cloned());
    config.healthcheck = own.healthcheck.clone().or_else(|| config.healthcheck.take());
    config.stop_timeout = own.stop_timeout.or(config.stop_timeout);
}

/// The configuration of the container: the image's, with the caller's wishes in their places.
fn effective(record: &Record) -> ProcessDefaults {
    let (spec, image) = (&record.data.spec, &record.data.defaults);
    let mut config = image.clone();
    if let Some(entrypoint) = &spec.entrypoint {
        config.entrypoint.clone_from(entrypoint);
        config.cmd.clear();
    }
    if !spec.command.is_empty() {
        config.cmd.clone_from(&spec.command);
    }
    for variable in &spec.env {
        let (name, value) = variable.split_once('=').map_or((variable.as_str(), None), |(n, v)| (n, Some(v)));
        let prefix = format!("{name}=");
        let at = config.env.iter().position(|known| known.starts_with(&prefix));
        match (value, at) {
            (Some(_), Some(at)) => config.env[at].clone_from(variable),
            (Some(_), None) => config.env.push(variable.clone()),
            (None, Some(at)) => drop(config.env.remove(at)),
            (None, None) => {}
        }
    }
    if let Some(user) = &spec.user {
        config.user.clone_from(user);
    }
    if let Some(dir) = &spec.working_dir {
        config.working_dir.clone_from(dir);
    }
    if let Some(signal) = &spec.stop_signal {
        config.stop_signal.clone_from(signal);
    }
    config.stop_timeout = spec.stop_timeout.or(config.stop_timeout);
    config.labels.extend(spec.labels.clone());
    config
}

impl LocalEngine {
    /// Writes configuration and manifest of an image with one layer more than the container's.
    async fn commit_image(
        &self,
        record: &Record,
        options: &CommitOptions,
        config: &ProcessDefaults,
        layer: Descriptor,
        diff_id: &Digest,
    ) -> Result<Digest> {
        let corrupt = |what: &'static str| {
            Error::new(ErrorKind::Corrupt, "commit container")
                .with("container", record.id.short())
                .with_message(what)
        };
        let parent = self.small_blob(&record.data.manifest, MAX_MANIFEST_SIZE).await?;
        let kind = Manifest::media_type(&parent)?;
        let Manifest::Image(contents) = Manifest::parse(&parent, &kind)? else {
            return Err(corrupt("its image is an index"));
        };
        let bytes = self.read_blob(&contents.config, MAX_CONFIG_SIZE).await?;
        let mut document: Value =
            serde_json::from_slice(&bytes).map_err(|_| corrupt("its image's configuration is no JSON"))?;
        let created = crate::time::rfc3339(options.created.unwrap_or_else(SystemTime::now));
        let command = launch::effective_command(&record.data.spec, &record.data.defaults).join(" ");
        let mut history = json!({ "created": created, "created_by": command });
        for (key, value) in [("author", &options.author), ("comment", &options.message)] {
            if !value.is_empty() {
                history[key] = value.as_str().into();
            }
        }
        document["created"] = created.into();
        document["config"] =
            serde_json::to_value(config).map_err(|_| corrupt("its configuration is no JSON"))?;
        if !options.author.is_empty() {
            document["author"] = options.author.as_str().into();
        }
        // What Docker notes about the container that the parent was made of.
        if let Some(map) = document.as_object_mut() {
            for key in ["container", "container_config"] {
                map.remove(key);
            }
        }
        push(&mut document["rootfs"]["diff_ids"], json!(diff_id))
            .ok_or_else(|| corrupt("its image's configuration has no list of layers"))?;
        if document["history"].is_null() {
            document["history"] = json!([]);
        }
        push(&mut document["history"], history).ok_or_else(|| corrupt("its image's history is no list"))?;
        let config_bytes = document.to_string().into_bytes();

        let docker = kind == media_type::DOCKER_MANIFEST;
        let mut layer = layer;
        if docker && layer.media_type == media_type::OCI_LAYER_GZIP {
            layer.media_type = media_type::DOCKER_LAYER.to_owned();
        }
        let config = Descriptor::of(contents.config.media_type.clone(), &config_bytes);
        let layers: Vec<&Descriptor> = contents.layers.iter().chain([&layer]).collect();
        let manifest_bytes =
            json!({ "schemaVersion": 2, "mediaType": kind, "config": config, "layers": layers })
                .to_string()
                .into_bytes();
        let manifest = Descriptor::of(kind, &manifest_bytes);
        let id = config.digest.clone();
        self.put_blob(&config, config_bytes).await?;
        self.put_blob(&manifest, manifest_bytes).await?;
        match &options.name {
            Some(name) => self.set_image_name(name, &manifest).await?,
            None => self.keep_dangling(&manifest).await?,
        }
        Ok(id)
    }

    /// Reads a blob of which only the digest is known.
    async fn small_blob(&self, digest: &Digest, limit: u64) -> Result<bytes::Bytes> {
        let size = self.inner.images.blob_size(digest).await?.ok_or_else(|| {
            Error::new(ErrorKind::NotFound, "read blob")
                .with("digest", digest)
                .with_message("it is not in the store")
        })?;
        self.read_blob(&Descriptor::new(media_type::OCI_MANIFEST, digest.clone(), size), limit).await
    }
}

fn push(list: &mut Value, item: Value) -> Option<()> {
    list.as_array_mut().map(|list| list.push(item))
}
