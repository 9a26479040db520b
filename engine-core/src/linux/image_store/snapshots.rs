//! Frozen states of root file systems: snapshots, and what forks stand on.
//!
//! To freeze a root file system that nobody has mounted costs a rename: its writable directory becomes a layer that is
//! never written to again, `images/frozen/<snapshot>`, and a fresh one is made when it is needed. A chain of frozen layers
//! stands between a root file system and its image, topmost first. One that is in use is copied instead.
//!
//! Rows come first and files follow, so a crash in between is made good by whoever needs the files (`settle`):
//! - `image_frozen` has a row for each frozen layer; with an `origin`, the rename out of that container may be missing.
//! - `image_rootfs.stale`: the writable directory belongs to a state that was left, and goes before the next use.
//! - A frozen layer stays as long as a chain in `image_rootfs` or `image_snapshot` names it.

use std::collections::BTreeSet;
use std::collections::HashSet;
use std::fs;
use std::io;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OptionalExtension as _};

use super::changes::{self, Trees};
use super::ingest::{Temporary, make_root};
use super::names::{from_json, to_json};
use super::remove::remove_tree;
use super::rootfs::take_after;
use super::store::{Driver, Shared};
use crate::database::Durability;
use crate::digest::Digest;
use crate::error::{Error, ErrorKind, Result};
use crate::files::Change;
use crate::id::{ContainerId, SnapshotId};
use crate::linux::files::view::overlay;

/// Lower layers that overlayfs takes (fs/overlayfs/overlayfs.h, `OVL_MAX_STACK`).
const MAX_CHAIN: usize = 500;

/// What a root file system or a snapshot is made of.
#[derive(Clone, Debug)]
pub(super) struct State {
    pub(super) image: String,
    pub(super) layers: Vec<Digest>,
    /// Frozen layers, topmost first.
    pub(super) frozen: Vec<String>,
    pub(super) stale: bool,
}

fn missing(operation: &'static str, key: &'static str, id: &str) -> Error {
    Error::new(ErrorKind::NotFound, operation).with(key, id)
}

fn read(c: &Connection, sql: &str, id: &str) -> rusqlite::Result<Option<State>> {
    let bad =
        |e: Error| rusqlite::Error::FromSqlConversionFailure(0, rusqlite::types::Type::Text, Box::new(e));
    let row = c
        .prepare_cached(sql)?
        .query_row([id], |r| {
            Ok((r.get::<_, String>(0)?, r.get::<_, String>(1)?, r.get::<_, String>(2)?, r.get::<_, bool>(3)?))
        })
        .optional()?;
    row.map(|(image, layers, frozen, stale)| {
        Ok(State {
            image,
            layers: from_json(&layers).map_err(bad)?,
            frozen: from_json(&frozen).map_err(bad)?,
            stale,
        })
    })
    .transpose()
}

/// The row of a root file system.
pub(super) fn rootfs_state(c: &Connection, id: &ContainerId) -> rusqlite::Result<Option<State>> {
    read(c, "SELECT image, layers, frozen, stale FROM image_rootfs WHERE container = ?1", id.as_str())
}

fn snapshot_state(c: &Connection, id: &SnapshotId) -> rusqlite::Result<Option<State>> {
    read(c, "SELECT image, layers, frozen, 0 FROM image_snapshot WHERE id = ?1", id.as_str())
}

impl Shared {
    pub(super) fn frozen_dir(&self, id: &str) -> PathBuf {
        self.layout.frozen().join(id)
    }

    fn overlay_only(&self, operation: &'static str) -> Result<()> {
        match self.driver()? {
            Driver::Overlay => Ok(()),
            Driver::Copy(_) => Err(Error::new(ErrorKind::Unsupported, operation)
                .with_message("layers are copied here, and copies cannot be frozen")
                .with_hint("put the engine's directory on a file system that overlayfs works on")),
        }
    }

