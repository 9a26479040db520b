//! Execs: one more process in a running container.
//!
//! The shim forks a helper, which joins cgroup and namespaces and takes the identity of the new process while it is
//! still outside the container's pid namespace. Only then it clones the process itself, as a sibling, so that the
//! shim reaps it. What a container can see and trace therefore never has more than the container's own privileges
//! and descriptors (SECURITY A6).

use crate::plan::{Plan, option};
use crate::sys::{self, Fd};
use crate::{Failure, fail, mounts, process, wire::step};

/// What the helper needs from the shim.
pub(crate) struct Target<'a> {
    /// First process of the container.
    pub(crate) init: Fd,
    /// Its namespaces.
    pub(crate) namespaces: u64,
    /// Open `tasks` files of cgroup v1.
    pub(crate) cgroups: &'a [Fd],
    /// Directory of the v2 cgroup, or -1.
    pub(crate) unified: Fd,
    /// Standard streams.
    pub(crate) stdio: [Fd; 3],
}

/// A helper on its way.
pub(crate) struct Entering {
    pub(crate) helper: i32,
    pub(crate) helper_pidfd: Fd,
    /// Reports: the new process's pid as READY's index, failures, end of stream once it executed.
    pub(crate) report: Fd,
}

/// Starts the helper. It reports by itself; the shim never waits for it, since its cgroup may be frozen.
pub(crate) fn start(plan: &Plan<'_>, target: &Target<'_>) -> Result<Entering, Failure> {
    let (ours, theirs) = sys::socketpair().map_err(fail(step::CLONE, 0))?;
    let mut pidfd = -1;
    match sys::fork(sys::CLONE_PIDFD, &mut pidfd, target.unified) {
        Ok(0) => {
            sys::close(ours);
            if let Err(failure) = helper(plan, target, theirs) {
                process::report(3, &failure);
                sys::exit(failure.exit_code())
            }
            sys::exit(0)
        }
        Ok(pid) => {
            sys::close(theirs);
            Ok(Entering { helper: pid, helper_pidfd: pidfd, report: ours })
        }
        Err(errno) => {
            sys::close(ours);
            sys::close(theirs);
            Err(fail(step::CLONE, 0)(errno))
        }
    }
}

fn helper(plan: &Plan<'_>, target: &Target<'_>, report: Fd) -> Result<(), Failure> {
    let (_, options) = plan.config();
    let joined = join(plan, target);
    let placed = crate::child::set_stdio(target.stdio, false);
    // From here on: 0, 1, 2 and the report socket as 3.
    if report != 3 {
        let _ = sys::dup3(report, 3, sys::O_CLOEXEC);
    }
    let _ = sys::close_range(4, 0);
    joined?;
    placed.map_err(fail(step::STDIO, 0))?;
    let procfs =
        if process::needs_procfs(plan) { mounts::procfs().map_err(fail(step::PROCFS, 0))? } else { -1 };
    process::prepare(plan, procfs)?;
    sys::close(procfs);
    let pid = sys::fork_filtered(sys::CLONE_PARENT).map_err(fail(step::CLONE, 0))?;
    if pid == 0 {
        // Its own session, not the helper's: the end of a session's leader takes the terminal away.
        sys::setsid();
        if options & option::TTY != 0 {
            crate::child::control_terminal().map_err(fail(step::STDIO, 1))?;
        }
        return Err(process::finish(plan));
    }
    process::report(3, &Failure { step: step::READY, index: pid as u32, errno: 0 });
    sys::exit(0)
}

fn join(plan: &Plan<'_>, target: &Target<'_>) -> Result<(), Failure> {
    process::exec_affinity(plan, 0)?;
    for (index, &cgroup) in target.cgroups.iter().enumerate() {
        sys::write(cgroup, b"0").map_err(fail(step::CGROUP_JOIN, index))?;
    }
    process::exec_affinity(plan, 1)?;
    if target.namespaces != 0 {
        sys::setns(target.init, target.namespaces).map_err(fail(step::ENTER, 0))?;
    }
    Ok(())
}
