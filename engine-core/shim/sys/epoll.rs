//! Waiting for many descriptors at once, see epoll(7).

use super::Fd;
use super::arch::nr;
use super::call::sys;
use super::errno::Result;

pub(crate) const EPOLLIN: u32 = 1;
pub(crate) const EPOLLOUT: u32 = 4;
pub(crate) const EPOLLRDHUP: u32 = 0x2000;
/// Tell changes only.
pub(crate) const EPOLLET: u32 = 1 << 31;

/// Struct epoll_event.
#[cfg_attr(target_arch = "x86_64", repr(C, packed))]
#[cfg_attr(not(target_arch = "x86_64"), repr(C))]
#[derive(Clone, Copy)]
pub(crate) struct Event {
    pub(crate) events: u32,
    pub(crate) token: u64,
}

pub(crate) fn epoll() -> Result<Fd> {
    // EPOLL_CLOEXEC
    sys!(nr::EPOLL_CREATE1, 0x8_0000_usize).map(|fd| fd as Fd)
}

pub(crate) fn epoll_add(epoll: Fd, fd: Fd, events: u32, token: u64) -> Result<()> {
    let event = Event { events, token };
    // EPOLL_CTL_ADD
    sys!(nr::EPOLL_CTL, epoll, 1_usize, fd, &raw const event).map(drop)
}

/// Waits for events; returns how many there are. `timeout_ms` below zero waits for ever.
pub(crate) fn epoll_wait(epoll: Fd, events: &mut [Event], timeout_ms: i32) -> Result<usize> {
    sys!(nr::EPOLL_PWAIT, epoll, events.as_mut_ptr(), events.len(), timeout_ms, 0_usize, 8_usize)
}
