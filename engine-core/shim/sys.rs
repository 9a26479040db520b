//! System calls: thin wrappers that return the kernel's error number.
//!
//! Descriptors are plain numbers: the shim runs one short script per process and closes by `exit` or `close_range`.
//! Invariant: nothing here keeps a pointer after the call returned.

use core::ffi::CStr;

#[cfg(target_arch = "aarch64")]
#[path = "sys/aarch64.rs"]
mod arch;
#[cfg(target_arch = "x86_64")]
#[path = "sys/x86_64.rs"]
mod arch;

use arch::nr;

/// The same number on every architecture since Linux 5.1.
mod new {
    pub(crate) const PIDFD_SEND_SIGNAL: usize = 424;
    pub(crate) const OPEN_TREE: usize = 428;
    pub(crate) const MOVE_MOUNT: usize = 429;
    pub(crate) const FSOPEN: usize = 430;
    pub(crate) const FSCONFIG: usize = 431;
    pub(crate) const FSMOUNT: usize = 432;
    pub(crate) const PIDFD_OPEN: usize = 434;
    pub(crate) const CLONE3: usize = 435;
    pub(crate) const CLOSE_RANGE: usize = 436;
    pub(crate) const OPENAT2: usize = 437;
    pub(crate) const MOUNT_SETATTR: usize = 442;
}

pub(crate) type Fd = i32;
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
pub(crate) const ENODEV: Errno = Errno(19);
pub(crate) const ENOTDIR: Errno = Errno(20);
pub(crate) const EINVAL: Errno = Errno(22);
pub(crate) const ENAMETOOLONG: Errno = Errno(36);
pub(crate) const ELOOP: Errno = Errno(40);
pub(crate) const EINPROGRESS: Errno = Errno(115);

pub(crate) const AT_FDCWD: Fd = -100;
pub(crate) const AT_EMPTY_PATH: usize = 0x1000;
pub(crate) const AT_SYMLINK_NOFOLLOW: usize = 0x100;
pub(crate) const AT_REMOVEDIR: usize = 0x200;
pub(crate) const AT_RECURSIVE: usize = 0x8000;
pub(crate) const O_RDONLY: usize = 0;
pub(crate) const O_WRONLY: usize = 1;
pub(crate) const O_RDWR: usize = 2;
pub(crate) const O_CREAT: usize = 0o100;
pub(crate) const O_EXCL: usize = 0o200;
pub(crate) const O_NOCTTY: usize = 0o400;
pub(crate) const O_TRUNC: usize = 0o1000;
pub(crate) const O_APPEND: usize = 0o2000;
pub(crate) const O_NONBLOCK: usize = 0o4000;
#[cfg(target_arch = "x86_64")]
pub(crate) const O_DIRECTORY: usize = 0o200_000;
#[cfg(target_arch = "x86_64")]
pub(crate) const O_NOFOLLOW: usize = 0o400_000;
#[cfg(target_arch = "aarch64")]
pub(crate) const O_DIRECTORY: usize = 0o40_000;
#[cfg(target_arch = "aarch64")]
pub(crate) const O_NOFOLLOW: usize = 0o100_000;
pub(crate) const O_CLOEXEC: usize = 0o2_000_000;
pub(crate) const O_PATH: usize = 0o10_000_000;
pub(crate) const RESOLVE_NO_XDEV: u64 = 1;
pub(crate) const RESOLVE_NO_MAGICLINKS: u64 = 2;
pub(crate) const RESOLVE_NO_SYMLINKS: u64 = 4;
pub(crate) const RESOLVE_BENEATH: u64 = 8;
pub(crate) const RESOLVE_IN_ROOT: u64 = 16;
pub(crate) const S_IFMT: u32 = 0o170_000;
pub(crate) const S_IFREG: u32 = 0o100_000;
pub(crate) const S_IFDIR: u32 = 0o040_000;
pub(crate) const S_IFLNK: u32 = 0o120_000;
pub(crate) const S_IFCHR: u32 = 0o020_000;
pub(crate) const S_IFIFO: u32 = 0o010_000;
pub(crate) const CLONE_NEWTIME: u64 = 0x80;
pub(crate) const CLONE_NEWCGROUP: u64 = 0x0200_0000;
pub(crate) const CLONE_NEWUTS: u64 = 0x0400_0000;
pub(crate) const CLONE_NEWIPC: u64 = 0x0800_0000;
pub(crate) const CLONE_NEWUSER: u64 = 0x1000_0000;
pub(crate) const CLONE_NEWPID: u64 = 0x2000_0000;
pub(crate) const CLONE_NEWNET: u64 = 0x4000_0000;
pub(crate) const CLONE_PARENT: u64 = 0x8000;
pub(crate) const CLONE_PIDFD: u64 = 0x1000;
pub(crate) const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;
pub(crate) const SIGKILL: i32 = 9;
pub(crate) const SIGCHLD: i32 = 17;
pub(crate) const POLLIN: i16 = 1;
pub(crate) const POLLOUT: i16 = 4;

