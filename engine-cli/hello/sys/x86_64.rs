//! x86_64: process entry, the system call instruction and the call numbers (arch/x86/entry/syscalls/syscall_64.tbl).

core::arch::global_asm!(
    ".globl _start",
    "_start:",
    "xor ebp, ebp",
    "and rsp, -16",
    "call {main}",
    "ud2",
    main = sym crate::main,
);

/// Makes a system call.
///
/// # Safety
/// As the call itself demands: every pointer among the arguments must be valid for what the kernel does with it.
pub(crate) unsafe fn syscall(nr: usize, args: [usize; 4]) -> isize {
    let result: isize;
    // SAFETY: the ABI of syscall(2) on x86_64; the caller answers for the arguments.
    unsafe {
        core::arch::asm!(
            "syscall",
            inlateout("rax") nr as isize => result,
            in("rdi") args[0], in("rsi") args[1], in("rdx") args[2], in("r10") args[3],
            lateout("rcx") _, lateout("r11") _,
            options(nostack),
        );
    }
    result
}

pub(crate) mod nr {
    pub(crate) const READ: usize = 0;
    pub(crate) const WRITE: usize = 1;
    pub(crate) const CLOSE: usize = 3;
    pub(crate) const GETPID: usize = 39;
    pub(crate) const EXIT_GROUP: usize = 231;
    pub(crate) const OPENAT: usize = 257;
    pub(crate) const READLINKAT: usize = 267;
}
