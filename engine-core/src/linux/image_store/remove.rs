//! Removing a directory tree that anybody may have filled.
//!
//! No link is followed and no name is resolved twice. A tree may be deeper than the descriptors we have: what
//! lies too deep is moved up beside the root of the removal first, so that a bounded number is open at once.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags};
use rustix::io::Errno;

/// Directories open at once.
const MAX_OPEN: usize = 48;

/// Removes `name` in `parent`, with everything in it. What is not there is `Ok`.
pub(crate) fn remove_tree(parent: BorrowedFd<'_>, name: &[u8]) -> io::Result<()> {
    match rustix::fs::unlinkat(parent, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        // EISDIR from Linux, EPERM from POSIX.
        Err(Errno::ISDIR | Errno::PERM) => {}
        Err(errno) => return Err(errno.into()),
    }
    let mut moved: u64 = 0;
    loop {
        let root = match open(parent, name) {
            Ok(fd) => fd,
            Err(Errno::NOENT) => return Ok(()),
            Err(errno) => return Err(errno.into()),
        };
        empty(&root, &root, 0, &mut moved)?;
        match rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT) => return Ok(()),
            // Something was moved up, or somebody else adds files: look again.
            Err(Errno::NOTEMPTY | Errno::EXIST) if moved > 0 => moved = 0,
            Err(errno) => return Err(errno.into()),
        }
    }
}

/// Removes everything in `dir`, which stays.
pub(crate) fn remove_content(dir: &OwnedFd) -> io::Result<()> {
    loop {
        let mut moved = 0;
        empty(dir, dir, 0, &mut moved)?;
        if moved == 0 {
            return Ok(());
        }
    }
}

/// Somebody else may remove the same: what is gone meanwhile is no error, be it the directory itself.
fn empty(root: &OwnedFd, dir: &OwnedFd, depth: usize, moved: &mut u64) -> io::Result<()> {
    let entries = match Dir::read_from(dir) {
        Err(Errno::NOENT) => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let entry = match entry {
            Err(Errno::NOENT) => return Ok(()),
            entry => entry?,
        };
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        if entry.file_type() != FileType::Directory {
            match rustix::fs::unlinkat(dir, name, AtFlags::empty()) {
                Ok(()) | Err(Errno::NOENT) => continue,
                Err(Errno::ISDIR | Errno::PERM) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        match rustix::fs::unlinkat(dir, name, AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT) => continue,
            Err(Errno::NOTEMPTY | Errno::EXIST) => {}
            Err(errno) => return Err(errno.into()),
        }
        if depth + 1 >= MAX_OPEN {
            match lift(root, dir, name) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                outcome => outcome.map(|()| *moved += 1)?,
            }
            continue;
        }
        let child = match open(dir.as_fd(), name.to_bytes()) {
            Err(Errno::NOENT) => continue,
            child => child?,
        };
        empty(root, &child, depth + 1, moved)?;
        match rustix::fs::unlinkat(dir, name, AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(())
}

/// Moves a directory up into `root`, under a name nobody uses.
fn lift(root: &OwnedFd, dir: &OwnedFd, name: &std::ffi::CStr) -> io::Result<()> {
    loop {
        let mut random = [0; 12];
        getrandom::fill(&mut random).map_err(|e| io::Error::other(e.to_string()))?;
        let fresh = hex::encode(random);
        match rustix::fs::renameat_with(dir, name, root, &*fresh, rustix::fs::RenameFlags::NOREPLACE) {
            Err(Errno::EXIST) => {}
            outcome => return outcome.map_err(io::Error::from),
        }
    }
}

fn open(parent: BorrowedFd<'_>, name: &[u8]) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(parent, name, flags, Mode::empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn several_remove_one_tree() {
        let base = tempfile::tempdir().unwrap();
        for dir in 0..200 {
            let dir = base.path().join(format!("t/{dir}/a/b/c"));
            fs::create_dir_all(&dir).unwrap();
            fs::write(dir.join("file"), "x").unwrap();
        }
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let parent = OwnedFd::from(fs::File::open(base.path()).unwrap());
                    remove_tree(parent.as_fd(), b"t").unwrap();
                });
            }
        });
        assert_eq!(fs::read_dir(base.path()).unwrap().count(), 0);
    }

    #[test]
    fn removes_a_tree_deeper_than_path_max_and_follows_no_link() {
        let base = tempfile::tempdir().unwrap();
        fs::write(base.path().join("kept"), "x").unwrap();
        let parent = OwnedFd::from(fs::File::open(base.path()).unwrap());
        rustix::fs::mkdirat(&parent, "t", Mode::from_raw_mode(0o755)).unwrap();
        let mut dir = open(parent.as_fd(), b"t").unwrap();
        for level in 0..5000 {
            if level % 500 == 0 {
                rustix::fs::symlinkat("/../../../..", &dir, "up").unwrap();
                rustix::fs::symlinkat(base.path(), &dir, "base").unwrap();
            }
            rustix::fs::mkdirat(&dir, "d", Mode::from_raw_mode(0o700)).unwrap();
            dir = open(dir.as_fd(), b"d").unwrap();
        }
        drop(dir);
        remove_tree(parent.as_fd(), b"t").unwrap();
        remove_tree(parent.as_fd(), b"t").unwrap();
        remove_tree(parent.as_fd(), b"kept").unwrap();
        assert_eq!(fs::read_dir(base.path()).unwrap().count(), 0);
    }
}
