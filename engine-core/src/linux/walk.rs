//! A walk over a tree that anybody may have filled.
//!
//! Owns the order and the safety of the walk: no link is followed, each directory is opened beneath the root of the walk,
//! and one descriptor is open at a time however deep the tree is. What an entry becomes is left to the caller.

use std::collections::HashSet;
use std::io;
use std::os::fd::OwnedFd;

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::Errno;

/// The longest path given to the kernel at once, see path_resolution(7) on PATH_MAX.
const PIECE: usize = 4000;

/// An entry that was found.
#[derive(Debug)]
pub(crate) struct Found<'a> {
    /// The directory it is in, readable.
    pub(crate) dir: &'a OwnedFd,
    /// Its name there.
    pub(crate) name: &'a [u8],
    /// Its path from the root of the walk, without a leading slash.
    pub(crate) path: &'a [u8],
    /// What it is; links themselves, not what they lead to.
    pub(crate) stat: Stat,
}

impl Found<'_> {
    /// Returns the type of the entry.
    pub(crate) fn kind(&self) -> FileType {
        FileType::from_raw_mode(self.stat.st_mode)
    }
}

/// Visits every entry beneath `root`: a directory before what is in it, names of one directory in order. What goes
/// meanwhile is left out.
pub(crate) fn walk<E: From<io::Error>>(
    root: &OwnedFd,
    mut visit: impl FnMut(&Found<'_>) -> Result<(), E>,
) -> Result<(), E> {
    let mut pending: Vec<Vec<u8>> = vec![Vec::new()];
    while let Some(path) = pending.pop() {
        let dir = match open_dir(root, &path) {
            Ok(dir) => dir,
            // Removed or replaced since it was found.
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) if !path.is_empty() => continue,
            Err(errno) => return Err(io::Error::from(errno).into()),
        };
        let mut names = Vec::new();
        for entry in Dir::read_from(&dir).map_err(io::Error::from)? {
            let entry = entry.map_err(io::Error::from)?;
            let name = entry.file_name().to_bytes();
            if !matches!(name, b"." | b"..") {
                names.push(name.to_vec());
            }
        }
        names.sort_unstable();
        let first_child = pending.len();
        for name in names {
            let stat = match rustix::fs::statat(&dir, &*name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) => stat,
                Err(Errno::NOENT) => continue,
                Err(errno) => return Err(io::Error::from(errno).into()),
            };
            let mut full = path.clone();
            if !full.is_empty() {
                full.push(b'/');
            }
            full.extend_from_slice(&name);
            let found = Found { dir: &dir, name: &name, path: &full, stat };
            visit(&found)?;
            if found.kind() == FileType::Directory {
                pending.push(full);
            }
        }
        // The last of the list is next.
        pending[first_child..].reverse();
    }
    Ok(())
}

/// Opens the directory `path` beneath `root` for reading, over no link. A path may be longer than PATH_MAX.
pub(crate) fn open_dir(root: &OwnedFd, path: &[u8]) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let mut here: Option<OwnedFd> = None;
    let mut rest = path;
    loop {
        let end = if rest.len() <= PIECE {
            rest.len()
        } else {
            rest[..PIECE].iter().rposition(|byte| *byte == b'/').ok_or(Errno::NAMETOOLONG)?
        };
        let piece = if end == 0 { &b"."[..] } else { &rest[..end] };
        let next = loop {
            match rustix::fs::openat2(here.as_ref().unwrap_or(root), piece, flags, Mode::empty(), resolve) {
                Err(Errno::AGAIN | Errno::INTR) => {}
                outcome => break outcome?,
            }
        };
        if end == rest.len() {
            return Ok(next);
        }
        here = Some(next);
        rest = &rest[end + 1..];
    }
}

/// Returns the bytes of all regular files and links beneath `root`; a file with several names counts once.
pub(crate) fn disk_usage(root: &OwnedFd) -> io::Result<u64> {
    let mut bytes = 0_u64;
    let mut seen = HashSet::new();
    walk(root, |found| -> io::Result<()> {
        let counts = matches!(found.kind(), FileType::RegularFile | FileType::Symlink);
        if counts && (found.stat.st_nlink < 2 || seen.insert((found.stat.st_dev, found.stat.st_ino))) {
            bytes = bytes.saturating_add(u64::try_from(found.stat.st_size).unwrap_or(0));
        }
        Ok(())
    })?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn a_tree_deeper_than_path_max_is_walked_in_order_and_no_link_is_followed() {
        let base = tempfile::tempdir().unwrap();
        fs::write(base.path().join("b"), "12345").unwrap();
        fs::hard_link(base.path().join("b"), base.path().join("c")).unwrap();
        std::os::unix::fs::symlink("/", base.path().join("a")).unwrap();
        let root = OwnedFd::from(fs::File::open(base.path()).unwrap());
        let mut dir = root.try_clone().unwrap();
        let name = "d".repeat(200);
        for _ in 0..50 {
            rustix::fs::mkdirat(&dir, &name, Mode::from_raw_mode(0o755)).unwrap();
            dir = open_dir(&dir, name.as_bytes()).unwrap();
        }
        rustix::fs::symlinkat("..", &dir, "up").unwrap();
        let mut paths = Vec::new();
        walk(&root, |found| -> io::Result<()> {
            paths.push(found.path.to_vec());
            Ok(())
        })
        .unwrap();
        assert_eq!(&paths[..3], [b"a", b"b", b"c"]);
        assert_eq!(paths.len(), 3 + 50 + 1);
        assert!(paths.last().unwrap().len() > 8000);
        // The links' own texts and one file.
        assert_eq!(disk_usage(&root).unwrap(), 5 + 1 + 2);
        drop(dir);
        crate::linux::image_store::remove::remove_tree(
            std::os::fd::AsFd::as_fd(&OwnedFd::from(fs::File::open(base.path()).unwrap())),
            name.as_bytes(),
        )
        .unwrap();
    }
}