    /// Freezes a root file system as `snapshot`; `in_use` copies instead.
    pub(super) fn freeze_rootfs(&self, id: &ContainerId, snapshot: &SnapshotId, in_use: bool) -> Result<()> {
        const OPERATION: &str = "freeze root file system";
        self.overlay_only(OPERATION)?;
        self.settle(id)?;
        let copied = if in_use { Some(self.copy_written(id, snapshot)?) } else { None };
        let written = in_use || self.is_written(id)?;
        let done = self.database.write(Durability::PowerLoss, |tx| {
            if snapshot_state(tx, snapshot)?.is_some() {
                return Ok(());
            }
            let mut state =
                rootfs_state(tx, id)?.ok_or_else(|| missing(OPERATION, "container", id.as_str()))?;
            // Where nothing was written since it was last frozen, that state is this one.
            if written {
                state.frozen.insert(0, snapshot.as_str().to_owned());
                if state.frozen.len() + state.layers.len() >= MAX_CHAIN {
                    return Err(Error::new(ErrorKind::ResourceExhausted, OPERATION)
                        .with("container", id)
                        .with_message(format!(
                            "it would stand on {MAX_CHAIN} layers, the most that overlayfs takes"
                        ))
                        .with_hint("commit it and go on with a container of that image")
                        .into());
                }
                let origin = (!in_use).then_some(id.as_str());
                tx.execute("INSERT INTO image_frozen VALUES (?1, ?2)", (snapshot.as_str(), origin))?;
            }
            let (layers, frozen) = (to_json(&state.layers)?, to_json(&state.frozen)?);
            tx.execute(
                "INSERT INTO image_snapshot VALUES (?1, ?2, ?3, ?4)",
                (snapshot.as_str(), &state.image, &layers, &frozen),
            )?;
            if written && !in_use {
                tx.execute(
                    "UPDATE image_rootfs SET frozen = ?2 WHERE container = ?1",
                    (id.as_str(), &frozen),
                )?;
            }
            Ok(())
        });
        if let (Err(_), Some(path)) = (&done, copied) {
            let _ = fs::remove_dir_all(path);
        }
        done?;
        self.settle(id)
    }

    /// Whether the writable directory holds anything, or its root is not as it was made.
    fn is_written(&self, id: &ContainerId) -> Result<bool> {
        let upper = self.layout.container(id).join("upper");
        let fail = |e: io::Error| Error::from_io("look at root file system", e).with("container", id);
        let state = self.database.read(|c| rootfs_state(c, id))?;
        let Some(top) = state.as_ref().and_then(|state| state.frozen.first()) else { return Ok(true) };
        let empty = match fs::read_dir(&upper) {
            Ok(mut entries) => entries.next().is_none(),
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(e) => return Err(fail(e)),
        };
        if !empty {
            return Ok(true);
        }
        use std::os::unix::fs::MetadataExt as _;
        let about = |m: fs::Metadata| (m.mode(), m.uid(), m.gid(), m.mtime(), m.mtime_nsec());
        let look = |path: &Path| fs::symlink_metadata(path).map(about).map_err(fail);
        Ok(look(&upper)? != look(&self.frozen_dir(top))?)
    }

    /// Copies what was written by a container that runs, and is paused, to where the snapshot's layer belongs.
    fn copy_written(&self, id: &ContainerId, snapshot: &SnapshotId) -> Result<PathBuf> {
        let fail = |e: io::Error| Error::from_io("copy root file system", e).with("container", id);
        let state = self.database.read(|c| rootfs_state(c, id))?;
        let state = state.ok_or_else(|| missing("copy root file system", "container", id.as_str()))?;
        let trees = self.trees_of(id, &state, &state.frozen)?;
        let session = self.session()?;
        let fresh = Temporary::new(&session, "frozen");
        let root = make_root(&fresh.path).map_err(fail)?;
        self.copy_changes(&trees, root, session.fd())?;
        take_after(&fresh.path, Some(&self.layout.container(id).join("upper"))).map_err(fail)?;
        self.layout.sync()?;
        let target = self.frozen_dir(snapshot.as_str());
        fs::rename(&fresh.path, &target).map_err(fail)?;
        Ok(target)
    }

    /// Makes the root file system of `id` from a snapshot. Does nothing if it has one.
    pub(super) fn fork_rootfs(&self, id: &ContainerId, snapshot: &SnapshotId) -> Result<()> {
        self.overlay_only("fork root file system")?;
        self.database.write(Durability::Crash, |tx| {
            if rootfs_state(tx, id)?.is_some() {
                return Ok(());
            }
            let state = snapshot_state(tx, snapshot)?
                .ok_or_else(|| missing("fork root file system", "snapshot", snapshot.as_str()))?;
            tx.execute(
                "INSERT INTO image_rootfs (container, image, layers, frozen) VALUES (?1, ?2, ?3, ?4)",
                (id.as_str(), &state.image, &to_json(&state.layers)?, &to_json(&state.frozen)?),
            )?;
            Ok(())
        })
    }

    /// Takes a root file system back to a snapshot: what was written since is gone.
    pub(super) fn restore_rootfs(&self, id: &ContainerId, snapshot: &SnapshotId) -> Result<()> {
        const OPERATION: &str = "restore root file system";
        self.overlay_only(OPERATION)?;
        self.settle(id)?;
        self.database.write(Durability::PowerLoss, |tx| {
            let state = snapshot_state(tx, snapshot)?
                .ok_or_else(|| missing(OPERATION, "snapshot", snapshot.as_str()))?;
            let changed = tx.execute(
                "UPDATE image_rootfs SET image = ?2, layers = ?3, frozen = ?4, stale = 1 WHERE container = ?1",
                (id.as_str(), &state.image, &to_json(&state.layers)?, &to_json(&state.frozen)?),
            )?;
            if changed == 0 {
                return Err(missing(OPERATION, "container", id.as_str()).into());
            }
            Ok(())
        })?;
        self.settle(id)?;
        self.sweep_frozen()
    }

