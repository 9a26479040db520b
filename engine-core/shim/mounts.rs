//! Mounts: made detached by the shim (host side), attached by the container's first process.
//!
//! `Mounts::prepare` runs in the shim, with host paths and host privileges, and leaves one descriptor per mount.
//! `Mounts::attach` runs in the new mount namespace and moves them onto targets opened beneath the root.
//! Nothing is mounted by path, so a link in an image cannot move a mount (SECURITY A1, A3, A4).

use core::ffi::CStr;

use crate::copy_up;
use crate::plan::{EntryStep, MAX_MOUNTS, MountStep, PRIVATE_FILES, Plan, mount, option, tag};
use crate::root::{self, Make};
use crate::sys::{self, Fd};
use crate::{Failure, fail, wire::step};

const ATTR_RDONLY: u64 = 1;
const ATTR_NOSUID: u64 = 2;
const ATTR_NODEV: u64 = 4;
const ATTR_NOEXEC: u64 = 8;
const ATTR_IDMAP: u64 = 0x10_0000;
const PROC_SUPER_MAGIC: u64 = 0x9fa0;

/// The descriptors of prepared mounts.
pub(crate) struct Mounts {
    slots: [Fd; MAX_MOUNTS],
    files: Fd,
    /// File systems attached only to take a part of them: as many unmounts after the pivot.
    stacked: usize,
    /// The container's devpts, -1 without one. The shim keeps it for the terminals of execs.
    pub(crate) devpts: Fd,
}

impl Mounts {
    pub(crate) const fn new() -> Self {
        Mounts { slots: [-1; MAX_MOUNTS], files: -1, stacked: 0, devpts: -1 }
    }

    /// Makes every mount that the host's side makes, and fills our tmpfs mounts.
    pub(crate) fn prepare(&mut self, plan: &Plan<'_>, userns: Fd) -> Result<(), Failure> {
        for (index, wanted) in plan.mounts().enumerate() {
            if self.slots[index] >= 0 {
                // Kept from the last run.
                continue;
            }
            let made = match wanted.kind {
                mount::FILESYSTEM if wanted.flags & mount::IDMAP != 0 => {
                    mapped_overlay(plan, &wanted, userns)
                }
                mount::FILESYSTEM if wanted.flags & mount::IN_CONTAINER == 0 => filesystem(&wanted),
                mount::BIND => bind(&wanted, userns),
                _ => continue,
            };
            self.slots[index] = made.map_err(fail(step::MOUNT_SOURCE, index))?;
            if wanted.flags & mount::DEVPTS != 0 {
                self.devpts = self.slots[index];
                if let Some((uid, gid)) = plan.first(tag::OWNER).and_then(|record| record.two_numbers()) {
                    sys::fchownat(self.devpts, c"ptmx", uid, gid).map_err(fail(step::MOUNT_SOURCE, index))?;
                }
            }
        }
        for (index, record) in plan.all(tag::ENTRY).enumerate() {
            if let Some(entry) = record.entry() {
                self.entry(&entry).map_err(fail(step::ENTRY, index))?;
            }
        }
        for (index, wanted) in plan.mounts().enumerate() {
            if wanted.flags & (mount::SEAL | mount::COPY_UP) == mount::SEAL {
                let sealed = sys::mount_setattr(self.slots[index], false, ATTR_RDONLY, 0, -1);
                sealed.map_err(fail(step::MOUNT_SOURCE, index))?;
            }
        }
        Ok(())
    }

    /// Lets go of what the first process has its own copies of. The terminals' filesystem stays, and so does the root:
    /// the last user of an overlay waits until its upper filesystem is synced, which is not to delay the exit's news.
    pub(crate) fn close(&mut self) {
        for slot in &mut self.slots[1..] {
            if *slot >= 0 && *slot != self.devpts {
                sys::close(*slot);
            }
            *slot = -1;
        }
        sys::close(self.files);
        self.files = -1;
    }

