//! aarch64: process entry, the system call instruction and the call numbers (include/uapi/asm-generic/unistd.h).

core::arch::global_asm!(
    ".globl _start",
    "_start:",
    "mov x29, xzr",
    "mov x30, xzr",
    "bl {main}",
    "brk #1",
    main = sym crate::main,
);

/// Makes a system call.
///
/// # Safety
/// As the call itself demands: every pointer among the arguments must be valid for what the kernel does with it.
pub(crate) unsafe fn syscall(nr: usize, args: [usize; 4]) -> isize {
    let result: isize;
    // SAFETY: the ABI of syscall(2) on aarch64; the caller answers for the arguments.
    unsafe {
        core::arch::asm!(
            "svc #0",
            in("x8") nr,
            inlateout("x0") args[0] as isize => result,
            in("x1") args[1], in("x2") args[2], in("x3") args[3],
            options(nostack),
        );
    }
    result
}

pub(crate) mod nr {
    pub(crate) const OPENAT: usize = 56;
    pub(crate) const CLOSE: usize = 57;
    pub(crate) const READ: usize = 63;
    pub(crate) const WRITE: usize = 64;
    pub(crate) const READLINKAT: usize = 78;
    pub(crate) const EXIT_GROUP: usize = 94;
    pub(crate) const GETPID: usize = 172;
}
