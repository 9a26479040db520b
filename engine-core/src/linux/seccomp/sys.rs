//! System calls of the tests: a filter on the calling thread, and calls that run into it.
//!
//! The engine makes none of them; the shim installs what a container gets.

use nix::errno::Errno;
use nix::libc;

/// Installs a filter on the calling thread, for good.
pub(super) fn install(program: &[u8]) -> nix::Result<()> {
    let len = u16::try_from(program.len() / 8).map_err(|_| Errno::EINVAL)?;
    let fprog = libc::sock_fprog { len, filter: program.as_ptr().cast_mut().cast() };
    // SAFETY: prctl reads no memory with this operation.
    Errno::result(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) })?;
    // SAFETY: `fprog` and the `len` instructions of 8 bytes it points to live until the call returns; the kernel
    // copies them and does not write.
    Errno::result(unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, &fprog) })?;
    Ok(())
}

/// A system call all of whose arguments are numbers or null pointers.
pub(super) fn call(number: i64, args: [u64; 3]) -> nix::Result<i64> {
    // SAFETY: no argument is the address of anything, so the kernel can touch no memory of ours.
    Errno::result(unsafe { libc::syscall(number, args[0], args[1], args[2], 0, 0, 0) })
}

/// getpid(2) through the 32-bit gate.
#[cfg(target_arch = "x86_64")]
pub(super) fn getpid_by_int80() -> i64 {
    let mut result: i64 = 20;
    // SAFETY: call 20 of that table takes no argument; the gate changes rax and, in old kernels, r8 to r11.
    unsafe {
        std::arch::asm!("int 0x80", inout("rax") result, out("r8") _, out("r9") _, out("r10") _, out("r11") _);
    }
    result
}
