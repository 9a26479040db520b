//! From a process of ours, inside the container's namespaces, to the program of the container.
//!
//! Shared by the first process and by execs: limits, labels, user, capabilities, seccomp, then `execve`. The order
//! is the subject here: what needs privileges comes before they go, descriptors are closed last (SECURITY A6, B1).

use core::ffi::CStr;

use crate::mounts::write_proc;
use crate::plan::{DEFAULT_UMASK, Plan, option, tag};
use crate::sys::{self, Errno, Fd};
use crate::{Failure, fail, wire::step};

pub(crate) const PR_SET_PDEATHSIG: usize = 1;
const PR_SET_KEEPCAPS: usize = 8;
const PR_CAPBSET_DROP: usize = 24;
const PR_SET_NO_NEW_PRIVS: usize = 38;
const PR_CAP_AMBIENT: usize = 47;

/// Whether the plan writes to procfs for a process.
pub(crate) fn needs_procfs(plan: &Plan<'_>) -> bool {
    plan.first(tag::OOM_SCORE_ADJ).is_some() || plan.first(tag::LSM_EXEC).is_some()
}

/// Takes the plan's limits, label, user and capabilities. `procfs` is our own, -1 if [`needs_procfs`] said no.
pub(crate) fn prepare(plan: &Plan<'_>, procfs: Fd) -> Result<(), Failure> {
    let (_, options) = plan.config();
    for signal in 1..=64 {
        sys::set_signal(signal, 0);
    }
    sys::set_signal_mask(0);
    for (index, record) in plan.all(tag::RLIMIT).enumerate() {
        if let Some((resource, soft, hard)) = record.rlimit() {
            sys::setrlimit(resource, soft, hard).map_err(fail(step::RLIMIT, index))?;
        }
    }
    if let Some(score) = plan.first(tag::OOM_SCORE_ADJ).and_then(|record| record.number()) {
        let mut text = [0; 12];
        let text = decimal(score as i32, &mut text);
        write_proc(procfs, c"self/oom_score_adj", text).map_err(fail(step::OOM_SCORE_ADJ, 0))?;
    }
    if let Some((path, label)) = plan.first(tag::LSM_EXEC).and_then(|record| record.pair()) {
        write_proc(procfs, path, label.to_bytes()).map_err(fail(step::LSM, 0))?;
    }
    scheduling(plan)?;
    enter_cwd(plan).map_err(fail(step::CWD, 0))?;
    let no_new_privs = options & option::NO_NEW_PRIVS != 0;
    if !no_new_privs {
        // Without no_new_privs, loading takes CAP_SYS_ADMIN (seccomp(2)), which is about to go.
        load_filter(plan)?;
    }
    identity(plan)?;
    if no_new_privs {
        sys::prctl(PR_SET_NO_NEW_PRIVS, 1, 0).map_err(fail(step::NO_NEW_PRIVS, 0))?;
    }
    Ok(())
}

/// Executes the program in a process that [`prepare`] made ready. Returns only a failure.
pub(crate) fn finish(plan: &Plan<'_>) -> Failure {
    let (_, options) = plan.config();
    // After the change of user, which clears it (prctl(2)).
    let _ = sys::prctl(PR_SET_PDEATHSIG, sys::SIGKILL as usize, 0);
    if options & option::NO_NEW_PRIVS != 0
        && let Err(failure) = load_filter(plan)
    {
        return failure;
    }
    if options & option::INIT != 0
        && let Err(errno) = crate::reaper::fork_payload(options & option::TTY != 0)
    {
        return fail(step::CLONE, 0)(errno);
    }
    match find_and_execute(plan) {
        Ok(never) => never,
        Err(errno) => fail(step::EXECVE, 0)(errno),
    }
}

/// What the kernel schedules and places by: I/O priority, scheduler, memory policy, personality.
fn scheduling(plan: &Plan<'_>) -> Result<(), Failure> {
    let number = |tag| plan.first(tag).and_then(|record| record.number());
    let words = |tag| plan.first(tag).and_then(|record| record.number_and_words());
    if let Some(priority) = number(tag::IO_PRIORITY) {
        sys::set_io_priority(priority).map_err(fail(step::SCHEDULING, 0))?;
    }
    if let Some((_, attributes)) = words(tag::SCHEDULER) {
        sys::set_scheduler(attributes).map_err(fail(step::SCHEDULING, 1))?;
    }
    if let Some((mode, nodes)) = words(tag::MEMORY_POLICY) {
        sys::set_memory_policy(mode, nodes).map_err(fail(step::SCHEDULING, 2))?;
    }
    if let Some(persona) = number(tag::PERSONALITY) {
        sys::set_personality(persona).map_err(fail(step::SCHEDULING, 3))?;
    }
    Ok(())
}

