//! clone3, unshare, waitid and execve for a program with one thread.

use std::{ffi::CString, io, process};

/// Makes a child in new pid, mnt, uts, ipc and, if asked, net namespaces that calls `run` and ends with 1 should it return.
pub(crate) fn clone_namespaces(network: bool, run: impl FnOnce()) -> io::Result<i32> {
    let mut flags = libc::CLONE_NEWPID | libc::CLONE_NEWNS | libc::CLONE_NEWUTS | libc::CLONE_NEWIPC;
    if network {
        flags |= libc::CLONE_NEWNET;
    }
    let args = [flags as u64, 0, 0, 0, libc::SIGCHLD as u64, 0, 0, 0];
    // SAFETY: `args` is a whole `struct clone_args` of the first version and outlives the call. No stack is given, so this
    // returns twice as fork does; the program has one thread, so the child may allocate.
    match unsafe { libc::syscall(libc::SYS_clone3, args.as_ptr(), size_of_val(&args)) } {
        -1 => Err(io::Error::last_os_error()),
        0 => {
            run();
            process::exit(1)
        }
        pid => Ok(pid as i32),
    }
}

/// Moves this process into a new cgroup namespace.
pub(crate) fn unshare_cgroup() -> io::Result<()> {
    // SAFETY: unshare takes no pointers.
    if unsafe { libc::unshare(libc::CLONE_NEWCGROUP) } == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Waits for a child and returns its exit code, or 128 and the signal's number.
pub(crate) fn wait(pid: i32) -> io::Result<i32> {
    let mut status = 0;
    // SAFETY: `status` outlives the call.
    if unsafe { libc::waitpid(pid, &raw mut status, 0) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(if libc::WIFEXITED(status) { libc::WEXITSTATUS(status) } else { 128 + libc::WTERMSIG(status) })
}

/// Executes `program` with an empty environment; returns only when that failed.
pub(crate) fn exec(program: &str) -> io::Error {
    let Ok(path) = CString::new(program) else { return io::Error::from(io::ErrorKind::InvalidInput) };
    let argv = [path.as_ptr(), std::ptr::null()];
    let envp = [std::ptr::null()];
    // SAFETY: the arrays end with a null pointer, the string with a NUL, and all outlive the call.
    unsafe { libc::execve(path.as_ptr(), argv.as_ptr(), envp.as_ptr()) };
    io::Error::last_os_error()
}
