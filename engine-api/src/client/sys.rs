//! What is to be done in a child before it executes a program.

use nix::sys::signal::{SigHandler, Signal, signal};
use tokio::process::Command;

/// Makes the program that `command` starts ignore what a person types to interrupt this one: what is ignored stays so across execve(2).
pub(super) fn ignoring_interrupts(command: &mut Command) {
    let ignore = || {
        for number in [Signal::SIGINT, Signal::SIGQUIT] {
            // SAFETY: SIG_IGN is no function that a signal could run; signal(2) itself is on the list of signal-safety(7).
            unsafe { signal(number, SigHandler::SigIgn) }?;
        }
        Ok(())
    };
    // SAFETY: between fork and exec, the closure makes two system calls; it captures nothing, and neither allocates nor takes a lock.
    unsafe { command.pre_exec(ignore) };
}
