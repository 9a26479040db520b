//! What a process may do: its ids, capabilities and seccomp filter.

use super::arch::nr;
use super::call::sys;
use super::errno::Result;

pub(crate) fn geteuid() -> u32 {
    sys!(nr::GETEUID).unwrap_or(0) as u32
}

/// Sets the supplementary groups from packed 4-byte ids.
pub(crate) fn setgroups(groups: &[u8]) -> Result<()> {
    sys!(nr::SETGROUPS, groups.len() / 4, groups.as_ptr()).map(drop)
}

pub(crate) fn setresuid(uid: u32) -> Result<()> {
    sys!(nr::SETRESUID, uid, uid, uid).map(drop)
}

pub(crate) fn setresgid(gid: u32) -> Result<()> {
    sys!(nr::SETRESGID, gid, gid, gid).map(drop)
}

/// Sets the ids that file systems go by, of this process. These calls report no failure (setfsuid(2)).
pub(crate) fn set_filesystem_ids(uid: u32, gid: u32) {
    let _ = sys!(nr::SETFSGID, gid);
    let _ = sys!(nr::SETFSUID, uid);
}

pub(crate) fn prctl(option: usize, a: usize, b: usize) -> Result<usize> {
    sys!(nr::PRCTL, option, a, b, 0_usize, 0_usize)
}

/// Sets effective, permitted and inheritable capabilities of the calling process (capset(2), version 3).
pub(crate) fn capset(effective: u64, permitted: u64, inheritable: u64) -> Result<()> {
    let header: [u32; 2] = [0x2008_0522, 0];
    let (e, p, i) = (effective, permitted, inheritable);
    let data: [u32; 6] = [e as u32, p as u32, i as u32, (e >> 32) as u32, (p >> 32) as u32, (i >> 32) as u32];
    sys!(nr::CAPSET, header.as_ptr(), data.as_ptr()).map(drop)
}

/// Loads a seccomp filter given as packed instructions.
pub(crate) fn seccomp(flags: u32, program: &[u8]) -> Result<()> {
    #[repr(C)]
    struct Program(u16, *const u8);
    let program = Program((program.len() / 8) as u16, program.as_ptr());
    sys!(nr::SECCOMP, 1_usize, flags, &raw const program).map(drop)
}