    /// Clones what the next run gets of this one, inside the mount namespace `theirs`, where open_tree(2) allows it: the
    /// root, and what was cloned from another container, whose process may be gone and its id another's.
    pub(crate) fn keep(&mut self, plan: &Plan<'_>, theirs: Fd) -> Result<(), Failure> {
        sys::close(self.devpts);
        self.devpts = -1;
        let root = self.slots[0];
        self.slots = [-1; MAX_MOUNTS];
        inside(theirs, || {
            for (index, wanted) in plan.mounts().enumerate() {
                let wrong = fail(step::MOUNT_SOURCE, index);
                if index == 0 {
                    let kept = sys::open_tree(root, c"", sys::AT_EMPTY_PATH).map_err(wrong)?;
                    self.slots[0] = kept;
                    if wanted.attributes & ATTR_RDONLY == 0 {
                        sys::mount_clear(kept, ATTR_RDONLY).map_err(wrong)?;
                    }
                } else if wanted.kind == mount::BIND && of_another(wanted.source).is_some() {
                    let tree = if wanted.flags & mount::RECURSIVE != 0 { sys::AT_RECURSIVE } else { 0 };
                    self.slots[index] = sys::open_tree(sys::AT_FDCWD, wanted.target, tree).map_err(wrong)?;
                }
            }
            Ok(())
        })
        .unwrap_or_else(|errno| Err(fail(step::MOUNT_SOURCE, 0)(errno)))?;
        sys::close(root);
        Ok(())
    }

    fn entry(&mut self, entry: &EntryStep<'_>) -> sys::Result<()> {
        let fd = if entry.mount == PRIVATE_FILES {
            if self.files < 0 {
                self.files = private_tmpfs()?;
            }
            self.files
        } else {
            *self.slots.get(entry.mount as usize).filter(|fd| **fd >= 0).ok_or(sys::EINVAL)?
        };
        let permissions = entry.mode & !sys::S_IFMT;
        match entry.mode & sys::S_IFMT {
            sys::S_IFDIR => sys::mkdirat(fd, entry.path, permissions)?,
            sys::S_IFLNK => {
                let target = CStr::from_bytes_with_nul(entry.data).map_err(|_| sys::EINVAL)?;
                sys::symlinkat(target, fd, entry.path)?;
            }
            sys::S_IFREG => {
                let file = sys::openat(
                    fd,
                    entry.path,
                    sys::O_WRONLY | sys::O_CREAT | sys::O_EXCL | sys::O_NOFOLLOW,
                    permissions,
                )?;
                let written = sys::write_all(file, entry.data);
                sys::close(file);
                written?;
            }
            _ => sys::mknodat(fd, entry.path, entry.mode, entry.device)?,
        }
        if entry.uid != 0 || entry.gid != 0 {
            sys::fchownat(fd, entry.path, entry.uid, entry.gid)?;
        }
        if permissions & 0o7000 != 0 && entry.mode & sys::S_IFMT != sys::S_IFLNK {
            sys::fchmodat(fd, entry.path, permissions)?;
        }
        Ok(())
    }

    /// Attaches everything in the new mount namespace and makes it the process's root.
    pub(crate) fn attach(&mut self, plan: &Plan<'_>, console: Fd) -> Result<(), Failure> {
        let (_, options) = plan.config();
        // MS_REC | MS_SLAVE: nothing of ours reaches the host, unmounts of the host still reach us until the pivot.
        sys::propagate_root(0x4000 | 0x8_0000).map_err(fail(step::PROPAGATION, 0))?;
        if self.files >= 0 {
            // Attached (and lost under the root that comes next), because open_tree clones only what is attached.
            sys::move_mount_root(self.files).map_err(fail(step::MOUNT_ATTACH, 0))?;
        }
        for (index, wanted) in plan.mounts().enumerate() {
            if wanted.kind == mount::FILESYSTEM && !wanted.subpath.is_empty() {
                self.take_part(index, &wanted).map_err(fail(step::MOUNT_SOURCE, index))?;
            }
        }
        let mut root = -1;
        for (index, wanted) in plan.mounts().enumerate() {
            let attach = fail(step::MOUNT_ATTACH, index);
            if index == 0 {
                root = self.slots[0];
                sys::move_mount_root(root).map_err(attach)?;
                continue;
            }
            let slot = match self.source(index, &wanted, console) {
                Err(sys::ENODEV) if wanted.flags & mount::OPTIONAL != 0 => continue,
                slot => slot.map_err(fail(step::MOUNT_SOURCE, index))?,
            };
            let target = target(root, &wanted, slot).map_err(fail(step::MOUNT_TARGET, index))?;
            if wanted.flags & mount::COPY_UP != 0 {
                copy_up::directory(target, slot).map_err(fail(step::MOUNT_SOURCE, index))?;
            }
            sys::move_mount(slot, target).map_err(attach)?;
            if wanted.flags & (mount::SEAL | mount::COPY_UP) == mount::SEAL | mount::COPY_UP {
                sys::mount_setattr(slot, false, ATTR_RDONLY, 0, -1).map_err(attach)?;
            }
            sys::close(target);
            if slot != self.devpts {
                sys::close(slot);
            }
        }
        self.protect(plan, root)?;
        if options & option::CREATE_CWD != 0
            && let Some(cwd) = plan.first(tag::CWD).and_then(|record| record.text())
        {
            let made = root::open(root, cwd, Make::Directory, false).map_err(fail(step::CREATE_CWD, 0))?;
            sys::close(made);
        }
        if options & option::READONLY_ROOT != 0 {
            sys::mount_setattr(root, false, ATTR_RDONLY, 0, -1).map_err(fail(step::READONLY_ROOT, 0))?;
        }
        let pivot = fail(step::PIVOT, 0);
        sys::fchdir(root).map_err(pivot)?;
        sys::pivot_root_here().map_err(pivot)?;
        // On top of the new root now lies the old one, and on that one what was attached there: the files' filesystem.
        // An unmount takes only the topmost (SECURITY A3: a process that enters the namespace begins at the topmost).
        for _ in 0..self.stacked + usize::from(self.files >= 0) {
            sys::detach(c".").map_err(pivot)?;
        }
        sys::detach(c".").map_err(pivot)?;
        sys::chdir(c"/").map_err(pivot)
    }

