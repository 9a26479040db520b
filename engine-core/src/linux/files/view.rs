//! The root of a container's or a volume's file system, by descriptor.
//!
//! A running container's is taken out of its own mount namespace, by a thread that enters it for nothing else. One that
//! does not run is mounted, on the calling thread, in a mount namespace that only this thread ever sees: it is gone with
//! the thread, however that ends, and the host's mount table never had it.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use nix::sched::{CloneFlags, setns, unshare};
use rustix::fs::{CWD, FlockOperation, Mode, OFlags};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MountPropagationFlags, MoveMountFlags,
    OpenTreeFlags,
};

use crate::error::{Error, ErrorKind, Result};
use crate::files::{FilesScope, FilesSpec};
use crate::linux::files::ids::Ids;
use crate::linux::rootfd::RootFd;
use crate::linux::shim::{ShimState, StateStatus};
use crate::mount::{Mount, MountKind, MountOptions};

const OPERATION: &str = "open container's files";

/// How to open the view of one container.
#[derive(Debug)]
pub(in crate::linux) struct Viewer {
    /// The container's directory: its state file lies there, and what is mounted is mounted on it.
    dir: PathBuf,
    /// Without it, the directory itself is the root, as a volume's is.
    spec: Option<FilesSpec>,
}

/// An open root. It must stay on the thread that opened it.
#[derive(Debug)]
pub(in crate::linux) struct View {
    root: RootFd,
    /// How owners are numbered there, if otherwise than here.
    ids: Option<Ids>,
    /// The namespace that holds the mounts beneath the root, or the lock that keeps a start away.
    _held: Option<OwnedFd>,
}

impl View {
    pub(in crate::linux) fn root(&self) -> &RootFd {
        &self.root
    }

    /// The maps of the container's user namespace, if owners are to be translated.
    pub(in crate::linux) fn ids(&self) -> Option<&Ids> {
        self.ids.as_ref()
    }
}

