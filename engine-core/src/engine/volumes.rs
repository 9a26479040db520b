//! Volumes of an engine: the driver's, protected while containers use them.

use std::collections::BTreeMap;
use std::path::Path;

use crate::error::{Error, ErrorKind, Result};
use crate::events::Action;
use crate::files::UnpackFiles;
use crate::id::Name;
use crate::io::ByteStream;
use crate::volume_driver::{Volume, VolumeOptions};

use super::LocalEngine;
use super::events::of_volume;

impl LocalEngine {
    pub(super) async fn create_volume(&self, name: &Name, options: &VolumeOptions) -> Result<Volume> {
        let volumes = &self.inner.volumes;
        if volumes.inspect(name).await?.is_some() {
            return volumes.create(name, options).await;
        }
        let event = of_volume(Action::Create, name, volumes.name());
        let (volumes, name, options) = (std::sync::Arc::clone(volumes), name.clone(), options.clone());
        self.change(event, async move { volumes.create(&name, &options).await }).await
    }

    pub(super) async fn volume(&self, name: &Name) -> Result<Volume> {
        self.inner.volumes.inspect(name).await?.ok_or_else(|| no_such_volume("find volume", name))
    }

    pub(super) async fn volumes(&self) -> Result<Vec<Volume>> {
        self.inner.volumes.list().await
    }

    pub(super) async fn volume_users(&self) -> Result<BTreeMap<Name, usize>> {
        let mut users = BTreeMap::new();
        for record in self.inner.records.all().await? {
            let mut names: Vec<&Name> =
                record.data.spec.mounts.iter().filter_map(|mount| mount.volume_name()).collect();
            names.sort_unstable();
            names.dedup();
            for name in names {
                *users.entry(name.clone()).or_insert(0) += 1;
            }
        }
        Ok(users)
    }

    pub(super) async fn volume_usage(&self, name: &Name) -> Result<Option<u64>> {
        self.inner.volumes.usage(name).await
    }

    pub(super) async fn export_volume(&self, name: &Name) -> Result<ByteStream> {
        let (_, archive) = self.inner.volumes.files(name).await?.pack(Path::new("/.")).await?;
        Ok(archive)
    }

    pub(super) async fn import_volume(&self, name: &Name, archive: ByteStream) -> Result<()> {
        let files = self.inner.volumes.files(name).await?;
        files.unpack(Path::new("/"), archive, &UnpackFiles::default()).await
    }

    pub(super) async fn remove_volume(&self, name: &Name) -> Result<()> {
        self.refuse_users("remove volume", name).await?;
        self.destroy_volume(name).await
    }

    pub(super) async fn rename_volume(&self, name: &Name, new: &Name) -> Result<Volume> {
        let volumes = std::sync::Arc::clone(&self.inner.volumes);
        if volumes.inspect(name).await?.is_none() {
            return Err(no_such_volume("rename volume", name));
        }
        self.refuse_users("rename volume", name).await?;
        let event = of_volume(Action::Rename, new, volumes.name()).with("oldName", name);
        let (name, new) = (name.clone(), new.clone());
        self.change(event, async move { volumes.rename(&name, &new).await }).await
    }

    /// Refuses to touch a volume that containers use.
    async fn refuse_users(&self, operation: &'static str, name: &Name) -> Result<()> {
        let mut users = Vec::new();
        for record in self.inner.records.all().await? {
            if record.uses_volume(name) {
                let state = self.state_of(&record).await?.status;
                users.push(format!("{} ({}, {state})", record.name, record.id.short()));
            }
        }
        if !users.is_empty() {
            let (noun, verb) = if users.len() == 1 { ("container", "uses") } else { ("containers", "use") };
            return Err(Error::new(ErrorKind::Conflict, operation)
                .with("volume", name)
                .with_message(format!("{noun} {} {verb} it", users.join(", ")))
                .with_hint("remove the container first"));
        }
        Ok(())
    }

    /// Removes a volume that nothing uses.
    pub(super) async fn destroy_volume(&self, name: &Name) -> Result<()> {
        let volumes = &self.inner.volumes;
        // One that cannot be read is removed too.
        if let Ok(None) = volumes.inspect(name).await {
            return volumes.remove(name).await;
        }
        let event = of_volume(Action::Destroy, name, volumes.name());
        let (volumes, name) = (std::sync::Arc::clone(volumes), name.clone());
        self.change(event, async move { volumes.remove(&name).await }).await
    }
}

fn no_such_volume(operation: &'static str, name: &Name) -> Error {
    Error::new(ErrorKind::NotFound, operation).with("volume", name).with_message("no such volume")
}
