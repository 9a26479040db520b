//! The first process of the container, from clone to the start of its program.
//!
//! It runs in the new namespaces with everything prepared: it joins cgroups and namespaces, attaches the mounts,
//! says "ready", waits for "go" and becomes the program.

use crate::mounts::{self, Mounts, write_proc};
use crate::plan::{Plan, option, tag};
use crate::process;
use crate::sys::{self, Fd};
use crate::{Failure, fail, wire::step};

/// The descriptors the first process gets.
pub(crate) struct Inherited<'a> {
    /// Socket to the shim.
    pub(crate) report: Fd,
    /// Open `tasks` files.
    pub(crate) cgroups: &'a [Fd],
    /// Open namespaces with their clone flags.
    pub(crate) joins: &'a [(Fd, u64)],
    /// Standard input, output and error.
    pub(crate) stdio: [Fd; 3],
}

/// Runs the first process. Never returns to the shim's code.
pub(crate) fn run(plan: &Plan<'_>, mounts: &mut Mounts, inherited: &Inherited<'_>) -> ! {
    let failure = match set_up(plan, mounts, inherited) {
        Ok(procfs) => {
            process::report(inherited.report, &Failure { step: step::READY, index: 0, errno: 0 });
            let mut go = [0; 1];
            if sys::read(inherited.report, &mut go) != Ok(1) {
                sys::exit(1)
            }
            match process::prepare(plan, procfs) {
                Ok(()) => process::finish(plan),
                Err(failure) => failure,
            }
        }
        Err(failure) => failure,
    };
    process::report(inherited.report, &failure);
    sys::exit(failure.exit_code())
}

fn set_up(plan: &Plan<'_>, mounts: &mut Mounts, inherited: &Inherited<'_>) -> Result<Fd, Failure> {
    let (namespaces, options) = plan.config();
    sys::setsid();
    for (index, &cgroup) in inherited.cgroups.iter().enumerate() {
        sys::write(cgroup, b"0").map_err(fail(step::CGROUP_JOIN, index))?;
    }
    for (index, &(fd, kind)) in inherited.joins.iter().enumerate() {
        if kind != sys::CLONE_NEWPID && kind != sys::CLONE_NEWUSER {
            sys::setns(fd, kind).map_err(fail(step::JOIN, index))?;
        }
    }
    if namespaces & sys::CLONE_NEWUSER != 0 {
        let mut mapped = [0; 1];
        let wrong = fail(step::ID_MAP, 0);
        if sys::read(inherited.report, &mut mapped).map_err(wrong)? != 1 {
            sys::exit(1)
        }
        sys::setresgid(0).map_err(wrong)?;
        sys::setresuid(0).map_err(wrong)?;
        sys::prctl(crate::PR_SET_DUMPABLE, 0, 0).map_err(wrong)?;
    }
    if namespaces & sys::CLONE_NEWNET != 0 {
        sys::loopback_up().map_err(fail(step::LOOPBACK, 0))?;
    }
    if namespaces & sys::CLONE_NEWCGROUP != 0 {
        sys::unshare(sys::CLONE_NEWCGROUP).map_err(fail(step::CGROUP_NAMESPACE, 0))?;
    }
    let mut procfs = -1;
    let offsets = plan.first(tag::TIME_OFFSETS).and_then(|record| record.text());
    if process::needs_procfs(plan) || plan.first(tag::SYSCTL).is_some() || offsets.is_some() {
        procfs = mounts::procfs().map_err(fail(step::PROCFS, 0))?;
    }
    if namespaces & sys::CLONE_NEWTIME != 0 {
        // Entered by execve, so that the offsets can still be set (time_namespaces(7)).
        sys::unshare(sys::CLONE_NEWTIME).map_err(fail(step::TIME_NAMESPACE, 0))?;
        if let Some(offsets) = offsets {
            write_proc(procfs, c"self/timens_offsets", offsets.to_bytes())
                .map_err(fail(step::TIME_NAMESPACE, 1))?;
        }
    }
    for (index, record) in plan.all(tag::SYSCTL).enumerate() {
        if let Some((path, value)) = record.pair() {
            write_proc(procfs, path, value.to_bytes()).map_err(fail(step::SYSCTL, index))?;
        }
    }
    if let Some(name) = plan.first(tag::HOSTNAME).and_then(|record| record.text()) {
        sys::sethostname(name.to_bytes()).map_err(fail(step::HOSTNAME, 0))?;
    }
    if let Some(name) = plan.first(tag::DOMAINNAME).and_then(|record| record.text()) {
        sys::setdomainname(name.to_bytes()).map_err(fail(step::HOSTNAME, 1))?;
    }
    mounts.attach(plan, inherited.stdio[0])?;
    set_stdio(inherited.stdio, options & option::TTY != 0).map_err(fail(step::STDIO, 0))?;
    Ok(procfs)
}

/// Puts the standard streams in place; a terminal becomes the controlling one of this session.
pub(crate) fn set_stdio(stdio: [Fd; 3], terminal: bool) -> sys::Result<()> {
    for (to, &from) in stdio.iter().enumerate() {
        if from >= 0 {
            sys::dup3(from, to as Fd, 0)?;
        }
    }
    if terminal { control_terminal() } else { Ok(()) }
}

/// Makes standard input the controlling terminal of this session.
pub(crate) fn control_terminal() -> sys::Result<()> {
    // TIOCSCTTY
    sys::ioctl(0, 0x540e, 0).map(drop)
}
