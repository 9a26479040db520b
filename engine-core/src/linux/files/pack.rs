//! From a tree to an archive.
//!
//! Every step opens one name in a directory that is held, links not followed, and looks at the descriptor it got. So
//! whoever swaps names meanwhile changes what is found, and never where it is looked for (SECURITY E4, A9).

use std::collections::HashMap;
use std::ffi::{CString, OsStr};
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::fs::{Dir, FileType, Mode, OFlags, ResolveFlags, SeekFrom, Stat};
use rustix::io::Errno;

use super::beneath;
use crate::digest::{Digest, DigestHasher};
use crate::files::PathStat;
use crate::linux::files::ids::Ids;
use crate::linux::rootfd::RootFd;
use crate::tar::{ArchiveWriter, Entry, EntryKind, Segment, Timestamp, Xattr};

/// Directories of the way down that are kept open.
const HELD: usize = 64;
const BUFFER: usize = 128 << 10;
/// More holes than this are written out.
const MAX_SEGMENTS: usize = 4096;

/// The attribute that has a program's capabilities.
const CAPABILITY: &[u8] = b"security.capability";

/// File systems that show the kernel's own state (magic.h): not content, and written to by host root they act.
const KERNEL: [u32; 14] = [
    0x9fa0,      // proc
    0x6265_6572, // sysfs
    0x0027_e0eb, // cgroup
    0x6367_7270, // cgroup2
    0x6462_6720, // debugfs
    0x7472_6163, // tracefs
    0x7363_6673, // securityfs
    0xcafe_4a11, // bpf
    0x6265_6570, // configfs
    0x6165_676c, // pstore
    0xde5e_81e4, // efivarfs
    0x1980_0202, // mqueue
    0x6e73_6673, // nsfs
    0xf97c_ff8c, // selinux
];

/// What is found at a path.
#[derive(Debug)]
pub(in crate::linux) struct Located {
    /// Opened with `O_PATH`; a link itself.
    handle: OwnedFd,
    stat: Stat,
}

impl Located {
    /// Looks `path` up in `root`. A link in the last component is found itself, unless a slash follows it.
    pub(in crate::linux) fn find(root: &RootFd, path: &Path) -> io::Result<Self> {
        let text = path.as_os_str().as_bytes();
        if text.is_empty() {
            return Err(Errno::NOENT.into());
        }
        let last = text.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
        let flags = match last {
            b"" | b"." | b".." => OFlags::PATH | OFlags::DIRECTORY,
            _ => OFlags::PATH | OFlags::NOFOLLOW,
        };
        let handle = root.open_at(beneath(path), flags, Mode::empty())?;
        if is_of_kernel(&handle)? {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "it belongs to a file system of the kernel",
            ));
        }
        let stat = rustix::fs::fstat(&handle)?;
        Ok(Self { handle, stat })
    }

    /// Describes it as Docker does.
    pub(in crate::linux) fn describe(&self, root: &RootFd, path: &Path) -> io::Result<PathStat> {
        let name = path.file_name().unwrap_or(OsStr::new("/"));
        let modified = modified(&self.stat);
        let size = u64::try_from(self.stat.st_size).unwrap_or(0);
        let stat = PathStat::new(name.to_string_lossy(), self.stat.st_mode, size, modified);
        if !stat.is_symlink() {
            return Ok(stat);
        }
        let target = root.canonical(beneath(path))?;
        Ok(stat.with_link_target(target.to_string_lossy()))
    }
}

/// What goes into an archive.
#[derive(Clone, Debug)]
pub(in crate::linux) struct PackOptions {
    /// Whether holes stay holes. They depend on the file system, so an archive that has a digest has none.
    pub(in crate::linux) sparse: bool,
    /// Whose everything is; the files' own owners without it.
    pub(in crate::linux) owner: Option<(u32, u32)>,
    /// How owners are translated.
    pub(in crate::linux) ids: Option<Ids>,
    /// Whether a tree ends where another file system is mounted.
    pub(in crate::linux) one_file_system: bool,
    /// What is said of times.
    pub(in crate::linux) clamp: Option<Clamp>,
}

/// Has what was modified after a time be modified at another one.
#[derive(Clone, Copy, Debug)]
pub(in crate::linux) struct Clamp {
    pub(in crate::linux) later_than: SystemTime,
    pub(in crate::linux) to: SystemTime,
}

impl Clamp {
    fn apply(&self, stat: &Stat) -> Timestamp {
        if modified(stat) > self.later_than { timestamp(self.to) } else { mtime(stat) }
    }
}

