//! Init mode: process 1 of the container is a reaper that forwards signals to the payload and ends with it.
//!
//! It is a mode of the shim's own first process, so no binary of ours has to be put into the root filesystem.

use crate::sys;

const SIGTSTP: i32 = 20;
const SIGTTIN: i32 = 21;
const SIGTTOU: i32 = 22;

/// Forks the payload and returns in it; the calling process becomes the reaper and never returns.
pub(crate) fn fork_payload(terminal: bool) -> sys::Result<()> {
    // Blocked before the fork, so that no signal is lost; a blocked signal also reaches a namespace's process 1.
    sys::set_signal_mask(u64::MAX);
    let payload = sys::fork_filtered(0)?;
    if payload != 0 {
        let _ = sys::close_range(3, 0);
        reap(payload)
    }
    let _ = sys::setpgid(0, 0);
    if terminal {
        let group = sys::getpid();
        // TIOCSPGRP; SIGTTOU is still blocked.
        let _ = sys::ioctl(0, 0x5410, &raw const group as usize);
    }
    sys::set_signal_mask(0);
    Ok(())
}

fn reap(payload: i32) -> ! {
    loop {
        match sys::wait_signal(u64::MAX) {
            Ok(sys::SIGCHLD) => {
                while let Some((pid, status)) = sys::wait(-1, false) {
                    if pid == payload {
                        let signal = status & 0x7f;
                        sys::exit(if signal == 0 { status >> 8 & 0xff } else { 128 + signal })
                    }
                }
            }
            Ok(SIGTSTP | SIGTTIN | SIGTTOU) | Err(_) => {}
            Ok(signal) => {
                let _ = sys::kill(payload, signal);
            }
        }
    }
}
