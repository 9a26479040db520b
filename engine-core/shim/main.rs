//! The shim: one small process per container, parent of its first process.
//!
//! It reads a launch plan from descriptor 0, makes the container as the plan says, answers on descriptor 1, and then
//! holds what lives as long as the container: standard streams, log, exit status, state file, socket. It parses no
//! JSON, allocates nothing and decides nothing; policy is the library's.
//!
//! This file owns the way from process start to a created container. `serve` runs the loop from then on.

#![no_std]
#![no_main]

mod cgroups;
mod child;
mod clients;
mod copy_up;
mod enter;
mod events;
mod execs;
mod gzip;
mod health;
mod jsonlog;
mod keeps;
mod log;
mod mounts;
mod names;
mod plan;
mod policy;
mod process;
mod reaper;
mod relay;
mod restart;
mod root;
mod rotated;
mod serve;
mod state;
mod streams;
mod sys;
mod wire;

use core::mem::MaybeUninit;

use plan::{KIND_LAUNCH, MAX_PLAN, Plan, option, tag};
use serve::Shim;
use sys::{Errno, Fd};
use wire::{Reply, reply, step};

pub(crate) const PR_SET_DUMPABLE: usize = 4;
const PR_SET_NAME: usize = 15;

/// Which step failed, on which of its records, and why.
#[derive(Clone, Copy)]
pub(crate) struct Failure {
    pub(crate) step: u32,
    pub(crate) index: u32,
    pub(crate) errno: i32,
}

impl Failure {
    /// Docker's exit codes: 127 for a command that is not there, 126 for one that cannot be executed, else 128.
    pub(crate) fn exit_code(&self) -> i32 {
        match (self.step, Errno(self.errno)) {
            (step::EXECVE, sys::ENOENT | sys::ENOTDIR) => 127,
            (step::EXECVE, _) => 126,
            _ => 128,
        }
    }
}

/// Turns an error number into the failure of a step.
pub(crate) fn fail(step: u32, index: usize) -> impl Fn(Errno) -> Failure + Copy {
    move |errno| Failure { step, index: index as u32, errno: errno.0 }
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    sys::exit(70)
}

/// All of the shim's memory. Zeroes, so that pages never used cost nothing.
static mut SHIM: MaybeUninit<Shim> = MaybeUninit::zeroed();

/// Called by `_start`. The parent is the host program, which waits for this process and only for this one.
pub(crate) extern "C" fn main() -> ! {
    let _ = sys::close_range(3, 0);
    // An ignored SIGCHLD, inherited from the host program, would let the kernel reap what we wait for.
    sys::set_signal(sys::SIGCHLD, 0);
    let mut none = -1;
    match sys::fork(0, &mut none, -1) {
        Ok(0) => {}
        Ok(_) => sys::exit(0),
        Err(_) => sys::exit(71),
    }
    // SAFETY: zeroes are a valid value of every field but those that `init` writes, and this process has one thread,
    // where this is the only reference ever made.
    let shim = unsafe { Shim::init((&raw mut SHIM).cast()) };
    resident();
    let control = sys::dup_high(1).unwrap_or(1);
    let plan_fd = sys::dup_high(0).unwrap_or(0);
    let plan = match read_plan(0, KIND_LAUNCH) {
        Ok((plan, _)) => plan,
        Err(failure) => refuse(control, failure),
    };
    shim.begin(plan, plan_fd, control);
    if plan.config().1 & option::PLACED != 0 {
        let here = Reply { kind: reply::HERE, a: sys::getpid().into(), ..Reply::default() };
        let _ = sys::send(control, &here.encode(), -1);
    }
    match create(shim) {
        Ok(()) => serve::run(shim),
        Err(failure) => {
            shim.abandon();
            refuse(control, failure)
        }
    }
}

/// Makes this process independent of the one that started it.
fn resident() {
    sys::setsid();
    let _ = sys::chdir(c"/");
    sys::umask(0);
    sys::set_signal_mask(0);
    // SIGHUP, SIGINT, SIGPIPE and SIGTERM are not how a shim ends.
    for signal in [1, 2, 13, 15] {
        sys::set_signal(signal, 1);
    }
    let _ = sys::prctl(PR_SET_DUMPABLE, 0, 0);
    let _ = sys::prctl(PR_SET_NAME, c"engine-shim".as_ptr() as usize, 0);
}

