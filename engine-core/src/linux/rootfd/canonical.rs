//! The real name of a path in a root.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::RootFd;
use super::root::{MAX_LINKS, components};

impl RootFd {
    /// Returns `path` without links and dots, as an absolute path in this root. Components behind one that does not exist
    /// are taken as they are.
    ///
    /// It is a name, and whoever uses it resolves it again: between the two, the tree may change.
    ///
    /// # Errors
    /// As openat(2) and readlink(2).
    pub fn canonical(&self, path: impl AsRef<Path>) -> io::Result<PathBuf> {
        let mut todo: VecDeque<OsString> = components(path.as_ref());
        let mut done = PathBuf::from("/");
        let mut links = 0;
        while let Some(name) = todo.pop_front() {
            if name.as_bytes() == b".." {
                done.pop();
                continue;
            }
            let next = done.join(&name);
            let handle = match self.open_at(&next, OFlags::PATH | OFlags::NOFOLLOW, Mode::empty()) {
                Ok(handle) => handle,
                Err(error) if error.raw_os_error() == Some(Errno::NOENT.raw_os_error()) => {
                    done = next;
                    continue;
                }
                Err(error) => return Err(error),
            };
            match rustix::fs::readlinkat(&handle, "", Vec::new()) {
                Ok(text) => {
                    links += 1;
                    if links > MAX_LINKS {
                        return Err(Errno::LOOP.into());
                    }
                    let target = PathBuf::from(OsString::from_vec(text.into_bytes()));
                    if target.has_root() {
                        done = PathBuf::from("/");
                    }
                    for component in components(&target).into_iter().rev() {
                        todo.push_front(component);
                    }
                }
                // Not a link: readlinkat(2) of a descriptor says ENOENT, of a name EINVAL.
                Err(Errno::NOENT | Errno::INVAL) => done = next,
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(done)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn links_and_dots_are_resolved_inside() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("real/sub")).unwrap();
        symlink("/real", dir.path().join("absolute")).unwrap();
        symlink("../../../real/./sub", dir.path().join("up")).unwrap();
        symlink("loop", dir.path().join("loop")).unwrap();
        let root = RootFd::open(dir.path()).unwrap();
        for (path, real) in [
            ("/", "/"),
            ("..", "/"),
            ("absolute/sub", "/real/sub"),
            ("up/..", "/real"),
            ("up/missing/../x", "/real/sub/x"),
            ("/absolute/", "/real"),
        ] {
            assert_eq!(root.canonical(path).unwrap(), Path::new(real), "{path}");
        }
        assert_eq!(root.canonical("loop").unwrap_err().raw_os_error(), Some(Errno::LOOP.raw_os_error()));
    }
}
