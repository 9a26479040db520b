//! What the root has at a tmpfs's place becomes its first content (`tmpcopyup`).
//!
//! Both ends are descriptors of directories. A name is only opened in the directory that listed it: never through a
//! link, never out of that directory, never onto another mount (SECURITY A9). Nobody else has the tmpfs yet.
//!
//! Copied are directories, files, links and FIFOs, with owner and mode. Times, extended attributes and further names of
//! a file are not, and neither are devices and sockets.

use core::ffi::CStr;

use crate::sys::{self, Fd};

/// As deep as descriptors and stack allow.
const MAX_DEPTH: usize = 64;
/// A listing's record: inode, offset, length of the record, type; then the name (getdents(2)).
const HEAD: usize = 19;
const RESOLVE: u64 = sys::RESOLVE_BENEATH | sys::RESOLVE_NO_SYMLINKS | sys::RESOLVE_NO_XDEV;

/// Copies what is in `from`, which may be open as a path only, into the empty directory `to`.
pub(crate) fn directory(from: Fd, to: Fd) -> sys::Result<()> {
    with(sys::openat(from, c".", sys::O_RDONLY | sys::O_DIRECTORY, 0), |from| level(from, to, 0))
}

/// Lends a descriptor and closes it.
fn with<T>(fd: sys::Result<Fd>, work: impl FnOnce(Fd) -> sys::Result<T>) -> sys::Result<T> {
    let fd = fd?;
    let done = work(fd);
    sys::close(fd);
    done
}

fn level(from: Fd, to: Fd, depth: usize) -> sys::Result<()> {
    if depth >= MAX_DEPTH {
        return Err(sys::ELOOP);
    }
    let mut list = [0; 2048];
    loop {
        let mut rest = match sys::getdents(from, &mut list)? {
            0 => return Ok(()),
            length => list.get(..length).ok_or(sys::EIO)?,
        };
        while let Some(&[low, high]) = rest.get(16..18) {
            let length = usize::from(u16::from_ne_bytes([low, high]));
            let name = rest.get(HEAD..length).ok_or(sys::EIO)?;
            let name = CStr::from_bytes_until_nul(name).map_err(|_| sys::EIO)?;
            if !matches!(name.to_bytes(), b"." | b"..") {
                entry(from, to, name, depth)?;
            }
            rest = &rest[length..];
        }
    }
}

fn entry(from: Fd, to: Fd, name: &CStr, depth: usize) -> sys::Result<()> {
    match sys::openat2(from, name, sys::O_PATH | sys::O_NOFOLLOW, RESOLVE) {
        // Another mount's, or gone since it was listed.
        Err(sys::EXDEV | sys::ENOENT) => Ok(()),
        found => with(found, |found| one(from, found, to, name, depth)),
    }
}

/// Copies what was `found` as `name` in `from`.
fn one(from: Fd, found: Fd, to: Fd, name: &CStr, depth: usize) -> sys::Result<()> {
    let stat = sys::fstat(found)?;
    let mode = u32::from(stat.mode);
    match mode & sys::S_IFMT {
        sys::S_IFDIR => {
            sys::mkdirat(to, name, 0o700)?;
            let source = sys::openat(found, c".", sys::O_RDONLY | sys::O_DIRECTORY, 0);
            let target = sys::openat(to, name, sys::O_RDONLY | sys::O_DIRECTORY | sys::O_NOFOLLOW, 0);
            with(source, |source| with(target, |target| level(source, target, depth + 1)))?;
        }
        sys::S_IFREG => {
            let source = sys::openat2(from, name, sys::O_RDONLY | sys::O_NOFOLLOW | sys::O_NONBLOCK, RESOLVE);
            let target =
                sys::openat(to, name, sys::O_WRONLY | sys::O_CREAT | sys::O_EXCL | sys::O_NOFOLLOW, 0o600);
            with(source, |source| {
                // What was looked at, and not what somebody put in its place.
                if sys::fstat(source)?.ino != stat.ino {
                    return Err(sys::ESTALE);
                }
                with(target, |target| content(source, target))
            })?;
        }
        sys::S_IFLNK => {
            let mut text = [0; 4096];
            let length = sys::readlinkat(found, c"", &mut text)?;
            *text.get_mut(length).ok_or(sys::ENAMETOOLONG)? = 0;
            sys::symlinkat(CStr::from_bytes_until_nul(&text).map_err(|_| sys::EINVAL)?, to, name)?;
        }
        sys::S_IFIFO => sys::mknodat(to, name, sys::S_IFIFO | 0o600, 0)?,
        _ => return Ok(()),
    }
    sys::fchownat(to, name, stat.uid, stat.gid)?;
    if mode & sys::S_IFMT != sys::S_IFLNK {
        // After the owner, which takes set-ID bits away.
        sys::fchmodat(to, name, mode & !sys::S_IFMT)?;
    }
    Ok(())
}

fn content(from: Fd, to: Fd) -> sys::Result<()> {
    let mut buffer = [0; 16 << 10];
    loop {
        match sys::read(from, &mut buffer)? {
            0 => return Ok(()),
            count => sys::write_all(to, buffer.get(..count).ok_or(sys::EIO)?)?,
        }
    }
}
