//! What a container mounts besides its root file system: from wishes to mounts.
//!
//! Owns which volumes are made for a container and when they get the image's files. What a volume is, the driver knows;
//! what a mount is, the runtime.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::container_spec::{ContainerSpec, MountSpec, VolumesFrom};
use crate::digest::Digest;
use crate::error::{Error, ErrorKind, Result};
use crate::id::Name;
use crate::image_config::ProcessDefaults;
use crate::mount::{Mount, MountKind, MountOptions, covered};
use crate::platform::Platform;
use crate::volume_driver::{ANONYMOUS_LABEL, VolumeOptions};

use super::LocalEngine;
use super::records::{MountedImage, Record};

/// The most mounts of one container. An image must not make thousands of volumes.
const MAX_MOUNTS: usize = 200;

impl LocalEngine {
    /// Completes the mounts asked for by those of other containers and by the volumes that the image wants, checks them,
    /// and looks up the images among them.
    pub(super) async fn resolve_mounts(
        &self,
        spec: &mut ContainerSpec,
        image: &ProcessDefaults,
    ) -> Result<Vec<MountedImage>> {
        let mut taken = BTreeSet::new();
        for mount in &spec.mounts {
            if !taken.insert(target_of(mount)?) {
                return Err(
                    invalid("two mounts have the same target").with("mount target", mount.target().display())
                );
            }
        }
        for from in spec.volumes_from.clone() {
            for mount in self.volumes_of(&from).await? {
                // What was asked for in so many words wins, and so does the first of several containers.
                if taken.insert(target_of(&mount)?) {
                    spec.mounts.push(mount);
                }
            }
        }
        for target in image.volumes.keys() {
            let mount = MountSpec::volume(None, target);
            let clean = target_of(&mount).map_err(|e| e.with("image volume", target))?;
            if taken.insert(clean) {
                spec.mounts.push(mount);
            }
        }
        if spec.mounts.len() > MAX_MOUNTS {
            return Err(Error::new(ErrorKind::ResourceExhausted, "create container")
                .with_message(format!("it has {} mounts, more than {MAX_MOUNTS}", spec.mounts.len())));
        }
        let mut images = Vec::new();
        for mount in &spec.mounts {
            match mount {
                MountSpec::Mount(mount) => {
                    if mount.options.copy_up && !matches!(mount.kind, MountKind::Tmpfs { .. }) {
                        return Err(invalid("only a tmpfs is filled by a copy of what is at its target")
                            .with("mount target", mount.target.display()));
                    }
                    if let MountKind::Bind { source, .. } = &mount.kind {
                        check_bind_source(source, mount.options.create_source)?;
                    }
                }
                MountSpec::Image { image, .. } => {
                    let platform = spec.platform.clone().unwrap_or_else(Platform::host);
                    let target = self.find_image(image).await?;
                    let found = self.load_image(&target, &platform, &[]).await?;
                    // What is for this host was unpacked when it came.
                    if found.platform() != Platform::host() {
                        self.unpack_missing(&found).await?;
                    }
                    let manifest = found.manifest.digest.clone();
                    images.push(MountedImage { manifest, layers: found.diff_ids().to_vec() });
                }
                MountSpec::Volume { .. } => {}
            }
        }
        Ok(images)
    }

    /// Returns the volumes and binds of another container.
    async fn volumes_of(&self, from: &VolumesFrom) -> Result<Vec<MountSpec>> {
        let record = self.inner.records.find(&from.container)?;
        let mut mounts = Vec::new();
        for mut mount in record.data.spec.mounts {
            let options: &mut MountOptions = match &mut mount {
                MountSpec::Mount(Mount { kind: MountKind::Bind { .. }, options, .. })
                | MountSpec::Volume { options, .. } => options,
                _ => continue,
            };
            if let Some(read_only) = from.read_only {
                options.read_only = read_only;
                options.recursive_read_only &= read_only;
            }
            if let MountSpec::Volume { no_copy, .. } = &mut mount {
                // They are the other one's, who filled them.
                *no_copy = true;
            }
            mounts.push(mount);
        }
        Ok(mounts)
    }

    /// Makes the volumes that `spec` needs and names the anonymous ones, which are returned. What it made is gone again
    /// when it fails.
    pub(super) async fn make_volumes(&self, spec: &mut ContainerSpec) -> Result<Vec<Name>> {
        let mut anonymous = Vec::new();
        for mount in &mut spec.mounts {
            let MountSpec::Volume { name, create, .. } = mount else { continue };
            let made = match name {
                Some(name) => self.ensure_volume(name, create).await,
                None => {
                    let fresh = Name::random_hex();
                    create.labels.insert(ANONYMOUS_LABEL.to_owned(), String::new());
                    let made = self.create_volume(&fresh, create).await.map(drop);
                    if made.is_ok() {
                        anonymous.push(fresh.clone());
                        *name = Some(fresh);
                    }
                    made
                }
            };
            if let Err(mut error) = made {
                for volume in &anonymous {
                    if let Err(later) = self.destroy_volume(volume).await {
                        error.suppress(later);
                    }
                }
                return Err(error);
            }
        }
        Ok(anonymous)
    }

    /// Makes a named volume, unless it is there.
    pub(super) async fn ensure_volume(&self, name: &Name, create: &VolumeOptions) -> Result<()> {
        match self.inner.volumes.inspect(name).await? {
            // One that is there is used as it is, unless that contradicts what was asked for.
            Some(there)
                if !create.driver_options.is_empty() && there.driver_options != create.driver_options =>
            {
                Err(Error::new(ErrorKind::Conflict, "create volume")
                    .with("volume", name)
                    .with_message("it exists with other options")
                    .with_hint("remove it first, or use it as it is"))
            }
            Some(_) => Ok(()),
            None => self.create_volume(name, create).await.map(drop),
        }
    }

