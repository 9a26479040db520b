//! The directory tree a layer is written into: from an archive's names to directory descriptors.
//!
//! Owns resolution of names (SECURITY C1, C2): every step is taken from a descriptor of the step before, and
//! no link is ever followed by the kernel. A link *in the layer* that stands for a parent directory is read and
//! resolved here, as after chroot(2), which is what Docker's layers mean by it.
//! Leaves files and attributes to `extract`.
//!
//! Beside [`rootfd::LayerDir`](crate::linux::rootfd) because this one must follow such links, create what is
//! missing, tell which directories no entry described, and cost one system call per *new* directory.

use std::collections::{HashMap, HashSet};
use std::os::fd::OwnedFd;
use std::rc::Rc;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use super::UnpackError;
use crate::tar::show;

/// Directories kept open.
const CACHED: usize = 128;
/// Links followed for one name (path_resolution(7)).
const MAX_LINKS: u32 = 40;
/// PATH_MAX, for names after links were followed: it bounds the depth of the tree.
const MAX_PATH: usize = 4096;
/// Bytes of names of directories that no entry described.
const MAX_IMPLIED: usize = 32 << 20;

/// A directory of the tree.
#[derive(Clone, Debug)]
pub(super) struct Dir {
    /// Opened with `O_PATH`.
    pub(super) fd: Rc<OwnedFd>,
    /// Its real path in the tree, without links.
    pub(super) path: Rc<[u8]>,
}

#[derive(Debug)]
pub(super) struct Tree {
    root: Dir,
    /// By the name as archives spell it, which may lead over links.
    cache: HashMap<Vec<u8>, Dir>,
    implied: HashSet<Vec<u8>>,
    implied_bytes: usize,
    whiteouts: bool,
}

impl Tree {
    /// `whiteouts`: character devices 0:0 in the tree are ours.
    pub(super) fn new(root: OwnedFd, whiteouts: bool) -> Self {
        let root = Dir { fd: Rc::new(root), path: Rc::from(&b""[..]) };
        Self { root, cache: HashMap::new(), implied: HashSet::new(), implied_bytes: 0, whiteouts }
    }

    pub(super) fn root(&self) -> &Dir {
        &self.root
    }

    /// Forgets open directories: one of them may have been replaced.
    pub(super) fn forget(&mut self) {
        self.cache.clear();
    }

    /// Notes that an entry described the directory at `path`.
    pub(super) fn described(&mut self, path: &[u8]) {
        if !self.implied.is_empty() {
            self.implied.remove(path);
        }
    }

    /// The directories that no entry described, sorted.
    pub(super) fn into_implied(self) -> Vec<Vec<u8>> {
        let mut implied: Vec<_> = self.implied.into_iter().collect();
        implied.sort_unstable();
        implied
    }

    /// The directory that `clean` names, made where it is missing.
    pub(super) fn dir(&mut self, clean: &[u8]) -> Result<Dir, UnpackError> {
        if clean.is_empty() {
            return Ok(self.root.clone());
        }
        if let Some(dir) = self.cache.get(clean) {
            return Ok(dir.clone());
        }
        let dir = match open_beneath(&self.root.fd, clean) {
            Ok(fd) => Dir { fd: Rc::new(fd), path: Rc::from(clean) },
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => self.walk(clean)?,
            Err(errno) => return Err(UnpackError::io("open directory", clean, errno)),
        };
        if self.cache.len() >= CACHED {
            self.cache.clear();
        }
        self.cache.insert(clean.to_vec(), dir.clone());
        Ok(dir)
    }

    /// Keeps a directory that was just made.
    pub(super) fn remember(&mut self, clean: &[u8], dir: Dir) {
        if self.cache.len() >= CACHED {
            self.cache.clear();
        }
        self.cache.insert(clean.to_vec(), dir);
    }

    /// Component by component: follows links inside the tree, makes what is missing.
    fn walk(&mut self, clean: &[u8]) -> Result<Dir, UnpackError> {
        let mut pending: Vec<Vec<u8>> = components(clean).rev().map(<[u8]>::to_vec).collect();
        let mut current = self.root.clone();
        let mut links = 0;
        while let Some(name) = pending.pop() {
            if name == b".." {
                let parent = parent(&current.path).to_vec();
                current = if parent.is_empty() {
                    self.root.clone()
                } else {
                    let fd = open_beneath(&self.root.fd, &parent)
                        .map_err(|e| UnpackError::io("open directory", &parent, e))?;
                    Dir { fd: Rc::new(fd), path: Rc::from(parent) }
                };
                continue;
            }
            let path = join(&current.path, &name);
            if path.len() > MAX_PATH {
                return Err(UnpackError::refused(clean, "its real path is longer than 4096 bytes"));
            }
            match open_dir(&current.fd, &name) {
                Ok(fd) => current = Dir { fd: Rc::new(fd), path: Rc::from(path) },
                Err(Errno::NOENT) => current = self.make_implied(&current, &name, path)?,
                Err(Errno::NOTDIR | Errno::LOOP) => {
                    match rustix::fs::readlinkat(&*current.fd, &*name, Vec::new()) {
                        Ok(target) => {
                            links += 1;
                            if links > MAX_LINKS {
                                return Err(UnpackError::refused(clean, "too many symbolic links"));
                            }
                            let target = target.into_bytes();
                            if target.starts_with(b"/") {
                                current = self.root.clone();
                            }
                            pending.extend(components(&target).rev().map(<[u8]>::to_vec));
                            if pending.len() > MAX_PATH {
                                return Err(UnpackError::refused(clean, "too many path components"));
                            }
                        }
                        // A whiteout of this layer hides what lower layers have, not what this one adds.
                        Err(Errno::INVAL) if self.is_whiteout(&current, &name)? => {
                            unlink(&current, &name)?;
                            current = self.make_implied(&current, &name, path)?;
                            set_opaque(&current)?;
                        }
                        Err(Errno::INVAL) => {
                            return Err(UnpackError::refused(clean, "its parent is not a directory"));
                        }
                        Err(errno) => return Err(UnpackError::io("read link", &path, errno)),
                    }
                }
                Err(errno) => return Err(UnpackError::io("open directory", &path, errno)),
            }
        }
        Ok(current)
    }