    pub(super) fn remove_snapshot(&self, snapshot: &SnapshotId) -> Result<()> {
        self.database.write(Durability::Crash, |tx| {
            tx.execute("DELETE FROM image_snapshot WHERE id = ?1", [snapshot.as_str()])?;
            Ok(())
        })?;
        self.sweep_frozen()
    }

    pub(super) fn snapshot_list(&self) -> Result<Vec<SnapshotId>> {
        let rows = self.database.read(|c| {
            c.prepare_cached("SELECT id FROM image_snapshot ORDER BY id")?
                .query_map([], |row| row.get(0))?
                .collect::<rusqlite::Result<Vec<String>>>()
        })?;
        rows.iter().map(|id| id.parse()).collect()
    }

    /// Does what rows about this root file system say and a crash left undone.
    pub(super) fn settle(&self, id: &ContainerId) -> Result<()> {
        let dir = self.layout.container(id);
        let fail = |e: io::Error| Error::from_io("settle root file system", e).with("container", id);
        let (moving, stale) = self.database.read(|c| {
            let moving: Vec<String> = c
                .prepare_cached("SELECT id FROM image_frozen WHERE origin = ?1")?
                .query_map([id.as_str()], |row| row.get(0))?
                .collect::<rusqlite::Result<_>>()?;
            Ok((moving, rootfs_state(c, id)?.is_some_and(|state| state.stale)))
        })?;
        for frozen in moving {
            let target = self.frozen_dir(&frozen);
            if !target.try_exists().map_err(fail)? {
                // The work directory first: where it is, the writable one counts as whole.
                let parent = Self::open_dir(&dir).map_err(fail)?;
                remove_tree(parent.as_fd(), b"work").map_err(fail)?;
                fs::rename(dir.join("upper"), &target).map_err(fail)?;
            }
            self.database.write(Durability::Crash, |tx| {
                Ok(tx.execute("UPDATE image_frozen SET origin = NULL WHERE id = ?1", [&frozen])?)
            })?;
        }
        if stale {
            match Self::open_dir(&dir) {
                Ok(parent) => {
                    for name in ["work", "upper"] {
                        remove_tree(parent.as_fd(), name.as_bytes()).map_err(fail)?;
                    }
                }
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                Err(e) => return Err(fail(e)),
            }
            self.database.write(Durability::Crash, |tx| {
                Ok(tx.execute("UPDATE image_rootfs SET stale = 0 WHERE container = ?1", [id.as_str()])?)
            })?;
        }
        Ok(())
    }

    /// Does for every frozen layer of a chain what a crash left undone.
    pub(super) fn settle_chain(&self, frozen: &[String]) -> Result<()> {
        for layer in frozen {
            let origin: Option<String> = self.database.read(|c| {
                c.prepare_cached("SELECT origin FROM image_frozen WHERE id = ?1 AND origin IS NOT NULL")?
                    .query_row([layer], |row| row.get(0))
                    .optional()
            })?;
            if let Some(origin) = origin {
                self.settle(&origin.parse()?)?;
            }
        }
        Ok(())
    }

    /// Removes frozen layers that no chain names.
    pub(super) fn sweep_frozen(&self) -> Result<()> {
        let dir = self.layout.frozen();
        let fail = |e: io::Error| Error::from_io("sweep frozen layers", e).with("path", dir.display());
        if fs::read_dir(&dir).map_err(fail)?.next().is_none() {
            return Ok(());
        }
        let session = self.session()?;
        let mut trash = Vec::new();
        let outcome = self.database.write(Durability::Crash, |tx| {
            let mut named: HashSet<String> = HashSet::new();
            for table in ["image_rootfs", "image_snapshot"] {
                let mut query = tx.prepare(&format!("SELECT frozen FROM {table}"))?;
                let mut rows = query.query([])?;
                while let Some(row) = rows.next()? {
                    named.extend(from_json::<Vec<String>>(&row.get::<_, String>(0)?)?);
                }
            }
            let rows: Vec<String> = tx
                .prepare("SELECT id FROM image_frozen")?
                .query_map([], |row| row.get(0))?
                .collect::<rusqlite::Result<_>>()?;
            for id in rows.iter().filter(|id| !named.contains(*id)) {
                let (temporary, path) = session.fresh("trash");
                match fs::rename(dir.join(id), path) {
                    Ok(()) => trash.push(temporary),
                    Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                    Err(e) => return Err(fail(e).into()),
                }
                tx.execute("DELETE FROM image_frozen WHERE id = ?1", [id])?;
            }
            Ok(())
        });
        for name in trash {
            session.discard(&name);
        }
        outcome
    }

