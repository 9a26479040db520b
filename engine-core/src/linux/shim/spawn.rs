//! Starting a shim: the embedded binary in a sealed memfd, the plan in another.

use std::io::{self, Write as _};
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::{MemfdFlags, SealFlags};
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType};

use super::connection::send;
use super::wire::{REPLY, Reply, Request, op, reply};

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

/// How long a shim may take to say that it is there.
const PATIENCE: Timespec = Timespec { tv_sec: 60, tv_nsec: 0 };

/// A shim that was started.
#[derive(Debug)]
pub(crate) struct Spawned {
    /// Our end of its control socket.
    pub(crate) control: OwnedFd,
    /// Of a shim that waits to be placed: its number.
    pub(crate) pid: Option<u32>,
}

impl Spawned {
    /// Lets a shim that was placed go on. `directories` are those of SETUP.
    pub(crate) fn go_on(&self, directories: &[BorrowedFd<'_>]) -> io::Result<()> {
        setup(&self.control, directories)
    }
}

fn setup(control: &OwnedFd, directories: &[BorrowedFd<'_>]) -> io::Result<()> {
    send(control.as_fd(), &Request { op: op::SETUP, ..Request::default() }, directories)
}

/// Waits for the message of a shim that waits; returns its number.
fn here(control: &OwnedFd) -> io::Result<u32> {
    let mut fds = [PollFd::new(control, PollFlags::IN)];
    while let Err(error) = rustix::event::poll(&mut fds, Some(&PATIENCE)) {
        if error != rustix::io::Errno::INTR {
            return Err(error.into());
        }
    }
    let mut bytes = [0; REPLY];
    let (count, _) = rustix::net::recv(control, &mut bytes[..], RecvFlags::DONTWAIT)?;
    let reply = Reply::decode(&bytes[..count]).filter(|reply| reply.kind == reply::HERE);
    reply
        .and_then(|reply| u32::try_from(reply.a).ok())
        .ok_or_else(|| io::Error::other("the container's shim did not say that it is there"))
}

/// Starts a shim with `plan`. Blocks for as long as it takes to start.
///
/// The shim leaves the process tree of this program at once; what is waited for here is the parent it had for a moment.
///
/// `directories` are those of SETUP. A shim that `waits` (the plan says so) gets them later, by [`Spawned::go_on`], and its
/// number is returned.
pub(crate) fn spawn(plan: &[u8], directories: &[BorrowedFd<'_>], waits: bool) -> io::Result<Spawned> {
    let plan = sealed("engine-plan", plan, false)?;
    let (ours, theirs) =
        rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
    if !waits {
        // Sent before there is anybody to read it, so that the shim never waits for us.
        setup(&ours, directories)?;
    }
    // Standard streams, no environment, no pre_exec: std uses posix_spawn for this, which does not copy our memory.
    let mut command = Command::new(format!("/proc/self/fd/{}", binary()?.as_raw_fd()));
    command.arg0("engine-shim").env_clear().stdin(plan).stdout(theirs).stderr(Stdio::null());
    let status = command.spawn()?.wait()?;
    drop(command);
    if !status.success() {
        return Err(io::Error::other(format!("the container's shim ended with {status}")));
    }
    let pid = if waits { Some(here(&ours)?) } else { None };
    Ok(Spawned { control: ours, pid })
}