/// An argument of a system call.
pub(crate) trait Arg {
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

fn call(nr: usize, args: [usize; 6]) -> Result<usize> {
    // SAFETY: only the wrappers below call this, each with pointers from borrows that outlive the call.
    let result = unsafe { arch::syscall(nr, args) };
    if (-4095..0).contains(&result) { Err(Errno(-result as i32)) } else { Ok(result as usize) }
}

macro_rules! sys {
    ($nr:expr $(, $arg:expr)*) => {{
        let given = [$(Arg::arg($arg)),*];
        let mut args = [0_usize; 6];
        args[..given.len()].copy_from_slice(&given);
        call($nr, args)
    }};
}

pub(crate) fn read(fd: Fd, buffer: &mut [u8]) -> Result<usize> {
    sys!(nr::READ, fd, buffer.as_mut_ptr(), buffer.len())
}

pub(crate) fn write(fd: Fd, bytes: &[u8]) -> Result<usize> {
    sys!(nr::WRITE, fd, bytes.as_ptr(), bytes.len())
}

/// Writes all of `bytes` to something that does not block, such as a file.
pub(crate) fn write_all(fd: Fd, mut bytes: &[u8]) -> Result<()> {
    while !bytes.is_empty() {
        let count = write(fd, bytes)?;
        bytes = bytes.get(count..).ok_or(EIO)?;
    }
    Ok(())
}

/// Writes pieces one behind the other, in one call.
pub(crate) fn writev(fd: Fd, pieces: &[&[u8]]) -> Result<usize> {
    let mut iov = [const { IoVec(core::ptr::null(), 0) }; 24];
    let count = pieces.len().min(iov.len());
    for (iov, piece) in iov.iter_mut().zip(pieces) {
        *iov = IoVec(piece.as_ptr(), piece.len());
    }
    sys!(nr::WRITEV, fd, iov.as_ptr(), count)
}

/// Reads from a place in a file.
pub(crate) fn pread(fd: Fd, buffer: &mut [u8], at: u64) -> Result<usize> {
    sys!(nr::PREAD64, fd, buffer.as_mut_ptr(), buffer.len(), at)
}

pub(crate) fn ftruncate(fd: Fd, length: u64) -> Result<()> {
    sys!(nr::FTRUNCATE, fd, length).map(drop)
}

/// Waits for the lock of an open file and takes it, or gives it back (flock(2)).
pub(crate) fn flock(fd: Fd, lock: bool) -> Result<()> {
    let operation: usize = if lock { 2 } else { 8 };
    loop {
        match sys!(nr::FLOCK, fd, operation) {
            Err(EINTR) => {}
            done => return done.map(drop),
        }
    }
}

pub(crate) fn close(fd: Fd) {
    if fd >= 0 {
        let _ = sys!(nr::CLOSE, fd);
    }
}

pub(crate) fn close_range(first: Fd, flags: u32) -> Result<()> {
    sys!(new::CLOSE_RANGE, first, u32::MAX, flags).map(drop)
}

/// Maps a whole sealed file for reading, for the life of the process.
pub(crate) fn map(fd: Fd, length: usize) -> Result<&'static [u8]> {
    let at = sys!(nr::MMAP, 0_usize, length, 1_usize, 2_usize, fd, 0_usize)?;
    // SAFETY: a fresh private read-only mapping of `length` bytes that is never unmapped; the caller checked the
    // seals, so the file can neither shrink below it nor change.
    Ok(unsafe { core::slice::from_raw_parts(at as *const u8, length) })
}

/// Unmaps what [`map`] made.
///
/// # Safety
/// Nothing borrowed from the mapping may be used afterwards.
pub(crate) unsafe fn unmap(bytes: &'static [u8]) {
    let _ = sys!(nr::MUNMAP, bytes.as_ptr(), bytes.len());
}

