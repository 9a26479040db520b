//! Volumes as files: atomic creation and removal, and the sweep after a crash.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FlockOperation, RenameFlags};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorKind, Result};
use crate::id::Name;
use crate::linux::image_store::remove::remove_tree;
use crate::time::{parse_rfc3339, rfc3339};
use crate::volume_driver::{Volume, VolumeOptions};

/// The version of `volume.json` we write, and the newest we read.
const FORMAT: u32 = 1;
/// More than any honest description has.
const MAX_DESCRIPTION: u64 = 1 << 20;

/// The directory of all volumes.
#[derive(Debug)]
pub(super) struct Files {
    dir: PathBuf,
}

/// `volume.json`.
#[derive(Debug, Serialize, Deserialize)]
struct Description {
    version: u32,
    created_at: String,
    labels: BTreeMap<String, String>,
    driver_options: BTreeMap<String, String>,
}

impl Files {
    /// Makes the directories and sweeps what was left half done.
    pub(super) fn open(dir: PathBuf) -> Result<Self> {
        let dir = std::path::absolute(&dir)
            .map_err(|e| Error::from_io("open volumes", e).with("path", dir.display()))?;
        for path in [&dir, &dir.join(".new"), &dir.join(".trash")] {
            make_private(path).map_err(|e| Error::from_io("open volumes", e).with("path", path.display()))?;
        }
        let files = Self { dir };
        files.sweep()?;
        Ok(files)
    }

    /// Returns the directory with a volume's content.
    pub(super) fn data(&self, name: &Name) -> PathBuf {
        self.dir.join(name.as_str()).join("_data")
    }

    /// Makes a volume as described, and returns it, or the one of this name that is there.
    pub(super) fn create(&self, wanted: &Volume) -> Result<Volume> {
        let fail = |e| Error::from_io("create volume", e).with("volume", &wanted.name);
        // Most calls are for a volume that is there; those need neither lock nor write.
        if let Some(there) = self.read(&wanted.name)? {
            return Ok(there);
        }
        let _lock = self.lock(FlockOperation::LockShared).map_err(fail)?;
        let fresh = self.temporary(".new").map_err(fail)?;
        let made = write_volume(&fresh, wanted).and_then(|()| {
            loop {
                match self.publish(&fresh, &wanted.name) {
                    Ok(()) => return Ok(None),
                    Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
                    Err(e) => return Err(e),
                }
                // Another program was faster; or was, and has removed it since.
                match self.read(&wanted.name) {
                    Ok(None) => {}
                    there => return Ok(Some(there)),
                }
            }
        });
        match made {
            Ok(None) => Ok(wanted.clone()),
            Ok(Some(there)) => {
                self.discard(&fresh);
                there?.ok_or_else(|| Error::new(ErrorKind::NotFound, "create volume"))
            }
            Err(error) => {
                self.discard(&fresh);
                Err(fail(error))
            }
        }
    }

    /// Reads a volume's description.
    pub(super) fn read(&self, name: &Name) -> Result<Option<Volume>> {
        let path = self.dir.join(name.as_str()).join("volume.json");
        let fail = |kind| Error::new(kind, "read volume").with("volume", name).with("path", path.display());
        let text = match read_limited(&path) {
            Ok(text) => text,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(Error::from_io("read volume", e).with("volume", name)),
        };
        let corrupt = || fail(ErrorKind::Corrupt).with_message("its description is malformed");
        let description: Description = serde_json::from_slice(&text).map_err(|e| corrupt().with_source(e))?;
        if description.version > FORMAT {
            return Err(fail(ErrorKind::Unsupported)
                .with_message(format!("its format {} is of a newer program", description.version)));
        }
        let options =
            VolumeOptions { labels: description.labels, driver_options: description.driver_options };
        let mut volume = Volume::new(name.clone(), "local", &options);
        volume.created_at = parse_rfc3339(&description.created_at).ok_or_else(corrupt)?;
        Ok(Some(volume))
    }

    /// Reads all volumes, by name. One that cannot be read is left out: it must not hide the others.
    pub(super) fn list(&self) -> Result<Vec<Volume>> {
        let fail = |e| Error::from_io("list volumes", e).with("path", self.dir.display());
        let mut volumes = Vec::new();
        for entry in fs::read_dir(&self.dir).map_err(fail)? {
            let name = entry.map_err(fail)?.file_name();
            let Some(Ok(name)) = name.to_str().map(str::parse::<Name>) else { continue };
            match self.read(&name) {
                Ok(Some(volume)) => volumes.push(volume),
                Ok(None) => {}
                Err(error) => tracing::warn!(%error, volume = %name, "cannot read a volume"),
            }
        }
        volumes.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(volumes)
    }

