//! Directories that a layer uses without describing them.
//!
//! A layer may hold `tmp/file` and no entry for `tmp`: then the attributes that lower layers gave `tmp` stay. But
//! layers are unpacked apart from each other, and overlayfs shows the attributes of the uppermost directory. So
//! such directories are made in the container's own upper layer, with the attributes of the layer that describes
//! them. Images of `docker build` need none of this; those of some other tools do.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use rustix::fs::{AtFlags, Gid, Mode, Stat, Timespec, Timestamps, Uid};
use rustix::io::Errno;

use super::layer::LayerInfo;
use super::unpack::{open_beneath, split_path};

/// Makes the directories in `upper`. `files` are the root directories of the layers, lowest first.
pub(super) fn restore(upper: &OwnedFd, files: &[PathBuf], infos: &[LayerInfo]) -> io::Result<()> {
    let implied: BTreeSet<&[u8]> =
        infos.iter().skip(1).flat_map(|info| &info.implied).map(Vec::as_slice).collect();
    if implied.is_empty() {
        return Ok(());
    }
    let roots = files
        .iter()
        .map(|path| Ok(std::fs::File::open(path)?.into()))
        .collect::<io::Result<Vec<OwnedFd>>>()?;
    // In order, so that a directory comes before what is in it.
    for path in implied {
        if let Some((true, stat)) = described(path, &roots, infos)? {
            make(upper, path, &stat, &roots, infos)?;
        }
    }
    Ok(())
}

/// What the uppermost layer that describes `path` says of it, and whether a layer above implies it.
fn described(path: &[u8], roots: &[OwnedFd], infos: &[LayerInfo]) -> io::Result<Option<(bool, Stat)>> {
    let mut hidden = false;
    for (root, info) in roots.iter().zip(infos).rev() {
        match open_beneath(root, path) {
            Ok(dir) if info.implied.binary_search_by(|have| have[..].cmp(path)).is_err() => {
                return Ok(Some((hidden, rustix::fs::fstat(&dir)?)));
            }
            Ok(dir) => {
                hidden = true;
                let opaque = rustix::fs::openat(&dir, c".", rustix::fs::OFlags::RDONLY, Mode::empty())
                    .and_then(|dir| {
                        rustix::fs::fgetxattr(&dir, c"trusted.overlay.opaque", &mut [0_u8; 1][..])
                    });
                if opaque.is_ok() {
                    return Ok(None);
                }
            }
            Err(Errno::NOENT) => {}
            // A file, a link or a whiteout: it hides whatever is below.
            Err(Errno::NOTDIR | Errno::LOOP) => return Ok(None),
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(None)
}

fn make(upper: &OwnedFd, path: &[u8], like: &Stat, roots: &[OwnedFd], infos: &[LayerInfo]) -> io::Result<()> {
    let (parent, name) = split_path(path);
    let dir = if parent.is_empty() {
        upper.try_clone()?
    } else {
        match open_beneath(upper, parent) {
            Ok(dir) => dir,
            Err(Errno::NOENT) => {
                // The directory above exists in some layer, described or not.
                let Some((_, stat)) = described(parent, roots, infos)? else { return Ok(()) };
                make(upper, parent, &stat, roots, infos)?;
                match open_beneath(upper, parent) {
                    Err(Errno::NOENT) => return Ok(()),
                    outcome => outcome?,
                }
            }
            Err(errno) => return Err(errno.into()),
        }
    };
    match rustix::fs::mkdirat(&dir, name, Mode::from_raw_mode(0o700)) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(errno) => return Err(errno.into()),
    }
    let made = open_beneath(upper, path)?;
    let made = rustix::fs::openat(
        &made,
        c".",
        rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    rustix::fs::fchown(&made, Some(Uid::from_raw(like.st_uid)), Some(Gid::from_raw(like.st_gid)))?;
    rustix::fs::fchmod(&made, Mode::from_raw_mode(like.st_mode & 0o7777))?;
    let time = Timespec { tv_sec: like.st_mtime, tv_nsec: like.st_mtime_nsec.cast_signed() };
    let times = Timestamps { last_access: time, last_modification: time };
    Ok(rustix::fs::utimensat(&dir, name, &times, AtFlags::SYMLINK_NOFOLLOW)?)
}