/// Maps zeroed memory for `count` words, for the life of the process.
pub(crate) fn words(count: usize) -> Result<&'static mut [usize]> {
    let at = sys!(nr::MMAP, 0_usize, count * size_of::<usize>(), 3_usize, 0x22_usize, -1, 0_usize)?;
    // SAFETY: a fresh private anonymous mapping, page aligned, that nothing else refers to.
    Ok(unsafe { core::slice::from_raw_parts_mut(at as *mut usize, count) })
}

pub(crate) fn openat(at: Fd, path: &CStr, flags: usize, mode: u32) -> Result<Fd> {
    sys!(nr::OPENAT, at, path, flags | O_CLOEXEC, mode).map(|fd| fd as Fd)
}

/// Opens `path` under `resolve` rules; retries what a concurrent rename disturbed (openat2(2), EAGAIN).
pub(crate) fn openat2(at: Fd, path: &CStr, flags: usize, resolve: u64) -> Result<Fd> {
    let how: [u64; 3] = [(flags | O_CLOEXEC) as u64, 0, resolve];
    let mut tries = 0;
    loop {
        match sys!(new::OPENAT2, at, path, how.as_ptr(), size_of_val(&how)) {
            Err(EAGAIN) if tries < 64 => tries += 1,
            result => return result.map(|fd| fd as Fd),
        }
    }
}

pub(crate) fn mkdirat(at: Fd, path: &CStr, mode: u32) -> Result<()> {
    sys!(nr::MKDIRAT, at, path, mode).map(drop)
}

pub(crate) fn mknodat(at: Fd, path: &CStr, mode: u32, device: u64) -> Result<()> {
    sys!(nr::MKNODAT, at, path, mode, device).map(drop)
}

pub(crate) fn symlinkat(target: &CStr, at: Fd, path: &CStr) -> Result<()> {
    sys!(nr::SYMLINKAT, target, at, path).map(drop)
}

pub(crate) fn fchownat(at: Fd, path: &CStr, uid: u32, gid: u32) -> Result<()> {
    sys!(nr::FCHOWNAT, at, path, uid, gid, AT_SYMLINK_NOFOLLOW).map(drop)
}

pub(crate) fn fchown(fd: Fd, uid: u32, gid: u32) -> Result<()> {
    sys!(nr::FCHOWN, fd, uid, gid).map(drop)
}

/// Changes the mode of a node that is not a link.
pub(crate) fn fchmodat(at: Fd, path: &CStr, mode: u32) -> Result<()> {
    sys!(nr::FCHMODAT, at, path, mode).map(drop)
}

pub(crate) fn unlinkat(at: Fd, path: &CStr, flags: usize) -> Result<()> {
    sys!(nr::UNLINKAT, at, path, flags).map(drop)
}

pub(crate) fn renameat(at: Fd, from: &CStr, to: &CStr) -> Result<()> {
    sys!(nr::RENAMEAT, at, from, at, to).map(drop)
}

pub(crate) fn readlinkat(at: Fd, path: &CStr, buffer: &mut [u8]) -> Result<usize> {
    sys!(nr::READLINKAT, at, path, buffer.as_mut_ptr(), buffer.len())
}

/// The part of struct statx (statx(2)) that the shim uses; the same on every architecture.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Stat {
    head: [u32; 5],
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) mode: u16,
    pad: u16,
    pub(crate) ino: u64,
    pub(crate) size: u64,
    rest: [u64; 10],
    pub(crate) rdev: (u32, u32),
    tail: [u64; 15],
}

/// Stats an open descriptor.
pub(crate) fn fstat(fd: Fd) -> Result<Stat> {
    // SAFETY: all-zero bytes are a Stat.
    let mut stat: Stat = unsafe { core::mem::zeroed() };
    let basic: usize = 0x7ff;
    sys!(nr::STATX, fd, c"", AT_EMPTY_PATH, basic, &raw mut stat)?;
    Ok(stat)
}

/// The filesystem's magic number.
pub(crate) fn fstatfs(fd: Fd) -> Result<u64> {
    let mut statfs = [0_u64; 16];
    sys!(nr::FSTATFS, fd, statfs.as_mut_ptr())?;
    Ok(statfs[0])
}

pub(crate) fn fcntl(fd: Fd, command: usize, value: usize) -> Result<usize> {
    sys!(nr::FCNTL, fd, command, value)
}

pub(crate) fn nonblocking(fd: Fd) -> Result<()> {
    let flags = fcntl(fd, 3, 0)?;
    if flags & O_NONBLOCK == 0 { fcntl(fd, 4, flags | O_NONBLOCK).map(drop) } else { Ok(()) }
}

