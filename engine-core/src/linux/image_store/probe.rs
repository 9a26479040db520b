//! Does overlayfs work beneath the store? A trial mount tells, not the kernel's version.
//!
//! The mount is made with fsopen(2) and never attached anywhere, so nobody sees it and the kernel ends it with
//! the descriptor, whatever happens to us.

use std::fs;
use std::io::{self, Write as _};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use rustix::fs::{CWD, FileType, Mode, OFlags, XattrFlags};
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags};

use super::store::Shared;
use crate::error::{Error, Result};

/// `None` if overlayfs works, else why not. The answer is kept until the next boot.
pub(super) fn overlay(shared: &Shared) -> Result<Option<String>> {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let cache = shared.layout.images().join("overlay-works");
    if !boot.is_empty() && fs::read_to_string(&cache).is_ok_and(|known| known == boot) {
        return Ok(None);
    }
    let session = shared.session()?;
    let (name, path) = session.fresh("probe");
    let outcome = fs::create_dir(&path).map_err(|e| ("create a directory", e)).and_then(|()| trial(&path));
    session.discard(&name);
    match outcome {
        Ok(()) => {
            let (name, path) = session.fresh("overlay-works");
            let mut options = fs::OpenOptions::new();
            let kept = options
                .create_new(true)
                .write(true)
                .mode(0o600)
                .open(&path)
                .and_then(|mut file| file.write_all(boot.as_bytes()))
                .and_then(|()| fs::rename(&path, &cache));
            if let Err(error) = kept {
                session.discard(&name);
                return Err(Error::from_io("remember the trial mount", error));
            }
            Ok(None)
        }
        Err((step, error)) => Ok(Some(format!("cannot {step}: {error}"))),
    }
}

type Step<T> = std::result::Result<T, (&'static str, io::Error)>;

fn step<T>(what: &'static str, outcome: rustix::io::Result<T>) -> Step<T> {
    outcome.map_err(|e| (what, e.into()))
}

fn trial(dir: &Path) -> Step<()> {
    let fs_step = |what: &'static str| move |e: io::Error| (what, e);
    for name in ["low", "low/opaque", "high", "high/opaque", "upper", "work"] {
        fs::create_dir(dir.join(name)).map_err(fs_step("create a directory"))?;
    }
    for name in ["low/hidden", "low/opaque/hidden", "low/shown"] {
        fs::write(dir.join(name), "x").map_err(fs_step("create a file"))?;
    }
    let kind = FileType::CharacterDevice;
    step("create a whiteout", rustix::fs::mknodat(CWD, dir.join("high/hidden"), kind, Mode::empty(), 0))?;
    let opaque = c"trusted.overlay.opaque";
    step(
        "mark a directory opaque",
        rustix::fs::setxattr(dir.join("high/opaque"), opaque, b"y", XattrFlags::empty()),
    )?;
    let mount = mount(dir)?;
    let see = |path: &str| rustix::fs::statat(&mount, path, rustix::fs::AtFlags::SYMLINK_NOFOLLOW).is_ok();
    if !see("shown") || see("hidden") || see("opaque/hidden") {
        return Err(("hide a file of a lower layer", io::ErrorKind::Unsupported.into()));
    }
    let flags = OFlags::WRONLY | OFlags::TRUNC | OFlags::CLOEXEC;
    step("change a file of a lower layer", rustix::fs::openat(&mount, "shown", flags, Mode::empty()))?;
    step(
        "remove a file of a lower layer",
        rustix::fs::unlinkat(&mount, "shown", rustix::fs::AtFlags::empty()),
    )
}

fn mount(dir: &Path) -> Step<OwnedFd> {
    let context = step("open overlayfs", rustix::mount::fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC))?;
    // fsconfig(2) takes strings of at most 255 bytes, and colons separate directories: so no real path.
    let base = OwnedFd::from(fs::File::open(dir).map_err(|e| ("open a directory", e))?);
    let dir = format!("/proc/self/fd/{}", base.as_raw_fd());
    let lower = format!("{dir}/high:{dir}/low");
    let set = |key: &str, value: &str| {
        step("configure overlayfs", rustix::mount::fsconfig_set_string(&context, key, value))
    };
    set("lowerdir", &lower)?;
    set("upperdir", &format!("{dir}/upper"))?;
    set("workdir", &format!("{dir}/work"))?;
    step("mount overlayfs", rustix::mount::fsconfig_create(&context))?;
    let flags = FsMountFlags::FSMOUNT_CLOEXEC;
    step("mount overlayfs", rustix::mount::fsmount(&context, flags, MountAttrFlags::empty()))
}