impl Default for PackOptions {
    fn default() -> Self {
        Self { sparse: true, owner: None, ids: None, one_file_system: false, clamp: None }
    }
}

pub(in crate::linux) fn is_dir(fd: &OwnedFd) -> io::Result<bool> {
    Ok(FileType::from_raw_mode(rustix::fs::fstat(fd)?.st_mode) == FileType::Directory)
}

pub(in crate::linux) fn is_of_kernel(fd: &OwnedFd) -> io::Result<bool> {
    // The magic number has 32 bits, whatever the type of the field is on this architecture.
    let magic = rustix::fs::fstatfs(fd)?.f_type as u64 & 0xffff_ffff;
    Ok(KERNEL.iter().any(|known| u64::from(*known) == magic))
}

/// Writes the tree at `located`, whose first entry is called `name`.
pub(in crate::linux) fn tree<W: Write>(
    located: &Located,
    name: &[u8],
    options: &PackOptions,
    writer: &mut ArchiveWriter<W>,
) -> io::Result<()> {
    let mut packer = Packer::new(options.clone(), writer);
    let is_dir = packer.add(&located.handle, &located.stat, name)?;
    if !is_dir {
        return Ok(());
    }
    let one_file_system = packer.options.one_file_system;
    walk(&located.handle, &mut |found| {
        let mut name = name.to_vec();
        if !name.is_empty() {
            name.push(b'/');
        }
        name.extend_from_slice(found.path);
        let is_dir = packer.add(found.handle, found.stat, &name)?;
        Ok(is_dir && !(found.crossed && one_file_system))
    })
}

/// What a walk finds.
pub(super) struct Found<'a> {
    /// Relative to where the walk began.
    pub(super) path: &'a [u8],
    /// Opened with `O_PATH`; a link itself.
    pub(super) handle: &'a OwnedFd,
    pub(super) stat: &'a Stat,
    /// Whether another file system than its directory's is mounted on it.
    pub(super) crossed: bool,
}

/// A directory that is being walked.
struct Level {
    /// Its names, sorted, the next one last.
    names: Vec<CString>,
    fd: Option<OwnedFd>,
    device: u64,
    /// The length of its path.
    path: usize,
}

/// Shows what is beneath the directory `top`, in order. `visit` says whether to go into what it was shown.
pub(super) fn walk(top: &OwnedFd, visit: &mut dyn FnMut(Found<'_>) -> io::Result<bool>) -> io::Result<()> {
    let mut path = Vec::new();
    let device = rustix::fs::fstat(top)?.st_dev;
    let mut levels = vec![Level { names: names(top)?, fd: Some(top.try_clone()?), device, path: 0 }];
    while let Some(depth) = levels.len().checked_sub(1) {
        let level = &mut levels[depth];
        path.truncate(level.path);
        let Some(next) = level.names.pop() else {
            levels.pop();
            continue;
        };
        if level.fd.is_none() {
            // It was closed to make room on the way down. Should it have moved meanwhile, it is gone from here.
            match beneath_dir(top, &path) {
                Ok(fd) => level.fd = Some(fd),
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {
                    levels.pop();
                    continue;
                }
                Err(errno) => return Err(errno.into()),
            }
        }
        let Some(dir) = &level.fd else { continue };
        let Some((handle, stat)) = look(dir.as_fd(), &next)? else { continue };
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(next.to_bytes());
        let crossed = stat.st_dev != level.device;
        let is_dir = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
        let of_kernel = crossed && is_of_kernel(&handle)?;
        if of_kernel && !is_dir {
            continue;
        }
        if !visit(Found { path: &path, handle: &handle, stat: &stat, crossed })? || !is_dir || of_kernel {
            continue;
        }
        if depth >= HELD {
            level.fd = None;
        }
        let names = match names(&handle) {
            // It was removed since.
            Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
            names => names?,
        };
        let (device, path) = (stat.st_dev, path.len());
        levels.push(Level { names, fd: Some(handle), device, path });
    }
    Ok(())
}

/// A handle of one name, and what it is; `None` if it is gone by now.
pub(in crate::linux) fn look(
    dir: BorrowedFd<'_>,
    name: &std::ffi::CStr,
) -> io::Result<Option<(OwnedFd, Stat)>> {
    match rustix::fs::openat(dir, name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty()) {
        Ok(handle) => {
            let stat = rustix::fs::fstat(&handle)?;
            Ok(Some((handle, stat)))
        }
        Err(Errno::NOENT) => Ok(None),
        Err(errno) => Err(errno.into()),
    }
}

pub(super) fn beneath_dir(top: &OwnedFd, path: &[u8]) -> Result<OwnedFd, Errno> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let path = if path.is_empty() { b"." } else { path };
    loop {
        match rustix::fs::openat2(top, path, flags, Mode::empty(), resolve) {
            Err(Errno::AGAIN | Errno::INTR) => {}
            outcome => return outcome,
        }
    }
}