/// A descriptor for what a client gave us that does not block us, without changing the client's own: `O_NONBLOCK`
/// belongs to the open file, which a shell may share with it (fcntl(2)). Returns `fd` itself where that is no matter.
pub(crate) fn own_nonblocking(fd: Fd) -> Result<Fd> {
    match u32::from(fstat(fd)?.mode) & S_IFMT {
        // Files never block, and another open file would have another offset.
        S_IFREG => Ok(fd),
        S_IFIFO | S_IFCHR => {
            let mut digits = [0; 12];
            let mut path = [0; 32];
            let mut length = 0;
            for piece in [&b"/proc/self/fd/"[..], crate::process::decimal(fd, &mut digits)] {
                path[length..length + piece.len()].copy_from_slice(piece);
                length += piece.len();
            }
            let path = CStr::from_bytes_until_nul(&path).map_err(|_| EINVAL)?;
            let access = fcntl(fd, 3, 0)? & 3;
            match openat(AT_FDCWD, path, access | O_NONBLOCK | O_NOCTTY, 0) {
                Ok(own) => Ok(own),
                Err(_) => nonblocking(fd).map(|()| fd),
            }
        }
        _ => nonblocking(fd).map(|()| fd),
    }
}

pub(crate) fn dup3(from: Fd, to: Fd, flags: usize) -> Result<()> {
    sys!(nr::DUP3, from, to, flags).map(drop)
}

/// Duplicates above the standard streams.
pub(crate) fn dup_high(fd: Fd) -> Result<Fd> {
    fcntl(fd, 1030, 3).map(|fd| fd as Fd)
}

pub(crate) fn ioctl(fd: Fd, request: usize, argument: usize) -> Result<usize> {
    sys!(nr::IOCTL, fd, request, argument)
}

/// Sets a terminal's size, in rows and columns.
pub(crate) fn set_window(fd: Fd, rows: u16, columns: u16) -> Result<()> {
    let size = [rows, columns, 0, 0];
    sys!(nr::IOCTL, fd, 0x5414_usize, size.as_ptr()).map(drop)
}

/// Lets the other side of a pseudo-terminal be opened (TIOCSPTLCK 0).
pub(crate) fn unlock_pty(fd: Fd) -> Result<()> {
    let zero = 0_i32;
    sys!(nr::IOCTL, fd, 0x4004_5431_usize, &raw const zero).map(drop)
}

pub(crate) fn chdir(path: &CStr) -> Result<()> {
    sys!(nr::CHDIR, path).map(drop)
}

pub(crate) fn fchdir(fd: Fd) -> Result<()> {
    sys!(nr::FCHDIR, fd).map(drop)
}

pub(crate) fn getcwd(buffer: &mut [u8]) -> Result<usize> {
    sys!(nr::GETCWD, buffer.as_mut_ptr(), buffer.len())
}

pub(crate) fn umask(mask: u32) {
    let _ = sys!(nr::UMASK, mask);
}

pub(crate) fn setsid() {
    let _ = sys!(nr::SETSID);
}

pub(crate) fn setpgid(pid: i32, group: i32) -> Result<()> {
    sys!(nr::SETPGID, pid, group).map(drop)
}

pub(crate) fn getpid() -> i32 {
    sys!(nr::GETPID).unwrap_or(0) as i32
}

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

pub(crate) fn set_io_priority(priority: u32) -> Result<()> {
    // IOPRIO_WHO_PROCESS, this one.
    sys!(nr::IOPRIO_SET, 1_usize, 0_usize, priority).map(drop)
}

/// Sets the scheduler; `attributes` is a struct sched_attr.
pub(crate) fn set_scheduler(attributes: &[u8]) -> Result<()> {
    sys!(nr::SCHED_SETATTR, 0_usize, attributes.as_ptr(), 0_usize).map(drop)
}

pub(crate) fn set_affinity(mask: &[u8]) -> Result<()> {
    sys!(nr::SCHED_SETAFFINITY, 0_usize, mask.len(), mask.as_ptr()).map(drop)
}

pub(crate) fn set_memory_policy(mode: u32, nodes: &[u8]) -> Result<()> {
    // The kernel counts one bit less than it is told, and takes a number of bits (set_mempolicy(2)).
    let empty = nodes.iter().all(|byte| *byte == 0);
    let (mask, bits) = if empty { (0, 0) } else { (nodes.as_ptr() as usize, nodes.len() * 8 + 1) };
    sys!(nr::SET_MEMPOLICY, mode, mask, bits).map(drop)
}