fn refuse(control: Fd, failure: Failure) -> ! {
    let answer = Reply {
        kind: reply::FAILED,
        step: failure.step,
        index: failure.index,
        errno: failure.errno,
        ..Reply::default()
    };
    let _ = sys::send(control, &answer.encode(), -1);
    sys::exit(1)
}

/// Maps and checks the plan in `fd`. It must be sealed: then it can neither shrink nor change under us (SECURITY A8).
pub(crate) fn read_plan(fd: Fd, kind: u16) -> Result<(Plan<'static>, &'static [u8]), Failure> {
    const SEALS: usize = 2 | 4 | 8;
    let wrong = fail(step::PLAN, 0);
    // F_GET_SEALS
    if sys::fcntl(fd, 1034, 0).map_err(wrong)? & SEALS != SEALS {
        return Err(wrong(sys::EPERM));
    }
    let size = sys::fstat(fd).map_err(wrong)?.size as usize;
    if size == 0 || size > MAX_PLAN {
        return Err(wrong(sys::EINVAL));
    }
    let bytes = sys::map(fd, size).map_err(wrong)?;
    match Plan::parse(bytes, kind) {
        Ok(plan) => Ok((plan, bytes)),
        Err(_) => Err(wrong(sys::EINVAL)),
    }
}

/// Makes the container, up to its first process waiting for "go".
fn create(shim: &mut Shim) -> Result<(), Failure> {
    receive_directories(shim)?;
    shim.cgroups.open(&shim.plan)?;
    make_init(shim)?;
    shim.listen()?;
    shim.write_state().map_err(fail(step::STATE, 0))
}

/// Makes the first process of a run, which will wait for "go". What is held from the last run is joined instead of made.
pub(crate) fn make_init(shim: &mut Shim) -> Result<(), Failure> {
    let plan = shim.plan;
    let (namespaces, options) = plan.config();
    let again = shim.held.is_open();
    let mut joins = [(-1, 0); 8];
    let joined = if again {
        joins = shim.held.joins;
        shim.held.count
    } else {
        open_joins(&plan, &mut joins)?
    };
    let user_join =
        joins[..joined].iter().find(|(_, kind)| *kind == sys::CLONE_NEWUSER).map_or(-1, |(fd, _)| *fd);
    let has_users = namespaces & sys::CLONE_NEWUSER != 0;
    let mut userns = shim.held.user;
    if !again && has_users && plan.mounts().any(|wanted| wanted.flags & plan::mount::IDMAP != 0) {
        userns = id_map_namespace(&plan)?;
    }
    shim.mounts.prepare(&plan, userns.max(user_join))?;
    let stdio = open_stdio(shim, options)?;
    process::give(&plan, &stdio);
    // The null device and the pipes' ends must not take the numbers of the standard streams.
    for fd in 0..2 {
        sys::dup3(2, fd, 0).map_err(fail(step::STDIO, 0))?;
    }
    let (ours, theirs) = sys::socketpair().map_err(fail(step::CLONE, 0))?;
    let mut flags = namespaces & !(sys::CLONE_NEWCGROUP | sys::CLONE_NEWTIME);
    if again {
        flags &= !(sys::CLONE_NEWNET | sys::CLONE_NEWUSER);
    }
    let below = if again && has_users { shim.held.user } else { user_join };
    let mut pidfd = -1;
    // A helper that was in another pid namespace itself would tell us a number of that one.
    let own_pid_namespace = if below >= 0 { -1 } else { enter_pid_namespace(&joins[..joined])? };
    let pid = if below >= 0 {
        fork_below(below, &joins[..joined], flags, shim.cgroups.unified, &mut pidfd)?
    } else {
        sys::fork(flags | sys::CLONE_PIDFD, &mut pidfd, shim.cgroups.unified).map_err(fail(step::CLONE, 0))?
    };
    if pid == 0 {
        sys::close(ours);
        sys::close(shim.control());
        let inherited = child::Inherited {
            report: theirs,
            cgroups: shim.cgroups.procs(),
            joins: &joins[..joined],
            stdio,
        };
        child::run(&plan, &mut shim.mounts, &inherited)
    }
    shim.adopt(pid, pidfd, ours);
    sys::close(theirs);
    if own_pid_namespace >= 0 {
        sys::setns(own_pid_namespace, sys::CLONE_NEWPID).map_err(fail(step::JOIN, 0))?;
        sys::close(own_pid_namespace);
    }
    if has_users {
        if !again {
            write_id_maps(&plan, pid)?;
        }
        sys::write(ours, b"m").map_err(fail(step::ID_MAP, 0))?;
    }
    // While the first process mounts, on another CPU if there is one.
    for fd in stdio {
        sys::close(fd);
    }
    if !again {
        for &(fd, _) in &joins[..joined] {
            sys::close(fd);
        }
        sys::close(userns);
    }
    shim.mounts.close();
    Ok(())
}

