//! Trees as lists: what is where, and chosen files of it as an archive.

use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags, Stat};

use super::beneath;
use super::ids::Ids;
use super::pack::{self, Attributes, Found, PackOptions, Packer, walk};
use crate::digest::{Digest, DigestAlgorithm, DigestHasher};
use crate::files::{
    FileEntry, FileIdentity, FileList, ListFiles, Listed, MAX_LISTED, PackedFile, PackedSource,
};
use crate::linux::rootfd::RootFd;
use crate::tar::ArchiveWriter;

const BUFFER: usize = 128 << 10;

/// Opens what `path` leads to, links followed.
fn open(root: &RootFd, path: &Path) -> io::Result<(OwnedFd, Stat)> {
    let handle = root.handle(beneath(path))?;
    if pack::is_of_kernel(&handle)? {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it belongs to a file system of the kernel"));
    }
    let stat = rustix::fs::fstat(&handle)?;
    Ok((handle, stat))
}

fn is_dir(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::Directory
}

/// Lists the tree at `path`.
pub(super) fn list(
    root: &RootFd,
    path: &Path,
    ids: Option<&Ids>,
    options: &ListFiles,
) -> io::Result<FileList> {
    let (top, stat) = open(root, path)?;
    let mut lister = Lister { ids, options, buffer: Vec::new(), found: Vec::new() };
    lister.add(b"", &top, &stat)?;
    if is_dir(&stat) {
        walk(&top, &mut |found| lister.visit(&found))?;
    }
    Ok(FileList::new(Path::new("/").join(root.canonical(beneath(path))?), lister.found))
}

struct Lister<'a> {
    ids: Option<&'a Ids>,
    options: &'a ListFiles,
    buffer: Vec<u8>,
    found: Vec<FileEntry>,
}

impl Lister<'_> {
    fn visit(&mut self, found: &Found<'_>) -> io::Result<bool> {
        let is_dir = is_dir(found.stat);
        let verdict = self.options.filter.as_ref().map_or(Listed::Yes, |filter| filter(found.path, is_dir));
        if verdict == Listed::Yes {
            self.add(found.path, found.handle, found.stat)?;
        }
        Ok(is_dir && verdict != Listed::No && !self.options.shallow)
    }

    fn add(&mut self, path: &[u8], handle: &OwnedFd, stat: &Stat) -> io::Result<()> {
        if self.found.len() >= MAX_LISTED {
            return Err(io::Error::new(
                io::ErrorKind::QuotaExceeded,
                format!("it has more than {MAX_LISTED} files"),
            ));
        }
        let kind = FileType::from_raw_mode(stat.st_mode);
        // A socket is its process's; archives know none.
        if kind == FileType::Socket {
            return Ok(());
        }
        let mut entry = FileEntry::new(PathBuf::from(std::ffi::OsStr::from_bytes(path)), stat.st_mode);
        let owner = (stat.st_uid, stat.st_gid);
        (entry.uid, entry.gid) = self.ids.map_or(owner, |ids| ids.inside(owner));
        entry.modified = pack::modified(stat);
        match kind {
            FileType::RegularFile => {
                entry.size = u64::try_from(stat.st_size).unwrap_or(0);
                if self.options.digests {
                    entry.digest = Some(self.known_digest(handle, stat)?);
                }
            }
            FileType::Symlink => {
                let text = rustix::fs::readlinkat(handle, c"", Vec::new())?;
                entry.link = PathBuf::from(std::ffi::OsStr::from_bytes(text.as_bytes()));
            }
            _ => {}
        }
        self.found.push(entry);
        Ok(())
    }

    fn known_digest(&mut self, handle: &OwnedFd, stat: &Stat) -> io::Result<Digest> {
        let Some(known) = self.options.known.clone() else { return self.digest(handle) };
        let nanoseconds = |value: u64| u32::try_from(value).unwrap_or(0);
        let file = FileIdentity {
            device: stat.st_dev,
            inode: stat.st_ino,
            size: u64::try_from(stat.st_size).unwrap_or(0),
            modified: (stat.st_mtime, nanoseconds(stat.st_mtime_nsec)),
            changed: (stat.st_ctime, nanoseconds(stat.st_ctime_nsec)),
        };
        if let Some(digest) = known.get(&file) {
            return Ok(digest);
        }
        let digest = self.digest(handle)?;
        known.put(&file, &digest);
        Ok(digest)
    }

    fn digest(&mut self, handle: &OwnedFd) -> io::Result<Digest> {
        // The inode looked at, whatever the name leads to by now; it is a regular file, so opening it does nothing.
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let file = rustix::fs::open(format!("/proc/self/fd/{}", handle.as_raw_fd()), flags, Mode::empty())?;
        self.buffer.resize(BUFFER, 0);
        let mut hasher = DigestHasher::new(DigestAlgorithm::Sha256);
        loop {
            match rustix::io::read(&file, &mut self.buffer[..]) {
                Ok(0) => break,
                Ok(count) => hasher.update(&self.buffer[..count]),
                Err(rustix::io::Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(pack::digest_with(hasher.finish(), pack::capability(handle)?.as_deref()))
    }
}

/// Writes `files` of the tree `root`.
pub(super) fn pack<W: io::Write>(
    root: &RootFd,
    files: &[PackedFile],
    writer: &mut ArchiveWriter<W>,
) -> io::Result<()> {
    let (top, _) = open(root, Path::new("/"))?;
    // Where a file has holes is the file system's affair, and an archive with a digest has none.
    let mut packer = Packer::new(PackOptions { sparse: false, ..PackOptions::default() }, writer);
    // Files of one directory come one after the other.
    let mut held: Option<(PathBuf, OwnedFd)> = None;
    for file in files {
        let mtime = pack::timestamp(file.modified);
        let attributes = Attributes { mode: file.mode & 0o7777, owner: file.owner, mtime, plain: file.plain };
        let name = file.name.as_os_str().as_bytes();
        let source = match &file.source {
            PackedSource::Tree(source) => source,
            PackedSource::Directory => {
                packer.directory(name, &attributes)?;
                continue;
            }
            PackedSource::Content(content) => {
                packer.text(name, content, &attributes)?;
                continue;
            }
        };
        let gone = |e: io::Error| io::Error::new(e.kind(), format!("{}: {e}", source.display()));
        let below = source.strip_prefix("/").unwrap_or(source);
        let (handle, stat) = match (below.parent(), below.file_name()) {
            (Some(parent), Some(last)) => {
                if held.as_ref().is_none_or(|(known, _)| known != parent) {
                    held = Some((
                        parent.to_owned(),
                        pack::beneath_dir(&top, parent.as_os_str().as_bytes()).map_err(|e| gone(e.into()))?,
                    ));
                }
                let Some((_, dir)) = &held else { continue };
                let last = std::ffi::CString::new(last.as_bytes())?;
                pack::look(std::os::fd::AsFd::as_fd(dir), &last)
                    .map_err(gone)?
                    .ok_or_else(|| gone(io::ErrorKind::NotFound.into()))?
            }
            _ => (top.try_clone()?, rustix::fs::fstat(&top)?),
        };
        packer.expect(file.digest.as_ref());
        packer.add_as(&handle, &stat, name, &attributes).map_err(|e| match e.kind() {
            io::ErrorKind::InvalidData => gone(e),
            _ => e,
        })?;
    }
    Ok(())
}