pub(crate) fn set_personality(persona: u32) -> Result<()> {
    sys!(nr::PERSONALITY, persona).map(drop)
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

pub(crate) fn setrlimit(resource: u32, soft: u64, hard: u64) -> Result<()> {
    let limit = [soft, hard];
    sys!(nr::PRLIMIT64, 0_usize, resource, limit.as_ptr(), 0_usize).map(drop)
}

/// Replaces the program.
///
/// # Safety
/// `argv` and `envp` must be arrays of pointers to texts, each ending with a null pointer.
pub(crate) unsafe fn execve(path: &CStr, argv: *const usize, envp: *const usize) -> Errno {
    sys!(nr::EXECVE, path, argv, envp).err().unwrap_or(EIO)
}

pub(crate) fn exit(code: i32) -> ! {
    loop {
        let _ = sys!(nr::EXIT_GROUP, code);
    }
}

/// Arguments of clone3(2).
#[repr(C)]
#[derive(Default)]
struct CloneArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

/// Forks with `flags`; returns 0 in the child. `pidfd` receives the child's descriptor under `CLONE_PIDFD`.
pub(crate) fn fork(flags: u64, pidfd: &mut Fd, cgroup: Fd) -> Result<i32> {
    let mut args = CloneArgs { flags, exit_signal: SIGCHLD as u64, pidfd: &raw mut *pidfd as u64, ..CloneArgs::default() };
    if cgroup >= 0 {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = cgroup as u64;
    }
    sys!(new::CLONE3, &raw const args, size_of::<CloneArgs>()).map(|pid| pid as i32)
}

/// Forks by clone(2), which seccomp profiles allow, where they refuse clone3. Returns 0 in the new process.
/// `CLONE_PARENT` makes it a sibling: a child of this process's parent.
pub(crate) fn fork_filtered(flags: u64) -> Result<i32> {
    sys!(nr::CLONE, flags | SIGCHLD as u64, 0_usize, 0_usize, 0_usize, 0_usize).map(|pid| pid as i32)
}

/// Waits for `pid`; `None` when `hang` is off and nothing ended. Returns (pid, status).
pub(crate) fn wait(pid: i32, block: bool) -> Option<(i32, i32)> {
    let mut status = 0_i32;
    // __WALL: also children made with CLONE_PARENT, whose exit signal may be another.
    let flags = 0x4000_0000_usize | usize::from(!block);
    loop {
        match sys!(nr::WAIT4, pid, &raw mut status, flags, 0_usize) {
            Err(EINTR) => {}
            Err(_) | Ok(0) => return None,
            Ok(pid) => return Some((pid as i32, status)),
        }
    }
}

pub(crate) fn kill(pid: i32, signal: i32) -> Result<()> {
    sys!(nr::KILL, pid, signal).map(drop)
}

pub(crate) fn pidfd_open(pid: i32) -> Result<Fd> {
    sys!(new::PIDFD_OPEN, pid, 0_usize).map(|fd| fd as Fd)
}

pub(crate) fn pidfd_signal(pidfd: Fd, signal: i32) -> Result<()> {
    sys!(new::PIDFD_SEND_SIGNAL, pidfd, signal, 0_usize, 0_usize).map(drop)
}

/// Struct sigaction as the kernel takes it.
#[repr(C)]
struct SigAction {
    handler: usize,
    flags: usize,
    #[cfg(target_arch = "x86_64")]
    restorer: usize,
    mask: u64,
}

/// Sets a signal's disposition: 0 is the default, 1 ignores.
pub(crate) fn set_signal(signal: i32, disposition: usize) {
    let action = SigAction {
        handler: disposition,
        flags: 0,
        #[cfg(target_arch = "x86_64")]
        restorer: 0,
        mask: 0,
    };
    let _ = sys!(nr::RT_SIGACTION, signal, &raw const action, 0_usize, 8_usize);
}

/// Sets the blocked signals.
pub(crate) fn set_signal_mask(mask: u64) {
    let _ = sys!(nr::RT_SIGPROCMASK, 2_usize, &raw const mask, 0_usize, 8_usize);
}

/// Waits for a blocked signal of `mask` and returns its number.
pub(crate) fn wait_signal(mask: u64) -> Result<i32> {
    sys!(nr::RT_SIGTIMEDWAIT, &raw const mask, 0_usize, 0_usize, 8_usize).map(|signal| signal as i32)
}

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

pub(crate) fn fsopen(fstype: &CStr) -> Result<Fd> {
    sys!(new::FSOPEN, fstype, 1_usize).map(|fd| fd as Fd)
}

/// Sets an option of a filesystem being configured; an empty value is a flag.
pub(crate) fn fsconfig(fd: Fd, key: &CStr, value: &CStr) -> Result<()> {
    let done = if value.is_empty() {
        sys!(new::FSCONFIG, fd, 0_usize, key, 0_usize, 0_usize)
    } else {
        sys!(new::FSCONFIG, fd, 1_usize, key, value, 0_usize)
    };
    done.map(drop)
}

/// Sets an option of a filesystem being configured to an open file.
pub(crate) fn fsconfig_fd(fd: Fd, key: &CStr, value: Fd) -> Result<()> {
    sys!(new::FSCONFIG, fd, 5_usize, key, 0_usize, value).map(drop)
}

pub(crate) fn fscreate(fd: Fd) -> Result<()> {
    sys!(new::FSCONFIG, fd, 6_usize, 0_usize, 0_usize, 0_usize).map(drop)
}

pub(crate) fn fsmount(fd: Fd, attributes: u64) -> Result<Fd> {
    sys!(new::FSMOUNT, fd, 1_usize, attributes).map(|fd| fd as Fd)
}

pub(crate) fn open_tree(at: Fd, path: &CStr, flags: usize) -> Result<Fd> {
    // OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC
    sys!(new::OPEN_TREE, at, path, flags | 1 | O_CLOEXEC).map(|fd| fd as Fd)
}

/// Attaches the mount `from` onto the open path `to`.
pub(crate) fn move_mount(from: Fd, to: Fd) -> Result<()> {
    // MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH
    sys!(new::MOVE_MOUNT, from, c"", to, c"", 0x44_usize).map(drop)
}

/// Attaches the mount `from` onto the process's own root.
pub(crate) fn move_mount_root(from: Fd) -> Result<()> {
    sys!(new::MOVE_MOUNT, from, c"", AT_FDCWD, c"/", 4_usize).map(drop)
}

/// Changes a mount's attributes and propagation; `userns` is the namespace of an id-mapped mount.
pub(crate) fn mount_setattr(fd: Fd, recursive: bool, set: u64, propagation: u64, userns: Fd) -> Result<()> {
    let clear = if set & 0x70 == 0 { 0 } else { 0x70 };
    let attributes: [u64; 4] = [set, clear, propagation, userns.max(0) as u64];
    let flags = AT_EMPTY_PATH | if recursive { AT_RECURSIVE } else { 0 };
    sys!(new::MOUNT_SETATTR, fd, c"", flags, attributes.as_ptr(), size_of_val(&attributes)).map(drop)
}

/// Takes attributes away from a mount.
pub(crate) fn mount_clear(fd: Fd, clear: u64) -> Result<()> {
    let attributes: [u64; 4] = [0, clear, 0, 0];
    sys!(new::MOUNT_SETATTR, fd, c"", AT_EMPTY_PATH, attributes.as_ptr(), size_of_val(&attributes)).map(drop)
}

/// Changes the propagation of every mount of this namespace.
pub(crate) fn propagate_root(flags: usize) -> Result<()> {
    sys!(nr::MOUNT, 0_usize, c"/", 0_usize, flags, 0_usize).map(drop)
}

pub(crate) fn pivot_root_here() -> Result<()> {
    sys!(nr::PIVOT_ROOT, c".", c".").map(drop)
}

pub(crate) fn detach(path: &CStr) -> Result<()> {
    sys!(nr::UMOUNT2, path, 2_usize).map(drop)
}

/// A pair of connected sockets that keep message boundaries.
pub(crate) fn socketpair() -> Result<(Fd, Fd)> {
    let mut pair = [0 as Fd; 2];
    sys!(nr::SOCKETPAIR, 1_usize, 5_usize | O_CLOEXEC, 0_usize, pair.as_mut_ptr())?;
    Ok((pair[0], pair[1]))
}

/// A pipe: (read end, write end).
pub(crate) fn pipe() -> Result<(Fd, Fd)> {
    #[cfg(target_arch = "x86_64")]
    const PIPE2: usize = 293;
    #[cfg(target_arch = "aarch64")]
    const PIPE2: usize = 59;
    let mut pair = [0 as Fd; 2];
    sys!(PIPE2, pair.as_mut_ptr(), O_CLOEXEC)?;
    Ok((pair[0], pair[1]))
}

/// Sets how many bytes may wait in a socket (SO_SNDBUFFORCE).
pub(crate) fn set_send_buffer(fd: Fd, bytes: u64) -> Result<()> {
    let bytes = bytes as i32;
    sys!(nr::SETSOCKOPT, fd, 1_usize, 32_usize, &raw const bytes, 4_usize).map(drop)
}

/// Binds and listens on a path socket.
pub(crate) fn listen(path: &[u8]) -> Result<Fd> {
    let fd = sys!(nr::SOCKET, 1_usize, 5_usize | O_CLOEXEC | O_NONBLOCK, 0_usize)? as Fd;
    let mut address = [0_u8; 110];
    address[0] = 1;
    address.get_mut(2..2 + path.len()).ok_or(ENAMETOOLONG)?.copy_from_slice(path);
    sys!(nr::BIND, fd, address.as_ptr(), 3 + path.len())?;
    sys!(nr::LISTEN, fd, 64_usize)?;
    Ok(fd)
}

pub(crate) fn accept(fd: Fd) -> Result<Fd> {
    sys!(nr::ACCEPT4, fd, 0_usize, 0_usize, O_CLOEXEC | O_NONBLOCK).map(|fd| fd as Fd)
}

/// Brings the loopback interface of this network namespace up (netdevice(7)).
pub(crate) fn loopback_up() -> Result<()> {
    let socket = sys!(nr::SOCKET, 2_usize, 2_usize | O_CLOEXEC, 0_usize)? as Fd;
    // struct ifreq: a name of 16 bytes, then its flags. IFF_UP is 1.
    let mut request = [0_u8; 40];
    request[..2].copy_from_slice(b"lo");
    request[16..18].copy_from_slice(&1_u16.to_ne_bytes());
    // SIOCSIFFLAGS
    let done = sys!(nr::IOCTL, socket, 0x8914_usize, request.as_ptr());
    close(socket);
    done.map(drop)
}

/// A stream socket for `address` (struct sockaddr), of the network namespace that this process is in now.
pub(crate) fn stream_socket(address: &[u8]) -> Result<Fd> {
    let family = match *address {
        [low, high, ..] => u16::from_ne_bytes([low, high]),
        _ => return Err(EINVAL),
    };
    sys!(nr::SOCKET, usize::from(family), 1_usize | O_CLOEXEC | O_NONBLOCK, 0_usize).map(|fd| fd as Fd)
}

/// Begins to connect to `address` (struct sockaddr).
pub(crate) fn connect(fd: Fd, address: &[u8]) -> Result<()> {
    sys!(nr::CONNECT, fd, address.as_ptr(), address.len()).map(drop)
}

/// How an attempt to connect ended (SO_ERROR).
pub(crate) fn socket_error(fd: Fd) -> Result<()> {
    let mut errno = 0_i32;
    let mut length = 4_u32;
    sys!(nr::GETSOCKOPT, fd, 1_usize, 4_usize, &raw mut errno, &raw mut length)?;
    if errno == 0 { Ok(()) } else { Err(Errno(errno)) }
}

/// The user id of the process at the other end (SO_PEERCRED).
pub(crate) fn peer_uid(fd: Fd) -> Result<u32> {
    let mut credentials = [0_u32; 3];
    let mut length = 12_u32;
    sys!(nr::GETSOCKOPT, fd, 1_usize, 17_usize, credentials.as_mut_ptr(), &raw mut length)?;
    Ok(credentials[1])
}

#[repr(C)]
struct IoVec(*const u8, usize);

#[repr(C)]
struct MsgHdr {
    name: usize,
    name_length: usize,
    iov: *const IoVec,
    iov_count: usize,
    control: *mut u64,
    control_length: usize,
    flags: usize,
}

/// Sends one message, with a descriptor beside it unless `fd` is negative. Never blocks.
pub(crate) fn send(socket: Fd, bytes: &[u8], fd: Fd) -> Result<()> {
    let iov = IoVec(bytes.as_ptr(), bytes.len());
    // struct cmsghdr: length 20, SOL_SOCKET, SCM_RIGHTS, then the descriptor.
    let mut control = [20_u64, 1 | (1 << 32), u64::from(fd as u32)];
    let control_length = if fd >= 0 { 24 } else { 0 };
    let header = MsgHdr { name: 0, name_length: 0, iov: &raw const iov, iov_count: 1, control: control.as_mut_ptr(), control_length, flags: 0 };
    // MSG_NOSIGNAL | MSG_DONTWAIT
    sys!(nr::SENDMSG, socket, &raw const header, 0x4040_usize).map(drop)
}

/// Receives one message; its descriptors land in `fds`, -1 where there is none.
pub(crate) fn receive(socket: Fd, bytes: &mut [u8], fds: &mut [Fd; 4]) -> Result<usize> {
    *fds = [-1; 4];
    let iov = IoVec(bytes.as_mut_ptr(), bytes.len());
    let mut control = [0_u64; 4];
    let mut header = MsgHdr { name: 0, name_length: 0, iov: &raw const iov, iov_count: 1, control: control.as_mut_ptr(), control_length: 32, flags: 0 };
    // MSG_CMSG_CLOEXEC
    let count = sys!(nr::RECVMSG, socket, &raw mut header, 0x4000_0000_usize)?;
    if header.control_length >= 20 && control[1] == (1 | (1 << 32)) {
        let given = (control[0] as usize).saturating_sub(16) / 4;
        for (at, fd) in fds.iter_mut().enumerate().take(given) {
            *fd = (control[2 + at / 2] >> (32 * (at % 2))) as u32 as Fd;
        }
    }
    Ok(count)
}

#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct PollFd {
    pub(crate) fd: Fd,
    pub(crate) events: i16,
    pub(crate) ready: i16,
}