/// Forks a child whose namespaces belong to the user namespace `user`: a helper enters that one, and makes it as a
/// sibling. Returns 0 in the child.
fn fork_below(
    user: Fd,
    joins: &[(Fd, u64)],
    flags: u64,
    unified: Fd,
    pidfd: &mut Fd,
) -> Result<i32, Failure> {
    let wrong = fail(step::CLONE, 0);
    let (from_helper, to_us) = sys::pipe().map_err(wrong)?;
    let helper = sys::fork(0, pidfd, unified).map_err(wrong)?;
    if helper == 0 {
        // Its root, and untraceable again after the change (SECURITY A6).
        let entered = sys::setns(user, sys::CLONE_NEWUSER)
            .and_then(|()| sys::setresgid(0))
            .and_then(|()| sys::setresuid(0))
            .and_then(|()| sys::prctl(PR_SET_DUMPABLE, 0, 0))
            .and_then(|_| match joins.iter().find(|(_, kind)| *kind == sys::CLONE_NEWPID) {
                Some(&(fd, kind)) => sys::setns(fd, kind),
                None => Ok(()),
            });
        match entered.and_then(|()| sys::fork_filtered(flags | sys::CLONE_PARENT)) {
            Ok(0) => return Ok(0),
            made => {
                let answer = made.unwrap_or_else(|errno| -errno.0);
                let _ = sys::write(to_us, &answer.to_le_bytes());
                sys::exit(0)
            }
        }
    }
    sys::close(to_us);
    let mut bytes = [0; 4];
    let told = sys::read(from_helper, &mut bytes);
    sys::close(from_helper);
    let _ = sys::wait(helper, true);
    match (told, i32::from_le_bytes(bytes)) {
        (Ok(4), pid) if pid > 0 => {
            *pidfd = sys::pidfd_open(pid).map_err(wrong)?;
            Ok(pid)
        }
        (Ok(4), errno) => Err(wrong(Errno(-errno))),
        _ => Err(wrong(sys::EPERM)),
    }
}

fn receive_directories(shim: &mut Shim) -> Result<(), Failure> {
    let wrong = fail(step::SETUP, 0);
    let mut bytes = [0; wire::REQUEST];
    let mut fds = [-1; wire::MAX_FDS];
    let count = sys::receive(shim.control(), &mut bytes, &mut fds).map_err(wrong)?;
    match wire::Request::decode(&bytes[..count]) {
        Some(request) if request.op == wire::op::SETUP && fds[0] >= 0 && fds[1] >= 0 => {}
        _ => return Err(wrong(sys::EINVAL)),
    }
    shim.set_directories(fds[0], fds[1], fds[2]);
    Ok(())
}

fn open_joins(plan: &Plan<'_>, joins: &mut [(Fd, u64); 8]) -> Result<usize, Failure> {
    const NSFS_MAGIC: u64 = 0x6e73_6673;
    let mut count = 0;
    for (index, record) in plan.all(tag::JOIN).enumerate() {
        let wrong = fail(step::JOIN_OPEN, index);
        let Some((kind, path)) = record.number_and_text() else { continue };
        let fd = sys::openat(sys::AT_FDCWD, path, sys::O_RDONLY, 0).map_err(wrong)?;
        if sys::fstatfs(fd).map_err(wrong)? != NSFS_MAGIC {
            return Err(wrong(sys::EINVAL));
        }
        *joins.get_mut(count).ok_or(wrong(sys::EINVAL))? = (fd, u64::from(kind));
        count += 1;
    }
    Ok(count)
}

