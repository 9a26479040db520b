//! A root filesystem by descriptor: symbolic links are followed, but never out of it.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::Errno;

use super::{invalid, openat2};

/// As many symbolic links as the kernel follows in one path (path_resolution(7)).
pub(super) const MAX_LINKS: u32 = 40;

/// A directory that stands for `/`.
///
/// Paths may be absolute or relative: both start at this directory, `..` stops at it, and an absolute symbolic link
/// leads back to it, as after chroot(2). Magic links of procfs are refused with `ELOOP`.
#[derive(Debug)]
pub struct RootFd {
    fd: OwnedFd,
}

impl RootFd {
    /// Opens the directory `path` of the host as a root.
    ///
    /// # Errors
    /// As open(2); `ENOTDIR` where it is no directory.
    pub fn open(path: impl AsRef<Path>) -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self { fd: rustix::fs::open(path.as_ref(), flags, Mode::empty())? })
    }

    /// Takes an open directory as a root.
    ///
    /// # Errors
    /// `ENOTDIR` where it is no directory.
    pub fn from_fd(fd: OwnedFd) -> io::Result<Self> {
        if file_type(&rustix::fs::fstat(&fd)?) != FileType::Directory {
            return Err(Errno::NOTDIR.into());
        }
        Ok(Self { fd })
    }

    /// Opens `path` with the given flags; `mode` counts where `O_CREAT` makes a file.
    ///
    /// A hostile root may hold FIFOs and device nodes anywhere: use [`Self::open_regular`] to read a file whose name
    /// is known but whose type is not.
    ///
    /// # Errors
    /// As openat2(2).
    pub fn open_at(&self, path: impl AsRef<Path>, flags: OFlags, mode: Mode) -> io::Result<OwnedFd> {
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        openat2(&self.fd, path.as_ref(), flags, mode, resolve)
    }

    /// Opens `path` as a mere handle (`O_PATH`), following a link in its last component.
    ///
    /// # Errors
    /// As openat2(2).
    pub fn handle(&self, path: impl AsRef<Path>) -> io::Result<OwnedFd> {
        self.open_at(path, OFlags::PATH, Mode::empty())
    }

    /// The directory at `path` as a root of its own.
    ///
    /// # Errors
    /// As openat2(2).
    pub fn subdir(&self, path: impl AsRef<Path>) -> io::Result<Self> {
        Ok(Self { fd: self.open_at(path, OFlags::PATH | OFlags::DIRECTORY, Mode::empty())? })
    }

    /// What stat(2) tells of `path`, its last link followed.
    ///
    /// # Errors
    /// As openat2(2).
    pub fn stat(&self, path: impl AsRef<Path>) -> io::Result<Stat> {
        Ok(rustix::fs::fstat(self.handle(path)?)?)
    }

    /// The target text of the symbolic link `path`.
    ///
    /// # Errors
    /// As readlink(2): `EINVAL` or `ENOENT` where `path` is no link.
    pub fn readlink(&self, path: impl AsRef<Path>) -> io::Result<PathBuf> {
        read_link_fd(self.open_at(path, OFlags::PATH | OFlags::NOFOLLOW, Mode::empty())?.as_fd())
    }

    /// Opens the directory that holds the last component of `path`, and returns it with that component, not resolved.
    ///
    /// # Errors
    /// As openat2(2); `InvalidInput` where the path ends in `/`, `.` or `..`.
    pub fn parent(&self, path: impl AsRef<Path>) -> io::Result<(OwnedFd, OsString)> {
        let (dir, name) = split_last(path.as_ref())?;
        let fd = self.open_at(dir, OFlags::PATH | OFlags::DIRECTORY, Mode::empty())?;
        Ok((fd, name))
    }

    /// Opens the regular file `path` for reading. Nothing but a regular file is ever opened, so a FIFO cannot block and
    /// a device node cannot act.
    ///
    /// # Errors
    /// As openat2(2); `InvalidData` where it is not a regular file.
    pub fn open_regular(&self, path: impl AsRef<Path>) -> io::Result<File> {
        let handle = self.handle(path)?;
        if file_type(&rustix::fs::fstat(&handle)?) != FileType::RegularFile {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "not a regular file"));
        }
        // An O_PATH descriptor is made readable through its own magic link: this is the inode looked at above,
        // whatever the name leads to by now (open(2), O_PATH).
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let file = rustix::fs::open(format!("/proc/self/fd/{}", handle.as_raw_fd()), flags, Mode::empty())?;
        Ok(File::from(file))
    }

    /// Reads the regular file `path`, refusing one of more than `limit` bytes before any of it is read.
    ///
    /// # Errors
    /// As [`Self::open_regular`]; `FileTooLarge` beyond the limit.
    pub fn read(&self, path: impl AsRef<Path>, limit: u64) -> io::Result<Vec<u8>> {
        let file = self.open_regular(path)?;
        let size = file.metadata()?.len();
        let too_large = || io::Error::new(io::ErrorKind::FileTooLarge, format!("larger than {limit} bytes"));
        if size > limit {
            return Err(too_large());
        }
        let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or(0));
        // It may grow meanwhile, so the limit is enforced on what is really read.
        file.take(limit + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > limit { Err(too_large()) } else { Ok(bytes) }
    }

    /// Makes the directory `path` with all its missing parents, and returns a handle of it. Links are followed, dangling
    /// ones too: their targets are made inside the root. What exists keeps its mode and owner.
    ///
    /// # Errors
    /// As mkdir(2); `ENOTDIR` where a component exists and is no directory.
    pub fn mkdir_all(&self, path: impl AsRef<Path>, mode: Mode) -> io::Result<OwnedFd> {
        self.walk(path.as_ref(), mode, Last::Directory)
    }

    /// Makes sure that a file stands at `path`: missing parents are made with `dir_mode`, and where nothing is, an empty
    /// regular file with `mode`. Returns a handle of what is there then, which is never a directory.
    ///
    /// # Errors
    /// As open(2); `EISDIR` where a directory is in the way.
    pub fn create_file(&self, path: impl AsRef<Path>, dir_mode: Mode, mode: Mode) -> io::Result<OwnedFd> {
        self.walk(path.as_ref(), dir_mode, Last::File(mode))
    }

    /// Whether something stands at `path`, its last link followed.
    ///
    /// # Errors
    /// As openat2(2), other than for a missing name.
    pub fn exists(&self, path: impl AsRef<Path>) -> io::Result<bool> {
        match self.handle(path) {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Removes the file or, with `dir`, the empty directory `path`; a link in its last component is removed itself.
    ///
    /// # Errors
    /// As unlinkat(2).
    pub fn unlink(&self, path: impl AsRef<Path>, dir: bool) -> io::Result<()> {
        let (parent, name) = self.parent(path)?;
        let flags = if dir { AtFlags::REMOVEDIR } else { AtFlags::empty() };
        Ok(rustix::fs::unlinkat(parent, name, flags)?)
    }

    /// Walks `path` one component at a time, making what is missing.
    ///
    /// Each step opens one name, links not followed, in a directory we hold; `..` goes back in our own list of
    /// directories. So the kernel never resolves more than one plain name, and there is nothing to race with.
    fn walk(&self, path: &Path, dir_mode: Mode, last: Last) -> io::Result<OwnedFd> {
        if path.as_os_str().is_empty() {
            return Err(Errno::NOENT.into());
        }
        let mut todo = components(path);
        let mut dirs: Vec<OwnedFd> = vec![self.fd.try_clone()?];
        let mut links = 0;
        while let Some(name) = todo.pop_front() {
            if name.as_bytes() == b".." {
                if dirs.len() > 1 {
                    dirs.pop();
                }
                continue;
            }
            let here = dirs.last().map(AsFd::as_fd).ok_or_else(|| invalid("empty walk"))?;
            let is_last = todo.is_empty();
            let child = match (open_name(here, &name), last) {
                (Err(Errno::NOENT), Last::File(mode)) if is_last => make_file(here, &name, mode)?,
                (Err(Errno::NOENT), _) => make_dir(here, &name, dir_mode)?,
                (result, _) => result?,
            };
            match (file_type(&rustix::fs::fstat(&child)?), last) {
                (FileType::Symlink, _) => {
                    links += 1;
                    if links > MAX_LINKS || is_procfs(child.as_fd())? {
                        return Err(Errno::LOOP.into());
                    }
                    let target = read_link_fd(child.as_fd())?;
                    if target.has_root() {
                        dirs.truncate(1);
                    }
                    for component in components(&target).into_iter().rev() {
                        todo.push_front(component);
                    }
                }
                (FileType::Directory, _) => dirs.push(child),
                (_, Last::File(_)) if is_last => return Ok(child),
                _ => return Err(Errno::NOTDIR.into()),
            }
        }
        match (dirs.pop(), last) {
            (Some(dir), Last::Directory) => Ok(dir),
            _ => Err(Errno::ISDIR.into()),
        }
    }
}

impl AsFd for RootFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// What the last component of a walk is to be.
#[derive(Clone, Copy)]
enum Last {
    Directory,
    File(Mode),
}

/// The components of `path` without root and `.`; `..` stays.
pub(super) fn components(path: &Path) -> VecDeque<OsString> {
    let parts = path.as_os_str().as_bytes().split(|byte| *byte == b'/');
    parts
        .filter(|part| !part.is_empty() && *part != b".")
        .map(|part| OsStr::from_bytes(part).to_owned())
        .collect()
}

/// `path` without its last component, and that component.
fn split_last(path: &Path) -> io::Result<(PathBuf, OsString)> {
    let bytes = path.as_os_str().as_bytes();
    let start = bytes.iter().rposition(|byte| *byte == b'/').map_or(0, |at| at + 1);
    let (dir, name) = bytes.split_at(start);
    if matches!(name, b"" | b"." | b"..") {
        return Err(invalid("the path does not end in a name"));
    }
    let dir: &[u8] = if dir.is_empty() { b"." } else { dir };
    Ok((PathBuf::from(OsStr::from_bytes(dir)), OsStr::from_bytes(name).to_owned()))
}

fn file_type(stat: &Stat) -> FileType {
    FileType::from_raw_mode(stat.st_mode)
}

fn is_procfs(fd: BorrowedFd<'_>) -> io::Result<bool> {
    Ok(rustix::fs::fstatfs(fd)?.f_type == rustix::fs::PROC_SUPER_MAGIC)
}

/// The text of the link that `fd` is a handle of.
fn read_link_fd(fd: BorrowedFd<'_>) -> io::Result<PathBuf> {
    let text = rustix::fs::readlinkat(fd, "", Vec::new())?;
    Ok(PathBuf::from(OsString::from_vec(text.into_bytes())))
}

/// A handle of one name in `dir`, itself not followed where it is a link.
fn open_name(dir: BorrowedFd<'_>, name: &OsStr) -> Result<OwnedFd, Errno> {
    rustix::fs::openat(dir, name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
}

fn make_dir(dir: BorrowedFd<'_>, name: &OsStr, mode: Mode) -> io::Result<OwnedFd> {
    match rustix::fs::mkdirat(dir, name, mode) {
        Ok(()) => fix_mode(open_name(dir, name)?, FileType::Directory, mode),
        // Another process was quicker: what it made is looked at like anything found.
        Err(Errno::EXIST) => Ok(open_name(dir, name)?),
        Err(errno) => Err(errno.into()),
    }
}

fn make_file(dir: BorrowedFd<'_>, name: &OsStr, mode: Mode) -> io::Result<OwnedFd> {
    match rustix::fs::mknodat(dir, name, FileType::RegularFile, mode, 0) {
        Ok(()) => fix_mode(open_name(dir, name)?, FileType::RegularFile, mode),
        Err(Errno::EXIST) => Ok(open_name(dir, name)?),
        Err(errno) => Err(errno.into()),
    }
}

/// Puts back the bits that the umask of the host program took off what was just made.
fn fix_mode(fd: OwnedFd, kind: FileType, mode: Mode) -> io::Result<OwnedFd> {
    let stat = rustix::fs::fstat(&fd)?;
    if file_type(&stat) == kind && stat.st_mode & 0o777 != mode.bits() & 0o777 {
        // fchmod(2) refuses O_PATH descriptors; their magic link is the same inode.
        rustix::fs::chmod(format!("/proc/self/fd/{}", fd.as_raw_fd()), mode)?;
    }
    Ok(fd)
}

#[cfg(test)]
#[path = "root_tests.rs"]
mod tests;