    /// Fills the container's volumes that are empty with what its image has at their places.
    pub(super) async fn fill_volumes(&self, record: &Record, rootfs: &[Mount]) -> Result<()> {
        for mount in &record.data.spec.mounts {
            if let MountSpec::Volume { name: Some(name), target, no_copy: false, subpath: None, .. } = mount {
                self.inner.volumes.fill(name, rootfs, target).await?;
            }
        }
        Ok(())
    }

    /// Keeps the images that the container mounts from being collected while it exists.
    pub(super) async fn hold_images(&self, record: &Record) -> Result<()> {
        for held in &record.data.mounted_images {
            let target = Path::new("/");
            self.inner.images.mount_image(&record.id, &held.manifest, &held.layers, target).await?;
        }
        Ok(())
    }

    /// Returns the mounts of a container's volumes, binds, tmpfs and images.
    pub(super) async fn mounts(&self, record: &Record) -> Result<Vec<Mount>> {
        let mut images = record.data.mounted_images.iter();
        let mut mounts = Vec::with_capacity(record.data.spec.mounts.len());
        for wish in &record.data.spec.mounts {
            mounts.push(match wish {
                MountSpec::Mount(mount) => mount.clone(),
                MountSpec::Volume { name: Some(name), target, options, subpath, .. } => {
                    let mut mount = self.inner.volumes.mount(name, target).await?;
                    add_options(&mut mount.options, options);
                    mount.subpath.clone_from(subpath);
                    // What a container writes to a volume has the ids it has inside, so that others can read it.
                    let is_directory = matches!(mount.kind, MountKind::Bind { .. });
                    mount.options.id_mapped = record.data.spec.is_mapped() && is_directory;
                    mount
                }
                MountSpec::Volume { name: None, target, .. } => {
                    return Err(Error::new(ErrorKind::Other, "mount volume")
                        .with("target", target.display())
                        .with_message("an anonymous volume has no name"));
                }
                MountSpec::Image { image, target, subpath } => {
                    let held = images.next().ok_or_else(|| {
                        Error::new(ErrorKind::Corrupt, "mount image")
                            .with("image", image)
                            .with_message("the container's record does not say which image it is")
                    })?;
                    let mut mount = self
                        .inner
                        .images
                        .mount_image(&record.id, &held.manifest, &held.layers, target)
                        .await?;
                    mount.subpath.clone_from(subpath);
                    mount.options.id_mapped = record.data.spec.is_mapped();
                    mount
                }
            });
        }
        Ok(mounts)
    }

    /// Removes the anonymous volumes of a container that goes, except those that others use too. All are tried.
    pub(super) async fn remove_anonymous_volumes(&self, record: &Record) -> Result<()> {
        if record.data.anonymous_volumes.is_empty() {
            return Ok(());
        }
        let others = self.inner.records.all().await?;
        let mut outcome = Ok(());
        for name in &record.data.anonymous_volumes {
            if others.iter().any(|other| other.id != record.id && other.uses_volume(name)) {
                continue;
            }
            match (self.destroy_volume(name).await, &mut outcome) {
                (Ok(()), _) => {}
                (Err(later), Err(error)) => Error::suppress(error, later),
                (Err(error), outcome) => *outcome = Err(error),
            }
        }
        outcome
    }
}

impl Record {
    /// Returns the manifests of the images that the container needs: its own, and those it mounts.
    pub(super) fn manifests(&self) -> impl Iterator<Item = &Digest> {
        std::iter::once(&self.data.manifest).chain(self.data.mounted_images.iter().map(|held| &held.manifest))
    }

    /// Returns the layers that the container needs, by diff ID.
    pub(super) fn layers(&self) -> impl Iterator<Item = &Digest> {
        self.data.layers.iter().chain(self.data.mounted_images.iter().flat_map(|held| &held.layers))
    }

    /// Returns whether the container mounts the volume `name`, running or not.
    pub(super) fn uses_volume(&self, name: &Name) -> bool {
        self.data.spec.mounts.iter().any(|mount| mount.volume_name() == Some(name))
    }
}

/// What a container asks for makes a volume's mount stricter, never looser.
fn add_options(mount: &mut MountOptions, wish: &MountOptions) {
    mount.read_only |= wish.read_only;
    mount.recursive_read_only |= wish.recursive_read_only;
    mount.nosuid |= wish.nosuid;
    mount.nodev |= wish.nodev;
    mount.noexec |= wish.noexec;
}

/// Returns the path that a mount covers, in the one form in which two are the same.
fn target_of(mount: &MountSpec) -> Result<PathBuf> {
    let target = mount.target();
    let clean = covered(target);
    if !target.is_absolute() || clean.parent().is_none() {
        return Err(
            invalid("it must be an absolute path other than /").with("mount target", target.display())
        );
    }
    Ok(clean)
}

fn invalid(why: &str) -> Error {
    Error::new(ErrorKind::InvalidArgument, "create container").with_message(why)
}

fn check_bind_source(source: &Path, create: bool) -> Result<()> {
    let wrong = |why: &str| invalid(why).with("bind source", source.display());
    if !source.is_absolute() {
        return Err(wrong("it must be an absolute path"));
    }
    match std::fs::metadata(source) {
        Ok(_) => Ok(()),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound && create => std::fs::create_dir_all(source)
            .map_err(|e| Error::from_io("make bind source", e).with("path", source.display())),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            Err(wrong("bind source path does not exist").with_hint("create it on the host first"))
        }
        Err(e) => Err(wrong("it cannot be used").with_source(e)),
    }
}
