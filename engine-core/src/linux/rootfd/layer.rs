//! A directory that we fill from an archive: plain names only, no link is ever followed.

use std::collections::VecDeque;
use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use super::{invalid, openat2};

/// Directories kept open. Archives come in tree order, so a handful hits nearly always.
const CACHED: usize = 16;
/// The longest path taken: `PATH_MAX`, and SECURITY C4.
const MAX_PATH: usize = 4096;

/// The directory an archive is unpacked into.
///
/// Paths are relative; a leading `/` or `./` is taken off; `..` anywhere is refused. Each is resolved with
/// `RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS`, so an entry behind a link fails with `ELOOP` wherever the link leads.
#[derive(Debug)]
pub struct LayerDir {
    root: Arc<OwnedFd>,
    /// Normalised path → directory, latest first.
    cache: VecDeque<(Vec<u8>, Arc<OwnedFd>)>,
    dir_mode: Mode,
}

impl LayerDir {
    /// Fills the directory `root`; parents that no entry of the archive names are made with mode 0755.
    #[must_use]
    pub fn new(root: OwnedFd) -> Self {
        Self { root: Arc::new(root), cache: VecDeque::new(), dir_mode: Mode::from_raw_mode(0o755) }
    }

    /// The parent directory of `path`, made where it is missing, and the last component. For the directory itself (`.`),
    /// the name is `.`.
    ///
    /// # Errors
    /// `InvalidInput` for a path that is no plain name beneath the directory; `ELOOP` behind a symbolic link; `ENOTDIR`
    /// behind a file.
    pub fn parent<'a>(&mut self, path: &'a Path) -> io::Result<(Arc<OwnedFd>, &'a OsStr)> {
        let clean = normalise(path)?;
        if clean.is_empty() {
            return Ok((Arc::clone(&self.root), OsStr::new(".")));
        }
        // The name is taken from the caller's path, so that it can be lent for as long as that lives.
        let bytes = path.as_os_str().as_bytes();
        let end = bytes.iter().rposition(|byte| *byte != b'/').map_or(0, |at| at + 1);
        let mut kept = &bytes[..end];
        while let Some(rest) = kept.strip_suffix(b"/.") {
            let end = rest.iter().rposition(|byte| *byte != b'/').map_or(0, |at| at + 1);
            kept = &rest[..end];
        }
        let start = kept.iter().rposition(|byte| *byte == b'/').map_or(0, |at| at + 1);
        let name = OsStr::from_bytes(&kept[start..]);
        let dir = clean.iter().rposition(|byte| *byte == b'/').map_or(&[][..], |at| &clean[..at]);
        Ok((self.dir(dir, true)?, name))
    }

    /// The directory `path`, which must exist.
    ///
    /// # Errors
    /// As [`Self::parent`]; `ENOENT` where nothing is there.
    pub fn existing_dir(&mut self, path: &Path) -> io::Result<Arc<OwnedFd>> {
        let clean = normalise(path)?;
        self.dir(&clean, false)
    }

    /// A handle (`O_PATH`) of what stands at `path`, a link itself and not its target: for the target of a hard link.
    ///
    /// # Errors
    /// As [`Self::parent`]; `ENOENT` where nothing is there.
    pub fn handle(&mut self, path: &Path) -> io::Result<OwnedFd> {
        let clean = normalise(path)?;
        if clean.is_empty() {
            return self.root.try_clone();
        }
        // NO_SYMLINKS would refuse a link in the last place too; with O_PATH|O_NOFOLLOW in its own directory that one
        // is only looked at.
        let at = clean.iter().rposition(|byte| *byte == b'/');
        let dir = self.dir(at.map_or(&[][..], |at| &clean[..at]), false)?;
        let name = OsStr::from_bytes(at.map_or(&clean[..], |at| &clean[at + 1..]));
        Ok(rustix::fs::openat(&*dir, name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?)
    }

    /// Must be called when what stands at `path` is removed or replaced: directories at or under it are no longer held.
    ///
    /// # Errors
    /// `InvalidInput` as [`Self::parent`].
    pub fn forget(&mut self, path: &Path) -> io::Result<()> {
        let clean = normalise(path)?;
        self.cache.retain(|(held, _)| {
            let under = held.starts_with(&clean)
                && (clean.is_empty() || held.len() == clean.len() || held[clean.len()] == b'/');
            !under
        });
        Ok(())
    }

    fn dir(&mut self, clean: &[u8], make: bool) -> io::Result<Arc<OwnedFd>> {
        if clean.is_empty() {
            return Ok(Arc::clone(&self.root));
        }
        if let Some(at) = self.cache.iter().position(|(held, _)| held == clean) {
            if at > 0 {
                let hit = self.cache.remove(at).ok_or_else(|| invalid("cache"))?;
                self.cache.push_front(hit);
            }
            return Ok(Arc::clone(&self.cache[0].1));
        }
        let fd = Arc::new(self.open_dir(clean, make)?);
        self.cache.truncate(CACHED - 1);
        self.cache.push_front((clean.to_vec(), Arc::clone(&fd)));
        Ok(fd)
    }

    fn open_dir(&mut self, clean: &[u8], make: bool) -> io::Result<OwnedFd> {
        let open = |root: &OwnedFd| {
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW;
            let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
            openat2(root, Path::new(OsStr::from_bytes(clean)), flags, Mode::empty(), resolve)
        };
        match open(&self.root) {
            Err(error) if make && error.raw_os_error() == Some(Errno::NOENT.raw_os_error()) => {}
            result => return result,
        }
        // MAX_PATH bounds the depth; the recursion goes one frame for each component that is missing.
        let at = clean.iter().rposition(|byte| *byte == b'/');
        let parent = self.dir(at.map_or(&[][..], |at| &clean[..at]), true)?;
        let name = OsStr::from_bytes(at.map_or(clean, |at| &clean[at + 1..]));
        match rustix::fs::mkdirat(&*parent, name, self.dir_mode) {
            Ok(()) => {
                // mkdir(2) takes the umask of the host program off: it is put back on the descriptor.
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let fd = rustix::fs::openat(&*parent, name, flags, Mode::empty())?;
                rustix::fs::fchmod(&fd, self.dir_mode)?;
            }
            Err(Errno::EXIST) => {}
            Err(errno) => return Err(errno.into()),
        }
        open(&self.root)
    }
}