    /// Replaces file system `index` by the part of it that is wanted. Before Linux 6.15, open_tree(2) clones only what
    /// is attached: so it is, where the files are, and goes with them.
    fn take_part(&mut self, index: usize, wanted: &MountStep<'_>) -> sys::Result<()> {
        let slot = self.slots.get_mut(index).ok_or(sys::EINVAL)?;
        sys::move_mount_root(*slot)?;
        self.stacked += 1;
        let part = part(*slot, wanted.subpath, 0)?;
        sys::close(*slot);
        *slot = part;
        Ok(())
    }

    /// The descriptor to attach for mount `index`: prepared, or made now inside the container's namespaces.
    fn source(&self, index: usize, wanted: &MountStep<'_>, console: Fd) -> sys::Result<Fd> {
        match wanted.kind {
            mount::FILESYSTEM if wanted.flags & mount::IN_CONTAINER != 0 => filesystem(wanted),
            mount::FILE => {
                let clone = sys::open_tree(self.files, wanted.source, sys::AT_SYMLINK_NOFOLLOW)?;
                attributes(clone, wanted, -1)?;
                Ok(clone)
            }
            mount::CONSOLE => sys::open_tree(console, c"", sys::AT_EMPTY_PATH),
            _ => Ok(self.slots[index]),
        }
    }

    /// Masks and read-only paths, from inodes opened before the root could be used (SECURITY A3).
    fn protect(&self, plan: &Plan<'_>, root: Fd) -> Result<(), Failure> {
        let (mut null, mut empty) = (-1, -1);
        for (index, record) in plan.all(tag::MASK).enumerate() {
            if let Some(path) = record.text() {
                mask(root, path, &mut null, &mut empty).map_err(fail(step::MASK, index))?;
            }
        }
        for (index, record) in plan.all(tag::READONLY).enumerate() {
            if let Some(path) = record.text() {
                read_only(root, path).map_err(fail(step::READONLY, index))?;
            }
        }
        Ok(())
    }
}

/// Makes a filesystem and a detached mount of it.
fn filesystem(wanted: &MountStep<'_>) -> sys::Result<Fd> {
    let context = sys::fsopen(wanted.fstype)?;
    let made = configure(context, wanted).and_then(|()| sys::fsmount(context, wanted.attributes));
    sys::close(context);
    let fd = made?;
    if wanted.propagation != 0 {
        sys::mount_setattr(fd, false, 0, wanted.propagation, -1)?;
    }
    Ok(fd)
}

fn configure(context: Fd, wanted: &MountStep<'_>) -> sys::Result<()> {
    if !wanted.source.is_empty() {
        sys::fsconfig(context, c"source", wanted.source)?;
    }
    for (key, value) in wanted.options() {
        sys::fsconfig(context, key, value)?;
    }
    sys::fscreate(context)
}