/// Makes the next child one of the pid namespace to join, if there is one. Returns our own, to come back to.
fn enter_pid_namespace(joins: &[(Fd, u64)]) -> Result<Fd, Failure> {
    let wrong = fail(step::JOIN, 0);
    for &(fd, kind) in joins {
        if kind == sys::CLONE_NEWPID {
            let own = sys::openat(sys::AT_FDCWD, c"/proc/self/ns/pid", sys::O_RDONLY, 0).map_err(wrong)?;
            sys::setns(fd, sys::CLONE_NEWPID).map_err(wrong)?;
            return Ok(own);
        }
    }
    Ok(-1)
}

/// Opens the streams: returns the container's ends, keeps ours.
fn open_stdio(shim: &mut Shim, options: u32) -> Result<[Fd; 3], Failure> {
    let wrong = fail(step::TTY, 0);
    if options & option::TTY != 0 {
        let (master, slave) = open_pty(shim.mounts.devpts).map_err(wrong)?;
        if let Some((rows, columns)) = shim.plan.first(tag::TTY_SIZE).and_then(|record| record.two_numbers())
        {
            let _ = sys::set_window(master, rows as u16, columns as u16);
        }
        sys::nonblocking(master).map_err(wrong)?;
        shim.set_streams(master, [master, -1]);
        return Ok([slave; 3]);
    }
    let wrong = fail(step::STDIO, 0);
    let (stdin, sink) = if options & option::STDIN != 0 {
        let (theirs, ours) = sys::pipe().map_err(wrong)?;
        sys::nonblocking(ours).map_err(wrong)?;
        (theirs, ours)
    } else {
        (sys::openat(sys::AT_FDCWD, c"/dev/null", sys::O_RDONLY, 0).map_err(wrong)?, -1)
    };
    let (out, out_theirs) = sys::pipe().map_err(wrong)?;
    let (err, err_theirs) = sys::pipe().map_err(wrong)?;
    sys::nonblocking(out).map_err(wrong)?;
    sys::nonblocking(err).map_err(wrong)?;
    shim.set_streams(sink, [out, err]);
    Ok([stdin, out_theirs, err_theirs])
}

/// Opens a pseudo-terminal of the container's own devpts, which the container cannot have replaced (SECURITY A4).
pub(crate) fn open_pty(devpts: Fd) -> sys::Result<(Fd, Fd)> {
    let flags = sys::O_RDWR | sys::O_NOCTTY;
    let master = if devpts >= 0 {
        sys::openat(devpts, c"ptmx", flags | sys::O_NOFOLLOW, 0)?
    } else {
        sys::openat(sys::AT_FDCWD, c"/dev/ptmx", flags, 0)?
    };
    sys::unlock_pty(master)?;
    // TIOCGPTPEER
    let slave = sys::ioctl(master, 0x5441, flags | sys::O_CLOEXEC)?;
    Ok((master, slave as Fd))
}

fn write_id_maps(plan: &Plan<'_>, pid: i32) -> Result<(), Failure> {
    for (index, (tag, name)) in
        [(tag::UID_MAP, &b"uid_map"[..]), (tag::GID_MAP, b"gid_map")].into_iter().enumerate()
    {
        let wrong = fail(step::ID_MAP, index);
        let Some(map) = plan.first(tag).and_then(|record| record.text()) else { continue };
        let mut path = [0; 32];
        let path = state::proc_path(pid, name, &mut path).ok_or(wrong(sys::EINVAL))?;
        let file = sys::openat(sys::AT_FDCWD, path, sys::O_WRONLY, 0).map_err(wrong)?;
        // One write, whole: see user_namespaces(7).
        let written = sys::write(file, map.to_bytes()).map_err(wrong);
        sys::close(file);
        written?;
    }
    Ok(())
}

/// A user namespace with the container's maps, which id-mapped mounts are made from.
fn id_map_namespace(plan: &Plan<'_>) -> Result<Fd, Failure> {
    let wrong = fail(step::ID_MAP, 2);
    let mut none = -1;
    let pid = sys::fork(sys::CLONE_NEWUSER, &mut none, -1).map_err(wrong)?;
    if pid == 0 {
        loop {
            let _ = sys::poll(&mut [], -1);
        }
    }
    let mut path = [0; 32];
    let opened = write_id_maps(plan, pid).and_then(|()| {
        let path = state::proc_path(pid, b"ns/user", &mut path).ok_or(wrong(sys::EINVAL))?;
        sys::openat(sys::AT_FDCWD, path, sys::O_RDONLY, 0).map_err(wrong)
    });
    let _ = sys::kill(pid, sys::SIGKILL);
    let _ = sys::wait(pid, true);
    opened
}
