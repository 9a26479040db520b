//! Volumes as files: atomic creation and removal, and the sweep after a crash.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FlockOperation, Mode, OFlags, RenameFlags};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::copy_up;
use crate::digest::Digest;
use crate::error::{Error, ErrorKind, Result};
use crate::id::Name;
use crate::linux::detached;
use crate::linux::image_store::remove::remove_tree;
use crate::linux::walk;
use crate::mount::{Mount, MountKind};
use crate::time::{parse_rfc3339, rfc3339};
use crate::volume_driver::{ANONYMOUS_LABEL, Volume, VolumeOptions};

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

    /// Gives a volume another name, by one rename of its directory.
    pub(super) fn rename(&self, name: &Name, new: &Name) -> Result<Volume> {
        let fail = |e: io::Error| Error::from_io("rename volume", e).with("volume", name);
        let taken = || {
            Error::new(ErrorKind::AlreadyExists, "rename volume")
                .with("volume", name)
                .with_message(format!("there is a volume called {new}"))
                .with_hint("choose another name, or remove that volume")
        };
        let missing = || {
            Error::new(ErrorKind::NotFound, "rename volume")
                .with("volume", name)
                .with_message("no such volume")
        };
        let _lock = self.lock(FlockOperation::LockShared).map_err(fail)?;
        let mut volume = self.read(name)?.ok_or_else(missing)?;
        if self.read(new)?.is_some() {
            return Err(taken());
        }
        let dir = self.dir.join(name.as_str());
        let before = volume.clone();
        // First: nobody prunes a volume because of the label it had under another name.
        if volume.labels.remove(ANONYMOUS_LABEL).is_some() {
            describe_again(&dir, &volume).map_err(fail)?;
        }
        match self.publish(&dir, new) {
            Ok(()) => {
                volume.name = new.clone();
                Ok(volume)
            }
            Err(error) => {
                if before.labels != volume.labels {
                    let _ = describe_again(&dir, &before);
                }
                Err(match error.kind() {
                    io::ErrorKind::AlreadyExists | io::ErrorKind::DirectoryNotEmpty => taken(),
                    io::ErrorKind::NotFound => missing(),
                    _ => fail(error),
                })
            }
        }
    }

    /// Copies what `rootfs` has at `path` into the volume, if that is empty or such a copy was cut short before.
    ///
    /// `volumes/<name>/filling` is there, and on the disk, from before the first entry until the last one is on the disk
    /// too. It names the source: another one does not go on with the copy.
    pub(super) fn fill(&self, name: &Name, rootfs: &[Mount], path: &Path) -> Result<bool> {
        let fail = |e: io::Error| Error::from_io("fill volume", e).with("volume", name);
        let dir = open_dir(&self.dir.join(name.as_str())).map_err(fail)?;
        let data = open_dir_at(&dir, "_data").map_err(fail)?;
        // One at a time, also of other programs.
        flock(&dir, FlockOperation::LockExclusive).map_err(fail)?;
        let identity = identity(rootfs, path);
        let mark = read_mark(&dir).map_err(fail)?;
        match &mark {
            Some(other) if *other != identity => return Ok(false),
            None if !is_empty(&data).map_err(fail)? => return Ok(false),
            _ => {}
        }
        let Some(root) = detached::open_rootfs(rootfs).map_err(fail)? else { return Ok(false) };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let source = match root.open_at(path, flags, Mode::empty()) {
            Ok(source) => source,
            // The image has nothing there, or no directory, or a link that leads nowhere.
            Err(e) if is_no_directory(&e) => return Ok(false),
            Err(e) => return Err(fail(e).with("path", path.display())),
        };
        let fail = |e: io::Error| fail(e).with("path", path.display());
        if mark.is_none() && is_empty(&source).map_err(fail)? {
            copy_up::same_attributes(&source, &data).map_err(fail)?;
            return Ok(true);
        }
        if mark.is_none() {
            write_mark(&dir, &identity).map_err(fail)?;
        }
        copy_up::clean(&dir).map_err(fail)?;
        copy_up::copy(&source, &data, &dir).map_err(fail)?;
        // Thousands of small files: one sync of all instead of one for each.
        rustix::fs::syncfs(&data).map_err(|e| fail(e.into()))?;
        rustix::fs::unlinkat(&dir, FILLING, rustix::fs::AtFlags::empty()).map_err(|e| fail(e.into()))?;
        Ok(true)
    }

    /// Returns the bytes in a volume's directory.
    pub(super) fn usage(&self, name: &Name) -> Result<u64> {
        let fail = |e: io::Error| Error::from_io("measure volume", e).with("volume", name);
        walk::disk_usage(&open_dir(&self.data(name)).map_err(fail)?).map_err(fail)
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
        // No name of a volume begins so.
        let path = self.dir.join(".lock");
        let file = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(path)?;
        flock(&file, operation)?;
        Ok(file)
    }
}