/// Most layers of an overlay, as the kernel has it (OVL_MAX_STACK).
const MAX_LAYERS: usize = 500;
/// PR_GET_SECUREBITS, PR_SET_SECUREBITS and SECBIT_NO_SETUID_FIXUP, see capabilities(7).
const SECUREBITS: (usize, usize, usize) = (27, 28, 4);

/// Makes an overlay of layers that are seen through the container's id maps, its writable one too: on disk, ids stay what
/// they are in the image. `base` is the directory that `upperdir` and `workdir` are names in, since overlayfs wants both
/// on one mount.
fn mapped_overlay(plan: &Plan<'_>, wanted: &MountStep<'_>, userns: Fd) -> sys::Result<Fd> {
    let context = sys::fsopen(wanted.fstype)?;
    // A detached mount goes with its descriptor: all stay open until the overlay has clones of its own.
    let mut open = [-1; MAX_LAYERS + 4];
    let made = mapped_layers(context, wanted, userns, &mut open)
        .and_then(|()| as_owner(plan, || sys::fscreate(context)))
        .and_then(|()| sys::fsmount(context, wanted.attributes));
    for fd in open {
        sys::close(fd);
    }
    sys::close(context);
    made
}

fn mapped_layers(
    context: Fd,
    wanted: &MountStep<'_>,
    userns: Fd,
    open: &mut [Fd; MAX_LAYERS + 4],
) -> sys::Result<()> {
    sys::fsconfig(context, c"source", wanted.source)?;
    let mut slots = open.iter_mut();
    let mut base = -1;
    for (key, value) in wanted.options() {
        let mut slot = || slots.next().ok_or(sys::EINVAL);
        match key.to_bytes() {
            b"base" => {
                base = mapped_clone(value, userns)?;
                *slot()? = base;
            }
            b"lowerdir+" => {
                let layer = mapped_clone(value, userns)?;
                *slot()? = layer;
                sys::fsconfig_fd(context, key, layer)?;
            }
            b"upperdir" | b"workdir" => {
                let layer = sys::openat(base, value, sys::O_RDONLY | sys::O_DIRECTORY | sys::O_NOFOLLOW, 0)?;
                *slot()? = layer;
                sys::fsconfig_fd(context, key, layer)?;
            }
            _ => sys::fsconfig(context, key, value)?,
        }
    }
    Ok(())
}

/// A detached clone of a directory, seen through the id maps of `userns`.
fn mapped_clone(path: &CStr, userns: Fd) -> sys::Result<Fd> {
    let clone = sys::open_tree(sys::AT_FDCWD, path, 0)?;
    match sys::mount_setattr(clone, false, ATTR_IDMAP, 0, userns) {
        Ok(()) => Ok(clone),
        Err(error) => {
            sys::close(clone);
            Err(error)
        }
    }
}

/// Does `work` with the file system ids of the container's root and the capabilities of ours. What an overlay makes for
/// itself (whiteouts, its work directory) belongs to whoever mounted it, and the id maps know nobody else.
fn as_owner<T>(plan: &Plan<'_>, work: impl FnOnce() -> sys::Result<T>) -> sys::Result<T> {
    let Some((uid, gid)) = plan.first(tag::OWNER).and_then(|record| record.two_numbers()) else {
        return work();
    };
    let (get, set, keep) = SECUREBITS;
    let bits = sys::prctl(get, 0, 0)?;
    sys::prctl(set, bits | keep, 0)?;
    sys::set_filesystem_ids(uid, gid);
    let done = work();
    sys::set_filesystem_ids(0, 0);
    sys::prctl(set, bits, 0)?;
    // A change of these ids makes a process as dumpable as fs.suid_dumpable says.
    sys::prctl(crate::PR_SET_DUMPABLE, 0, 0)?;
    done
}

/// Clones a host path as a detached mount.
fn bind(wanted: &MountStep<'_>, userns: Fd) -> sys::Result<Fd> {
    let recursive = if wanted.flags & mount::RECURSIVE != 0 { sys::AT_RECURSIVE } else { 0 };
    let fd = match of_another(wanted.source) {
        Some((pid, path)) => clone_of_another(pid, path, recursive)?,
        None if wanted.subpath.is_empty() => sys::open_tree(sys::AT_FDCWD, wanted.source, recursive)?,
        None => {
            let whole = sys::openat(sys::AT_FDCWD, wanted.source, sys::O_PATH | sys::O_DIRECTORY, 0)?;
            let part = part(whole, wanted.subpath, recursive);
            sys::close(whole);
            part?
        }
    };
    attributes(fd, wanted, userns)?;
    Ok(fd)
}