impl AsFd for LayerDir {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }
}

/// `path` without root, `.` and doubled slashes; empty for the directory itself.
fn normalise(path: &Path) -> io::Result<Vec<u8>> {
    let bytes = path.as_os_str().as_bytes();
    if bytes.len() > MAX_PATH {
        return Err(io::Error::new(
            io::ErrorKind::InvalidFilename,
            format!("path longer than {MAX_PATH} bytes"),
        ));
    }
    let mut clean = Vec::with_capacity(bytes.len());
    for part in bytes.split(|byte| *byte == b'/') {
        match part {
            b"" | b"." => continue,
            b".." => return Err(invalid("`..` in a path")),
            part if part.contains(&0) => return Err(invalid("NUL byte in a path")),
            part => {
                if !clean.is_empty() {
                    clean.push(b'/');
                }
                clean.extend_from_slice(part);
            }
        }
    }
    Ok(clean)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{MetadataExt as _, symlink};

    fn layer() -> (tempfile::TempDir, LayerDir) {
        let dir = tempfile::tempdir().unwrap();
        let fd = OwnedFd::from(std::fs::File::open(dir.path()).unwrap());
        (dir, LayerDir::new(fd))
    }

    #[test]
    fn parents_are_made_and_cached() {
        let (dir, mut layer) = layer();
        let (one, name) = layer.parent(Path::new("./a/b/c/file")).unwrap();
        assert_eq!(name, "file");
        let (two, name) = layer.parent(Path::new("/a//b/c/./other/")).unwrap();
        assert_eq!(name, "other");
        assert!(Arc::ptr_eq(&one, &two));
        assert_eq!(dir.path().join("a/b").metadata().unwrap().mode() & 0o7777, 0o755);
        assert_eq!(layer.parent(Path::new("./")).unwrap().1, ".");
        assert_eq!(layer.parent(Path::new("x/.")).unwrap().1, "x");
        for n in 0..40 {
            layer.parent(Path::new(&format!("d{n}/x"))).unwrap();
        }
        assert!(layer.cache.len() <= CACHED);
    }

    #[test]
    fn a_replaced_directory_is_forgotten() {
        let (dir, mut layer) = layer();
        layer.parent(Path::new("a/b/f")).unwrap();
        layer.parent(Path::new("ab/f")).unwrap();
        std::fs::remove_dir_all(dir.path().join("a")).unwrap();
        symlink("/tmp", dir.path().join("a")).unwrap();
        layer.forget(Path::new("a/")).unwrap();
        assert!(layer.cache.iter().all(|(path, _)| path == b"ab"), "{:?}", layer.cache);
        let error = layer.parent(Path::new("a/b/f")).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(Errno::LOOP.raw_os_error()));
    }

    #[test]
    fn c1_paths_that_lead_out_are_refused() {
        let (dir, mut layer) = layer();
        symlink("/", dir.path().join("root")).unwrap();
        symlink("..", dir.path().join("up")).unwrap();
        symlink("real", dir.path().join("inside")).unwrap();
        std::fs::create_dir(dir.path().join("real")).unwrap();
        std::fs::write(dir.path().join("file"), "").unwrap();
        for path in ["../x", "a/../../x", "a/..", "real/../x", "..", "/../x", "a\0b/c"] {
            assert_eq!(
                layer.parent(Path::new(path)).unwrap_err().kind(),
                io::ErrorKind::InvalidInput,
                "{path:?}"
            );
        }
        for path in ["root/tmp/x", "up/x", "inside/x", "root/x", "file/x"] {
            layer.parent(Path::new(path)).unwrap_err();
            layer.existing_dir(Path::new(path)).unwrap_err();
        }
        assert!(layer.parent(Path::new(&"a/".repeat(2100))).is_err());
        // A handle of the link itself is allowed: a hard link to a symbolic link is legal.
        let handle = layer.handle(Path::new("root")).unwrap();
        let kind = rustix::fs::FileType::from_raw_mode(rustix::fs::fstat(handle).unwrap().st_mode);
        assert_eq!(kind, rustix::fs::FileType::Symlink);
        layer.handle(Path::new("root/tmp")).unwrap_err();
    }
}