    /// Removes a volume and its content: out of sight by one rename, then piece by piece.
    pub(super) fn remove(&self, name: &Name) -> Result<()> {
        let fail = |e| Error::from_io("remove volume", e).with("volume", name);
        let _lock = self.lock(FlockOperation::LockShared).map_err(fail)?;
        let trash = self.dir.join(".trash").join(random().map_err(fail)?);
        match fs::rename(self.dir.join(name.as_str()), &trash) {
            Ok(()) => {}
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(e) => return Err(fail(e)),
        }
        sync_dir(&self.dir).map_err(fail)?;
        // What cannot be removed now is left to the sweep; the volume is gone either way.
        self.discard(&trash);
        Ok(())
    }

    /// Removes what crashed programs left, unless another program is at work: then it is left to a later sweep.
    fn sweep(&self) -> Result<()> {
        let fail = |e| Error::from_io("sweep volumes", e).with("path", self.dir.display());
        let _lock = match self.lock(FlockOperation::NonBlockingLockExclusive) {
            Ok(lock) => lock,
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(e) => return Err(fail(e)),
        };
        for parent in [".new", ".trash"] {
            for entry in fs::read_dir(self.dir.join(parent)).map_err(fail)? {
                self.discard(&entry.map_err(fail)?.path());
            }
        }
        Ok(())
    }

    fn publish(&self, fresh: &Path, name: &Name) -> io::Result<()> {
        rustix::fs::renameat_with(CWD, fresh, CWD, self.dir.join(name.as_str()), RenameFlags::NOREPLACE)?;
        sync_dir(&self.dir)
    }

    /// Makes a directory nobody else uses.
    fn temporary(&self, parent: &str) -> io::Result<PathBuf> {
        let path = self.dir.join(parent).join(random()?);
        DirBuilder::new().mode(0o700).create(&path)?;
        Ok(path)
    }

    /// Removes one of our temporary directories. A failure is left to the next sweep.
    fn discard(&self, path: &Path) {
        let removed = match (path.parent(), path.file_name()) {
            (Some(parent), Some(name)) => {
                File::open(parent).and_then(|parent| remove_tree(parent.as_fd(), name.as_encoded_bytes()))
            }
            _ => Ok(()),
        };
        if let Err(error) = removed {
            tracing::warn!(%error, path = %path.display(), "cannot remove what a volume left");
        }
    }

    /// Takes the lock, see flock(2); closing the file gives it back.
    fn lock(&self, operation: FlockOperation) -> io::Result<File> {
        let path = self.dir.join("lock");
        let file = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(path)?;
        loop {
            match rustix::fs::flock(&file, operation) {
                Ok(()) => return Ok(file),
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }
}

/// Fills a new volume's directory and brings it to the disk.
fn write_volume(dir: &Path, volume: &Volume) -> io::Result<()> {
    let data = dir.join("_data");
    DirBuilder::new().mode(0o700).create(&data)?;
    // The container's users enter it; the directories above keep the host's users out (SECURITY B9).
    fs::set_permissions(&data, Permissions::from_mode(0o755))?;
    let description = Description {
        version: FORMAT,
        created_at: rfc3339(volume.created_at),
        labels: volume.labels.clone(),
        driver_options: volume.driver_options.clone(),
    };
    let mut file =
        OpenOptions::new().create_new(true).write(true).mode(0o600).open(dir.join("volume.json"))?;
    file.write_all(&serde_json::to_vec(&description)?)?;
    file.sync_all()?;
    sync_dir(&data)?;
    sync_dir(dir)
}

fn read_limited(path: &Path) -> io::Result<Vec<u8>> {
    use io::Read as _;
    let mut text = Vec::new();
    File::open(path)?.take(MAX_DESCRIPTION).read_to_end(&mut text)?;
    Ok(text)
}

/// Makes a directory that only its owner enters, or makes an existing one so.
fn make_private(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)?;
    if fs::symlink_metadata(path)?.permissions().mode() & 0o077 != 0 {
        fs::set_permissions(path, Permissions::from_mode(0o700))?;
    }
    Ok(())
}

fn sync_dir(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

fn random() -> io::Result<String> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|e| io::Error::other(e.to_string()))?;
    Ok(hex::encode(bytes))
}