/// The names in a directory, in reverse order.
pub(in crate::linux) fn names(dir: &OwnedFd) -> io::Result<Vec<CString>> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let open = rustix::fs::openat(dir, c".", flags, Mode::empty())?;
    let mut names = Vec::new();
    for entry in Dir::new(open)? {
        let entry = entry?;
        if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
            names.push(entry.file_name().to_owned());
        }
    }
    names.sort_unstable_by(|a, b| b.cmp(a));
    Ok(names)
}

/// What an archive says of a file besides its content.
#[derive(Clone, Copy, Debug)]
pub(super) struct Attributes {
    pub(super) mode: u32,
    pub(super) owner: (u32, u32),
    pub(super) mtime: Timestamp,
    /// Leaves out extended attributes but file capabilities.
    pub(super) plain: bool,
}

/// Writes what it is shown.
pub(in crate::linux) struct Packer<'a, W> {
    options: PackOptions,
    writer: &'a mut ArchiveWriter<W>,
    /// Names of files that may come again under others.
    links: HashMap<(u64, u64), Box<[u8]>>,
    buffer: Vec<u8>,
    entry: Entry,
    /// What the next file has to be, and what its content is so far.
    expected: Option<Digest>,
    hasher: Option<DigestHasher>,
}

impl<'a, W: Write> Packer<'a, W> {
    pub(in crate::linux) fn new(options: PackOptions, writer: &'a mut ArchiveWriter<W>) -> Self {
        Self {
            options,
            writer,
            links: HashMap::new(),
            buffer: vec![0; BUFFER],
            entry: Entry::default(),
            expected: None,
            hasher: None,
        }
    }

    /// Fails with [`io::ErrorKind::InvalidData`] if the next file is none of this digest, should it be one with content.
    pub(super) fn expect(&mut self, digest: Option<&Digest>) {
        self.expected = digest.cloned();
    }

    /// Adds an empty file: a layer's note about something that is gone.
    pub(in crate::linux) fn mark(&mut self, name: &[u8], mtime: Timestamp) -> io::Result<()> {
        self.writer.entry(&Entry { path: name.to_vec(), mtime, ..Entry::default() })
    }

    /// Adds what `handle` is, under `name`. Returns whether it is a directory, whose content is left to the caller.
    pub(in crate::linux) fn add(&mut self, handle: &OwnedFd, stat: &Stat, name: &[u8]) -> io::Result<bool> {
        let owner = (stat.st_uid, stat.st_gid);
        let seen = self.options.ids.as_ref().map_or(owner, |ids| ids.inside(owner));
        let owner = self.options.owner.unwrap_or(seen);
        let mtime = self.options.clamp.map_or_else(|| mtime(stat), |clamp| clamp.apply(stat));
        self.add_as(
            handle,
            stat,
            name,
            &Attributes { mode: stat.st_mode & 0o7777, owner, mtime, plain: false },
        )
    }

