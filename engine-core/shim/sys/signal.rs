//! Signals: sending them, waiting for them, and what they do to this process.

use super::Fd;
use super::arch::nr;
use super::call::{new, sys};
use super::errno::Result;

pub(crate) const SIGKILL: i32 = 9;
pub(crate) const SIGCHLD: i32 = 17;

pub(crate) fn kill(pid: i32, signal: i32) -> Result<()> {
    sys!(nr::KILL, pid, signal).map(drop)
}

pub(crate) fn pidfd_signal(pidfd: Fd, signal: i32) -> Result<()> {
    sys!(new::PIDFD_SEND_SIGNAL, pidfd, signal, 0_usize, 0_usize).map(drop)
}

/// Struct sigaction as the kernel takes it.
#[repr(C)]
struct SigAction {
    handler: usize,
    flags: usize,
    #[cfg(target_arch = "x86_64")]
    restorer: usize,
    mask: u64,
}

/// Sets a signal's disposition: 0 is the default, 1 ignores.
pub(crate) fn set_signal(signal: i32, disposition: usize) {
    let action = SigAction {
        handler: disposition,
        flags: 0,
        #[cfg(target_arch = "x86_64")]
        restorer: 0,
        mask: 0,
    };
    let _ = sys!(nr::RT_SIGACTION, signal, &raw const action, 0_usize, 8_usize);
}

/// Sets the blocked signals.
pub(crate) fn set_signal_mask(mask: u64) {
    let _ = sys!(nr::RT_SIGPROCMASK, 2_usize, &raw const mask, 0_usize, 8_usize);
}

/// Waits for a blocked signal of `mask` and returns its number.
pub(crate) fn wait_signal(mask: u64) -> Result<i32> {
    sys!(nr::RT_SIGTIMEDWAIT, &raw const mask, 0_usize, 0_usize, 8_usize).map(|signal| signal as i32)
}