/// Clones the part `subpath` of `whole`. Links on the way lead nowhere but beneath it, and whoever swaps them
/// meanwhile gets an error: the descriptor that is looked up is the one that is cloned (SECURITY A1, A9).
fn part(whole: Fd, subpath: &CStr, recursive: usize) -> sys::Result<Fd> {
    let resolve = sys::RESOLVE_BENEATH | sys::RESOLVE_NO_MAGICLINKS;
    let fd = sys::openat2(whole, subpath, sys::O_PATH, resolve)?;
    let clone = sys::open_tree(fd, c"", sys::AT_EMPTY_PATH | recursive);
    sys::close(fd);
    clone
}

/// Splits `/proc/PID/root/path`, which is in another mount namespace, into `PID` and `/path`.
fn of_another(source: &CStr) -> Option<(&[u8], &CStr)> {
    let rest = source.to_bytes_with_nul().strip_prefix(b"/proc/")?;
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let path = rest[digits..].strip_prefix(b"/root")?;
    let is_path = digits > 0 && path.first() == Some(&b'/');
    CStr::from_bytes_with_nul(path).ok().filter(|_| is_path).map(|path| (&rest[..digits], path))
}

/// CLONE_NEWNS, see setns(2).
const NEW_MOUNT_NAMESPACE: u64 = 0x2_0000;

/// Clones a mount of another container: inside its namespace, since open_tree(2) clones no mount of a foreign one, and
/// since there its links lead nowhere but into its own root.
fn clone_of_another(pid: &[u8], path: &CStr, recursive: usize) -> sys::Result<Fd> {
    let mut text = [0_u8; 32];
    let mut end = 0;
    for part in [&b"/proc/"[..], pid, b"/ns/mnt"] {
        text.get_mut(end..end + part.len()).ok_or(sys::ENAMETOOLONG)?.copy_from_slice(part);
        end += part.len();
    }
    let theirs = CStr::from_bytes_until_nul(&text).map_err(|_| sys::ENAMETOOLONG)?;
    let theirs = sys::openat(sys::AT_FDCWD, theirs, 0, 0)?;
    let fd = inside(theirs, || sys::open_tree(sys::AT_FDCWD, path, recursive));
    sys::close(theirs);
    fd?
}

/// Does something inside the mount namespace `theirs`.
fn inside<T>(theirs: Fd, work: impl FnOnce() -> T) -> sys::Result<T> {
    let own = sys::openat(sys::AT_FDCWD, c"/proc/self/ns/mnt", 0, 0)?;
    let entered = sys::setns(theirs, NEW_MOUNT_NAMESPACE);
    let done = entered.map(|()| work());
    // Back, or nothing: what comes next is for our own namespace.
    sys::setns(own, NEW_MOUNT_NAMESPACE)?;
    sys::close(own);
    done
}

fn attributes(fd: Fd, wanted: &MountStep<'_>, userns: Fd) -> sys::Result<()> {
    if wanted.propagation != 0 {
        // Propagation goes for the whole clone, as mount(8) does for r-prefixed kinds.
        sys::mount_setattr(fd, wanted.flags & mount::RECURSIVE != 0, 0, wanted.propagation, -1)?;
    }
    let idmap = if wanted.flags & mount::IDMAP != 0 { ATTR_IDMAP } else { 0 };
    if wanted.attributes | idmap != 0 {
        let recursive = wanted.flags & mount::RECURSIVE_ATTRIBUTES != 0;
        sys::mount_setattr(fd, recursive, wanted.attributes | idmap, 0, userns)?;
    }
    Ok(())
}

fn private_tmpfs() -> sys::Result<Fd> {
    let context = sys::fsopen(c"tmpfs")?;
    let made = sys::fsconfig(context, c"mode", c"0755")
        .and_then(|()| sys::fsconfig(context, c"size", c"4m"))
        .and_then(|()| sys::fscreate(context))
        // Whether a file of it can be executed is said for each: a clone keeps what is forbidden here.
        .and_then(|()| sys::fsmount(context, ATTR_NOSUID | ATTR_NODEV));
    sys::close(context);
    made
}