    /// As [`add`](Self::add), with attributes that it is given.
    pub(super) fn add_as(
        &mut self,
        handle: &OwnedFd,
        stat: &Stat,
        name: &[u8],
        attributes: &Attributes,
    ) -> io::Result<bool> {
        let kind = match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => EntryKind::File,
            FileType::Directory => EntryKind::Directory,
            FileType::Symlink => EntryKind::Symlink,
            FileType::CharacterDevice => EntryKind::CharDevice,
            FileType::BlockDevice => EntryKind::BlockDevice,
            FileType::Fifo => EntryKind::Fifo,
            // A socket is its process's; archives know none.
            _ => return Ok(false),
        };
        let mut entry = std::mem::take(&mut self.entry);
        entry.path.clear();
        entry.path.extend_from_slice(name);
        entry.kind = kind;
        entry.link.clear();
        entry.mode = attributes.mode;
        (entry.uid, entry.gid) = attributes.owner;
        entry.mtime = attributes.mtime;
        (entry.size, entry.sparse, entry.device) = (0, None, (0, 0));
        entry.xattrs.clear();
        let result = self.fill(handle, stat, &mut entry, attributes.plain);
        self.entry = entry;
        result.map(|()| kind == EntryKind::Directory)
    }

    /// Adds a directory that is nowhere.
    pub(super) fn directory(&mut self, name: &[u8], attributes: &Attributes) -> io::Result<()> {
        let Attributes { mode, owner: (uid, gid), mtime, .. } = *attributes;
        let kind = EntryKind::Directory;
        self.writer.entry(&Entry { path: name.to_vec(), kind, mode, uid, gid, mtime, ..Entry::default() })
    }

    /// Adds a file of this content.
    pub(super) fn text(&mut self, name: &[u8], content: &[u8], attributes: &Attributes) -> io::Result<()> {
        let Attributes { mode, owner: (uid, gid), mtime, .. } = *attributes;
        let (path, size) = (name.to_vec(), content.len() as u64);
        self.writer.entry(&Entry { path, mode, uid, gid, mtime, size, ..Entry::default() })?;
        self.writer.data(content)
    }

    fn fill(&mut self, handle: &OwnedFd, stat: &Stat, entry: &mut Entry, plain: bool) -> io::Result<()> {
        // Which names of a directory of this host are of one file is the host's affair, too.
        if entry.kind != EntryKind::Directory && stat.st_nlink > 1 && !plain {
            match self.links.entry((stat.st_dev, stat.st_ino)) {
                std::collections::hash_map::Entry::Occupied(first) => {
                    entry.kind = EntryKind::HardLink;
                    entry.link.extend_from_slice(first.get());
                    return self.writer.entry(entry);
                }
                std::collections::hash_map::Entry::Vacant(slot) => drop(slot.insert(entry.path[..].into())),
            }
        }
        match entry.kind {
            EntryKind::Symlink => {
                entry.link = rustix::fs::readlinkat(handle, c"", Vec::new())?.into_bytes();
            }
            EntryKind::CharDevice | EntryKind::BlockDevice => {
                entry.device = (rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev));
            }
            EntryKind::File | EntryKind::Directory => {
                entry.xattrs = xattrs(handle)?;
                if plain {
                    entry.xattrs.retain(|xattr| xattr.name == CAPABILITY);
                }
            }
            _ => {}
        }
        if entry.kind != EntryKind::File {
            return self.writer.entry(entry);
        }
        entry.size = u64::try_from(stat.st_size).unwrap_or(0);
        // The inode looked at, whatever the name leads to by now; it is a regular file, so opening it does nothing.
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let file = rustix::fs::open(format!("/proc/self/fd/{}", handle.as_raw_fd()), flags, Mode::empty())?;
        let holes = stat.st_blocks.unsigned_abs().saturating_mul(512) < entry.size;
        if holes && self.options.sparse {
            entry.sparse = segments(&file, entry.size);
        }
        self.writer.entry(entry)?;
        let expected = self.expected.take();
        self.hasher = expected.as_ref().map(|digest| DigestHasher::new(digest.algorithm()));
        match &entry.sparse {
            None => self.content(&file, 0, entry.size)?,
            Some(map) => map.iter().try_for_each(|part| self.content(&file, part.offset, part.length))?,
        }
        let (Some(expected), Some(hasher)) = (expected, self.hasher.take()) else { return Ok(()) };
        let capability = entry.xattrs.iter().find(|xattr| xattr.name == CAPABILITY);
        if digest_with(hasher.finish(), capability.map(|xattr| &*xattr.value)) == expected {
            return Ok(());
        }
        Err(io::Error::new(io::ErrorKind::InvalidData, "it changed while it was copied: do that once more"))
    }

    /// Copies `length` bytes from `offset` on. A file that has become shorter is filled up with zeros: its size is said.
    fn content(&mut self, file: &OwnedFd, mut offset: u64, length: u64) -> io::Result<()> {
        let end = offset + length;
        while offset < end {
            let wanted = usize::try_from(end - offset).unwrap_or(BUFFER).min(BUFFER);
            let count = match rustix::io::pread(file, &mut self.buffer[..wanted], offset) {
                Ok(0) => {
                    self.buffer[..wanted].fill(0);
                    wanted
                }
                Ok(count) => count,
                Err(Errno::INTR) => continue,
                Err(errno) => return Err(errno.into()),
            };
            if let Some(hasher) = &mut self.hasher {
                hasher.update(&self.buffer[..count]);
            }
            self.writer.data(&self.buffer[..count])?;
            offset += count as u64;
        }
        Ok(())
    }
}