    fn make_implied(&mut self, parent: &Dir, name: &[u8], path: Vec<u8>) -> Result<Dir, UnpackError> {
        rustix::fs::mkdirat(&*parent.fd, name, Mode::from_raw_mode(0o755))
            .map_err(|e| UnpackError::io("create directory", &path, e))?;
        let fd = open_dir(&parent.fd, name).map_err(|e| UnpackError::io("open directory", &path, e))?;
        self.implied_bytes += path.len() + 64;
        if self.implied_bytes > MAX_IMPLIED {
            return Err(UnpackError::Limit("too many directories that no entry describes".into()));
        }
        self.implied.insert(path.clone());
        Ok(Dir { fd: Rc::new(fd), path: Rc::from(path) })
    }

    /// Whether `name` is a whiteout that an entry of this layer made.
    pub(super) fn is_whiteout(&self, dir: &Dir, name: &[u8]) -> Result<bool, UnpackError> {
        if !self.whiteouts {
            return Ok(false);
        }
        match rustix::fs::statat(&*dir.fd, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => {
                Ok(FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == 0)
            }
            Err(Errno::NOENT) => Ok(false),
            Err(errno) => Err(UnpackError::io("stat", &join(&dir.path, name), errno)),
        }
    }
}

/// Marks a directory as hiding the same directory of lower layers (overlayfs documentation, "opaque").
pub(super) fn set_opaque(dir: &Dir) -> Result<(), UnpackError> {
    let fd = reopen(dir)?;
    rustix::fs::fsetxattr(&fd, c"trusted.overlay.opaque", b"y", rustix::fs::XattrFlags::empty())
        .map_err(|e| UnpackError::io("mark opaque", &dir.path, e))
}

/// A descriptor of the directory itself, where `O_PATH` is not enough.
pub(super) fn reopen(dir: &Dir) -> Result<OwnedFd, UnpackError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::openat(&*dir.fd, c".", flags, Mode::empty())
        .map_err(|e| UnpackError::io("open directory", &dir.path, e))
}

pub(super) fn unlink(dir: &Dir, name: &[u8]) -> Result<(), UnpackError> {
    rustix::fs::unlinkat(&*dir.fd, name, AtFlags::empty())
        .map_err(|e| UnpackError::io("remove", &join(&dir.path, name), e))
}

/// Opens one directory beneath `dir`; a link is `ENOTDIR`.
pub(super) fn open_dir(dir: &OwnedFd, name: &[u8]) -> Result<OwnedFd, Errno> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(dir, name, flags, Mode::empty())
}

/// Opens a path that must not lead over any link, in one call (openat2(2)).
pub(in crate::linux::image_store) fn open_beneath(root: &OwnedFd, path: &[u8]) -> Result<OwnedFd, Errno> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    loop {
        match rustix::fs::openat2(root, path, flags, Mode::empty(), resolve) {
            // The kernel asks to try again when a rename raced with the walk.
            Err(Errno::AGAIN | Errno::INTR) => {}
            outcome => return outcome,
        }
    }
}

/// Brings an archive's name into the one form used here: relative, no empty or `.` component.
///
/// A leading `/` means the root of the layer. `..` is refused wherever it leads.
pub(super) fn normalise(name: &[u8], out: &mut Vec<u8>) -> Result<(), UnpackError> {
    out.clear();
    for part in components(name) {
        if part == b".." {
            return Err(UnpackError::refused(name, "a name may not hold \"..\""));
        }
        if !out.is_empty() {
            out.push(b'/');
        }
        out.extend_from_slice(part);
    }
    if out.contains(&0) {
        return Err(UnpackError::refused(name, "a name may not hold a NUL byte"));
    }
    Ok(())
}

/// The components of a path without empty ones and `.`.
pub(super) fn components(path: &[u8]) -> impl DoubleEndedIterator<Item = &[u8]> {
    path.split(|byte| *byte == b'/').filter(|part| !part.is_empty() && *part != b".")
}

/// The last component of a clean path and what is before it.
pub(in crate::linux::image_store) fn split(clean: &[u8]) -> (&[u8], &[u8]) {
    match clean.iter().rposition(|byte| *byte == b'/') {
        Some(slash) => (&clean[..slash], &clean[slash + 1..]),
        None => (&[], clean),
    }
}

fn parent(clean: &[u8]) -> &[u8] {
    split(clean).0
}

pub(in crate::linux::image_store) fn join(dir: &[u8], name: &[u8]) -> Vec<u8> {
    let mut path = Vec::with_capacity(dir.len() + 1 + name.len());
    path.extend_from_slice(dir);
    if !dir.is_empty() {
        path.push(b'/');
    }
    path.extend_from_slice(name);
    path
}

/// For messages.
pub(super) fn display(path: &[u8]) -> String {
    if path.is_empty() { "/".into() } else { show(path) }
}