/// Takes the lock of a container's writable layer: shared to start it, exclusive to mount it here.
pub(in crate::linux) fn lock(dir: &Path, operation: FlockOperation) -> io::Result<OwnedFd> {
    let file = File::open(dir)?;
    loop {
        match rustix::fs::flock(&file, operation) {
            Ok(()) => return Ok(file.into()),
            Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}

impl Viewer {
    pub(in crate::linux) fn new(dir: PathBuf, spec: FilesSpec) -> Self {
        Self { dir, spec: Some(spec) }
    }

    /// The view of a directory that is a root by itself.
    pub(in crate::linux) fn of_directory(dir: PathBuf) -> Self {
        Self { dir, spec: None }
    }

    /// A directory beside the container's, which nothing is mounted on.
    pub(in crate::linux) fn scratch(&self) -> io::Result<OwnedFd> {
        Ok(File::open(self.dir.parent().unwrap_or(Path::new("/")))?.into())
    }

    /// Opens the root. The calling thread may get a mount namespace of its own by it, and must end with the view.
    pub(in crate::linux) fn open(&self) -> Result<View> {
        let fail = |e: io::Error| Error::from_io(OPERATION, e).with("path", self.dir.display());
        let Some(spec) = &self.spec else {
            return Ok(View { root: RootFd::open(&self.dir).map_err(fail)?, ids: None, _held: None });
        };
        if let Some(view) = self.running(false, spec.scope)? {
            return Ok(view);
        }
        // A container's own writable layer is mounted once at a time. What only reads the root needs no lock: it
        // mounts the layers read-only.
        let held = match spec.scope {
            FilesScope::Everything => match lock(&self.dir, FlockOperation::LockExclusive) {
                Err(e) if e.kind() == io::ErrorKind::NotFound => {
                    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.dir).map_err(fail)?;
                    Some(lock(&self.dir, FlockOperation::LockExclusive).map_err(fail)?)
                }
                held => Some(held.map_err(fail)?),
            },
            FilesScope::Root => None,
        };
        // It may have been started while this waited.
        if held.is_some() {
            if let Some(view) = self.running(true, spec.scope)? {
                return Ok(view);
            }
            // Between two runs, its shim may mount the writable layer at any moment.
            if ShimState::read(&self.dir)?.is_some_and(|state| state.is_alive()) {
                return Err(Error::new(ErrorKind::Conflict, OPERATION)
                    .with("path", self.dir.display())
                    .with_message("the container is between two runs")
                    .with_hint("try again, or stop it"));
            }
        }
        let root = self.assemble(spec).map_err(fail)?;
        Ok(View { root, ids: None, _held: held })
    }

    /// The root that a running container's processes see; with `created`, also that of one which waits to be started.
    /// Its root is in place only once nobody creates it any more, which the lock tells.
    fn running(&self, created: bool, scope: FilesScope) -> Result<Option<View>> {
        let fail = |e: io::Error| Error::from_io(OPERATION, e).with("path", self.dir.display());
        let Some(state) = ShimState::read(&self.dir)?.filter(ShimState::is_alive) else { return Ok(None) };
        if (state.status != StateStatus::Running && !created) || !state.init.is_alive() {
            return Ok(None);
        }
        let namespace = match File::open(format!("/proc/{}/ns/mnt", state.init.pid)) {
            Ok(file) => file,
            Err(e) if matches!(e.raw_os_error(), Some(nix::libc::ENOENT | nix::libc::ESRCH)) => {
                return Ok(None);
            }
            Err(e) => return Err(fail(e)),
        };
        let ids = Ids::of_process(state.init.pid);
        // Looked at again: the number may have become another process's before it was opened.
        if !state.init.is_alive() {
            return Ok(None);
        }
        let entered = std::thread::scope(|threads| {
            let thread = threads.spawn(|| enter(&namespace, scope));
            thread.join().unwrap_or_else(|_| Err(io::Error::other("the thread failed")))
        });
        let root = RootFd::from_fd(entered.map_err(fail)?).map_err(fail)?;
        // The namespace is kept: with it, what is mounted beneath the root stays where it is.
        Ok(Some(View { root, ids: ids.map_err(fail)?, _held: Some(namespace.into()) }))
    }

    /// Where the root is mounted. Of what has no directory yet, and only shows layers, the one above does: no other thread
    /// sees what is hidden by that.
    fn mount_point(&self) -> &Path {
        if self.dir.is_dir() { &self.dir } else { self.dir.parent().unwrap_or(Path::new("/")) }
    }

    /// Mounts what the specification describes, in a namespace of this thread.
    fn assemble(&self, spec: &FilesSpec) -> io::Result<RootFd> {
        unshare(CloneFlags::CLONE_NEWNS)?;
        // Nothing goes from here to the host; what the host unmounts is unmounted here too.
        rustix::mount::mount_change("/", MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC)?;
        let mut root = None;
        for mount in &spec.rootfs {
            match &root {
                None => {
                    let read_only = spec.scope == FilesScope::Root;
                    let fd = detached(mount, read_only)?.ok_or(io::ErrorKind::Unsupported)?;
                    attach(&fd, CWD, self.mount_point())?;
                    root = Some(RootFd::from_fd(fd)?);
                }
                Some(root) => add(root, mount)?,
            }
        }
        let root = root.ok_or_else(|| io::Error::other("there is no root file system"))?;
        if spec.scope == FilesScope::Root {
            restrict(&root, &MountOptions::default(), true)?;
            return Ok(root);
        }
        for mount in &spec.mounts {
            add(&root, mount)?;
        }
        let options = &spec.rootfs[0].options;
        restrict(&root, options, spec.read_only || options.read_only)?;
        Ok(root)
    }
}

/// Mounts one thing in the root, as a start would.
fn add(root: &RootFd, mount: &Mount) -> io::Result<()> {
    let Some(fd) = detached(mount, false)? else { return Ok(()) };
    let directory = rustix::fs::FileType::from_raw_mode(rustix::fs::fstat(&fd)?.st_mode)
        == rustix::fs::FileType::Directory;
    let mode = Mode::from_raw_mode(0o755);
    let target = if directory {
        root.mkdir_all(&mount.target, mode)?
    } else {
        root.create_file(&mount.target, mode, Mode::from_raw_mode(0o644))?
    };
    attach(&fd, &target, Path::new(""))?;
    let options = &mount.options;
    if options.read_only || options.recursive_read_only || options.nosuid || options.nodev || options.noexec {
        restrict(&fd, options, options.read_only || options.recursive_read_only)?;
    }
    Ok(())
}

/// Enters a mount namespace on a thread that ends with this, and opens its root.
fn enter(namespace: &File, scope: FilesScope) -> io::Result<OwnedFd> {
    unshare(CloneFlags::CLONE_FS)?;
    setns(namespace.as_fd(), CloneFlags::CLONE_NEWNS)?;
    Ok(match scope {
        FilesScope::Everything => {
            rustix::fs::open("/", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?
        }
        // A copy of the one mount, without what is mounted on it; no namespace has it.
        FilesScope::Root => rustix::mount::open_tree(
            CWD,
            "/",
            OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC,
        )?,
    })
}

/// Makes a mount that is attached nowhere. `None` for what has no content without a running container.
fn detached(mount: &Mount, read_only: bool) -> io::Result<Option<OwnedFd>> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    Ok(match &mount.kind {
        MountKind::Bind { source, recursive } => {
            // A bind mount without its source cannot be started either; its target is looked at all the same.
            let flags = if *recursive { flags | OpenTreeFlags::AT_RECURSIVE } else { flags };
            let cloned = match &mount.subpath {
                None => rustix::mount::open_tree(CWD, source, flags),
                Some(subpath) => part(source, subpath)
                    .and_then(|fd| rustix::mount::open_tree(&fd, c"", flags | OpenTreeFlags::AT_EMPTY_PATH)),
            };
            match cloned {
                Err(rustix::io::Errno::NOENT) if mount.target != Path::new("/") => None,
                fd => Some(fd?),
            }
        }
        // A part of an image can be cloned only once the image is attached, as a start does.
        MountKind::Overlay { .. } if mount.subpath.is_some() => None,
        MountKind::Overlay { lower, upper } => {
            let mut layers: Vec<&Path> = lower.iter().map(PathBuf::as_path).collect();
            let mut writable = None;
            match upper {
                Some(upper) if read_only => layers.insert(0, &upper.upper),
                Some(upper) => writable = Some(upper),
                None => {}
            }
            Some(overlay(&layers, writable.map(|upper| (&*upper.upper, &*upper.work)))?)
        }
        MountKind::Tmpfs { .. } | MountKind::Filesystem { .. } => None,
    })
}

/// A handle of a part of a directory. No link leads out of it (SECURITY A9).
fn part(source: &Path, subpath: &Path) -> rustix::io::Result<OwnedFd> {
    let whole = rustix::fs::open(source, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let resolve = rustix::fs::ResolveFlags::BENEATH | rustix::fs::ResolveFlags::NO_MAGICLINKS;
    rustix::fs::openat2(&whole, subpath, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), resolve)
}

/// Mounts an overlay of `layers`, topmost first, attached nowhere.
pub(in crate::linux) fn overlay(layers: &[&Path], writable: Option<(&Path, &Path)>) -> io::Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    if let ([one], None) = (layers, writable) {
        // Overlayfs wants two layers, or one and a writable one.
        return Ok(rustix::mount::open_tree(CWD, *one, flags)?);
    }
    let context = rustix::mount::fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
    // fsconfig(2) takes strings of at most 255 bytes: names of descriptors, and no real path.
    let mut held = Vec::with_capacity(layers.len());
    let mut set = |key: &str, path: &Path| -> io::Result<()> {
        let dir = rustix::fs::open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        rustix::mount::fsconfig_set_string(&context, key, format!("/proc/self/fd/{}", dir.as_raw_fd()))?;
        held.push(dir);
        Ok(())
    };
    for layer in layers {
        set("lowerdir+", layer)?;
    }
    if let Some((upper, work)) = writable {
        set("upperdir", upper)?;
        set("workdir", work)?;
        // What a mount without syncing left is none of a crash: no power was lost since, or it would not be asked for.
        match std::fs::remove_dir_all(work.join("work/incompat")) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
    } else {
        // The topmost layer may be the writable one of a container that runs.
        rustix::mount::fsconfig_set_string(&context, "index", "off")?;
    }
    rustix::mount::fsconfig_create(&context)?;
    Ok(rustix::mount::fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())?)
}

fn attach(mount: &OwnedFd, dir: impl std::os::fd::AsFd, path: &Path) -> io::Result<()> {
    let mut flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    if path.as_os_str().is_empty() {
        flags |= MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    }
    Ok(rustix::mount::move_mount(mount, c"", dir, path, flags)?)
}

/// Sets the flags of a mount that is attached in this thread's namespace.
fn restrict(mount: &impl std::os::fd::AsFd, options: &MountOptions, read_only: bool) -> io::Result<()> {
    let bit = |on: bool, flag: MountFlags| if on { flag } else { MountFlags::empty() };
    let flags = MountFlags::BIND
        | bit(read_only, MountFlags::RDONLY)
        | bit(options.nosuid, MountFlags::NOSUID)
        | bit(options.nodev, MountFlags::NODEV)
        | bit(options.noexec, MountFlags::NOEXEC);
    let path = format!("/proc/self/fd/{}", mount.as_fd().as_raw_fd());
    Ok(rustix::mount::mount_remount(path, flags, c"")?)
}
