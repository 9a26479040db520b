//! Doing something in another network namespace.
//!
//! A thread is in one network namespace and a socket stays in the one it was made in, whoever uses it afterwards
//! (network_namespaces(7)). So a short-lived thread enters the namespace, and what it made comes back.

use std::io;
use std::os::fd::BorrowedFd;

use nix::sched::{CloneFlags, setns};

/// Runs `work` in a network namespace, on a thread of its own.
///
/// # Errors
/// What `work` returns, `EINVAL` if the descriptor is of something else, `EPERM` if the caller may not enter it.
pub fn in_namespace<T: Send>(
    namespace: BorrowedFd<'_>,
    work: impl FnOnce() -> io::Result<T> + Send,
) -> io::Result<T> {
    std::thread::scope(|threads| {
        let thread = std::thread::Builder::new().name("network-namespace".into());
        let entered = thread.spawn_scoped(threads, || {
            setns(namespace, CloneFlags::CLONE_NEWNET)?;
            work()
        })?;
        entered.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}