/// The file capabilities of a regular file, if it has any (capabilities(7)).
pub(super) fn capability(handle: &OwnedFd) -> io::Result<Option<Vec<u8>>> {
    let path = format!("/proc/self/fd/{}", handle.as_raw_fd());
    let mut value = vec![0; 64];
    match rustix::fs::getxattr(&path, CAPABILITY, &mut value[..]) {
        Ok(length) => {
            value.truncate(length);
            Ok(Some(value))
        }
        Err(Errno::NODATA | Errno::NOTSUP) => Ok(None),
        Err(errno) => Err(errno.into()),
    }
}

/// The digest of a file: that of its content alone, unless it has capabilities.
pub(super) fn digest_with(content: Digest, capability: Option<&[u8]>) -> Digest {
    let Some(capability) = capability else { return content };
    let mut hasher = DigestHasher::new(content.algorithm());
    hasher.update(content.to_string().as_bytes());
    hasher.update(capability);
    hasher.finish()
}

/// When it was modified.
pub(super) fn modified(stat: &Stat) -> SystemTime {
    let nanos = Duration::from_nanos(stat.st_mtime_nsec);
    let whole = Duration::from_secs(stat.st_mtime.unsigned_abs());
    if stat.st_mtime < 0 { UNIX_EPOCH - whole + nanos } else { UNIX_EPOCH + whole + nanos }
}

/// A time in whole seconds.
pub(super) fn timestamp(time: SystemTime) -> Timestamp {
    let seconds = match time.duration_since(UNIX_EPOCH) {
        Ok(since) => i64::try_from(since.as_secs()).unwrap_or(i64::MAX),
        Err(before) => i64::try_from(before.duration().as_secs()).map_or(i64::MIN, |seconds| -seconds),
    };
    Timestamp { seconds, nanoseconds: 0 }
}

pub(in crate::linux) fn mtime(stat: &Stat) -> Timestamp {
    Timestamp { seconds: stat.st_mtime, nanoseconds: u32::try_from(stat.st_mtime_nsec).unwrap_or(0) }
}

/// Where a file has data. `None` if that does not pay, or the file system does not tell.
fn segments(file: &OwnedFd, size: u64) -> Option<Vec<Segment>> {
    let (mut map, mut at) = (Vec::new(), 0);
    while at < size {
        let start = match rustix::fs::seek(file, SeekFrom::Data(at)) {
            Ok(start) => start.min(size),
            Err(Errno::NXIO) => break,
            Err(_) => return None,
        };
        let end = rustix::fs::seek(file, SeekFrom::Hole(start)).ok()?.min(size);
        if end > start {
            map.push(Segment { offset: start, length: end - start });
        }
        if map.len() > MAX_SEGMENTS || end <= at {
            return None;
        }
        at = end;
    }
    Some(map)
}

/// The extended attributes that mean something elsewhere. Those of overlayfs are how a layer is kept, not what it holds.
pub(in crate::linux) fn xattrs(handle: &OwnedFd) -> io::Result<Vec<Xattr>> {
    let path = format!("/proc/self/fd/{}", handle.as_raw_fd());
    let mut list = vec![0; 1 << 10];
    let length = loop {
        match rustix::fs::listxattr(&path, &mut list[..]) {
            Ok(0) | Err(Errno::NOTSUP) => return Ok(Vec::new()),
            Ok(length) => break length,
            Err(Errno::RANGE) if list.len() < 1 << 16 => list.resize(1 << 16, 0),
            Err(errno) => return Err(errno.into()),
        }
    };
    let mut found = Vec::new();
    for name in list[..length].split(|byte| *byte == 0).filter(|name| is_kept(name)) {
        let mut value = vec![0; 1 << 16];
        match rustix::fs::getxattr(&path, name, &mut value[..]) {
            Ok(length) => {
                value.truncate(length);
                found.push(Xattr { name: name.to_vec(), value });
            }
            Err(Errno::NODATA | Errno::NOTSUP) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    found.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    Ok(found)
}

fn is_kept(name: &[u8]) -> bool {
    if name.starts_with(b"trusted.overlay.") || name.starts_with(b"user.overlay.") {
        return false;
    }
    matches!(name, b"security.capability" | b"system.posix_acl_access" | b"system.posix_acl_default")
        || name.starts_with(b"user.")
        || name.starts_with(b"trusted.")
}
