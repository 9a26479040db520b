//! Root file systems of containers: which mounts make them, and their writable directories.

use std::collections::BTreeSet;
use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{Gid, Mode, Timespec, Timestamps, Uid};

use super::changes::Trees;
use super::implied;
use super::ingest::{Temporary, make_root};
use super::input::Input;
use super::layer::LayerInfo;
use super::names::to_json;
use super::pipeline::{self, Target};
use super::remove::remove_tree;
use super::snapshots::{State, rootfs_state};
use super::store::{Driver, Shared};
use super::unpack::Whiteouts;
use crate::database::Durability;
use crate::descriptor::{Descriptor, media_type};
use crate::digest::Digest;
use crate::error::{Error, ErrorKind, Result};
use crate::id::ContainerId;
use crate::linux::walk;
use crate::manifest::MAX_LAYERS;
use crate::mount::{Mount, OverlayUpper};

impl Shared {
    pub(super) fn prepare_rootfs(
        &self,
        id: &ContainerId,
        image: &Digest,
        layers: &[Digest],
    ) -> Result<Vec<Mount>> {
        if layers.len() > MAX_LAYERS {
            return Err(Error::new(ErrorKind::ResourceExhausted, "prepare root file system")
                .with("container", id)
                .with_message(format!("it has {} layers, more than {MAX_LAYERS}", layers.len())));
        }
        self.sync_renames()?;
        self.settle(id)?;
        let same = |state: &State| state.image == image.to_string() && state.layers == layers;
        let (infos, frozen) = match self.database.read(|c| rootfs_state(c, id))?.filter(same) {
            // It keeps them.
            Some(state) => (self.infos(id, layers)?, state.frozen),
            None => self.hold_layers(id, image, layers)?,
        };
        self.settle_chain(&frozen)?;
        let fail = |e: io::Error| Error::from_io("prepare root file system", e).with("container", id);
        // What a container wrote is kept whatever fails now; only what this call began is taken back.
        let dir = self.layout.container(id);
        let existed = ["work", "rootfs"].iter().any(|name| dir.join(name).symlink_metadata().is_ok());
        let made = infos.iter().try_for_each(|info| self.check_layer_blob(info)).and_then(|()| {
            make_dir(&dir, 0o700).map_err(fail)?;
            match self.driver()? {
                Driver::Overlay => self.overlay_mounts(&dir, layers, &infos, &frozen).map_err(fail),
                Driver::Copy(_) => self.copy_mounts(&dir, layers, &infos),
            }
        });
        made.map_err(|mut error| {
            if !existed && let Err(later) = self.remove_rootfs(id) {
                error.suppress(later);
            }
            error
        })
    }

    /// Writes down what a root file system is made of.
    fn hold_layers(
        &self,
        id: &ContainerId,
        image: &Digest,
        layers: &[Digest],
    ) -> Result<(Vec<LayerInfo>, Vec<String>)> {
        let json = to_json(&layers)?;
        // The row and the look at the layers are one transaction: a collection is before it, and then a layer
        // is missing, or after it, and then the row keeps them.
        self.database.write(Durability::Crash, |tx| {
            let infos = self.infos(id, layers)?;
            tx.prepare_cached(
                "INSERT INTO image_rootfs (container, image, layers) VALUES (?1, ?2, ?3)
                    ON CONFLICT (container) DO UPDATE SET image = ?2, layers = ?3",
            )?
            .execute((id.as_str(), image.to_string(), &json))?;
            let state = rootfs_state(tx, id)?;
            Ok((infos, state.map(|state| state.frozen).unwrap_or_default()))
        })
    }

    fn infos(&self, id: &ContainerId, layers: &[Digest]) -> Result<Vec<LayerInfo>> {
        let info = |diff_id: &Digest| {
            self.layer_info(diff_id)?.ok_or_else(|| {
                Error::new(ErrorKind::NotFound, "prepare root file system")
                    .with("container", id)
                    .with_message(format!("the layer {diff_id} is not unpacked"))
            })
        };
        layers.iter().map(info).collect()
    }

