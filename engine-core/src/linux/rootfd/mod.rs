//! Safe paths: names that are resolved beneath a directory descriptor, never as joined strings.
//!
//! [`RootFd`] is for a *root filesystem*, where the image's symbolic links count and lead at most to its own root, as
//! after chroot(2). [`LayerDir`] is for a directory that we fill ourselves, where no link is ever followed.
//! What is done with the descriptors is left to the callers.
//! Invariant: whatever an image or another process does to the tree meanwhile, no operation here touches a file that is
//! not beneath the directory it was given (SECURITY A1, A5, A10, C1).

mod canonical;
mod layer;
mod root;

pub use layer::LayerDir;
pub use root::RootFd;

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

/// How often openat2(2) is tried again after `EAGAIN`, which it gives when a rename raced with a `..`.
const RACE_RETRIES: u32 = 256;

/// openat2(2) with close-on-exec, the retries its manual page asks for, and a sentence where the kernel lacks it.
fn openat2(
    dir: impl AsFd,
    path: &Path,
    flags: OFlags,
    mode: Mode,
    resolve: ResolveFlags,
) -> io::Result<OwnedFd> {
    let dir = dir.as_fd();
    let mut tries = 0;
    loop {
        match rustix::fs::openat2(dir, path, flags | OFlags::CLOEXEC, mode, resolve) {
            Ok(fd) => return Ok(fd),
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) if tries < RACE_RETRIES => tries += 1,
            Err(Errno::NOSYS) => {
                return Err(io::Error::new(
                    io::ErrorKind::Unsupported,
                    "this kernel has no openat2(2): Linux 5.6 or newer is needed",
                ));
            }
            Err(errno) => return Err(errno.into()),
        }
    }
}

/// The error for a name that is no path at all: empty, or with a NUL byte.
fn invalid(message: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, message)
}
