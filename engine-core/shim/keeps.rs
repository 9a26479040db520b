//! Descriptors that others gave to be held: the shim is there as long as the container, and they may not be.
//!
//! Each is one socket, in whose queue lie as many as its sender had (unix(7), SCM_RIGHTS); nobody here looks into it. What
//! they are and when they are to go is the library's matter.

use crate::sys::{self, Fd};

/// Most keys at once.
const KEYS: usize = 32;

/// What is held, by key. All zero bytes are nothing.
pub(crate) struct Keeps {
    slots: [Slot; KEYS],
}

#[derive(Clone, Copy)]
struct Slot {
    used: bool,
    fd: Fd,
    key: i64,
}

impl Keeps {
    /// Holds `fd` in place of what was held under `key`. Below zero, only lets go of that.
    pub(crate) fn hold(&mut self, key: i64, fd: Fd) -> sys::Result<()> {
        let known = self.slots.iter().position(|slot| slot.used && slot.key == key);
        if fd < 0 {
            if let Some(at) = known {
                self.slots[at].let_go();
            }
            return Ok(());
        }
        let at = known.or_else(|| self.slots.iter().position(|slot| !slot.used)).ok_or(sys::ENOSPC)?;
        self.slots[at].let_go();
        self.slots[at] = Slot { used: true, fd, key };
        Ok(())
    }

    /// Lets go of everything.
    pub(crate) fn close(&mut self) {
        for slot in &mut self.slots {
            slot.let_go();
        }
    }
}

impl Slot {
    fn let_go(&mut self) {
        if self.used {
            sys::close(self.fd);
            self.used = false;
        }
    }
}