/// The CPUs of an exec: before (`when` is 0) and after (1) it joined the container's cgroup.
pub(crate) fn exec_affinity(plan: &Plan<'_>, when: u32) -> Result<(), Failure> {
    for (_, mask) in plan
        .all(tag::EXEC_AFFINITY)
        .filter_map(|record| record.number_and_words())
        .filter(|mask| mask.0 == when)
    {
        sys::set_affinity(mask).map_err(fail(step::SCHEDULING, 4))?;
    }
    Ok(())
}

fn load_filter(plan: &Plan<'_>) -> Result<(), Failure> {
    match plan.first(tag::SECCOMP).and_then(|record| record.seccomp()) {
        Some((flags, program)) => sys::seccomp(flags, program).map_err(fail(step::SECCOMP, 0)),
        None => Ok(()),
    }
}

/// Enters the working directory: inside the root, through no magic link (SECURITY A6: /proc/self/fd/N).
fn enter_cwd(plan: &Plan<'_>) -> sys::Result<()> {
    let cwd = plan.first(tag::CWD).and_then(|record| record.text()).unwrap_or(c"/");
    let fd = sys::openat2(sys::AT_FDCWD, cwd, sys::O_PATH | sys::O_DIRECTORY, sys::RESOLVE_NO_MAGICLINKS)?;
    sys::fchdir(fd)?;
    sys::close(fd);
    let mut path = [0; 4096];
    sys::getcwd(&mut path)?;
    if path[0] == b'/' { Ok(()) } else { Err(sys::ENOENT) }
}

/// User, groups and capabilities.
fn identity(plan: &Plan<'_>) -> Result<(), Failure> {
    let user = plan.first(tag::USER).and_then(|record| record.user());
    let sets = plan.first(tag::CAPABILITIES).and_then(|record| record.capabilities());
    let (wrong_user, wrong_sets) = (fail(step::USER, 0), fail(step::CAPABILITIES, 0));
    if let Some(sets) = sets {
        for capability in 0..64 {
            if sets.bounding >> capability & 1 == 0 {
                match sys::prctl(PR_CAPBSET_DROP, capability, 0) {
                    // Beyond the last one this kernel knows.
                    Err(sys::EINVAL) => break,
                    done => done.map_err(wrong_sets)?,
                };
            }
        }
    }
    if let Some(user) = user {
        sys::umask(if user.umask == DEFAULT_UMASK { 0o022 } else { user.umask });
        if user.uid != 0 {
            own_stdio(user.uid);
        }
        sys::prctl(PR_SET_KEEPCAPS, 1, 0).map_err(wrong_user)?;
        sys::setgroups(user.groups).map_err(wrong_user)?;
        sys::setresgid(user.gid).map_err(wrong_user)?;
        sys::setresuid(user.uid).map_err(wrong_user)?;
        sys::prctl(PR_SET_KEEPCAPS, 0, 0).map_err(wrong_user)?;
    }
    if let Some(sets) = sets {
        sys::capset(sets.effective, sets.permitted, sets.inheritable).map_err(wrong_sets)?;
        // PR_CAP_AMBIENT_CLEAR_ALL, then PR_CAP_AMBIENT_RAISE.
        sys::prctl(PR_CAP_AMBIENT, 4, 0).map_err(wrong_sets)?;
        for capability in 0..64 {
            if sets.ambient >> capability & 1 == 1 {
                sys::prctl(PR_CAP_AMBIENT, 2, capability).map_err(wrong_sets)?;
            }
        }
    }
    // Changing users made the process dumpable as fs.suid_dumpable says; never before execve (SECURITY A6).
    sys::prctl(crate::PR_SET_DUMPABLE, 0, 0).map(drop).map_err(wrong_user)
}

/// Gives the pipes and terminal of the standard streams to the user, so that `/dev/stdout` can be opened by it.
fn own_stdio(uid: u32) {
    for fd in 0..3 {
        own(fd, uid, None);
    }
}

/// Gives pipes and terminals to root of the container's user namespace, in which the host's root is nobody.
pub(crate) fn give(plan: &Plan<'_>, stdio: &[Fd; 3]) {
    if let Some((uid, gid)) = plan.first(tag::OWNER).and_then(|record| record.two_numbers()) {
        for &fd in stdio {
            own(fd, uid, Some(gid));
        }
    }
}