/// Waits for an event; `timeout_ms` below zero waits for ever.
pub(crate) fn poll(fds: &mut [PollFd], timeout_ms: i64) -> Result<usize> {
    let time = [timeout_ms / 1000, timeout_ms % 1000 * 1_000_000];
    let time = if timeout_ms < 0 { core::ptr::null() } else { time.as_ptr() };
    sys!(nr::PPOLL, fds.as_mut_ptr(), fds.len(), time, 0_usize, 8_usize)
}

/// Nanoseconds since 1970.
pub(crate) fn now() -> u64 {
    let [seconds, fraction] = clock(0);
    seconds * 1_000_000_000 + fraction
}

/// Milliseconds on a clock that nobody sets.
pub(crate) fn monotonic() -> u64 {
    let [seconds, fraction] = clock(1);
    seconds * 1000 + fraction / 1_000_000
}

fn clock(id: usize) -> [u64; 2] {
    let mut time = [0_u64; 2];
    let _ = sys!(nr::CLOCK_GETTIME, id, time.as_mut_ptr());
    time
}

/// Moves memory between ranges that may overlap; the compiler calls it by this name.
///
/// # Safety
/// As memmove(3).
#[unsafe(no_mangle)]
unsafe extern "C" fn memmove(to: *mut u8, from: *const u8, count: usize) -> *mut u8 {
    if (to as usize).wrapping_sub(from as usize) >= count {
        // SAFETY: copying upwards never overwrites bytes still to be read.
        return unsafe { arch::memcpy(to, from, count) };
    }
    for at in (0..count).rev() {
        // SAFETY: the caller answers for both ranges. Volatile keeps this loop from becoming a call of itself.
        unsafe { to.add(at).write_volatile(from.add(at).read()) };
    }
    to
}

/// Compares memory; the compiler calls it by this name.
///
/// # Safety
/// As memcmp(3).
#[unsafe(no_mangle)]
unsafe extern "C" fn memcmp(a: *const u8, b: *const u8, count: usize) -> i32 {
    for at in 0..count {
        // SAFETY: the caller answers for both ranges. Volatile as in memmove.
        let (x, y) = unsafe { (a.add(at).read_volatile(), b.add(at).read_volatile()) };
        if x != y {
            return i32::from(x) - i32::from(y);
        }
    }
    0
}

/// Compares memory for equality; the compiler calls it by this name.
///
/// # Safety
/// As bcmp(3).
#[unsafe(no_mangle)]
unsafe extern "C" fn bcmp(a: *const u8, b: *const u8, count: usize) -> i32 {
    // SAFETY: the same contract.
    unsafe { memcmp(a, b, count) }
}

/// Measures a text; core's CStr calls it by this name.
///
/// # Safety
/// As strlen(3).
#[unsafe(no_mangle)]
unsafe extern "C" fn strlen(text: *const u8) -> usize {
    let mut length = 0;
    // SAFETY: the caller answers for the terminating NUL.
    while unsafe { text.add(length).read_volatile() } != 0 {
        length += 1;
    }
    length
}
