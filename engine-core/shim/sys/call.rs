//! The call itself: how Rust values become registers, and what comes back.
//!
//! The wrappers in the files beside this one own what each call means and that its pointers are valid.
//! Invariant: only those wrappers reach [`call`].

use core::ffi::CStr;

use super::arch;
use super::errno::{Errno, Result};

/// The same number on every architecture since Linux 5.1.
pub(super) mod new {
    pub(in crate::sys) const PIDFD_SEND_SIGNAL: usize = 424;
    pub(in crate::sys) const OPEN_TREE: usize = 428;
    pub(in crate::sys) const MOVE_MOUNT: usize = 429;
    pub(in crate::sys) const FSOPEN: usize = 430;
    pub(in crate::sys) const FSCONFIG: usize = 431;
    pub(in crate::sys) const FSMOUNT: usize = 432;
    pub(in crate::sys) const PIDFD_OPEN: usize = 434;
    pub(in crate::sys) const CLONE3: usize = 435;
    pub(in crate::sys) const CLOSE_RANGE: usize = 436;
    pub(in crate::sys) const OPENAT2: usize = 437;
    pub(in crate::sys) const MOUNT_SETATTR: usize = 442;
}

/// An argument of a system call.
pub(super) trait Arg {
    fn arg(self) -> usize;
}
macro_rules! arg {
    ($($kind:ty),*) => { $(impl Arg for $kind { fn arg(self) -> usize { self as usize } })* };
}
arg!(usize, u64, i64, isize);
impl Arg for i32 {
    fn arg(self) -> usize {
        self as isize as usize
    }
}
impl Arg for u32 {
    fn arg(self) -> usize {
        self as usize
    }
}
impl Arg for &CStr {
    fn arg(self) -> usize {
        self.as_ptr() as usize
    }
}
impl<T> Arg for *const T {
    fn arg(self) -> usize {
        self as usize
    }
}
impl<T> Arg for *mut T {
    fn arg(self) -> usize {
        self as usize
    }
}

pub(super) fn call(nr: usize, args: [usize; 6]) -> Result<usize> {
    // SAFETY: only the wrappers of `sys` call this, each with pointers from borrows that outlive the call.
    let result = unsafe { arch::syscall(nr, args) };
    if (-4095..0).contains(&result) { Err(Errno(-result as i32)) } else { Ok(result as usize) }
}

/// Makes a system call with up to six arguments.
macro_rules! sys {
    ($nr:expr $(, $arg:expr)*) => {{
        let given = [$($crate::sys::call::Arg::arg($arg)),*];
        let mut args = [0_usize; 6];
        args[..given.len()].copy_from_slice(&given);
        $crate::sys::call::call($nr, args)
    }};
}
pub(super) use sys;

/// struct iovec, see readv(2).
#[repr(C)]
pub(super) struct IoVec(pub(super) *const u8, pub(super) usize);
