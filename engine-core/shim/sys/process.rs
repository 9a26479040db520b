//! Processes: forking, executing, waiting, ending, and the sessions they are in.

use core::ffi::CStr;

use super::Fd;
use super::arch::nr;
use super::call::{new, sys};
use super::errno::{EINTR, EIO, Errno, Result};
use super::signal::SIGCHLD;

pub(crate) const CLONE_PARENT: u64 = 0x8000;
pub(crate) const CLONE_PIDFD: u64 = 0x1000;
pub(crate) const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// Arguments of clone3(2).
#[repr(C)]
#[derive(Default)]
struct CloneArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

/// Forks with `flags`; returns 0 in the child. `pidfd` receives the child's descriptor under `CLONE_PIDFD`.
pub(crate) fn fork(flags: u64, pidfd: &mut Fd, cgroup: Fd) -> Result<i32> {
    let mut args = CloneArgs {
        flags,
        exit_signal: SIGCHLD as u64,
        pidfd: &raw mut *pidfd as u64,
        ..CloneArgs::default()
    };
    if cgroup >= 0 {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = cgroup as u64;
    }
    sys!(new::CLONE3, &raw const args, size_of::<CloneArgs>()).map(|pid| pid as i32)
}

/// Forks by clone(2), which seccomp profiles allow, where they refuse clone3. Returns 0 in the new process.
/// `CLONE_PARENT` makes it a sibling: a child of this process's parent.
pub(crate) fn fork_filtered(flags: u64) -> Result<i32> {
    sys!(nr::CLONE, flags | SIGCHLD as u64, 0_usize, 0_usize, 0_usize, 0_usize).map(|pid| pid as i32)
}

/// Replaces the program.
///
/// # Safety
/// `argv` and `envp` must be arrays of pointers to texts, each ending with a null pointer.
pub(crate) unsafe fn execve(path: &CStr, argv: *const usize, envp: *const usize) -> Errno {
    sys!(nr::EXECVE, path, argv, envp).err().unwrap_or(EIO)
}

pub(crate) fn exit(code: i32) -> ! {
    loop {
        let _ = sys!(nr::EXIT_GROUP, code);
    }
}

/// Waits for `pid`; `None` when `hang` is off and nothing ended. Returns (pid, status).
pub(crate) fn wait(pid: i32, block: bool) -> Option<(i32, i32)> {
    let mut status = 0_i32;
    // __WALL: also children made with CLONE_PARENT, whose exit signal may be another.
    let flags = 0x4000_0000_usize | usize::from(!block);
    loop {
        match sys!(nr::WAIT4, pid, &raw mut status, flags, 0_usize) {
            Err(EINTR) => {}
            Err(_) | Ok(0) => return None,
            Ok(pid) => return Some((pid as i32, status)),
        }
    }
}

/// A child that ended and is not reaped.
pub(crate) fn ended_child() -> Option<i32> {
    // siginfo_t: the pid is its fourth number.
    let mut info = [0_i32; 32];
    // WNOHANG, WEXITED, WNOWAIT, __WALL.
    let flags = 1 | 4 | 0x100_0000 | 0x4000_0000_usize;
    sys!(nr::WAITID, 0_usize, 0_usize, info.as_mut_ptr(), flags, 0_usize).ok()?;
    (info[3] != 0).then_some(info[3])
}

pub(crate) fn pidfd_open(pid: i32) -> Result<Fd> {
    sys!(new::PIDFD_OPEN, pid, 0_usize).map(|fd| fd as Fd)
}

pub(crate) fn getpid() -> i32 {
    sys!(nr::GETPID).unwrap_or(0) as i32
}

pub(crate) fn getppid() -> i32 {
    sys!(nr::GETPPID).unwrap_or(0) as i32
}

pub(crate) fn setsid() {
    let _ = sys!(nr::SETSID);
}

pub(crate) fn setpgid(pid: i32, group: i32) -> Result<()> {
    sys!(nr::SETPGID, pid, group).map(drop)
}
