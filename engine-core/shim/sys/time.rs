//! Clocks, and waiting for descriptors.

use super::Fd;
use super::arch::nr;
use super::call::sys;
use super::errno::Result;

pub(crate) const POLLIN: i16 = 1;
pub(crate) const POLLOUT: i16 = 4;

#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct PollFd {
    pub(crate) fd: Fd,
    pub(crate) events: i16,
    pub(crate) ready: i16,
}

/// Waits for an event; `timeout_ms` below zero waits for ever.
pub(crate) fn poll(fds: &mut [PollFd], timeout_ms: i64) -> Result<usize> {
    let time = [timeout_ms / 1000, timeout_ms % 1000 * 1_000_000];
    let time = if timeout_ms < 0 { core::ptr::null() } else { time.as_ptr() };
    sys!(nr::PPOLL, fds.as_mut_ptr(), fds.len(), time, 0_usize, 8_usize)
}

/// Nanoseconds since 1970.
pub(crate) fn now() -> u64 {
    let [seconds, fraction] = clock(0);
    seconds * 1_000_000_000 + fraction
}

/// Milliseconds on a clock that nobody sets.
pub(crate) fn monotonic() -> u64 {
    let [seconds, fraction] = clock(1);
    seconds * 1000 + fraction / 1_000_000
}

/// A number that nobody can foresee (getrandom(2)).
pub(crate) fn random() -> u32 {
    let mut number = 0_u32;
    // GRND_INSECURE: early after boot it does not wait.
    let _ = sys!(nr::GETRANDOM, &raw mut number, 4_usize, 4_usize);
    number
}

fn clock(id: usize) -> [u64; 2] {
    let mut time = [0_u64; 2];
    let _ = sys!(nr::CLOCK_GETTIME, id, time.as_mut_ptr());
    time
}
