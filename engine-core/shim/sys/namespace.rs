//! Namespaces, and the names that belong to one.

use super::Fd;
use super::arch::nr;
use super::call::sys;
use super::errno::Result;

pub(crate) const CLONE_NEWTIME: u64 = 0x80;
pub(crate) const CLONE_NEWCGROUP: u64 = 0x0200_0000;
pub(crate) const CLONE_NEWUTS: u64 = 0x0400_0000;
pub(crate) const CLONE_NEWIPC: u64 = 0x0800_0000;
pub(crate) const CLONE_NEWUSER: u64 = 0x1000_0000;
pub(crate) const CLONE_NEWPID: u64 = 0x2000_0000;
pub(crate) const CLONE_NEWNET: u64 = 0x4000_0000;

pub(crate) fn setns(fd: Fd, kind: u64) -> Result<()> {
    sys!(nr::SETNS, fd, kind).map(drop)
}

pub(crate) fn unshare(kind: u64) -> Result<()> {
    sys!(nr::UNSHARE, kind).map(drop)
}

pub(crate) fn sethostname(name: &[u8]) -> Result<()> {
    sys!(nr::SETHOSTNAME, name.as_ptr(), name.len()).map(drop)
}

pub(crate) fn setdomainname(name: &[u8]) -> Result<()> {
    sys!(nr::SETDOMAINNAME, name.as_ptr(), name.len()).map(drop)
}