/// Opens the target of a mount, making a directory for a directory and a file for anything else.
fn target(root: Fd, wanted: &MountStep<'_>, slot: Fd) -> sys::Result<Fd> {
    let directory = u32::from(sys::fstat(slot)?.mode) & sys::S_IFMT == sys::S_IFDIR;
    let make = if directory { Make::Directory } else { Make::File };
    root::open(root, wanted.target, make, wanted.flags & mount::REAL_TARGET != 0)
}

/// Covers `path`: a directory by an empty read-only tmpfs, anything else by the host's null device.
fn mask(root: Fd, path: &CStr, null: &mut Fd, empty: &mut Fd) -> sys::Result<()> {
    let target = match root::open(root, path, Make::Nothing, false) {
        Err(sys::ENOENT | sys::ENOTDIR) => return Ok(()),
        target => target?,
    };
    let cover = if u32::from(sys::fstat(target)?.mode) & sys::S_IFMT == sys::S_IFDIR {
        empty_directory(empty)
    } else {
        null_device(null)
    };
    let cover = cover?;
    sys::move_mount(cover, target)?;
    sys::close(target);
    if cover != *empty {
        sys::close(cover);
    }
    Ok(())
}

/// The first call makes a tmpfs, later ones clone it where the first was attached.
fn empty_directory(empty: &mut Fd) -> sys::Result<Fd> {
    if *empty >= 0 {
        return sys::open_tree(*empty, c"", sys::AT_EMPTY_PATH);
    }
    let context = sys::fsopen(c"tmpfs")?;
    sys::fsconfig(context, c"size", c"4k")?;
    sys::fsconfig(context, c"nr_inodes", c"1")?;
    sys::fsconfig(context, c"mode", c"0555")?;
    sys::fscreate(context)?;
    *empty = sys::fsmount(context, ATTR_RDONLY | ATTR_NOSUID | ATTR_NODEV | ATTR_NOEXEC)?;
    sys::close(context);
    Ok(*empty)
}

/// A clone of the host's /dev/null, seen through the root we are about to leave.
fn null_device(null: &mut Fd) -> sys::Result<Fd> {
    if *null < 0 {
        let fd = sys::openat(sys::AT_FDCWD, c"/dev/null", sys::O_PATH | sys::O_NOFOLLOW, 0)?;
        let stat = sys::fstat(fd)?;
        if u32::from(stat.mode) & sys::S_IFMT != sys::S_IFCHR || stat.rdev != (1, 3) {
            return Err(sys::ENODEV);
        }
        *null = fd;
    }
    sys::open_tree(*null, c"", sys::AT_EMPTY_PATH)
}

fn read_only(root: Fd, path: &CStr) -> sys::Result<()> {
    let target = match root::open(root, path, Make::Nothing, false) {
        Err(sys::ENOENT | sys::ENOTDIR) => return Ok(()),
        target => target?,
    };
    let clone = sys::open_tree(target, c"", sys::AT_EMPTY_PATH | sys::AT_RECURSIVE)?;
    sys::mount_setattr(clone, true, ATTR_RDONLY, 0, -1)?;
    sys::move_mount(clone, target)?;
    sys::close(clone);
    sys::close(target);
    Ok(())
}

/// A procfs of our own that no image can have prepared (SECURITY A2).
pub(crate) fn procfs() -> sys::Result<Fd> {
    let context = sys::fsopen(c"proc")?;
    let made =
        sys::fscreate(context).and_then(|()| sys::fsmount(context, ATTR_NOSUID | ATTR_NODEV | ATTR_NOEXEC));
    sys::close(context);
    let fd = made?;
    if sys::fstatfs(fd)? != PROC_SUPER_MAGIC {
        return Err(sys::EINVAL);
    }
    Ok(fd)
}

/// Writes `value` to `path` of our own procfs.
pub(crate) fn write_proc(procfs: Fd, path: &CStr, value: &[u8]) -> sys::Result<()> {
    let resolve = sys::RESOLVE_BENEATH | sys::RESOLVE_NO_MAGICLINKS | sys::RESOLVE_NO_XDEV;
    let file = sys::openat2(procfs, path, sys::O_WRONLY, resolve)?;
    let written = sys::write_all(file, value);
    sys::close(file);
    written
}