    /// Describes the layers of an image without a writable one, and holds the image for the container.
    pub(super) fn mount_image(
        &self,
        id: &ContainerId,
        image: &Digest,
        layers: &[Digest],
        target: &Path,
    ) -> Result<Mount> {
        let unsupported = |why: &str| {
            Error::new(ErrorKind::Unsupported, "mount image").with("image", image).with_message(why)
        };
        if layers.is_empty() || layers.len() > MAX_LAYERS {
            return Err(unsupported("it has no layers, or too many"));
        }
        if let Driver::Copy(_) = self.driver()? {
            return Err(unsupported("overlayfs does not work here, so there are no layers to be shown"));
        }
        self.sync_renames()?;
        let json = to_json(&layers)?;
        let infos = self.database.write(Durability::Crash, |tx| {
            let infos = self.infos(id, layers)?;
            tx.prepare_cached("INSERT OR REPLACE INTO image_mounts VALUES (?1, ?2, ?3)")?.execute((
                id.as_str(),
                image.to_string(),
                &json,
            ))?;
            Ok(infos)
        })?;
        infos.iter().try_for_each(|info| self.check_layer_blob(info))?;
        let lower = layers.iter().rev().map(|diff_id| self.layout.layer(diff_id).join("fs")).collect();
        let mut mount = Mount::overlay(lower, None).read_only();
        target.clone_into(&mut mount.target);
        // Nothing of an image beside the container's own is to act (SECURITY C5).
        (mount.options.nosuid, mount.options.nodev) = (true, true);
        Ok(mount)
    }

    /// Returns the bytes in a container's writable layer, or in its copy.
    pub(super) fn rootfs_usage(&self, id: &ContainerId) -> Result<u64> {
        let fail = |e: io::Error| Error::from_io("measure root file system", e).with("container", id);
        let dir = self.layout.container(id);
        let mut bytes = 0;
        for name in ["upper", "rootfs"] {
            match File::open(dir.join(name)) {
                Ok(root) => bytes += walk::disk_usage(&root.into()).map_err(fail)?,
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                Err(e) => return Err(fail(e)),
            }
        }
        Ok(bytes)
    }

    fn overlay_mounts(
        &self,
        dir: &Path,
        layers: &[Digest],
        infos: &[LayerInfo],
        frozen: &[String],
    ) -> io::Result<Vec<Mount>> {
        let files = |diff_id: &Digest| self.layout.layer(diff_id).join("fs");
        let upper = OverlayUpper { upper: dir.join("upper"), work: dir.join("work") };
        // `work` is made last: where it is, `upper` is complete and perhaps written to already.
        if !upper.work.try_exists()?
            && let Some(top) = frozen.first()
        {
            make_dir(&upper.upper, 0o755)?;
            take_after(&upper.upper, Some(&self.frozen_dir(top)))?;
            make_dir(&upper.work, 0o700)?;
        } else if !upper.work.try_exists()? {
            make_dir(&upper.upper, 0o755)?;
            // The root directory of an overlay mount is the uppermost one, so it takes after the image's.
            let image_root = infos.iter().rposition(|info| info.has_root).map(|top| files(&layers[top]));
            let top = OwnedFd::from(File::open(&upper.upper)?);
            let all: Vec<PathBuf> = layers.iter().map(files).collect();
            implied::restore(&top, &all, infos)?;
            take_after(&upper.upper, image_root.as_deref())?;
            make_dir(&upper.work, 0o700)?;
        }
        let mut lower: Vec<PathBuf> = frozen.iter().map(|id| self.frozen_dir(id)).collect();
        lower.extend(layers.iter().rev().map(files));
        if lower.is_empty() {
            // Overlayfs wants a lower directory, also for an image without layers.
            let empty = dir.join("empty");
            make_dir(&empty, 0o755)?;
            lower.push(empty);
        }
        Ok(vec![Mount::overlay(lower, Some(upper))])
    }

    /// The fallback: every layer is unpacked over the ones below, into a directory of the container's own.
    fn copy_mounts(&self, dir: &Path, layers: &[Digest], infos: &[LayerInfo]) -> Result<Vec<Mount>> {
        let target = dir.join("rootfs");
        let fail = |e: io::Error| Error::from_io("copy root file system", e).with("path", target.display());
        if !target.try_exists().map_err(fail)? {
            let parent = OwnedFd::from(File::open(dir).map_err(fail)?);
            remove_tree(parent.as_fd(), b"rootfs.new").map_err(fail)?;
            let fresh = dir.join("rootfs.new");
            drop(make_root(&fresh).map_err(fail)?);
            for (diff_id, info) in layers.iter().zip(infos) {
                let Some((blob, _)) = &info.blob else {
                    return Err(Error::new(ErrorKind::NotFound, "copy root file system")
                        .with("diff id", diff_id)
                        .with_message("the blob of this layer is not known"));
                };
                // Whiteouts act on what lower layers put there, never on their own layer: so a pass for them first.
                for whiteouts in [Whiteouts::ApplyOnly, Whiteouts::Ignore] {
                    self.unpack_over(&fresh, &parent, blob, diff_id, whiteouts)?;
                }
            }
            fs::rename(&fresh, &target).map_err(fail)?;
        }
        Ok(vec![Mount::bind(target, "/")])
    }