/// The mark of a volume that is being filled.
const FILLING: &str = "filling";

/// Takes a lock; closing the file gives it back.
fn flock(file: impl std::os::fd::AsFd, operation: FlockOperation) -> io::Result<()> {
    loop {
        match rustix::fs::flock(&file, operation) {
            Ok(()) => return Ok(()),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}

fn open_dir(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(rustix::fs::open(path, flags, Mode::empty())?)
}

fn open_dir_at(dir: &OwnedFd, name: &str) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(dir, name, flags, Mode::empty())?)
}

fn is_empty(dir: &OwnedFd) -> io::Result<bool> {
    for entry in rustix::fs::Dir::read_from(dir)? {
        if !matches!(entry?.file_name().to_bytes(), b"." | b"..") {
            return Ok(false);
        }
    }
    Ok(true)
}

fn is_no_directory(error: &io::Error) -> bool {
    let errno = error.raw_os_error().map(Errno::from_raw_os_error);
    matches!(errno, Some(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::XDEV | Errno::NAMETOOLONG))
}

/// Says which files of which image a volume is filled with. A container's writable layer is new, and none of it.
pub(super) fn identity(rootfs: &[Mount], path: &Path) -> String {
    let mut text = path.display().to_string();
    for mount in rootfs {
        match &mount.kind {
            MountKind::Overlay { lower, .. } => {
                for layer in lower {
                    text.push('\n');
                    text.push_str(&layer.to_string_lossy());
                }
            }
            other => text.push_str(&format!("\n{other:?}")),
        }
    }
    Digest::sha256(text.as_bytes()).to_string()
}

fn read_mark(dir: &OwnedFd) -> io::Result<Option<String>> {
    use io::Read as _;
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match rustix::fs::openat(dir, FILLING, flags, Mode::empty()) {
        Ok(fd) => {
            let mut text = String::new();
            File::from(fd).take(1024).read_to_string(&mut text)?;
            Ok(Some(text))
        }
        Err(Errno::NOENT) => Ok(None),
        Err(errno) => Err(errno.into()),
    }
}

/// The mark appears whole: half a mark would name no source, and nobody would go on.
fn write_mark(dir: &OwnedFd, identity: &str) -> io::Result<()> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let fresh = "filling.new";
    let mut file = File::from(rustix::fs::openat(dir, fresh, flags, Mode::from_raw_mode(0o600))?);
    file.write_all(identity.as_bytes())?;
    file.sync_all()?;
    rustix::fs::renameat(dir, fresh, dir, FILLING)?;
    Ok(rustix::fs::fsync(dir)?)
}

/// Fills a new volume's directory and brings it to the disk.
fn write_volume(dir: &Path, volume: &Volume) -> io::Result<()> {
    let data = dir.join("_data");
    DirBuilder::new().mode(0o700).create(&data)?;
    // The container's users enter it; the directories above keep the host's users out (SECURITY B9).
    fs::set_permissions(&data, Permissions::from_mode(0o755))?;
    describe(&dir.join("volume.json"), volume)?;
    sync_dir(&data)?;
    sync_dir(dir)
}

/// Writes a volume's description and brings it to the disk.
fn describe(path: &Path, volume: &Volume) -> io::Result<()> {
    let description = Description {
        version: FORMAT,
        created_at: rfc3339(volume.created_at),
        labels: volume.labels.clone(),
        driver_options: volume.driver_options.clone(),
    };
    let mut file = OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(path)?;
    file.write_all(&serde_json::to_vec(&description)?)?;
    file.sync_all()
}

/// Replaces the description of a volume that is there.
fn describe_again(dir: &Path, volume: &Volume) -> io::Result<()> {
    let fresh = dir.join("volume.json.new");
    describe(&fresh, volume)?;
    fs::rename(&fresh, dir.join("volume.json"))?;
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