    /// Removes what was copied for snapshots that a crash kept from being recorded. Only while nobody holds a lease.
    pub(super) fn sweep_unrecorded(&self) -> Result<()> {
        let dir = self.layout.frozen();
        let fail = |e: io::Error| Error::from_io("sweep frozen layers", e).with("path", dir.display());
        let known: HashSet<String> = self
            .database
            .read(|c| c.prepare("SELECT id FROM image_frozen")?.query_map([], |row| row.get(0))?.collect())?;
        let parent = Self::open_dir(&dir).map_err(fail)?;
        for entry in fs::read_dir(&dir).map_err(fail)? {
            let name = entry.map_err(fail)?.file_name();
            if name.to_str().is_none_or(|name| !known.contains(name)) {
                use std::os::unix::ffi::OsStrExt as _;
                remove_tree(parent.as_fd(), name.as_bytes()).map_err(fail)?;
            }
        }
        Ok(())
    }

    /// What the container changed since its image, or since a snapshot.
    pub(super) fn rootfs_changes(&self, id: &ContainerId, since: Option<&SnapshotId>) -> Result<Vec<Change>> {
        let trees = self.trees("compare root file system", id, since)?;
        changes::list(&trees).map_err(|e| Error::from_io("compare root file system", e).with("container", id))
    }

    /// Opens what is to be compared.
    pub(super) fn trees(
        &self,
        operation: &'static str,
        id: &ContainerId,
        since: Option<&SnapshotId>,
    ) -> Result<Trees> {
        let state = self.database.read(|c| rootfs_state(c, id))?;
        let mut state = state.ok_or_else(|| missing(operation, "container", id.as_str()))?;
        if state.stale {
            self.settle(id)?;
        }
        self.settle_chain(&state.frozen)?;
        let fail = |e: io::Error| Error::from_io(operation, e).with("container", id);
        if let Driver::Copy(_) = self.driver()? {
            return self.copied_trees(id, &state);
        }
        let Some(since) = since else { return self.trees_of(id, &state, &[]) };
        let before = self.database.read(|c| snapshot_state(c, since))?;
        let before = before.ok_or_else(|| missing(operation, "snapshot", since.as_str()))?;
        self.settle_chain(&before.frozen)?;
        if before.layers == state.layers && state.frozen.ends_with(&before.frozen) {
            return self.trees_of(id, &state, &before.frozen);
        }
        // Not one after the other: then only the whole trees tell.
        let mut trees = self.trees_of(id, &state, &[])?;
        trees.written = None;
        state.frozen = before.frozen;
        trees.before = self.stack(&before.layers, &state.frozen, None).map_err(fail)?;
        Ok(trees)
    }

    /// What is written above `base`, which ends the chain of `state`.
    fn trees_of(&self, id: &ContainerId, state: &State, base: &[String]) -> Result<Trees> {
        let fail = |e: io::Error| Error::from_io("open root file system", e).with("container", id);
        let upper = self.layout.container(id).join("upper");
        // Without one, nothing was written since it was last frozen.
        let upper = upper.try_exists().map_err(fail)?.then_some(upper);
        let above = &state.frozen[..state.frozen.len() - base.len()];
        let dirs = upper.iter().cloned().chain(above.iter().map(|id| self.frozen_dir(id)));
        let written = dirs.map(|path| Self::open_dir(&path)).collect::<io::Result<_>>().map_err(fail)?;
        let now = self.stack(&state.layers, &state.frozen, upper.as_deref()).map_err(fail)?;
        let before = self.stack(&state.layers, base, None).map_err(fail)?;
        Ok(Trees { written: Some(written), now, before, mount_points: BTreeSet::new(), _pristine: None })
    }

    /// Mounts layers read-only, attached nowhere.
    fn stack(
        &self,
        layers: &[Digest],
        frozen: &[String],
        upper: Option<&Path>,
    ) -> io::Result<std::os::fd::OwnedFd> {
        let mut paths: Vec<PathBuf> = upper.iter().map(|path| path.to_path_buf()).collect();
        paths.extend(frozen.iter().map(|id| self.frozen_dir(id)));
        paths.extend(layers.iter().rev().map(|id| self.layout.layer(id).join("fs")));
        if paths.is_empty() {
            // An image without layers.
            paths.push(self.layout.empty_dir()?);
        }
        let paths: Vec<&Path> = paths.iter().map(PathBuf::as_path).collect();
        overlay(&paths, None)
    }
}