    fn unpack_over(
        &self,
        target: &Path,
        scratch: &OwnedFd,
        blob: &Digest,
        diff_id: &Digest,
        whiteouts: Whiteouts,
    ) -> Result<()> {
        let fail = |e: io::Error| Error::from_io("copy root file system", e).with("digest", blob);
        let file = File::open(self.layout.blob(blob)).map_err(fail)?;
        let size = file.metadata().map_err(fail)?.len();
        let descriptor = Descriptor::new(media_type::OCI_LAYER, blob.clone(), size);
        let root = OwnedFd::from(File::open(target).map_err(fail)?);
        let scratch = scratch.try_clone().map_err(fail)?;
        let mut input = Input::from_file(&descriptor, file);
        pipeline::run(
            &mut input,
            Some(diff_id),
            Target::Directory { root, scratch, whiteouts },
            &self.options,
        )?;
        input.finish().map(drop)
    }

    /// The copy of a container beside one of its image as it was, for a store that copies.
    pub(super) fn copied_trees(&self, id: &ContainerId, state: &State) -> Result<Trees> {
        let fail = |e: io::Error| Error::from_io("compare root file system", e).with("container", id);
        let mut infos = Vec::with_capacity(state.layers.len());
        for diff_id in &state.layers {
            infos.push(self.layer_info(diff_id)?.ok_or_else(|| {
                Error::new(ErrorKind::NotFound, "compare root file system")
                    .with("container", id)
                    .with_message(format!("the layer {diff_id} is not unpacked"))
            })?);
        }
        let session = self.session()?;
        let pristine = Temporary::new(&session, "pristine");
        make_dir(&pristine.path, 0o700).map_err(fail)?;
        self.copy_mounts(&pristine.path, &state.layers, &infos)?;
        let before = Self::open_dir(&pristine.path.join("rootfs")).map_err(fail)?;
        let now = Self::open_dir(&self.layout.container(id).join("rootfs")).map_err(fail)?;
        Ok(Trees { written: None, now, before, mount_points: BTreeSet::new(), _pristine: Some(pristine) })
    }

    pub(super) fn remove_rootfs(&self, id: &ContainerId) -> Result<()> {
        self.settle(id)?;
        let dir = self.layout.container(id);
        let fail = |e: io::Error| Error::from_io("remove root file system", e).with("container", id);
        match File::open(&dir) {
            Ok(file) => {
                let parent = OwnedFd::from(file);
                for name in ["upper", "work", "empty", "rootfs", "rootfs.new"] {
                    remove_tree(parent.as_fd(), name.as_bytes()).map_err(fail)?;
                }
                // What else is in the directory is not ours.
                let _ = fs::remove_dir(&dir);
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(fail(e)),
        }
        self.database.write(Durability::Crash, |tx| {
            for table in ["image_rootfs", "image_mounts"] {
                tx.prepare_cached(&format!("DELETE FROM {table} WHERE container = ?1"))?
                    .execute([id.as_str()])?;
            }
            Ok(())
        })?;
        self.sweep_frozen()
    }

    pub(super) fn rootfs_list(&self) -> Result<Vec<ContainerId>> {
        let rows = self.database.read(|c| {
            c.prepare_cached("SELECT container FROM image_rootfs UNION SELECT container FROM image_mounts ORDER BY container")?
                .query_map([], |row| row.get(0))?
                .collect::<rusqlite::Result<Vec<String>>>()
        })?;
        rows.iter().map(|id| id.parse()).collect()
    }
}

fn make_dir(path: &Path, mode: u32) -> io::Result<()> {
    match DirBuilder::new().mode(mode).create(path) {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        outcome => outcome,
    }
}

/// Gives a directory the owner, mode and time of another; without one, root's and 0755.
pub(super) fn take_after(path: &Path, other: Option<&Path>) -> io::Result<()> {
    let dir = OwnedFd::from(File::open(path)?);
    let Some(other) = other else {
        return Ok(rustix::fs::fchmod(&dir, Mode::from_raw_mode(0o755))?);
    };
    let like = fs::symlink_metadata(other)?;
    rustix::fs::fchown(&dir, Some(Uid::from_raw(like.uid())), Some(Gid::from_raw(like.gid())))?;
    rustix::fs::fchmod(&dir, Mode::from_raw_mode(like.mode() & 0o7777))?;
    let time = |tv_sec, tv_nsec| Timespec { tv_sec, tv_nsec };
    let times = Timestamps {
        last_access: time(like.atime(), like.atime_nsec()),
        last_modification: time(like.mtime(), like.mtime_nsec()),
    };
    Ok(rustix::fs::futimens(&dir, &times)?)
}