/// Gives a pipe or terminal of root's to `uid`; a pipe to `gid` as well, while a terminal keeps its group (devpts).
fn own(fd: Fd, uid: u32, gid: Option<u32>) {
    if let Ok(stat) = sys::fstat(fd) {
        let kind = u32::from(stat.mode) & sys::S_IFMT;
        let terminal = kind == sys::S_IFCHR && stat.rdev.0 == 136;
        if (kind == sys::S_IFIFO || terminal) && stat.uid == 0 {
            let _ = sys::fchown(fd, uid, gid.filter(|_| !terminal).unwrap_or(stat.gid));
        }
    }
}

/// Closes what is not the container's and executes the program.
fn find_and_execute(plan: &Plan<'_>) -> sys::Result<Failure> {
    let argv = plan.first(tag::ARGV).and_then(|record| record.texts()).ok_or(sys::EINVAL)?;
    let env = plan.first(tag::ENV).and_then(|record| record.texts());
    let envc = env.map_or(0, |env| env.count as usize);
    let pointers = sys::words(argv.count as usize + envc + 2)?;
    let (argp, envp) = pointers.split_at_mut(argv.count as usize + 1);
    for (slot, text) in argp.iter_mut().zip(argv.iter()) {
        *slot = text.as_ptr() as usize;
    }
    let mut search = None;
    for (slot, text) in envp.iter_mut().zip(env.iter().flat_map(|env| env.iter())) {
        *slot = text.as_ptr() as usize;
        search = search.or(text.to_bytes().strip_prefix(b"PATH="));
    }
    let program = argv.iter().next().ok_or(sys::EINVAL)?;
    // CLOSE_RANGE_CLOEXEC: the report socket stays until execve succeeds.
    sys::close_range(3, 4)?;
    // SAFETY: both arrays point to NUL-terminated texts of the plan, and their last word is still null.
    let attempt = |path: &CStr| unsafe { sys::execve(path, argp.as_ptr(), envp.as_ptr()) };
    if program.to_bytes().contains(&b'/') {
        return Err(attempt(program));
    }
    if program.is_empty() {
        return Err(sys::ENOENT);
    }
    let mut failure = sys::ENOENT;
    for directory in search
        .unwrap_or(b"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
        .split(|&byte| byte == b':')
    {
        let mut path = [0; 4096];
        let Some(path) = join(directory, program.to_bytes(), &mut path) else { continue };
        match attempt(path) {
            sys::ENOENT | sys::ENOTDIR => {}
            sys::EACCES => failure = sys::EACCES,
            other => return Err(other),
        }
    }
    Err(failure)
}

/// `directory/program` as a text; `None` for a relative directory or what does not fit.
fn join<'a>(directory: &[u8], program: &[u8], path: &'a mut [u8]) -> Option<&'a CStr> {
    if directory.first() != Some(&b'/') {
        return None;
    }
    let length = directory.len() + 1 + program.len();
    path.get_mut(..directory.len())?.copy_from_slice(directory);
    *path.get_mut(directory.len())? = b'/';
    path.get_mut(directory.len() + 1..length)?.copy_from_slice(program);
    CStr::from_bytes_with_nul(path.get(..=length)?).ok()
}

/// Writes `value` in decimal.
pub(crate) fn decimal(value: i32, text: &mut [u8; 12]) -> &[u8] {
    let mut at = text.len();
    let mut rest = value.unsigned_abs();
    loop {
        at -= 1;
        text[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    if value < 0 {
        at -= 1;
        text[at] = b'-';
    }
    &text[at..]
}

/// Sends a failure to the shim.
pub(crate) fn report(socket: Fd, failure: &Failure) {
    let mut bytes = [0; 12];
    bytes[..4].copy_from_slice(&failure.step.to_le_bytes());
    bytes[4..8].copy_from_slice(&failure.index.to_le_bytes());
    bytes[8..].copy_from_slice(&failure.errno.to_le_bytes());
    let _ = sys::write(socket, &bytes);
}

/// Reads a failure (or [`step::READY`]); `None` at the end of the stream.
pub(crate) fn read_report(socket: Fd) -> Option<Failure> {
    let mut bytes = [0; 12];
    match sys::read(socket, &mut bytes) {
        Ok(12) => {
            let word =
                |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
            Some(Failure { step: word(0), index: word(4), errno: word(8) as i32 })
        }
        Err(Errno(errno)) => Some(Failure { step: step::PLAN, index: 0, errno }),
        Ok(_) => None,
    }
}
