//! Starting a shim: the embedded binary in a sealed memfd, the plan in another.

use std::io::{self, Write as _};
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use rustix::fs::{MemfdFlags, SealFlags};
use rustix::net::{AddressFamily, SocketFlags, SocketType};

use super::connection::send;
use super::wire::{Request, op};

/// The helper that `build.rs` made from `shim/`.
static BINARY: &[u8] = include_bytes!(env!("ENGINE_SHIM"));

const ALL_SEALS: SealFlags =
    SealFlags::SEAL.union(SealFlags::SHRINK).union(SealFlags::GROW).union(SealFlags::WRITE);

/// Puts `bytes` into a memory file that nobody can change any more (memfd_create(2)).
pub(crate) fn sealed(name: &str, bytes: &[u8], executable: bool) -> io::Result<OwnedFd> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let kind = if executable { MemfdFlags::EXEC } else { MemfdFlags::NOEXEC_SEAL };
    let fd = match rustix::fs::memfd_create(name, flags | kind) {
        // Before Linux 6.3 there was no such choice: every one was executable.
        Err(rustix::io::Errno::INVAL) => rustix::fs::memfd_create(name, flags)?,
        fd => fd?,
    };
    let mut file = std::fs::File::from(fd);
    file.write_all(bytes)?;
    let fd = OwnedFd::from(file);
    rustix::fs::fcntl_add_seals(&fd, ALL_SEALS)?;
    Ok(fd)
}

/// The shim's binary: once per process, since it never changes.
fn binary() -> io::Result<BorrowedFd<'static>> {
    static SEALED: OnceLock<OwnedFd> = OnceLock::new();
    if let Some(fd) = SEALED.get() {
        return Ok(fd.as_fd());
    }
    let fd = sealed("engine-shim", BINARY, true)?;
    Ok(SEALED.get_or_init(|| fd).as_fd())
}

/// Starts a shim with `plan` and returns our end of its control socket. Blocks for as long as it takes to start.
///
/// The shim leaves the process tree of this program at once; what is waited for here is the parent it had for a moment.
///
/// `directories` are those of SETUP.
pub(crate) fn spawn(plan: &[u8], directories: &[BorrowedFd<'_>]) -> io::Result<OwnedFd> {
    let plan = sealed("engine-plan", plan, false)?;
    let (ours, theirs) =
        rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
    // Sent before there is anybody to read it, so that the shim never waits for us.
    send(ours.as_fd(), &Request { op: op::SETUP, ..Request::default() }, directories)?;
    // Standard streams, no environment, no pre_exec: std uses posix_spawn for this, which does not copy our memory.
    let mut command = Command::new(format!("/proc/self/fd/{}", binary()?.as_raw_fd()));
    command.arg0("engine-shim").env_clear().stdin(plan).stdout(theirs).stderr(Stdio::null());
    let status = command.spawn()?.wait()?;
    drop(command);
    if !status.success() {
        return Err(io::Error::other(format!("the container's shim ended with {status}")));
    }
    Ok(ours)
}
