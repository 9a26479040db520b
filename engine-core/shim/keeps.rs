//! Descriptors that others gave to be held: the shim is there as long as the container, and they may not be.
//!
//! Each is one socket, in whose queue lie as many as its sender had (unix(7), SCM_RIGHTS). What they are and when they are
//! to go is the library's matter. To those that clients come to belongs an epoll descriptor: when one comes, a relay is
//! started.

use crate::relay;
use crate::serve::{Shim, Token};
use crate::sys::{self, Fd, POLLIN};

/// Most keys at once.
pub(crate) const KEYS: usize = 32;
/// How long after the end of a relay another may be started, in milliseconds.
const PAUSE: u64 = 100;

/// What is held, by key. All zero bytes are nothing.
pub(crate) struct Keeps {
    slots: [Slot; KEYS],
}

#[derive(Clone, Copy)]
struct Slot {
    used: bool,
    fd: Fd,
    key: i64,
    /// What tells of clients, unless it is -1, and the process that serves them, if there is one, with what tells of its end.
    clients: Fd,
    relay: i32,
    end: Fd,
    /// When the next relay may be started, in monotonic milliseconds.
    not_before: u64,
}

impl Keeps {
    /// Holds `fd` in place of what was held under `key`, with what tells of clients or -1. Below zero, only lets go of that.
    pub(crate) fn hold(&mut self, key: i64, fd: Fd, clients: Fd) -> sys::Result<()> {
        let known = self.slots.iter().position(|slot| slot.used && slot.key == key);
        if fd < 0 {
            if let Some(at) = known {
                self.slots[at].let_go();
            }
            return Ok(());
        }
        let at = known.or_else(|| self.slots.iter().position(|slot| !slot.used)).ok_or(sys::ENOSPC)?;
        self.slots[at].let_go();
        self.slots[at] = Slot { used: true, fd, key, clients, relay: 0, end: -1, not_before: 0 };
        Ok(())
    }

    /// Lets go of everything.
    pub(crate) fn close(&mut self) {
        for slot in &mut self.slots {
            slot.let_go();
        }
    }

    /// Whether `pid` is a relay.
    pub(crate) fn knows(&self, pid: i32) -> bool {
        self.slots.iter().any(|slot| slot.used && slot.relay == pid)
    }

    /// When clients are looked for again, if that is not now.
    pub(crate) fn due(&self, now: u64) -> Option<u64> {
        let paused =
            |slot: &&Slot| slot.used && slot.clients >= 0 && slot.relay == 0 && slot.not_before > now;
        self.slots.iter().filter(paused).map(|slot| slot.not_before).min()
    }

    /// A client comes, or a relay has ended.
    pub(crate) fn on_ready(&mut self, at: usize) {
        let slot = &mut self.slots[at];
        if !slot.used || slot.clients < 0 {
            return;
        }
        slot.not_before = sys::monotonic() + PAUSE;
        if slot.relay == 0 {
            slot.relay = relay::start(slot.fd, slot.clients, &mut slot.end).unwrap_or(0);
        } else if sys::wait(slot.relay, false).is_some() {
            sys::close(slot.end);
            slot.relay = 0;
        }
    }
}

impl Slot {
    fn let_go(&mut self) {
        if !self.used {
            return;
        }
        if self.relay > 0 {
            let _ = sys::pidfd_signal(self.end, sys::SIGKILL);
            let _ = sys::wait(self.relay, true);
            sys::close(self.end);
        }
        sys::close(self.clients);
        sys::close(self.fd);
        self.used = false;
    }
}

impl Shim {
    pub(crate) fn watch_keeps(&mut self) {
        let now = sys::monotonic();
        for at in 0..KEYS {
            let slot = self.keeps.slots[at];
            if slot.used && slot.clients >= 0 {
                if slot.relay > 0 {
                    self.watch(slot.end, POLLIN, Token::Relay(at));
                } else if slot.not_before <= now {
                    self.watch(slot.clients, POLLIN, Token::Relay(at));
                }
            }
        }
    }
}
