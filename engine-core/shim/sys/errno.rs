//! Error numbers of the kernel, those that the shim tells apart.

pub(crate) type Result<T> = core::result::Result<T, Errno>;

/// A kernel error number.
#[derive(Clone, Copy, Eq, PartialEq)]
pub(crate) struct Errno(pub(crate) i32);

pub(crate) const EPERM: Errno = Errno(1);
pub(crate) const ENOENT: Errno = Errno(2);
pub(crate) const ESRCH: Errno = Errno(3);
pub(crate) const EINTR: Errno = Errno(4);
pub(crate) const EIO: Errno = Errno(5);
pub(crate) const EAGAIN: Errno = Errno(11);
pub(crate) const EACCES: Errno = Errno(13);
pub(crate) const EBUSY: Errno = Errno(16);
pub(crate) const EEXIST: Errno = Errno(17);
pub(crate) const EXDEV: Errno = Errno(18);
pub(crate) const ENODEV: Errno = Errno(19);
pub(crate) const ENOTDIR: Errno = Errno(20);
pub(crate) const EINVAL: Errno = Errno(22);
pub(crate) const ENOSPC: Errno = Errno(28);
pub(crate) const ENAMETOOLONG: Errno = Errno(36);
pub(crate) const ELOOP: Errno = Errno(40);
pub(crate) const ECONNABORTED: Errno = Errno(103);
pub(crate) const ESTALE: Errno = Errno(116);
pub(crate) const ETIMEDOUT: Errno = Errno(110);
pub(crate) const EINPROGRESS: Errno = Errno(115);
